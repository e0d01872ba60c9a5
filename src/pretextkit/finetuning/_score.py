"""Scores of a fine-tuned classifier on held-out images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device
from pretextkit.data._tensor_images import TensorImages
from pretextkit.errors import TrainingWarning, warn
from pretextkit.inference._classifier import Classifier
from pretextkit.metrics._classification import ClassReport, class_report  # noqa: F401 - in the example

__all__ = ["classify", "warn_below_majority"]


def classify(classifier: Classifier, images: TensorImages) -> tuple[Tensor, Tensor]:
    """Classify images in evaluation mode.

    Returns:
        Predicted labels ``n`` and probabilities ``n k``, on the CPU.
    """
    device = module_device(classifier)
    with evaluation_mode(classifier):
        batches = images.in_order(256)
        logits = torch.cat([classifier(as_float(batch.images.to(device))).float().cpu() for batch in batches])
    return logits.argmax(1), logits.softmax(1)


def warn_below_majority(report: ClassReport) -> None:
    """Warn if the accuracy is below the share of the most frequent class by more than three standard errors.

    Args:
        report: Accuracy, and the number of images of each class.

    Example:
        >>> warn_below_majority(class_report(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])))
    """
    images = sum(report.counts)
    most = max(report.counts)
    majority = most / images
    error = math.sqrt(majority * (1 - majority) / images)
    if report.accuracy < majority - 3 * error:
        name = report.class_names[report.counts.index(most)]
        text = (
            f"The accuracy of {report.accuracy:.1%} on val is below the {majority:.1%} of always predicting {name!r}. "
            "Check that the labels belong to the images and that train holds the same classes in similar numbers, or "
            "train longer with steps."
        )
        warn(text, TrainingWarning, see="an-accuracy-below-the-most-frequent-class")
