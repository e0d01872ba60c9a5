"""What raises the frozen accuracy: longer training, two tasks, a wider network, averaged weights, whitening?

    python experiments/stronger_features.py --data svhn=data/svhn.npz

Each idea trains one backbone, or changes how its features are read. Each is scored with several draws of labels, on
training images without labels ("held out", to choose by) and on test. Prints a table and writes it to ``--out`` as
JSON. Repeat the command to resume; several processes may run it at once, each on its own ideas.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from _report import Rows, write_report
from defaults import Images
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.evaluation._classes import find_classes
from pretextkit.evaluation._layer_choice import choose_layers
from pretextkit.evaluation._logistic_classifier import PENALTIES, LogisticProblem
from pretextkit.functional import extract_features, linear_probe, pretrain
from pretextkit.models.backbones._small_cnn import _conv

SIDES = [1, 2, 4]
READINGS = ("linear probe", "last stage", "joined", "whitened")


class Both(NamedTuple):
    """The batches of two tasks on the same images."""

    rotated: Tensor
    labels: Tensor
    a: Tensor
    b: Tensor


class Together(pk.PretextTask[Both, Any]):
    """The sum of the losses of rotation and SimCLR, on one backbone."""

    recommended = pk.tasks.SimCLR.recommended

    def __init__(self, backbone: Any) -> None:
        super().__init__(backbone)
        self.rotation, self.simclr = pk.tasks.Rotation(backbone), pk.tasks.SimCLR(backbone)

    def views(self, images: Tensor, generator: Generator) -> Both:
        """Make the views of both tasks."""
        return Both(*self.rotation.views(images, generator), *self.simclr.views(images, generator))

    def forward(self, batch: Both) -> pk.TaskOutput:
        rotation = self.rotation(pk.batches.Labeled(batch.rotated, batch.labels))
        contrast = self.simclr(pk.batches.TwoViews(batch.a, batch.b))
        metrics = {"accuracy": rotation.metrics["accuracy"], "top1": contrast.metrics["top1"]}
        return pk.TaskOutput(rotation.loss + contrast.loss, metrics)


class WideCNN(pk.models.SmallCNN):
    """``small-cnn`` with 1.5 times the channels: a step costs about twice as much."""

    feature_dim = 384

    def __init__(self) -> None:
        pk.SpatialBackbone.__init__(self, in_channels=3)
        self.stage1 = _conv(3, 48, stride=2)
        self.stage2 = _conv(48, 96)
        self.stage3 = nn.Sequential(_conv(96, 192, stride=2), _conv(192, 192))
        self.stage4 = nn.Sequential(_conv(192, 384, stride=2), _conv(384, 384, side=1))


class Averaged(pk.callbacks.Callback):
    """The moving average of all numbers of the backbone over steps."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.numbers: dict[str, Tensor] = {}

    def on_step(self, status: Any) -> None:
        """Move the average towards the weights of the step."""
        for name, value in status.module.backbone.state_dict().items():
            old = self.numbers.get(name)
            if old is None or not value.is_floating_point():
                self.numbers[name] = value.clone()
            else:
                old.lerp_(value, 1 - self.decay)


class Experiment:
    """The rows of one data set."""

    def __init__(self, data: Images, options: argparse.Namespace, rows: Rows) -> None:
        self.data, self.options, self.rows = data, options, rows
        train = partial(self.pretrained, pk.backbones["small-cnn"])
        self.ideas: dict[str, Callable[[], Any]] = {
            "random init": self.random_init,
            "rotation": partial(train, pk.tasks.Rotation),
            "rotation, mean of the weights": partial(train, pk.tasks.Rotation, decay=0.999),
            "rotation, 500,000 images": partial(train, pk.tasks.Rotation, read=500_000),
            "rotation, wider network at equal cost": partial(self.pretrained, WideCNN, pk.tasks.Rotation, read=100_000),
            "SimCLR": partial(train, pk.tasks.SimCLR),
            "SimCLR, 500,000 images": partial(train, pk.tasks.SimCLR, read=500_000),
            "SimCLR, 200,000 images": partial(train, pk.tasks.SimCLR, read=200_000),
            "rotation, then SimCLR": partial(train, pk.tasks.SimCLR, read=200_000, after="rotation"),
            "SimCLR, then rotation": partial(train, pk.tasks.Rotation, read=100_000, after="SimCLR, 200,000 images"),
            "rotation and SimCLR together": partial(train, Together, read=200_000),
        }

    def run(self) -> None:
        """Measure the ideas that are missing."""
        for idea in self.options.ideas or self.ideas:
            self.rows.measure(f"{self.data.name}; {idea}", partial(self.measured, idea))

    def measured(self, idea: str) -> dict[str, Any]:
        """Train a backbone, keep it in a file, and read it with every draw of labels."""
        backbone = self.ideas[idea]()
        torch.save(backbone.state_dict(), self.weights(idea))
        draws = [
            {str(count): self.read(backbone, count, draw) for count in self.options.labels}
            for draw in self.options.draws
        ]
        return {"draws": draws}

    def weights(self, idea: str) -> Path:
        """Return the file of a backbone."""
        path: Path = self.options.out / "weights" / f"{self.data.name}-{idea.replace(' ', '_')}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def random_init(self) -> Any:
        """Return the untrained backbone."""
        torch.manual_seed(0)
        backbone = pk.backbones.create("small-cnn")
        backbone.normalization.measure(self.data.unlabeled)
        return backbone.eval()

    def pretrained(
        self,
        network: Callable[[], Any],
        task: Callable[[Any], Any],
        read: int | None = None,
        decay: float | None = None,
        after: str | None = None,
    ) -> Any:
        """Train a backbone, from the weights of another idea or from the start, and average its weights or not."""
        torch.manual_seed(0)
        backbone = network()
        if after is not None:
            backbone.load_state_dict(torch.load(self.weights(after), weights_only=True))
        read = self.options.read or read
        epochs = None if read is None else max(1, round(read / len(self.data.unlabeled)))
        average = Averaged(decay or 0.0)
        callbacks = [] if decay is None else [average]
        pretrain(task(backbone), self.data.unlabeled, epochs=epochs, callbacks=callbacks, progress=False)
        if decay is not None:
            backbone.load_state_dict(average.numbers)
        return backbone.eval()

    def read(self, backbone: Any, count: int, draw: int) -> dict[str, Any]:
        """Score all readings of a backbone, each on held-out images and on test."""
        few, others = self.data.few(count, draw)
        probe = linear_probe(backbone, few, self.data.test)
        classifiers = probe.classifier, linear_probe(backbone, few, self.data.test, layers="last").classifier
        found = {
            title: [_accuracy(each.predict_proba(images), labels) for images, labels in (others, self.data.test)]
            for title, each in zip(READINGS, classifiers, strict=False)
        }
        return {**found, **self.other_readings(backbone, few, others, probe.layer)}

    def other_readings(self, backbone: Any, few: Any, others: Any, layer: str) -> dict[str, list[float]]:
        """Read the chosen layers by one classifier, and all layers after whitening with the unlabeled images."""
        every = partial(extract_features, backbone, layers="all", pool=SIDES)
        train, held, test = (every(images).layers for images in (few[0], others[0], self.data.test[0]))
        targets = others[1], self.data.test[1]
        labels = few[1]
        problem = LogisticProblem(labels, find_classes(labels, None), None, PENALTIES, seed=0)
        names = [name for name in train if name in layer.split(" + ")]
        joined = [{"joined": torch.cat([each[name] for name in names], 1)} for each in (train, held, test)]
        choice = choose_layers(problem, joined[0], {"joined": ("joined",)}, combine=False)
        scores = {"joined": _scores(choice, joined[1:], targets)}
        unlabeled = every(self.data.unlabeled[: self.options.whiten]).layers
        white: list[dict[str, Tensor]] = [{}, {}, {}]
        for name, seen in unlabeled.items():
            if seen.shape[1] <= self.options.widest:
                for into, each in zip(white, _whitened(seen, [train[name], held[name], test[name]]), strict=True):
                    into[name] = each
        choice = choose_layers(problem, white[0], {name: (name,) for name in white[0]}, combine=True)
        return {**scores, "whitened": _scores(choice, white[1:], targets)}


def _whitened(seen: Tensor, features: list[Tensor]) -> list[Tensor]:
    """Give all principal directions of the unlabeled features a variance of one, up to a hundredth of the largest."""
    center = seen.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((seen - center).T))
    scale = vectors / (values.clamp(min=0) + values.max() * 1e-3).sqrt()
    return [(each - center) @ scale for each in features]


def _scores(choice: Any, features: Any, targets: Any) -> list[float]:
    return [_accuracy(choice.logits(each), labels) for each, labels in zip(features, targets, strict=True)]


def _accuracy(scores: Tensor, labels: Tensor) -> float:
    return float((scores.argmax(1) == labels).double().mean())


def tables_of(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange the rows: for each data set, ideas beside readings, held out and on test."""
    found: dict[str, dict[str, Any]] = {}
    for key, row in rows.items():
        name, idea = key.split("; ")
        found.setdefault(name, {})[idea] = row["draws"]
    tables = {}
    for name, ideas in found.items():
        for count in next(iter(ideas.values()))[0]:
            tables[f"{name}, {count} labels"] = {
                "columns": [f"{title}, {on}" for title in READINGS for on in ("held out", "test")],
                "rows": {
                    idea: [[draw[count][title][on] for draw in draws] for title in READINGS for on in (0, 1)]
                    for idea, draws in sorted(
                        ideas.items(), key=lambda each: -mean(draw[count][READINGS[0]][0] for draw in each[1])
                    )
                },
            }
    return tables


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["svhn=svhn"], help="name=source of pretextkit.data.load")
    parser.add_argument("--images", type=int, default=8000, help="training images of each set, at most")
    parser.add_argument("--ideas", nargs="+", help="all by default; one that follows another needs its weights")
    parser.add_argument("--read", type=int, help="images that each training reads; by default as its idea says")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 732])
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--whiten", type=int, default=4000, help="unlabeled images that are whitened with")
    parser.add_argument("--widest", type=int, default=2048, help="widest features that are whitened")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/stronger"))
    return parser.parse_args()


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", pk.errors.DataWarning)
    asked = ("images", "read", "labels", "draws", "whiten", "widest")
    rows = Rows(options.out / "rows", {name: getattr(options, name) for name in asked})
    for name, path in (each.split("=", 1) for each in options.data):
        Experiment(Images.load(name, path, options.images), options, rows).run()
    tables = tables_of(rows.all())
    for title, table in tables.items():
        print(title)
        for row, cells in table["rows"].items():
            print(f"  {row:40}", *(f"{100 * mean(cell):6.1f}" for cell in cells))
    write_report(options.out / "stronger.json", " ".join(options.data), tables=tables)


if __name__ == "__main__":
    main()
