"""Rotation: an image whose way up a model of normal images cannot tell is strange."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, nn

from pretextkit._evaluation_mode import evaluation_mode, module_device
from pretextkit.anomaly._reading import image_batches
from pretextkit.anomaly._scores import AnomalyScores
from pretextkit.tasks import Rotation

__all__ = ["rotation_anomaly_score"]


def rotation_anomaly_score(task: Rotation, images: Any, *, batch_size: int = 256) -> AnomalyScores:
    """Score images by how unsure a trained rotation task is of their rotations.

    The score is the task's loss on the image: minus the logarithm of the probability of the true rotation, averaged
    over all four (Golan & El-Yaniv 2018, arXiv 1805.10917, who add translations and flips; the logarithm is that of
    Hendrycks et al. 2019, arXiv 1906.12340). It suits objects that have an upright side, and is blind to what has
    none. There are no maps. Modules are in evaluation mode meanwhile and come back as they were.

    Args:
        task: Pretrained on normal images only.
        images: As for :func:`reconstruction_anomaly_score`; square.
        batch_size: Images at a time, each in four rotations.

    Returns:
        A score for each image.

    Raises:
        OptionError: ``batch_size`` is below 1.
        ShapeError: The images are not square.
        DataError: These are no images.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = Rotation(SmallCNN())
        >>> print(rotation_anomaly_score(task, torch.zeros(3, 3, 32, 32)))
        3 anomaly scores from 1... to 1..., median 1...
    """
    scores = []
    with evaluation_mode(task):
        for inputs in image_batches(images, batch_size, module_device(task), rotation_anomaly_score):
            views, labels = task.views(inputs, Generator())  # all images in each rotation in turn; nothing is drawn
            logits = task.head(task.backbone(views)).float()
            losses = nn.functional.cross_entropy(logits, labels, reduction="none")
            scores.append(losses.view(-1, len(inputs)).mean(0).cpu())
    return AnomalyScores(torch.cat(scores))
