"""Runs of a comparison: train with one method under one seed, evaluate the backbone, and save the result."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pretextkit._atomic import write_json
from pretextkit._fingerprint import differences
from pretextkit._starting_point import KEY, starting_point
from pretextkit.comparison._methods import Method
from pretextkit.comparison._resources import peak_memory, reset_peak_memory
from pretextkit.comparison._result import ComparisonRun
from pretextkit.comparison._setup import ExperimentSetup
from pretextkit.contracts import Backbone
from pretextkit.errors import CheckpointError, DataWarning, reason
from pretextkit.evaluation._knn import knn_probe
from pretextkit.evaluation._linear_probe import linear_probe
from pretextkit.finetuning._finetune import FinetuneResult, freeze_and_finetune
from pretextkit.metrics._classification import ClassReport, quiet_about_missed_classes
from pretextkit.training._hardware import resolve_device
from pretextkit.training._progress import Progress, progress_for

__all__ = ["RunFiles", "run_all"]

SHOWN = 256
"""Images in a step of the progress bar, whose methods have batches of different sizes."""

OnProgress = Callable[[float, Mapping[str, float]], None]
"""Function of the cost so far and the values to show beside it."""


class RunFiles:
    """A JSON file for each finished run, and a folder of checkpoints for each pretraining.

    Args:
        folder: Folder of the comparison; finished runs go to ``folder``/results. None saves nothing.
        checkpoints: Folder of the pretraining checkpoints; ``folder``/checkpoints by default.

    Example:
        >>> RunFiles("out", None).checkpoint("random init", seed=0).as_posix()
        'out/checkpoints/random_init-0'
    """

    def __init__(self, folder: str | Path | None, checkpoints: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)
        if checkpoints is None and self.folder is not None:
            checkpoints = self.folder / "checkpoints"
        self.checkpoints = None if checkpoints is None else Path(checkpoints)

    def checkpoint(self, method: str, seed: int) -> Path | None:
        """Return the folder of the pretraining checkpoints of a run."""
        return None if self.checkpoints is None else self.checkpoints / _file_name(method, seed)

    def read(self, identity: Mapping[str, Any]) -> ComparisonRun | None:
        """Read the finished run of this identity; None if it is not finished.

        Raises:
            CheckpointError: The file is damaged, or belongs to another call.
        """
        path = self._path(identity)
        if path is None or not path.exists():
            return None
        try:
            content = json.loads(path.read_text("utf-8"))
            saved, run = content["identity"], ComparisonRun.from_dict(content["run"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"a finished run in {path}",
                got=reason(error),
                fix="Remove the file to repeat the run.",
            ) from error
        if found := differences(saved, identity):
            raise CheckpointError(
                f"the run {path} to belong to this comparison",
                got=found,
                fix="Repeat the original call to resume, or pass another folder to start a new comparison.",
            )
        return run

    def write(self, identity: Mapping[str, Any], run: ComparisonRun) -> None:
        """Save a finished run."""
        if (path := self._path(identity)) is not None:
            write_json(path, {"identity": dict(identity), "run": run.to_dict()})

    def _path(self, identity: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / "results" / f"{_file_name(identity['method'], identity['seed'])}.json"


def run_all(
    methods: Sequence[Method], setup: ExperimentSetup, files: RunFiles, *, progress: bool
) -> tuple[ComparisonRun, ...]:
    """Run every method under every seed, and read finished runs from ``files``.

    All methods run under one seed before the next seed.

    Args:
        methods: Methods of training.
        setup: Data, budget and options.
        files: Storage of finished runs and checkpoints.
        progress: Show one progress bar for all runs.

    Returns:
        Runs, ordered by method and then by seed.

    Raises:
        CheckpointError: A file is damaged, or belongs to another call.
    """
    plan = [(method, seed, method.identity(seed)) for seed in setup.seeds for method in methods]
    finished = [files.read(identity) for _, _, identity in plan]  # all files, before hours of training
    finetuning = sum(map(_finetuning_cost(setup), setup.label_counts))
    costs = [method.cost() + finetuning for method, _, _ in plan]
    done = sum(cost for cost, run in zip(costs, finished, strict=True) if run is not None)
    bar = progress_for(progress, "compare", round(sum(costs) / SHOWN), round(done / SHOWN), SHOWN)
    runs = []
    try:
        for (method, seed, identity), run, cost in zip(plan, finished, costs, strict=True):
            if run is None:
                checkpoint = files.checkpoint(method.name, seed)
                run = _measure(method, seed, checkpoint, partial(_show, bar, done))
                files.write(identity, run)
                done += cost
            runs.append(run)
    finally:
        bar.close()
    return tuple(run for start in range(len(methods)) for run in runs[start :: len(methods)])


def _measure(method: Method, seed: int, checkpoint: Path | None, on_progress: OnProgress) -> ComparisonRun:
    """Train a backbone and evaluate it."""
    setup, title = method.setup, f"{method.name}, seed {seed}"
    device = resolve_device(setup.device)
    reset_peak_memory(device)
    trained = method.train(seed, checkpoint, lambda cost, loss: on_progress(cost, {f"{title}: loss": loss}))
    backbone = trained.backbone.eval()
    finetuned: dict[int, FinetuneResult] = {}
    reports: dict[int, ClassReport] = {}
    cost, finetuning_cost = method.cost(), _finetuning_cost(setup)
    with quiet_about_missed_classes():  # the run has the recall of each class
        warnings.filterwarnings("ignore", ".* test images are training images", DataWarning)  # compare has warned once
        probe = linear_probe(
            backbone,
            setup.train_set,
            setup.test_set,
            precision=setup.precision,
            seed=seed,
        )
        neighbors = knn_probe(backbone, setup.train_set, setup.test_set, precision=setup.precision)
        for count in setup.label_counts:
            finetuned[count] = _finetune(backbone, setup, count, seed)
            reports[count] = _report(finetuned[count])
            cost += finetuning_cost(count)
            on_progress(cost, {f"{title}: fine-tuned on {count} labels": reports[count].accuracy})
    return ComparisonRun(
        method=method.name,
        seed=seed,
        linear=probe.accuracy,
        layer=probe.layer,
        linear_last=probe.layers[probe.last].accuracy,
        layers=probe.layers,
        knn=neighbors.accuracy,
        finetuned={count: report.accuracy for count, report in reports.items()},
        steps=trained.steps,
        images=trained.images,
        views_seen=trained.views,
        seconds=trained.seconds,
        peak_memory=peak_memory(device),
        training=trained.metrics,
        linear_report=probe.class_report,
        knn_report=neighbors.class_report,
        finetuned_reports=reports,
        settings={
            **({KEY: start} if (start := starting_point(backbone)) else {}),
            "training": trained.settings,
            "linear probe": probe.layer,
            "kNN": f"k={neighbors.k}",
            **{f"fine-tuning, {count:,} labels": str(result.settings) for count, result in finetuned.items()},
        },
    )


def _finetuning_cost(setup: ExperimentSetup) -> Callable[[int], int]:
    """Return the cost of a fine-tuning by its number of labels, in full images through the backbone."""
    return lambda count: setup.finetuning_steps(count) * setup.finetuning_batch(count)


def _finetune(backbone: Backbone, setup: ExperimentSetup, count: int, seed: int) -> FinetuneResult:
    """Fine-tune a copy of the backbone on ``count`` labels."""
    return freeze_and_finetune(
        deepcopy(backbone),
        "linear",
        setup.labeled_subset(count, seed),
        setup.test_set,
        steps=setup.finetuning_steps(count),
        precision=setup.precision,
        device=setup.device,
        seed=seed,
        progress=False,
        **setup.finetuning,
    )


def _report(result: FinetuneResult) -> ClassReport:
    assert result.class_report is not None  # of test
    return result.class_report


def _show(bar: Progress, done: int, cost: float, values: Mapping[str, float]) -> None:
    bar.update(round((done + cost) / SHOWN), values)


def _file_name(method: str, seed: int) -> str:
    return f"{quote(method, safe=' ,=()')}-{seed}".replace(" ", "_")
