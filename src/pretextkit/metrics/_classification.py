"""Metrics of classification for each class."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pretextkit._display import Displayed
from pretextkit._validation import check_labels
from pretextkit.errors import DataError, DataWarning, TrainingWarning, warn

__all__ = ["ClassReport", "class_report", "quiet_about_missed_classes", "warn_of_missed_classes", "wilson_interval"]

FEWEST_IMAGES = 5
"""Fewest test images of a class whose recall of 0 is reported."""

WORTH_A_NOTE = 0.05
"""Difference of the two accuracies above which a result shows both."""

CHANCE = 0.001
"""Largest probability that a warning about a class without a hit is an accident."""


@dataclass(frozen=True, repr=False)
class ClassReport(Displayed):
    """Recall and precision of each class; prints as a table."""

    accuracy: float
    """Fraction of correct predictions; frequent classes dominate it."""
    balanced_accuracy: float
    """Mean recall of the classes with test images; every class counts the same."""
    class_names: tuple[str, ...]
    """Names by label; the numbers without names."""
    recall: tuple[float, ...]
    """Fraction of the test images of each class that are predicted as this class; NaN without test images."""
    precision: tuple[float, ...]
    """Fraction of the predictions of each class that are correct; NaN without predictions."""
    counts: tuple[int, ...]
    """Number of test images of each class."""

    @property
    def missed(self) -> tuple[str, ...]:
        """Names of the classes that have test images and not a single hit."""
        return tuple(name for name, recall in zip(self.class_names, self.recall, strict=True) if recall == 0)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, from the number of test images."""
        total = sum(self.counts)
        return wilson_interval(round(self.accuracy * total), total)

    @property
    def accuracy_text(self) -> str:
        """Accuracy with its 95 % interval, and the balanced accuracy where it is far from it."""
        low, high = self.interval
        return f"{self.accuracy:.1%} (95% interval {100 * low:.1f}-{100 * high:.1f}){self.note}".rstrip(",")

    @property
    def note(self) -> str:
        """Text beside the accuracy in the line of a result, where the balanced accuracy differs by 5 points or more."""
        far = abs(self.accuracy - self.balanced_accuracy) >= WORTH_A_NOTE
        return f", balanced {self.balanced_accuracy:.1%}," if far else ""

    def table(self) -> list[list[str]]:
        """Return a header, a row for each class, and a row of means; recall and precision in percent."""
        rows = [
            [name, f"{count:,}", _percent(recall), _percent(precision)]
            for name, count, recall, precision in zip(
                self.class_names, self.counts, self.recall, self.precision, strict=True
            )
        ]
        known = [each for each in self.precision if not math.isnan(each)]
        mean = ["mean", f"{sum(self.counts):,}", _percent(self.balanced_accuracy), _percent(sum(known) / len(known))]
        return [["%", "Images", "Recall", "Precision"], *rows, mean]

    def display_line(self) -> str:
        """Return the accuracy and the number of classes."""
        return f"{len(self.class_names)} classes, accuracy {self.accuracy_text}"

    def display_table(self) -> list[list[str]]:
        """Return recall and precision of each class."""
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data that ``json`` can write; NaN becomes None."""
        values = asdict(self)
        for name in ("recall", "precision"):
            values[name] = [None if math.isnan(each) else each for each in values[name]]
        return values | {name: list(values[name]) for name in ("class_names", "counts")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassReport:
        """Build a report from the data of :meth:`to_dict`, also after a round trip through JSON."""
        filled = {
            name: tuple(math.nan if each is None else each for each in values[name]) for name in ("recall", "precision")
        }
        named = {name: tuple(values[name]) for name in ("class_names", "counts")}
        return cls(**{**values, **filled, **named})

    def __str__(self) -> str:
        table = self.table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in table)


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a probability from ``hits`` among ``count`` trials (Wilson 1927).

    Example:
        >>> [round(bound, 3) for bound in wilson_interval(8, 10)]
        [0.49, 0.943]
    """
    z = 1.959964  # two-sided 95 % quantile of the normal distribution
    center = (hits + z**2 / 2) / (count + z**2)
    half = z / (count + z**2) * math.sqrt(hits * (count - hits) / count + z**2 / 4)
    return max(0.0, center - half), min(1.0, center + half)


def class_report(predictions: Tensor, targets: Tensor, class_names: Sequence[str] = ()) -> ClassReport:
    """Measure the recall and the precision of each class.

    Args:
        predictions: Predicted labels ``n``.
        targets: True labels ``n``; images of label -1 are left out.
        class_names: Names of the labels 0, 1, …; by default the numbers.

    Returns:
        Accuracy, balanced accuracy, and the recall, precision and test images of each class.

    Raises:
        ShapeError: There is not one prediction for each label.
        DataError: No image is labeled, or a labeled image has no prediction.

    Example:
        >>> print(class_report(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]), ["healthy", "ill"]))
        %        Images  Recall  Precision
        healthy       2   100.0       66.7
        ill           2    50.0      100.0
        mean          4    75.0       83.3
    """
    targets = check_labels(targets).cpu()
    predictions = check_labels(predictions, len(targets)).cpu()
    predictions, targets = predictions[targets >= 0], targets[targets >= 0]
    if not len(targets) or int(predictions.min()) < 0:
        raise DataError(
            "labeled images, each with a prediction",
            got="a prediction of -1" if len(targets) else "no labels",
            fix="Pass the predictions and targets of a result, for example of linear_probe.",
        )
    classes = max(len(class_names), int(torch.cat([predictions, targets]).max()) + 1)
    # Three counts of length k: the confusion matrix of torchmetrics takes gigabytes for 20,000 classes.
    hits = torch.bincount(targets[predictions == targets], minlength=classes).double()
    counts = torch.bincount(targets, minlength=classes)
    recall = hits / counts  # 0 / 0 is NaN
    precision = hits / torch.bincount(predictions, minlength=classes)
    return ClassReport(
        accuracy=(predictions == targets).float().mean().item(),
        balanced_accuracy=recall.nanmean().item(),
        class_names=tuple(class_names) + tuple(map(str, range(len(class_names), classes))),
        recall=tuple(recall.tolist()),
        precision=tuple(precision.tolist()),
        counts=tuple(counts.tolist()),
    )


def warn_of_missed_classes(report: ClassReport, fix: str) -> None:
    """Warn about classes without a single hit, if this is no accident at the accuracy of the report.

    Args:
        report: Recall of each class.
        fix: Advice to the caller, as a sentence.
    """
    tested = sum(count > 0 for count in report.counts)
    missed = [
        f"{name!r} ({count} test images)"
        for name, recall, count in zip(report.class_names, report.recall, report.counts, strict=True)
        if recall == 0 and count >= FEWEST_IMAGES and tested * (1 - report.accuracy) ** count < CHANCE
    ]
    if missed:
        listed = ", ".join(missed[:5]) + (", ..." if len(missed) > 5 else "")
        text = (
            f"No image of class {listed} was classified correctly. The accuracy of {report.accuracy:.1%} does not show "
            f"this; the balanced accuracy is {report.balanced_accuracy:.1%}. {fix}"
        )
        warn(text, DataWarning, see="a-class-without-a-single-hit")


@contextmanager
def quiet_about_missed_classes() -> Iterator[None]:
    """Silence warnings about classes without a hit and about guessing, common among the runs of a comparison."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No image of class", DataWarning)
        warnings.filterwarnings("ignore", "The accuracy of .* on val is below", TrainingWarning)
        yield


def _percent(fraction: float) -> str:
    return "" if math.isnan(fraction) else f"{100 * fraction:.1f}"
