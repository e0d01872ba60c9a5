"""Test images that are training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from pretextkit.errors import DataWarning, warn

__all__ = ["image_marks", "is_same_data", "warn_of_training_images"]

MOST_SHARED = 0.25
"""Share of the test images that may be among the training images; large sets have a few copies."""

FEWEST_IMAGES = 5
"""Fewest test images that the warning is given for."""


def image_marks(images: Tensor) -> Tensor:
    """Return one integer for each image or row of features: equal images have equal marks.

    Different images have equal marks with a probability of 2**-64.

    Example:
        >>> one, two, three = image_marks(torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
        >>> (one == two).item(), (one == three).item()
        (False, True)
    """
    bits = images.detach().cpu().float().flatten(1).contiguous().view(torch.int32).long()
    generator = Generator().manual_seed(bits.shape[1])
    weights = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator) * 2 + 1
    return (bits * weights).sum(1)  # modulo 2**64


def is_same_data(train: Any, test: Any) -> bool:
    """Whether train and test are the same object, equal paths, or pairs of the same objects.

    Example:
        >>> images, labels = torch.zeros(2, 1, 4, 4), torch.arange(2)
        >>> is_same_data((images, labels), (images, labels)), is_same_data("photos", Path("photos"))
        (True, True)
    """
    if isinstance(train, str | Path) and isinstance(test, str | Path):
        return Path(train) == Path(test)
    if isinstance(train, tuple) and isinstance(test, tuple):
        return len(train) == len(test) and all(one is other for one, other in zip(train, test, strict=True))
    return test is train


def warn_of_training_images(train: Tensor, test: Tensor, *, same: bool, fix: str) -> None:
    """Warn if more than a quarter of the test images are training images.

    Copies of one image count once, so that blank images or features of a few values claim nothing.

    Args:
        train: Marks of the training images ``n``.
        test: Marks of the test images ``m``.
        same: Whether train and test are the same object.
        fix: Advice to the caller, as a sentence.
    """
    shared = len(test) if same else int(torch.isin(torch.unique(test), train).sum())
    if len(test) < FEWEST_IMAGES or shared <= MOST_SHARED * len(test):
        return
    count = "All" if shared == len(test) else f"{shared:,} of the"
    effect = "says nothing about" if 2 * shared > len(test) else "is higher than that of"
    warn(
        f"{count} {len(test):,} test images are training images: the accuracy {effect} other images. {fix}",
        DataWarning,
        see="test-images-that-are-training-images",
    )
