"""Score images by the loss of a rotation task trained on normal images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import as_input, module_device, refuse_meta, unwrap
from pretextkit.anomaly._scores import AnomalyScores, files_of, full_images, image_batches
from pretextkit.data import ImagesLike, as_source
from pretextkit.data._accepted_channels import retry_in_color
from pretextkit.data._sources import ImageSource
from pretextkit.data._types import OnError, Size
from pretextkit.errors import OptionError
from pretextkit.tasks import Rotation

__all__ = ["rotation_anomaly_score"]


def rotation_anomaly_score(
    task: Rotation,
    images: ImagesLike,
    *,
    batch_size: int = 256,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> AnomalyScores:
    """Score images by the loss of a rotation task trained on normal images.

    The score is the negative log-probability of the true rotation, averaged over all four rotations (Golan & El-Yaniv
    2018, arXiv 1805.10917, who add translations and flips; the logarithm follows Hendrycks et al. 2019,
    arXiv 1906.12340). The method suits objects with an upright side; it cannot score rotation-invariant objects. There
    are no maps. Modules run in evaluation mode; their state is restored afterwards.

    Args:
        task: A rotation task, pretrained on normal images only.
        images: Square images to score, from any source accepted by :func:`reconstruction_anomaly_score`.
        batch_size: Images per forward pass, before rotation; each is shown in four rotations.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        A score for each image.

    Raises:
        OptionError: The task is no rotation task, or ``batch_size`` is below 1.
        ShapeError: The images are not square.
        DataError: The images cannot be read or are out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = Rotation(SmallCNN())
        >>> print(rotation_anomaly_score(task, torch.zeros(3, 3, 32, 32)))
        3 anomaly scores from 1... to 1..., median 1...
    """
    network = unwrap(task)
    if not isinstance(network, Rotation):
        raise OptionError(
            "a Rotation task", got=f"a {type(task).__name__}", fix="Train pretextkit.tasks.Rotation(backbone) first."
        )
    task = network
    refuse_meta(task, "the task")
    (images,) = full_images(images, size=size, on_error=on_error)
    with evaluation_mode(task):
        scores = retry_in_color(lambda source: _losses(task, source, batch_size), as_source(images))
    return AnomalyScores(
        scores, files=files_of(images), measure="loss of the rotation task", by="rotation_anomaly_score"
    )


def _losses(task: Rotation, source: ImageSource, batch_size: int) -> Tensor:
    """Measure the mean loss of the rotations of each image, ``n``."""
    losses = []
    for inputs in image_batches(source, batch_size, module_device(task), of=rotation_anomaly_score):
        views, labels = task.rotate(inputs)  # rotation by rotation
        logits = task.head(task.backbone(as_input(views, task))).float()
        each = nn.functional.cross_entropy(logits, labels, reduction="none")
        losses.append(each.view(-1, len(inputs)).mean(0).cpu())
    return torch.cat(losses)
