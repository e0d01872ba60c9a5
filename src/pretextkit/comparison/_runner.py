"""The runs of a comparison: train in one way under one seed, measure what came of it, and keep it in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pretextkit._fingerprint import differences
from pretextkit._seeding import seeded
from pretextkit.comparison._methods import ExperimentSetup, Method
from pretextkit.comparison._resources import peak_memory, reset_peak_memory
from pretextkit.comparison._result import ComparisonRun, write_json
from pretextkit.contracts import Backbone
from pretextkit.data._sources import TensorImages
from pretextkit.data._splits import stratified_subset
from pretextkit.errors import CheckpointError
from pretextkit.evaluation._finetune import freeze_and_finetune
from pretextkit.evaluation._knn import knn_probe
from pretextkit.evaluation._linear_probe import ProbeResult, linear_probe
from pretextkit.models.heads import LinearHead
from pretextkit.training._hardware import resolve_device
from pretextkit.training._progress import Progress, progress_for

__all__ = ["Evaluation", "RunFiles", "run_all"]


@dataclass(frozen=True)
class Evaluation:
    """How every trained backbone is measured."""

    schedule: ExperimentSetup
    test: TensorImages
    counts: Sequence[int]
    """Numbers of labels to fine-tune on."""
    finetune_steps: int
    pool: int | Sequence[int]

    def few(self, count: int, seed: int) -> TensorImages:
        """Choose ``count`` labeled images, the same for every way of training."""
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


class RunFiles:
    """A file for each finished run, and a folder for each pretraining.

    Args:
        folder: Where the runs are kept, below ``runs``; None keeps nothing.
        checkpoints: Where pretraining runs are kept, below ``folder``/runs by default.
    """

    def __init__(self, folder: Path | None, checkpoints: Path | None) -> None:
        self.folder = folder
        self.runs = folder / "checkpoints" if checkpoints is None and folder is not None else checkpoints

    def checkpoint(self, row: str, seed: int) -> Path | None:
        """Name the folder of a run's pretraining."""
        return None if self.runs is None else self.runs / _file_name(row, seed)

    def read(self, identity: Mapping[str, Any]) -> ComparisonRun | None:
        """Read the run of this identity, or None where it is not finished.

        Raises:
            CheckpointError: The file is damaged, or its run is another call's.
        """
        path = self._path(identity)
        if path is None or not path.exists():
            return None
        try:
            content = json.loads(path.read_text("utf-8"))
            saved, run = content["identity"], ComparisonRun.from_dict(content["run"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"a finished run in {path}", got=f"{type(error).__name__}: {error}", fix="Remove it to measure anew."
            ) from error
        if found := differences(saved, identity):
            raise CheckpointError(
                f"the run {path} to belong to this comparison",
                got=found,
                fix="Repeat the call that wrote it to go on, or name another folder to start a new comparison.",
            )
        return run

    def write(self, identity: Mapping[str, Any], run: ComparisonRun) -> None:
        """Keep a finished run."""
        if (path := self._path(identity)) is not None:
            write_json(path, {"identity": dict(identity), "run": run.to_dict()})

    def _path(self, identity: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / "results" / f"{_file_name(identity['row'], identity['seed'])}.json"


def _file_name(row: str, seed: int) -> str:
    return f"{quote(row, safe=' ,=()')}-{seed}".replace(" ", "_")


def run_all(
    ways: Sequence[Method],
    seeds: Sequence[int],
    evaluation: Evaluation,
    shared: Mapping[str, Any],
    files: RunFiles,
    progress: bool,
) -> tuple[ComparisonRun, ...]:
    """Measure every run that is not finished yet, all ways under one seed before the next seed.

    Args:
        ways: How to train.
        seeds: Of all that is random.
        evaluation: How to measure.
        shared: What, beside the way and the seed, a run's figures depend on.
        files: Where finished runs are, and go to.
        progress: Show one bar over all.

    Returns:
        The runs, way by way.
    """
    plan = [(way, seed, {**shared, **way.describe(seed)}) for seed in seeds for way in ways]
    found = [files.read(identity) for _, _, identity in plan]  # all of them, before hours of training
    work = [way.work() + evaluation.work() for way, _, _ in plan]
    gone = sum(each for each, run in zip(work, found, strict=True) if run is not None)
    bar = progress_for(progress, "compare", sum(work), gone, evaluation.schedule.batch_size)
    runs = []
    try:
        for (way, seed, identity), run, each in zip(plan, found, work, strict=True):
            if run is None:
                checkpoint = files.checkpoint(way.name, seed)
                run = _measure(way, evaluation, seed, checkpoint, partial(_show, bar, gone))
                files.write(identity, run)
                gone += each
            runs.append(run)
    finally:
        bar.close()
    return tuple(run for start in range(len(ways)) for run in runs[start :: len(ways)])


def _show(bar: Progress, gone: int, work: float, values: Mapping[str, float]) -> None:
    bar.update(gone + round(work), values)


Done = Callable[[float, Mapping[str, float]], None]
"""Told how much work is done, and what to show beside it."""


def _measure(way: Method, evaluation: Evaluation, seed: int, checkpoint: Path | None, done: Done) -> ComparisonRun:
    title = f"{way.name}, seed {seed}"
    device = resolve_device(way.schedule.device)
    reset_peak_memory(device)
    trained = way.train(seed, checkpoint, lambda work, loss: done(work, {f"{title}: loss": loss}))
    backbone = trained.backbone.eval()
    probe = evaluation.probe(backbone, seed)
    neighbors = knn_probe(backbone, way.schedule.train, evaluation.test, precision=way.schedule.precision)
    finetuned: dict[int, float] = {}
    for count in evaluation.counts:
        finetuned[count] = evaluation.finetune(backbone, count, seed)
        work = way.work() + len(finetuned) * evaluation.finetune_steps
        done(work, {f"{title}: fine-tuned on {count} labels": finetuned[count]})
    return ComparisonRun(
        method=way.name,
        seed=seed,
        linear=probe.accuracy,
        layer=probe.layer,
        linear_last=_last_stage(probe),
        layers=probe.layers,
        knn=neighbors.accuracy,
        finetuned=finetuned,
        steps=trained.steps,
        images=trained.images,
        views_seen=trained.views,
        seconds=trained.seconds,
        peak_memory=peak_memory(device),
        training=trained.metrics,
    )


def _last_stage(probe: ProbeResult) -> float:
    """Give the test accuracy of the last stage, with the pooling that was best on a split of train."""
    stage = list(probe.layers)[-1].split(" ")[0]
    poolings = [score for name, score in probe.layers.items() if name.split(" ")[0] == stage]
    return max(poolings, key=lambda score: score.validation).accuracy
