"""Program: a run that is killed at random moments and repeated until it finishes.

``python killed_runs.py FOLDER KILLS`` prints counts, and fails if a run ends unlike the uninterrupted run.
The process that imports torch never trains: each call of ``pretrain`` is a forked child, and no kill costs an import.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Generator, Tensor, nn

from pretextkit.batches import TwoViews
from pretextkit.contracts import PretextTask, TaskOutput
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.training import _pretrain
from pretextkit.training._loop import train

QUEUE = 8


class WithDropoutAndNorm(TinyBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Sequential(nn.BatchNorm2d(64), nn.Dropout(0.3))

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        *rest, last = super().stages(images)
        return *rest, self.last(last)


class MomentumAndQueue(PretextTask[TwoViews]):
    """A short MoCo: it keeps every kind of state between steps, and each step depends on all of it."""

    queue: Tensor
    place: Tensor

    def __init__(self) -> None:
        super().__init__(WithDropoutAndNorm())
        self.follower = WithDropoutAndNorm().requires_grad_(False)
        self.follower.load_state_dict(self.backbone.state_dict())
        self.register_buffer("queue", nn.functional.normalize(torch.randn(QUEUE, self.backbone.feature_dim)))
        self.register_buffer("place", torch.tensor(0))
        self.newest: Tensor | None = None

    def views(self, images: Tensor, generator: Generator) -> TwoViews:
        a, b = (images + 0.1 * torch.randn(images.shape, generator=generator) for _ in range(2))
        return TwoViews(a.clamp(0, 1), b.clamp(0, 1))

    def forward(self, batch: TwoViews) -> TaskOutput:
        queries = nn.functional.normalize(self.backbone(batch.a))
        with torch.no_grad():
            self.newest = keys = nn.functional.normalize(self.follower(batch.b))
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ self.queue.clone().T], 1) / 0.2
        loss = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))
        return TaskOutput(loss, {"draw": torch.rand(())})

    @torch.no_grad()
    def after_step(self) -> None:
        assert self.newest is not None
        rows = (self.place + torch.arange(len(self.newest))) % QUEUE
        self.queue[rows] = self.newest
        self.place.copy_((self.place + len(self.newest)) % QUEUE)
        for mine, theirs in zip(self.follower.parameters(), self.backbone.parameters(), strict=True):
            mine.lerp_(theirs, 0.1)


def pretrain(folder: Path | None, seed: int) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train or resume; return the state and the history without seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(7)
    task = MomentumAndQueue()
    images = toy_images(15, size=16, generator=Generator().manual_seed(seed))
    options: dict[str, Any] = {"optimizer": "sgd" if seed % 2 else "adamw", "clip_norm": 1.0, "seed": seed}
    options |= {"device": "cpu", "precision": "fp32", "progress": False, "checkpoint": folder}
    with patch.object(_pretrain, "train", partial(train, checkpoint_seconds=-1.0)):  # a checkpoint after every step
        result = _pretrain.pretrain(task, images, epochs=4, batch_size=4, **options)
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history.rows]
    return dict(task.state_dict()), rows


def warm_up() -> None:
    """Trigger the imports of an optimizer's first step, without a backward pass, which no fork survives."""
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.zeros(2)
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        kind([weight], lr=0.1).step()


def in_a_child(folder: Path, seed: int, out: Path, after: float | None) -> bool:
    """Run in a child that is killed after ``after`` seconds; return whether it finished."""
    child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("error")  # a kill leaves no damaged file to warn of
            weights, rows = pretrain(folder, seed)
            torch.save({"weights": weights, "rows": rows}, out)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.waitstatus_to_exitcode(status) == 0
    return True


def main(root: Path, kills: int) -> None:
    warm_up()
    draw, killed, found, runs = random.Random(time.time_ns()), 0, Counter[str](), 0
    while killed < kills:
        folder = root / str(runs)
        begun = time.monotonic()
        in_a_child(root / "uninterrupted" / str(runs), runs, root / "full.pt", None)
        length = time.monotonic() - begun
        while not in_a_child(folder, runs, root / "killed.pt", draw.uniform(0, length)):
            killed += 1
            found["while writing" if any(folder.glob("*.partial")) else "elsewhere"] += 1
            found["before the first checkpoint"] += not (folder / "checkpoint.pt").exists()
        full, ended = (torch.load(root / name, weights_only=True) for name in ("full.pt", "killed.pt"))
        assert ended["rows"] == full["rows"]
        assert ended["weights"].keys() == full["weights"].keys()
        for name, value in full["weights"].items():
            assert torch.equal(value, ended["weights"][name]), name
        runs += 1
    print(json.dumps({"kills": killed, "runs": runs, **found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
