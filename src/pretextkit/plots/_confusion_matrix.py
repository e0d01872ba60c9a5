"""Which classes are taken for which others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from pretextkit._validation import check_labels
from pretextkit.errors import DataError
from pretextkit.plots._figures import class_name, new_figure, require_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix"]

WRITTEN = 20
"""Up to so many classes, cells carry their numbers."""

TICKS = 50
"""At most so many classes are named."""


def confusion_matrix(labels: Any, predictions: Any, class_names: Sequence[str] = (), *, title: str = "") -> Figure:
    """Draw, for each true class, what share of its images was given to each class.

    A row adds up to 100 %, so that classes with few images can be read as well as others; how many images it has
    stands beside its name. A cell of no image is left empty. Numbers are written up to 20 classes.

    Args:
        labels: ``n`` true labels; images of label -1 are left out.
        predictions: ``n`` predicted labels.
        class_names: Of the labels 0, 1, …; without them, the labels' numbers.
        title: Written above.

    Returns:
        A figure to save or display.

    Raises:
        ShapeError: There is not one prediction for each label.
        DataError: Nothing is labeled, a labeled image has no prediction, or there is one class only.
        OptionError: A class has no name.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> figure = confusion_matrix([0, 0, 1, 1, 1], [0, 1, 1, 1, 1], ["cat", "dog"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['50.0', '50.0', '100.0']
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    truth, found = check_labels(labels, len(labels)), check_labels(predictions, len(labels))
    truth, found = truth[truth >= 0], found[truth >= 0]
    if not len(truth) or int(found.min()) < 0:
        raise DataError(
            "labeled images, each with a prediction",
            got="a prediction of -1" if len(truth) else "labels that are all -1" if len(labels) else "no labels",
            fix="For example, pass targets and predictions of what linear_probe or knn_probe gives.",
        )
    classes = len(class_names) or int(torch.cat([truth, found]).max()) + 1
    require_names(int(torch.cat([truth, found]).max()) + 1, class_names)
    if classes < 2:
        raise DataError("at least 2 classes", got="class 0 only", fix="Name the others in class_names.")
    counts = multiclass_confusion_matrix(found, truth, num_classes=classes)
    images = counts.sum(1)
    shares = 100 * counts / images.clamp(min=1)[:, None]

    side = 0.52 * classes if classes <= WRITTEN else 10.0
    figure = new_figure(side + 2.8, side + 1.6 + (0.3 if title else 0))
    axes = figure.add_subplot()
    drawn = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=100)
    if classes <= WRITTEN:
        for row, column in counts.nonzero().tolist():
            share = float(shares[row, column])
            color = "white" if share > 60 else "black"
            axes.text(column, row, f"{share:.1f}", ha="center", va="center", color=color, fontsize=8)
    named = range(0, classes, -(-classes // TICKS))
    size = "medium" if classes <= WRITTEN else "x-small"
    names = [class_name(label, class_names) for label in named]
    axes.set_xticks(named, names, rotation=90 if class_names or classes > WRITTEN else 0, fontsize=size)
    axes.set_yticks(named, [f"{name} ({int(images[label])})" for label, name in zip(named, names, strict=True)])
    axes.tick_params("y", labelsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (images)")
    figure.colorbar(drawn, ax=axes, label="images of the true class in %", shrink=0.8)
    if title:
        axes.set_title(title)
    return figure
