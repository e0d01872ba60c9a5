"""Data of a fine-tuning: labeled images to train on, and held-out images to score."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pretextkit._seeding import derived_seed, seeded
from pretextkit.data import LabeledLike
from pretextkit.data._sources import ImageSource
from pretextkit.data._tensor_images import TensorImages
from pretextkit.evaluation._classes import (
    Classes,
    ClassWeights,
    find_classes,
    match_classes,
    resolve_class_weights,
)
from pretextkit.evaluation._labels import labeled_images
from pretextkit.finetuning._labeled_source import labeled_source

__all__ = ["FinetuneData", "HeldoutImages", "read_data"]


@dataclass(frozen=True)
class HeldoutImages:
    """Labeled images that are only scored."""

    images: TensorImages
    labels: Tensor
    """Labels ``n`` in the numbers of train."""


@dataclass(frozen=True)
class FinetuneData:
    """Labeled images to train on, and held-out images to score."""

    source: ImageSource
    """Labeled images."""
    labels: Tensor
    """Labels ``n`` of the first reading."""
    classes: Classes
    class_weights: Tensor | None
    """Weight of each class in the loss; None for equal weights."""
    heldout: HeldoutImages | None


def read_data(
    train: LabeledLike, val: LabeledLike | None, class_weights: ClassWeights, seed: int, workers: int
) -> FinetuneData:
    """Read the labels of train, and the images and labels of val.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1, or other classes in val.
        OptionError: ``class_weights`` is invalid.
    """
    source, labels = labeled_source(train, "train", seed, workers)
    classes = find_classes(labels, source.class_names)
    weights = resolve_class_weights(class_weights, labels, classes)
    if val is None:
        return FinetuneData(source, labels, classes, weights, None)
    with seeded(derived_seed(seed, "val")):  # a loader draws from the global generator
        images, targets = labeled_images(val, "val", workers)  # read before training, to fail early
    targets = match_classes(targets, images.class_names, classes, "val")
    return FinetuneData(source, labels, classes, weights, HeldoutImages(images, targets))
