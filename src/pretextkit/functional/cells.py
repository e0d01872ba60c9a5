"""The cells of a comparison: train in one way under one seed, measure what came of it, and keep it in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pretextkit.contracts import Backbone
from pretextkit.data.sources import TensorImages
from pretextkit.data.splits import stratified_subset
from pretextkit.errors import CheckpointError
from pretextkit.functional.comparison import ComparisonCell, write_json
from pretextkit.functional.finetune import freeze_and_finetune
from pretextkit.functional.knn import knn_probe
from pretextkit.functional.probe import ProbeResult, linear_probe
from pretextkit.functional.ways import Schedule, Way
from pretextkit.models.heads import LinearHead
from pretextkit.training.hardware import resolve_device
from pretextkit.training.identity import differences
from pretextkit.training.memory import peak_memory, reset_peak_memory
from pretextkit.training.progress import Progress, progress_for
from pretextkit.training.seeds import seeded

__all__ = ["CellFiles", "Evaluation", "measure_cells"]


@dataclass(frozen=True)
class Evaluation:
    """How every trained backbone is measured."""

    schedule: Schedule
    test: TensorImages
    counts: Sequence[int]
    """Numbers of labels to fine-tune on."""
    finetune_steps: int
    pool: int | Sequence[int]

    def few(self, count: int, seed: int) -> TensorImages:
        """Choose ``count`` labelled images, the same for every way of training."""
        train = self.schedule.train
        assert train.labels is not None
        chosen = stratified_subset(train.labels, count, seed=seed)
        return TensorImages(train.images[chosen], train.labels[chosen])

    def work(self) -> int:
        """Tell about how many batches of images are trained on meanwhile."""
        return len(self.counts) * self.finetune_steps

    def probe(self, backbone: Backbone, seed: int) -> ProbeResult:
        """Fit the linear probe."""
        schedule = self.schedule
        precision = schedule.precision
        return linear_probe(
            backbone, schedule.train, self.test, layers="all", pool=self.pool, precision=precision, seed=seed
        )

    def finetune(self, backbone: Backbone, count: int, seed: int) -> float:
        """Fine-tune a copy on ``count`` labels, and give its accuracy on test."""
        schedule, few = self.schedule, self.few(count, seed)
        options: dict[str, Any] = {"trainable": "all", "batch_size": 64, **schedule.finetuning}
        per_epoch = max(1, count // min(options["batch_size"], count))
        with seeded(seed):
            head = LinearHead(backbone.feature_dim, schedule.classes)
        result = freeze_and_finetune(
            deepcopy(backbone),
            head,
            few,
            self.test,
            epochs=-(-self.finetune_steps // per_epoch),
            precision=schedule.precision,
            device=schedule.device,
            seed=seed,
            progress=False,
            **options,
        )
        assert result.accuracy is not None
        return result.accuracy


class CellFiles:
    """A file for each finished cell, and a folder for each pretraining.

    Args:
        folder: Where the cells are kept, below ``cells``; None keeps nothing.
        checkpoints: Where pretraining runs are kept, below ``folder``/runs by default.
    """

    def __init__(self, folder: Path | None, checkpoints: Path | None) -> None:
        self.folder = folder
        self.runs = folder / "runs" if checkpoints is None and folder is not None else checkpoints

    def checkpoint(self, row: str, seed: int) -> Path | None:
        """Name the folder of a cell's pretraining."""
        return None if self.runs is None else self.runs / _file_name(row, seed)

    def read(self, identity: Mapping[str, Any]) -> ComparisonCell | None:
        """Read the cell of this identity, or None where it is not finished.

        Raises:
            CheckpointError: The file is damaged, or its cell is another call's.
        """
        path = self._path(identity)
        if path is None or not path.exists():
            return None
        try:
            content = json.loads(path.read_text("utf-8"))
            saved, cell = content["identity"], ComparisonCell.from_dict(content["cell"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"a finished cell in {path}", got=f"{type(error).__name__}: {error}", fix="Remove it to measure anew."
            ) from error
        if found := differences(saved, identity):
            raise CheckpointError(
                f"the cell {path} to belong to this comparison",
                got=found,
                fix="Repeat the call that wrote it to go on, or name another folder to start a new comparison.",
            )
        return cell

    def write(self, identity: Mapping[str, Any], cell: ComparisonCell) -> None:
        """Keep a finished cell."""
        if (path := self._path(identity)) is not None:
            write_json(path, {"identity": dict(identity), "cell": cell.to_dict()})

    def _path(self, identity: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / "cells" / f"{_file_name(identity['row'], identity['seed'])}.json"


def _file_name(row: str, seed: int) -> str:
    return f"{quote(row, safe=' ,=()')}-{seed}".replace(" ", "_")


def measure_cells(
    ways: Sequence[Way],
    seeds: Sequence[int],
    evaluation: Evaluation,
    shared: Mapping[str, Any],
    files: CellFiles,
    progress: bool,
) -> tuple[ComparisonCell, ...]:
    """Measure every cell that is not finished yet, all ways under one seed before the next seed.

    Args:
        ways: How to train.
        seeds: Of all that is random.
        evaluation: How to measure.
        shared: What, beside the way and the seed, a cell's figures depend on.
        files: Where finished cells are, and go to.
        progress: Show one bar over all.

    Returns:
        The cells, way by way.
    """
    plan = [(way, seed, {**shared, **way.describe(seed)}) for seed in seeds for way in ways]
    found = [files.read(identity) for _, _, identity in plan]  # all of them, before hours of training
    work = [way.work() + evaluation.work() for way, _, _ in plan]
    gone = sum(each for each, cell in zip(work, found, strict=True) if cell is not None)
    bar = progress_for(progress, "compare", sum(work), gone, evaluation.schedule.batch_size)
    cells = []
    try:
        for (way, seed, identity), cell, each in zip(plan, found, work, strict=True):
            if cell is None:
                checkpoint = files.checkpoint(way.name, seed)
                cell = _measure(way, evaluation, seed, checkpoint, partial(_show, bar, gone))
                files.write(identity, cell)
                gone += each
            cells.append(cell)
    finally:
        bar.close()
    return tuple(cell for start in range(len(ways)) for cell in cells[start :: len(ways)])


def _show(bar: Progress, gone: int, work: float, values: Mapping[str, float]) -> None:
    bar.update(gone + round(work), values)


Done = Callable[[float, Mapping[str, float]], None]
"""Told how much work is done, and what to show beside it."""


def _measure(way: Way, evaluation: Evaluation, seed: int, checkpoint: Path | None, done: Done) -> ComparisonCell:
    title = f"{way.name}, seed {seed}"
    device = resolve_device(way.schedule.device)
    reset_peak_memory(device)
    trained = way.train(seed, checkpoint, lambda work, loss: done(work, {f"{title}: loss": loss}))
    backbone = trained.backbone.eval()
    probe = evaluation.probe(backbone, seed)
    neighbours = knn_probe(backbone, way.schedule.train, evaluation.test, precision=way.schedule.precision)
    finetuned: dict[int, float] = {}
    for count in evaluation.counts:
        finetuned[count] = evaluation.finetune(backbone, count, seed)
        work = way.work() + len(finetuned) * evaluation.finetune_steps
        done(work, {f"{title}: fine-tuned on {count} labels": finetuned[count]})
    return ComparisonCell(
        row=way.name,
        seed=seed,
        linear=probe.accuracy,
        layer=probe.layer,
        linear_last=_last_stage(probe),
        layers=probe.layers,
        knn=neighbours.accuracy,
        finetuned=finetuned,
        steps=trained.steps,
        images=trained.images,
        views=trained.views,
        seconds=trained.seconds,
        peak_memory=peak_memory(device),
        training=trained.metrics,
    )


def _last_stage(probe: ProbeResult) -> float:
    """Give the test accuracy of the last stage, with the pooling that was best on a split of train."""
    stage = list(probe.layers)[-1].split(" ")[0]
    poolings = [score for name, score in probe.layers.items() if name.split(" ")[0] == stage]
    return max(poolings, key=lambda score: score.validation).accuracy
