"""Joint-embedding methods beside lightly's losses, heads and transforms: are features as good, and at what cost?

    python experiments/beside_lightly.py --data cifar10=data/cifar10.npz --seeds 0 1 2

Both sides train the same network with the same optimizer, batches and epochs, and with equal widths of the heads. Views
are crops and colors of equal strength, without flips and blur: batched here, image by image in lightly. A linear probe
reads the features. Seconds are those of one core in one process, because other programs disturb them little; with
worker processes, the transforms of lightly take as many seconds on other cores.

Prints a table, and writes it to ``--out`` as JSON. Repeat the command to resume, also with more methods or seeds;
several processes may run it at once. Needs the package lightly, of the dependency group ``bench``.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
import warnings
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _report import Rows, write_report
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

import pretextkit as pk
from pretextkit.functional import linear_probe, pretrain

WIDTH, HIDDEN, PROTOTYPES, MOMENTUM = 512, 512, 128, 0.99
METHODS = ("byol", "simsiam", "barlow-twins", "vicreg", "swav", "dino")
RANDOM, OURS, THEIRS = "random init", "pretextkit", "lightly"
COLORS: dict[str, Any] = {"cj_strength": 0.5, "gaussian_blur": 0.0, "hf_prob": 0.0, "normalize": None}


class Pair(nn.Module):
    """Method of lightly on two views, with a projection head."""

    def __init__(self, backbone: Any, head: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head, self.loss = backbone, head, loss

    def forward(self, views: list[Tensor]) -> Tensor:
        first, second = (self.head(self.backbone(view)) for view in views)
        loss: Tensor = self.loss(first, second)
        return loss

    def before_step(self) -> None:
        """Update what follows the weights."""


class SimSiam(Pair):
    """Two views and a predictor."""

    def __init__(self, backbone: Any, head: nn.Module, predictor: nn.Module, loss: nn.Module) -> None:
        super().__init__(backbone, head, loss)
        self.predictor = predictor

    def forward(self, views: list[Tensor]) -> Tensor:
        first, second = (self.head(self.backbone(view)) for view in views)
        predicted = self.predictor(first), self.predictor(second)
        both: Tensor = self.loss(predicted[0], second.detach()) + self.loss(predicted[1], first.detach())
        return both / 2


class BYOL(SimSiam):
    """Two views, a predictor, and a momentum copy that makes the targets."""

    def __init__(self, backbone: Any, head: nn.Module, predictor: nn.Module, loss: nn.Module) -> None:
        super().__init__(backbone, head, predictor, loss)
        self.target = copy.deepcopy(nn.Sequential(backbone, head)).requires_grad_(False)

    def forward(self, views: list[Tensor]) -> Tensor:
        first, second = (self.predictor(self.head(self.backbone(view))) for view in views)
        with torch.no_grad():
            targets = [self.target(view) for view in views]
        both: Tensor = self.loss(first, targets[1]) + self.loss(second, targets[0])
        return both / 2

    def before_step(self) -> None:
        follow(nn.Sequential(self.backbone, self.head), self.target)


class SwAV(Pair):
    """Two large and two small views, and prototypes."""

    def __init__(self, backbone: Any, head: nn.Module, prototypes: Any, loss: nn.Module) -> None:
        super().__init__(backbone, head, loss)
        self.prototypes = prototypes

    def forward(self, views: list[Tensor]) -> Tensor:
        self.prototypes.normalize()
        embeddings = (nn.functional.normalize(self.head(self.backbone(view))) for view in views)
        scores = [self.prototypes(each) for each in embeddings]
        loss: Tensor = self.loss(scores[:2], scores[2:])
        return loss


class DINO(Pair):
    """Two large and two small views, and a momentum copy that makes the targets of the large ones."""

    def __init__(self, backbone: Any, head: nn.Module, loss: nn.Module) -> None:
        super().__init__(backbone, head, loss)
        self.target = nn.Sequential(copy.deepcopy(backbone), dino_head(backbone.feature_dim)).requires_grad_(False)
        self.target[1].load_state_dict(head.state_dict())  # weights of weight_norm cannot be copied

    def forward(self, views: list[Tensor]) -> Tensor:
        with torch.no_grad():
            targets = [self.target(view) for view in views[:2]]
        loss: Tensor = self.loss(targets, [self.head(self.backbone(view)) for view in views], epoch=0)
        return loss

    def before_step(self) -> None:
        follow(nn.Sequential(self.backbone, self.head), self.target)


def follow(network: nn.Module, target: nn.Module) -> None:
    """Move a momentum copy, as lightly does before each step."""
    from lightly.models.utils import update_momentum

    update_momentum(network, target, m=MOMENTUM)


def method_of_lightly(name: str, backbone: Any) -> Pair:
    """Build a method from lightly's heads and loss."""
    from lightly import loss
    from lightly.models.modules import heads

    width = backbone.feature_dim
    if name == "byol":
        return BYOL(
            backbone,
            heads.BYOLProjectionHead(width, HIDDEN, 256),
            heads.BYOLPredictionHead(256, HIDDEN, 256),
            loss.NegativeCosineSimilarity(),
        )
    if name == "simsiam":
        return SimSiam(
            backbone,
            heads.SimSiamProjectionHead(width, WIDTH, WIDTH),
            heads.SimSiamPredictionHead(WIDTH, 128, WIDTH),
            loss.NegativeCosineSimilarity(),
        )
    if name == "barlow-twins":
        return Pair(backbone, heads.BarlowTwinsProjectionHead(width, WIDTH, WIDTH), loss.BarlowTwinsLoss())
    if name == "vicreg":
        return Pair(backbone, heads.BarlowTwinsProjectionHead(width, WIDTH, WIDTH), loss.VICRegLoss())
    if name == "swav":
        head = heads.SwaVProjectionHead(width, HIDDEN, 128)
        return SwAV(backbone, head, heads.SwaVPrototypes(128, PROTOTYPES), loss.SwaVLoss())
    return DINO(backbone, dino_head(width), loss.DINOLoss(output_dim=512, warmup_teacher_temp_epochs=0))


def dino_head(width: int) -> Any:
    """Build lightly's projection head of DINO."""
    from lightly.models.modules.heads import DINOProjectionHead

    return DINOProjectionHead(width, HIDDEN, 128, 512, batch_norm=True)


def transform_of_lightly(name: str, side: int) -> Any:
    """Build lightly's transform of a method, with the strength of the views of pretextkit."""
    from lightly import transforms
    from lightly.transforms.byol_transform import BYOLView1Transform

    if name == "byol":
        view = BYOLView1Transform(input_size=side, min_scale=0.2, **COLORS)
        return transforms.BYOLTransform(view, view)
    if name in ("swav", "dino"):
        crops = {"crop_sizes": (side, side // 2), "crop_counts": (2, 2), "crop_min_scales": (0.3, 0.1)}
        return transforms.SwaVTransform(**crops, crop_max_scales=(1.0, 0.3), **COLORS)
    if name == "simsiam":
        return transforms.SimSiamTransform(input_size=side, min_scale=0.2, **COLORS)
    return transforms.VICRegTransform(input_size=side, min_scale=0.2, solarize_prob=0.0, **COLORS)


class Experiment:
    """The rows of one data set under one seed."""

    def __init__(self, name: str, path: str, options: argparse.Namespace, rows: Rows, seed: int) -> None:
        self.name, self.options, self.rows, self.seed = name, options, rows, seed
        data = pk.data.load(path)
        chosen = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(0))
        chosen = chosen[: options.images]
        self.images, self.labels = data.train_images[chosen], data.train_labels[chosen]
        self.test = data.test_images[: options.test], data.test_labels[: options.test]

    def run(self) -> None:
        """Measure all rows that are missing."""
        self.rows.measure(f"{self.name}; {RANDOM}; ; {self.seed}", lambda: self.evaluated(self.backbone(), []))
        for method in self.options.methods:
            for side, train in ((OURS, self.ours), (THEIRS, self.theirs)):
                if side not in self.options.sides:
                    continue
                self.rows.measure(f"{self.name}; {method}; {side}; {self.seed}", partial(train, method))

    def backbone(self) -> Any:
        torch.manual_seed(self.seed)
        backbone = pk.backbones.create(self.options.backbone)
        backbone.normalization.measure(self.images)
        return backbone

    def ours(self, method: str) -> dict[str, Any]:
        """Train with the task and its defaults."""
        task = pk.pretext_tasks.create(method, self.backbone())
        times = [time.process_time()]
        pretrain(
            task, self.images, epochs=self.options.epochs, batch_size=self.options.batch_size, seed=self.seed,
            device="cpu", progress=False, callbacks=[lambda _: times.append(time.process_time())],
        )  # fmt: skip
        return self.evaluated(task.backbone, times)

    def theirs(self, method: str) -> dict[str, Any]:
        """Train with lightly's parts in a loop as in its examples."""
        module = method_of_lightly(method, self.backbone()).train()
        pictures = Pictures(self.images, transform_of_lightly(method, self.images.shape[-1]))
        loader = torch.utils.data.DataLoader(pictures, self.options.batch_size, shuffle=True, drop_last=True)
        trained = [each for each in module.parameters() if each.requires_grad]
        groups = [
            {"params": [each for each in trained if each.ndim > 1], "weight_decay": 0.05},
            {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=pk.pretext_tasks[method].recommended.learning_rate)
        total = self.options.epochs * len(loader)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(warm_cosine, total=total))
        times = [time.process_time()]
        for _ in range(self.options.epochs):
            for views in loader:
                module.before_step()
                optimizer.zero_grad()
                module(views).backward()
                optimizer.step()
                schedule.step()
            times.append(time.process_time())
        return self.evaluated(module.backbone, times)

    def evaluated(self, backbone: Any, times: list[float]) -> dict[str, Any]:
        probe = linear_probe(backbone.eval(), (self.images, self.labels), self.test, seed=self.seed)
        epochs = [after - before for before, after in pairwise(times)]
        return {"accuracy": probe.accuracy, "last": probe.layers[probe.last].accuracy, "epochs": epochs}


class Pictures(torch.utils.data.Dataset[Any]):
    """Images as lightly's transforms take them, one by one."""

    def __init__(self, images: Tensor, transform: Any) -> None:
        self.pictures, self.transform = [to_pil_image(image) for image in images], transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.pictures[index])


def warm_cosine(step: int, total: int) -> float:
    """Return the factor on the learning rate: a warm-up of a twentieth, then a cosine to zero, as in ``pretrain``."""
    warm = max(1, round(total / 20))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def tables_of(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange the rows: accuracy of both sides, and seconds of an epoch."""
    found: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for key, row in rows.items():
        name, method, side, _ = key.split("; ")
        found.setdefault(name, {}).setdefault(method, {}).setdefault(side, []).append(row)
    columns = [f"{what}, {side}" for what in ("linear, best stage", "linear, last stage") for side in (OURS, THEIRS)]
    columns += [f"epoch, s of CPU, {side}" for side in (OURS, THEIRS)] + ["lightly / pretextkit"]
    return {
        f"Beside lightly, {name}": {
            "columns": columns,
            "rows": {method: _cells(methods[method]) for method in (*METHODS, RANDOM) if method in methods},
        }
        for name, methods in found.items()
    }


def _cells(sides: Mapping[str, list[Any]]) -> list[Any]:
    if "" in sides:  # random weights
        return [[run["accuracy"] for run in sides[""]], "", [run["last"] for run in sides[""]], "", "", "", ""]
    scores = [
        [run[key] for run in sides.get(side, [])] or "" for key in ("accuracy", "last") for side in (OURS, THEIRS)
    ]
    there = [sides[side] for side in (OURS, THEIRS) if side in sides]
    times = [median(second for run in runs for second in run["epochs"]) for runs in there]
    ratio = f"{times[1] / times[0]:.1f}" if len(times) == 2 else ""
    return [*scores, *(f"{each:.1f}" for each in times), *[""] * (2 - len(times)), ratio]


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["cifar10=cifar10"], help="name=source of pretextkit.data.load")
    parser.add_argument("--images", type=int, default=2000, help="training images of each set, at most")
    parser.add_argument("--test", type=int, default=5000, help="test images, at most")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--sides", nargs="*", choices=(OURS, THEIRS), default=(OURS, THEIRS))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/beside-lightly"))
    return parser.parse_args()


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", pk.errors.TrainingWarning)  # short runs
    asked = ("images", "test", "backbone", "epochs", "batch_size")
    rows = Rows(options.out / "rows", {name: getattr(options, name) for name in asked})
    for seed in options.seeds:
        for name, path in (each.split("=", 1) for each in options.data):
            Experiment(name, path, options, rows, seed).run()
    tables = tables_of(rows.all())
    for title, table in tables.items():
        print(title, *table["columns"], sep="  ")
        for method, cells in table["rows"].items():
            texts = (" ".join(f"{100 * x:.1f}" for x in cell) if isinstance(cell, list) else cell for cell in cells)
            print(f"  {method:14}", *texts, sep="  ")
    write_report(options.out / "beside-lightly.json", " ".join(options.data), tables=tables, rows=rows.all())


if __name__ == "__main__":
    main()
