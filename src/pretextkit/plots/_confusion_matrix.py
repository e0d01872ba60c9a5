"""Plot of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from pretextkit._validation import check_labels
from pretextkit.errors import DataError
from pretextkit.plots._figures import check_names, class_name, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix"]

MAX_CLASSES_WITH_NUMBERS = 20
"""Largest number of classes for which entries show their numbers."""

MAX_TICKS = 50
"""Largest number of class names on an axis."""


def confusion_matrix(labels: Any, predictions: Any, class_names: Sequence[str] = (), *, title: str = "") -> Figure:
    """Draw the confusion matrix, as percentages of each true class.

    Each row sums to 100 %, so rare classes are readable too; class names include the number of images. Entries without
    images are empty. Numbers are shown for up to 20 classes.

    Args:
        labels: ``n`` true labels; images of label -1 are left out.
        predictions: ``n`` predicted labels.
        class_names: Names of the labels 0, 1, …; by default the numbers.
        title: Title of the figure.

    Returns:
        A figure to save or display.

    Raises:
        ShapeError: There is not one prediction for each label.
        DataError: No image is labeled, a labeled image has no prediction, or there is only one class.
        OptionError: A class has no name.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> figure = confusion_matrix([0, 0, 1, 1, 1], [0, 1, 1, 1, 1], ["cat", "dog"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['50.0', '50.0', '100.0']
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    truth, predicted = check_labels(labels, len(labels)), check_labels(predictions, len(labels))
    truth, predicted = truth[truth >= 0], predicted[truth >= 0]
    if not len(truth) or int(predicted.min()) < 0:
        raise DataError(
            "labeled images, each with a prediction",
            got="a prediction of -1" if len(truth) else "labels that are all -1" if len(labels) else "no labels",
            fix="Pass targets and predictions of a result, for example of linear_probe or knn_probe.",
        )
    classes = len(class_names) or int(torch.cat([truth, predicted]).max()) + 1
    check_names(int(torch.cat([truth, predicted]).max()) + 1, class_names)
    if classes < 2:
        raise DataError("at least 2 classes", got="class 0 only", fix="Name the other classes in class_names.")
    counts = multiclass_confusion_matrix(predicted, truth, num_classes=classes)
    images = counts.sum(1)
    percentages = 100 * counts / images.clamp(min=1)[:, None]

    side = 0.52 * classes if classes <= MAX_CLASSES_WITH_NUMBERS else 10.0
    figure = new_figure(side + 2.8, side + 1.6 + (0.3 if title else 0))
    figure.set_layout_engine("compressed")  # entries are square: "constrained" cuts the name of an axis
    axes = figure.add_subplot()
    drawn = axes.imshow(percentages.numpy(), cmap="Blues", vmin=0, vmax=100)
    if classes <= MAX_CLASSES_WITH_NUMBERS:
        for row, column in counts.nonzero().tolist():
            percentage = float(percentages[row, column])
            color = "white" if percentage > 60 else "black"
            axes.text(column, row, f"{percentage:.1f}", ha="center", va="center", color=color, fontsize=8)
    named = range(0, classes, -(-classes // MAX_TICKS))
    size = "medium" if classes <= MAX_CLASSES_WITH_NUMBERS else "x-small"
    names = [class_name(label, class_names) for label in named]
    axes.set_xticks(
        named, names, rotation=90 if class_names or classes > MAX_CLASSES_WITH_NUMBERS else 0, fontsize=size
    )
    axes.set_yticks(named, [f"{name} ({int(images[label])})" for label, name in zip(named, names, strict=True)])
    axes.tick_params("y", labelsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (images)")
    figure.colorbar(drawn, ax=axes, label="images of the true class in %", shrink=0.8)
    if title:
        axes.set_title(title)
    return figure
