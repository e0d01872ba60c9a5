"""Score images by the Mahalanobis distance of their features to normal features."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit.anomaly._neighbors import join_layers
from pretextkit.anomaly._scores import AnomalyScores, files_of, full_images
from pretextkit.data import ImagesLike
from pretextkit.data._types import OnError, Size
from pretextkit.errors import DataError
from pretextkit.evaluation._features import Layers, Model, image_features
from pretextkit.training._hardware import Precision

__all__ = ["mahalanobis_anomaly_score", "shrunk_covariance"]


def mahalanobis_anomaly_score(
    backbone: Model,
    normal: ImagesLike,
    images: ImagesLike,
    *,
    layers: Layers = "last",
    pool: int = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
    size: Size | None = None,
    on_error: OnError = "raise",
) -> AnomalyScores:
    """Score images by the Mahalanobis distance of their features to those of normal images.

    Deviations count most in directions in which normal images hardly vary (Rippel et al. 2021, arXiv 2005.14140). The
    covariance is shrunk towards a multiple of the identity, with a weight estimated from its noise (Ledoit & Wolf 2004,
    doi 10.1016/S0047-259X(03)00096-4). The distance is therefore stable with fewer images than features, and with
    features that are always zero. For normal images of several kinds, prefer :func:`neighbor_anomaly_score`.

    Args:
        backbone: Any module or function from images to features.
        normal: Normal reference images: tensor ``n c h w``, numpy array, ``Dataset``, ``DataLoader`` or a folder's
            path.
        images: Images to score, from the same types of sources.
        layers: Layers, as for :func:`~pretextkit.functional.extract_features`; features of several layers are
            concatenated.
        pool: Side of the grid to which feature maps are averaged.
        batch_size: Images per forward pass.
        precision: Precision of the forward passes.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        A score for each image.

    Raises:
        UnknownNameError: The backbone has no layer of that name.
        OptionError: ``batch_size`` is below 1.
        ShapeError: Features of normal images and of images to score have different widths.
        DataError: There is only one normal image, all normal images have the same features, or features are NaN or
            infinite.

    Example:
        >>> normal = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, -1.0], [0.0, 1.0]]).repeat(50, 1)
        >>> images = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> mahalanobis_anomaly_score(torch.nn.Identity(), normal, images).scores
        tensor([0.7..., 2.7...])
    """
    pair = full_images(normal, images, size=size, on_error=on_error)
    reference, queries = join_layers(
        *(
            image_features(backbone, each, layers=layers, pool=pool, batch_size=batch_size, precision=precision).layers
            for each in pair
        )
    )
    factor = torch.linalg.cholesky(shrunk_covariance(reference))
    offsets = (queries - reference.mean(0)).double()
    distances = torch.linalg.solve_triangular(factor, offsets.T, upper=False).norm(dim=0).float()
    return AnomalyScores(
        distances,
        files=files_of(pair[1]),
        measure="Mahalanobis distance to the normal images",
        by="mahalanobis_anomaly_score",
    )


def shrunk_covariance(features: Tensor) -> Tensor:
    """Estimate the covariance of features by Ledoit-Wolf shrinkage towards a multiple of the identity.

    Args:
        features: ``n d``.

    Returns:
        ``d d``, float64, positive definite.

    Raises:
        DataError: There are fewer than two rows, or all rows are equal.

    Example:
        >>> shrunk_covariance(torch.tensor([[-3.0, 0.0], [3.0, 0.0], [0.0, -1.0], [0.0, 1.0]])).diagonal()
        tensor([3.2188, 1.7812], dtype=torch.float64)
    """
    centered = features.double() - features.double().mean(0)
    count, width = centered.shape
    sample = centered.T @ centered / count
    scale = sample.trace() / width
    if count < 2 or scale <= 0:
        raise DataError(
            "normal images with different features",
            got="one image" if count < 2 else "the same features for all",
            fix="Pass more normal images, or train the backbone.",
        )
    target = scale * torch.eye(width, dtype=torch.float64)
    distance = (sample - target).square().sum()
    noise = (centered.square().sum(1).square().mean() - sample.square().sum()) / count
    # A sample covariance that is already spherical needs no shrinkage; the lower bound keeps the matrix definite.
    weight = (noise / distance).clamp(1e-9, 1) if distance > 0 else torch.ones((), dtype=torch.float64)
    return (1 - weight) * sample + weight * target
