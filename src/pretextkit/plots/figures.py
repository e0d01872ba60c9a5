"""Figures without pyplot, which would keep them alive and look for a screen, and images as they take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from pretextkit.errors import PretextkitError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["displayable", "new_figure", "stretch"]


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of ``width`` by ``height`` inches.

    Raises:
        PretextkitError: matplotlib is not installed.

    Example:
        >>> new_figure(4, 3).axes
        []
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PretextkitError(
            "Plots need matplotlib, which is not installed.", fix='Run: pip install "pretextkit[plot]"'
        ) from error
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def stretch(image: Tensor) -> Tensor:
    """Bring an image ``c h w`` that is not in [0, 1] there, its darkest value to black and its lightest to white.

    Example:
        >>> import torch
        >>> stretch(torch.tensor([[[-1.0, 3.0]]]))
        tensor([[[0., 1.]]])
    """
    image = image.detach().float().cpu()
    low, high = image.min(), image.max()
    return image if low >= 0 and high <= 1 else (image - low) / (high - low).clamp(min=1e-6)


def displayable(image: Tensor) -> Any:
    """Give ``h w`` of a grey and ``h w 3`` of a colour image, as matplotlib wants them.

    Example:
        >>> import torch
        >>> displayable(torch.rand(3, 8, 9)).shape
        (8, 9, 3)
    """
    image = stretch(image)
    return (image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy()
