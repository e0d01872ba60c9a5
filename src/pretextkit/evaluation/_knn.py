"""Nearest-neighbor probe: classify images by the labels of similar features."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pretextkit._display import Displayed
from pretextkit._starting_point import starting_point, starts_note
from pretextkit._validation import check_float, check_int, check_widths
from pretextkit.data import LabeledLike
from pretextkit.data._as_source import read_files
from pretextkit.data._types import OnError, Size
from pretextkit.errors import DataWarning, warn
from pretextkit.evaluation._classes import find_classes, match_classes, with_class_names
from pretextkit.evaluation._features import ExtractOptions, Model, labeled_features
from pretextkit.evaluation._neighbor_search import QUERY_CHUNK, nearest_rows
from pretextkit.evaluation._shared_images import is_same_data, warn_of_training_images
from pretextkit.evaluation._storage import FeatureStore, row_slices
from pretextkit.metrics._classification import ClassReport, class_report, warn_of_missed_classes
from pretextkit.training._hardware import Precision

__all__ = ["KNNResult", "knn_probe"]

FEWEST_IMAGES = 10
"""Fewest images whose accuracy below chance is no accident."""


@dataclass(frozen=True, repr=False)
class KNNResult(Displayed):
    """Result of a nearest-neighbor probe."""

    accuracy: float
    """Accuracy on test."""
    k: int
    """Number of neighbors that voted."""
    predictions: Tensor = field(repr=False)
    """Predicted test labels ``n``."""
    targets: Tensor = field(repr=False)
    """True test labels ``n``."""
    class_report: ClassReport = field(repr=False)
    """Recall and precision of each class on test."""
    seconds: float = field(repr=False)
    """Wall-clock time in seconds, extraction included."""
    starts_from: str | None = None
    """Where the weights of the backbone come from, if they were trained before; None for random weights."""

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes on test."""
        return self.class_report.balanced_accuracy

    def display_table(self) -> list[list[str]]:
        """Return recall and precision of each class."""
        return self.class_report.table()

    def __str__(self) -> str:
        return f"{self.k}-NN probe: {self.class_report.accuracy_text}{starts_note(self.starts_from)}"

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, from the number of test images (Wilson)."""
        return self.class_report.interval


def knn_probe(
    backbone: Model,
    train: LabeledLike,
    test: LabeledLike | None = None,
    *,
    k: int | None = None,
    temperature: float = 0.07,
    batch_size: int = 256,
    precision: Precision = "auto",
    memory: float = math.inf,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> KNNResult:
    """Classify each test image by its most similar training images.

    Each of the ``k`` neighbors of highest cosine similarity votes for its label with the weight
    ``exp(similarity / temperature)`` (Wu et al. 2018, arXiv 1805.01978). The probe trains nothing and chooses nothing,
    and is therefore cheap. Similarities are computed in chunks, and memory does not grow with their number. If train
    and test both have class names, the classes of test are matched by name.

    Args:
        backbone: Module or function from images to features; features ``n d`` pass through ``nn.Identity()``.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; labels 0…k-1; images labeled -1 are left out.
        test: Test images with labels, in the same forms as ``train``. If it is None or the same object as ``train``
            (or a pair of the same two objects), every training image is classified by the other training images.
        k: Number of neighbors that vote; at most all reference images. By default half of the mean number
            of images of a class, at least 1 and at most 20.
        temperature: Temperature of the vote; a smaller value gives the nearest neighbors more weight.
        batch_size: Images per forward pass.
        precision: Precision of the extraction.
        memory: Memory budget of the features in bytes, half each for train and test; no limit by default. Features
            beyond it lie in temporary files, and the result is the same. See :func:`extract_features`.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        Accuracy and predictions.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1 (unless they have names), or test classes
            missing from train.
        ShapeError: Train and test have features of different widths.
        OptionError: ``k`` or ``temperature`` is out of range.

    Example:
        >>> features, labels = torch.eye(4).repeat(2, 1), torch.arange(4).repeat(2)
        >>> knn_probe(torch.nn.Identity(), (features, labels), k=1).accuracy
        1.0
    """
    k = None if k is None else check_int("k", k, fix="Leave k out to choose it by the size of classes.")
    temperature = check_float("temperature", temperature, "(0, inf)", of=knn_probe)
    train_store, test_store = FeatureStore(memory).split(2)
    start = time.monotonic()
    options: ExtractOptions = {"batch_size": batch_size, "precision": precision}
    leave_one_out = test is None or is_same_data(train, test)
    train, test = read_files([train, None if leave_one_out else test], size, on_error)
    train_data, train_names = with_class_names(train)
    test_data, test_names = (train_data, train_names) if test is None or leave_one_out else with_class_names(test)
    train_layers, labels, marks = labeled_features(backbone, train_data, "train", train_store, **options)
    if leave_one_out:
        test_layers, targets = train_layers, labels
    else:
        test_layers, targets, test_marks = labeled_features(backbone, test_data, "test", test_store, **options)
        fix = "Leave out test: every image is then classified by the others."
        warn_of_training_images(marks, test_marks, same=False, fix=fix)
    classes = find_classes(labels, train_names)
    targets = match_classes(targets, test_names, classes)
    check_widths(train_layers, test_layers)
    (reference,), (queries,) = train_layers.values(), test_layers.values()  # n d, m d
    k = min(_default_k(labels) if k is None else k, len(reference) - leave_one_out)
    for features in (reference,) if leave_one_out else (reference, queries):
        for part in row_slices(*features.shape):
            nn.functional.normalize(features[part], out=features[part])
    similarities, neighbors = nearest_rows(queries, reference, k, leave_one_out=leave_one_out)  # m k, m k
    predictions = torch.cat(
        [
            _vote(chunk, labels[rows], classes.count, temperature)
            for chunk, rows in zip(*(torch.split(each, QUERY_CHUNK) for each in (similarities, neighbors)), strict=True)
        ]
    )  # m
    report = class_report(predictions, targets, classes.shown_names)
    if not (leave_one_out and _warn_of_own_class(report, labels, k)):
        warn_of_missed_classes(report, "Lower k, because rare classes have fewer than k neighbors of their own.")
    seconds = time.monotonic() - start
    return KNNResult(report.accuracy, k, predictions, targets, report, seconds, starting_point(backbone))


def _default_k(labels: Tensor) -> int:
    """Return half of the mean number of images of a class, from 1 to 20."""
    return max(1, min(20, len(labels) // (2 * len(torch.unique(labels)))))


def _warn_of_own_class(report: ClassReport, labels: Tensor, k: int) -> bool:
    """Warn about an accuracy below chance that comes from leaving an image out of its own class.

    If nearly all other images vote, each class has all of its votes except the own class, which lacks one. Features
    without information then give less than chance. The warning needs both: many neighbors and an accuracy below chance.
    """
    counts = torch.bincount(labels)
    chance = (counts / counts.sum()).square().sum().item()
    if len(labels) < FEWEST_IMAGES or 2 * k < len(labels) or report.accuracy >= chance:
        return False
    warn(
        f"With k={k} of {len(labels) - 1} neighbors, leave-one-out kNN is below chance by design where features tell "
        f"little: the class of the image itself has one vote fewer than the others. The accuracy is "
        f"{report.accuracy:.1%}, and chance {chance:.1%}. Pass k={max(1, int(counts[counts > 0].min()) // 2)}, or pass "
        "test images.",
        DataWarning,
        see="leave-one-out-knn-below-chance",
    )
    return True


def _vote(similarities: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Predict labels ``m`` from the similarities ``m k`` and the labels ``m k`` of neighbors."""
    # Relative to the nearest neighbor, no weight overflows; the common factor does not change the vote.
    weights = ((similarities - similarities[:, :1]) / temperature).exp()  # m k
    votes = weights.new_zeros(len(labels), classes).scatter_add_(1, labels, weights)  # m classes
    return votes.argmax(1)  # m
