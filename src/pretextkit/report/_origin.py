"""Where a result comes from: the title of its report, what was run, and how to repeat it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

from pretextkit._modules import module_device
from pretextkit.anomaly import AnomalyScores
from pretextkit.comparison import Comparison
from pretextkit.evaluation import KNNResult, ProbeResult, SegmentationResult
from pretextkit.finetuning import FinetuneResult
from pretextkit.inference import Classifier
from pretextkit.metrics import DetectionMetrics
from pretextkit.plots._figures import BASELINES
from pretextkit.report._page import lines, paragraph
from pretextkit.training._description import describe_backbone, describe_device
from pretextkit.training._history import History
from pretextkit.training._pretrain import PretrainResult

__all__ = ["RUN", "program_note", "repeat_of", "run_of", "title_of"]

RUN = (
    "task",
    "task_options",
    "backbone",
    "backbone_options",
    "images",
    "source",
    "image_size",
    "seed",
    "device",
    "precision",
    "versions",
    "command",
)
"""Settings of a history that say what was run, in the order of a report."""

KINDS = {
    "linear_probe": "Linear probe",
    "knn_probe": "Nearest-neighbor probe",
    "segmentation_probe": "Segmentation probe",
    "freeze_and_finetune": "Fine-tuning",
    "fixmatch": "FixMatch",
    "detection_metrics": "Detection of anomalies",
}
"""Functions, and the titles of their results."""

FUNCTIONS: dict[type, str] = {
    ProbeResult: "linear_probe",
    KNNResult: "knn_probe",
    SegmentationResult: "segmentation_probe",
    DetectionMetrics: "detection_metrics",
}
"""Results that only one function gives."""


def run_of(result: Any) -> dict[str, Any]:
    """Collect what is known of the run behind a result; of a training without its settings, which are a section.

    Example:
        >>> run_of(History((), {"task": "rotation", "steps": 2}))
        {'task': 'rotation'}
    """
    if isinstance(result, PretrainResult):
        return run_of(result.history)
    if isinstance(result, History):
        return {name: result.settings[name] for name in RUN if name in result.settings}
    if isinstance(result, ProbeResult | FinetuneResult):
        scored = None if result.targets is None else len(result.targets)
        return {**_classifier_run(result.classifier), "scored_images": scored}
    if isinstance(result, KNNResult):
        return {"neighbors": result.k, "scored_images": len(result.targets), "starts_from": result.starts_from}
    if isinstance(result, Comparison):
        return {"methods": list(result.accuracies()), **result.settings}
    if isinstance(result, AnomalyScores):
        return {"function": result.by, "score": result.measure, "scored_images": len(result.scores)}
    return {}


def _classifier_run(classifier: Classifier) -> dict[str, Any]:
    notes: Mapping[str, Any] = classifier.trained
    before: Mapping[str, Any] = notes.get("backbone", {})
    backbone, options = describe_backbone(classifier.backbone)
    pretraining = {name: before[name] for name in ("task", "images", "steps", "seed") if name in before}
    return {
        "function": notes.get("by"),
        "backbone": backbone,
        "backbone_options": options,
        "pretraining": pretraining,
        "labeled_images": notes.get("images"),
        "classes": notes.get("classes"),
        "seed": notes.get("seed"),
        "device": describe_device(module_device(classifier)),
    }


@singledispatch
def title_of(result: Any) -> str:
    """Name a result by its kind, and by task and backbone where they are known.

    Example:
        >>> title_of(History((), {"task": "rotation", "backbone": "small-cnn"}))
        'Pretraining: rotation on small-cnn'
    """
    return KINDS.get(_function_of(result), "Report of pretextkit")


@title_of.register
def _(result: PretrainResult) -> str:
    return title_of(result.history)


@title_of.register
def _(result: History) -> str:
    run = run_of(result)
    return f"Pretraining: {run['task']} on {run['backbone']}" if {"task", "backbone"} <= {*run} else "Training"


@title_of.register
def _(result: Comparison) -> str:
    methods = result.accuracies()
    tasks = [name for name in methods if name not in BASELINES] or list(methods)
    backbone = result.settings.get("backbone")
    return f"Comparison: {', '.join(tasks)}" + (f" on {backbone}" if backbone else "")


@title_of.register(ProbeResult)
@title_of.register(FinetuneResult)
def _(result: ProbeResult | FinetuneResult) -> str:
    run = run_of(result)
    task = run["pretraining"].get("task")
    return f"{KINDS.get(_function_of(result), 'Classifier')}: {f'{task} on ' if task else ''}{run['backbone']}"


@title_of.register
def _(result: AnomalyScores) -> str:
    return f"Anomaly scores of {len(result.scores):,} images"


def repeat_of(result: Any) -> str:
    """Say how to repeat a result: the command that trained, or what is known of the call.

    Example:
        >>> repeat_of(History((), {"command": "pretextkit pretrain photos --out run"}))[:47]
        '<pre>pretextkit pretrain photos --out run</pre>'
    """
    run = run_of(result)
    if run.get("command"):
        text = (
            "In a folder with the same images, this command trains again. Where --out holds its run, it resumes there."
        )
        return lines(str(run["command"])) + paragraph(text + _extension_note(result))
    if isinstance(result, Comparison):
        return paragraph("compare(…) or the command pretextkit compare made this result, with the settings above.")
    function, settings = _function_of(result), " with the settings above" if run else ""
    if not function:
        return paragraph("The result does not name the call that made it.")
    text = f"A Python program called {function}(…){settings}; the page does not hold the program."
    return paragraph(text + _extension_note(result))


def _extension_note(result: Any) -> str:
    """Say that a run extended another; empty for a run of its own."""
    history = result.history if isinstance(result, PretrainResult) else result
    steps = history.settings.get("extends") if isinstance(history, History) else 0
    return f" The run extended a finished run of {steps} steps, which comes first." if steps else ""


def program_note() -> str:
    """Name the Python program that runs; empty in a notebook or a command."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    is_program = name.endswith(".py") and name != "__main__.py"
    return paragraph(f"The program that wrote this page is {name}.") if is_program else ""


def _function_of(result: Any) -> str:
    """Name the function that gave a result; empty if it is unknown."""
    if isinstance(result, PretrainResult) or (isinstance(result, History) and "task" in result.settings):
        return "pretrain"
    if isinstance(result, FinetuneResult):
        return str(result.classifier.trained.get("by", ""))
    if isinstance(result, AnomalyScores):
        return result.by
    return FUNCTIONS.get(type(result), "")
