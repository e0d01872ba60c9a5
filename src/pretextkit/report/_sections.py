"""Sections of a report: what a result has to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from pretextkit._color import as_float
from pretextkit._modules import unwrap
from pretextkit._seeding import derived_generator
from pretextkit.anomaly import AnomalyScores
from pretextkit.comparison import Comparison
from pretextkit.contracts import PretextTask
from pretextkit.errors import DataError, ShapeError
from pretextkit.evaluation import KNNResult, ProbeResult, SegmentationResult
from pretextkit.finetuning import FinetuneResult
from pretextkit.metrics import DetectionMetrics
from pretextkit.metrics._classification import ClassReport
from pretextkit.plots import comparison, confusion_matrix, label_efficiency, training_curves, views
from pretextkit.report._origin import RUN, run_of
from pretextkit.report._page import Section, figure, lines, table
from pretextkit.report._pictures import (
    class_names_of,
    embedding_of,
    grid,
    histogram,
    neighbors_of,
    sample_features,
    worst_errors,
)
from pretextkit.report._values import same_decimals, setting_rows
from pretextkit.training._history import History
from pretextkit.training._pretrain import PretrainResult

__all__ = ["Shown", "sections_of"]


@dataclass(frozen=True)
class Shown:
    """What a report shows beside a result."""

    images: Tensor | None = None
    """``n c h w``: the scored images of a probe, fine-tuning or anomaly score, in the order of their results."""
    task: PretextTask[Any, Any] | None = None
    """Task whose views are drawn."""
    name: str = ""
    """Name of the result on a page of several; empty without one."""

    def scored(self, count: int) -> Tensor | None:
        """Return the images, of which there must be one for each result.

        Raises:
            ShapeError: There are more or fewer.
        """
        if self.images is not None and len(self.images) != count:
            raise ShapeError(
                f"the {count} images that the result scored", got=f"{len(self.images)}", fix="Pass images=test_images."
            )
        return self.images


@singledispatch
def sections_of(result: object, shown: Shown) -> list[Section]:
    """List the sections of a result.

    Raises:
        DataError: It is no result of pretextkit.
        ShapeError: The images are not those of the result.

    Example:
        >>> [section.title for section in sections_of(DetectionMetrics(0.9, 0.8, 0.2), Shown())]
        ['Result']
    """
    raise DataError(
        "a result of pretextkit, a folder of pretrain or compare, or a mapping from titles to them",
        got=type(result).__name__,
        fix="Pass the result of pretrain, compare, a probe, fine-tuning or an anomaly score.",
    )


@sections_of.register
def _(result: PretrainResult, shown: Shown) -> list[Section]:
    found = [*_run(result), Section("Result", lines(str(result))), *_settings(asdict(result.settings))]
    return [*found, *_training(result.history), *_views(shown)]


@sections_of.register
def _(result: History, shown: Shown) -> list[Section]:
    settings = {name: value for name, value in result.settings.items() if name not in RUN}
    return [*_run(result), *_settings(settings), *_training(result), *_views(shown)]


@sections_of.register
def _(result: Comparison, shown: Shown) -> list[Section]:
    efficiency, chance = result.label_efficiency(), _chance(result)
    curves = ""
    if len(next(iter(efficiency.values()), {})) > 1:
        drawn = label_efficiency(efficiency, chance=chance)
        curves = figure(drawn, "Accuracy after fine-tuning, by number of labels")
    drawn = comparison(result.accuracies("linear"), chance=chance)
    drawn.set_size_inches(5, drawn.get_figheight())  # fits a phone
    bars = figure(drawn, "Accuracy of the linear probe")
    runs = {f"{run.method}, seed {run.seed}": run.settings for run in result.runs if run.settings}
    settings = [[name, what, text] for name, each in runs.items() for what, text in each.items()]
    found = [*_run(result), Section("Result", table(result.table()) + bars + curves)]
    if settings:
        found.append(Section("Settings of each run", table([["Run", "Part", "Settings"], *settings], text=True)))
    return found


@sections_of.register
def _(result: ProbeResult, shown: Shown) -> list[Section]:
    body = lines(str(result)) + table(result.display_table())
    report = result.class_report
    found = [*_run(result), Section("Result", body), *_classes(result.targets, result.predictions, report)]
    return [*found, *_examples(result, shown)]


@sections_of.register
def _(result: KNNResult, shown: Shown) -> list[Section]:
    return [
        *_run(result),
        Section("Result", lines(str(result))),
        *_classes(result.targets, result.predictions, result.class_report),
    ]


@sections_of.register
def _(result: FinetuneResult, shown: Shown) -> list[Section]:
    found = [*_run(result), Section("Result", lines(str(result))), *_settings(asdict(result.settings))]
    found += _training(result.history)
    if result.targets is None or result.predictions is None or result.class_report is None:
        return found
    return [*found, *_classes(result.targets, result.predictions, result.class_report), *_examples(result, shown)]


@sections_of.register
def _(result: SegmentationResult, shown: Shown) -> list[Section]:
    scores = [[name, f"{score.miou:.1%}"] for name, score in result.layers.items()]
    classes = [[str(number), f"{iou:.1%}"] for number, iou in enumerate(result.class_iou)]
    return [
        Section("Result", lines(str(result)) + table([["Layer", "mIoU"], *scores])),
        Section("Classes", table([["Class", "IoU"], *classes])),
    ]


@sections_of.register
def _(result: DetectionMetrics, shown: Shown) -> list[Section]:
    return [Section("Result", lines(str(result)))]


@sections_of.register
def _(result: AnomalyScores, shown: Shown) -> list[Section]:
    order = result.scores.argsort(descending=True, stable=True)
    texts = same_decimals(result.scores.tolist())
    low, middle, high = same_decimals(result.scores.quantile(result.scores.new_tensor([0.0, 0.5, 1.0])).tolist())
    name = shown.name or result.measure[:1].upper() + result.measure[1:]
    line = f"{name}: from {low} to {high}, median {middle}"
    names = result.files or tuple(map(str, range(len(texts))))
    rows = [[names[row], texts[row]] for row in order[:10].tolist()]
    found = [
        *_run(result),
        Section("Result", lines(line) + figure(histogram(result.scores, name), "Number of images by score")),
        Section("Highest scores", table([["Image", "Score"], *rows])),
    ]
    images = shown.scored(len(texts))
    if images is None:
        return found
    pictures = ""
    for chosen, caption in ((order[:12], "Highest scores"), (order[-12:].flip(0), "Lowest scores")):
        pictures += figure(grid(images[chosen], [texts[row] for row in chosen.tolist()]), caption)
    return [*found, Section("Images", pictures)]


def _run(result: Any) -> list[Section]:
    """Say what was run; the command is below, where the page says how to repeat it."""
    rows = setting_rows({name: value for name, value in run_of(result).items() if name != "command"})
    return [Section("What was run", table([["Part", "Value"], *rows], text=True))] if rows else []


def _settings(values: Mapping[str, Any]) -> list[Section]:
    rows = setting_rows(values)
    return [Section("Settings", table([["Setting", "Value"], *rows], text=True))] if rows else []


def _chance(result: Comparison) -> float | None:
    """Return one over the number of classes; None for runs of a version that did not save the classes."""
    reports = [run.linear_report for run in result.runs if run.linear_report is not None]
    return 1 / len(reports[0].class_names) if reports else None


def _training(history: History) -> list[Section]:
    if not history.rows:
        return []
    header, *rows = history.table(10)
    words = [name.replace("_", " ") for name in header]  # spaces let a narrow header wrap
    curves = figure(training_curves(history), "Loss and metrics by epoch")
    return [Section("Training", curves + table([words, *rows]))]


def _views(shown: Shown) -> list[Section]:
    if shown.task is None or shown.images is None:
        return []
    task, batch = unwrap(shown.task), as_float(shown.images[:32])
    with torch.no_grad():
        drawn = views(task.views(batch, derived_generator(0, "report")), label_names=task.label_names)
    return [Section("Views", figure(drawn, f"Views of {type(task).__name__}: its input"))]


def _classes(targets: Tensor, predictions: Tensor, report: ClassReport) -> list[Section]:
    matrix = confusion_matrix(targets, predictions, report.class_names)
    return [Section("Classes", table(report.table()) + figure(matrix, "Predictions by true class"))]


def _examples(result: ProbeResult | FinetuneResult, shown: Shown) -> list[Section]:
    """Show the worst errors, neighbors and an embedding of the scored images."""
    assert result.targets is not None
    assert result.probabilities is not None
    assert result.class_report is not None
    images = shown.scored(len(result.targets))
    if images is None:
        return []
    names, found = result.class_report.class_names, []
    worst, predicted = worst_errors(result.probabilities, result.targets)
    if len(worst):
        captions = _captions(names, result.targets[worst], predicted)
        found.append(Section("Worst errors", figure(grid(images[worst], captions), "True and predicted class")))
    rows, features = sample_features(result.classifier, images)
    labels = result.targets[rows]
    pictures = figure(embedding_of(features, labels, names), "Features of scored images, two principal components")
    if len(rows) > 3:
        pictures = figure(neighbors_of(images[rows], features, labels, names), "Nearest neighbors") + pictures
    return [*found, Section("Features", pictures)]


def _captions(names: Sequence[str], targets: Tensor, predicted: Tensor) -> list[str]:
    pairs = zip(class_names_of(names, targets), class_names_of(names, predicted), strict=True)
    return [f"{true}\npredicted {wrong}" for true, wrong in pairs]
