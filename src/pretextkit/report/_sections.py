"""Sections of a report: what a result has to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from pretextkit._color import as_float
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
from pretextkit.report._page import Section, figure, lines, table
from pretextkit.report._pictures import (
    class_names_of,
    embedding_of,
    grid,
    neighbors_of,
    sample_features,
    worst_errors,
)
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
    found = [Section("Result", lines(str(result))), _settings(asdict(result.settings))]
    return [*found, *_training(result.history), *_views(shown)]


@sections_of.register
def _(result: History, shown: Shown) -> list[Section]:
    settings = [_settings(result.settings)] if result.settings else []
    return [*settings, *_training(result), *_views(shown)]


@sections_of.register
def _(result: Comparison, shown: Shown) -> list[Section]:
    efficiency = result.label_efficiency()
    curves = ""
    if len(next(iter(efficiency.values()), {})) > 1:
        curves = figure(label_efficiency(efficiency), "Accuracy after fine-tuning, by number of labels")
    bars = figure(comparison(result.accuracies("linear")), "Accuracy of the linear probe")
    runs = {f"{run.method}, seed {run.seed}": run.settings for run in result.runs if run.settings}
    settings = [[name, what, text] for name, each in runs.items() for what, text in each.items()]
    found = [Section("Result", table(result.table()) + bars + curves)]
    if settings:
        found.append(Section("Settings of each run", table([["Run", "Part", "Settings"], *settings], text=True)))
    return [*found, _settings(result.settings)]


@sections_of.register
def _(result: ProbeResult, shown: Shown) -> list[Section]:
    body = lines(str(result)) + table(result.display_table())
    report = result.class_report
    found = [Section("Result", body), *_classes(result.targets, result.predictions, report)]
    return [*found, *_examples(result, shown)]


@sections_of.register
def _(result: KNNResult, shown: Shown) -> list[Section]:
    return [
        Section("Result", lines(str(result))),
        *_classes(result.targets, result.predictions, result.class_report),
    ]


@sections_of.register
def _(result: FinetuneResult, shown: Shown) -> list[Section]:
    found = [Section("Result", lines(str(result))), _settings(asdict(result.settings)), *_training(result.history)]
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
    found = [Section("Result", lines(str(result))), Section("Highest scores", table(result.display_table()))]
    images = shown.scored(len(result.scores))
    if images is None:
        return found
    order = result.scores.argsort(descending=True, stable=True)
    pictures = ""
    for rows, caption in ((order[:12], "Highest scores"), (order[-12:].flip(0), "Lowest scores")):
        pictures += figure(grid(images[rows], [f"{score:.4g}" for score in result.scores[rows].tolist()]), caption)
    return [*found, Section("Images", pictures)]


def _settings(values: Mapping[str, Any]) -> Section:
    rows = [[name.replace("_", " "), str(value)] for name, value in values.items() if value is not None]
    return Section("Settings", table([["Setting", "Value"], *rows], text=True))


def _training(history: History) -> list[Section]:
    if not history.rows:
        return []
    return [
        Section("Training", figure(training_curves(history), "Loss and metrics by epoch") + table(history.table(10)))
    ]


def _views(shown: Shown) -> list[Section]:
    if shown.task is None or shown.images is None:
        return []
    batch = as_float(shown.images[:32])
    with torch.no_grad():
        drawn = views(shown.task.views(batch, derived_generator(0, "report")))
    return [Section("Views", figure(drawn, f"Views of {type(shown.task).__name__}: its input"))]


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
