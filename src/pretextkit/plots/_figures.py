"""Shared parts of plots: figures without pyplot (which keeps figures alive and needs a screen), images, colors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn

from pretextkit.errors import OptionError, PretextkitError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BASELINES",
    "CHANCE",
    "DASHES",
    "GRAY",
    "MARKERS",
    "ORANGE",
    "PALETTE",
    "SKY",
    "check_names",
    "class_name",
    "displayable",
    "draw_image",
    "drawn_channels",
    "grid_of_tiles",
    "is_baseline",
    "new_figure",
    "outlined",
    "stretch",
]

PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten colors that are distinct under color blindness (Petroff 2021, arXiv 2107.02270)."""

SKY, ORANGE = "#56b4e9", "#e69f00"
"""Two such colors for lines on dark or light images (Okabe & Ito 2008)."""

MARKERS = "osDv^<>P*X"
"""Markers that keep lines and points distinct without colors."""

DASHES = ("-", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
"""Styles that keep lines distinct without colors or markers."""

GRAY = "#666666"
"""Color of baselines and of chance."""

CHANCE: dict[str, Any] = {"color": GRAY, "linestyle": "--", "linewidth": 1.2}
"""Style of the line at chance, or at the baseline that a task must pass."""

BASELINES = ("random init", "supervised")
"""Rows that are no pretext task, as :func:`~pretextkit.functional.compare` names them."""


def is_baseline(name: str, baselines: Collection[str]) -> bool:
    """Tell whether a row is a baseline, or one that is scored in a way named after a comma.

    Example:
        >>> is_baseline("random init, fine-tuned", BASELINES), is_baseline("rotation, fine-tuned", BASELINES)
        (True, False)
    """
    return name in baselines or name.partition(", ")[0] in baselines


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of ``width`` by ``height`` inches.

    Raises:
        PretextkitError: matplotlib is not installed.

    Example:
        >>> new_figure(4, 3).axes
        []
    """
    try:
        from pretextkit.plots._shown_figure import ShownFigure
    except ImportError as error:
        raise PretextkitError(
            "Plots need matplotlib, which is not installed.", fix='Run: pip install "pretextkit[plot]"'
        ) from error
    return ShownFigure(figsize=(width, height), dpi=120, layout="constrained")


def stretch(image: Tensor) -> Tensor:
    """Rescale an image ``c h w`` to [0, 1] by its minimum and maximum, if it exceeds [0, 1].

    Example:
        >>> import torch
        >>> stretch(torch.tensor([[[-1.0, 3.0]]]))
        tensor([[[0., 1.]]])
    """
    image = image.detach().float().cpu()
    low, high = image.min(), image.max()
    return image if low >= 0 and high <= 1 else (image - low) / (high - low).clamp(min=1e-6)


def displayable(image: Tensor, channels: Sequence[int] | None = None) -> Any:
    """Convert an image ``c h w`` to the layout of matplotlib: ``h w`` if gray, ``h w 3`` if color.

    Args:
        image: ``c h w``, also with more channels than can be drawn.
        channels: One or three channels to draw; None draws the first three, or the first of fewer.

    Raises:
        OptionError: ``channels`` are no one or three channels of the image.

    Example:
        >>> import torch
        >>> displayable(torch.rand(3, 8, 9)).shape, displayable(torch.rand(13, 8, 9), (12,)).shape
        ((8, 9, 3), (8, 9))
    """
    image = stretch(image[drawn_channels(len(image), channels)])
    return (image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy()


def drawn_channels(count: int, channels: Sequence[int] | None) -> list[int]:
    """Choose the channels of an image of ``count`` channels to draw: those asked for, or the first.

    Raises:
        OptionError: ``channels`` are no one or three channels of the image.

    Example:
        >>> drawn_channels(13, None), drawn_channels(13, (7, 3, 2)), drawn_channels(2, None)
        ([0, 1, 2], [7, 3, 2], [0])
    """
    if channels is None:
        return [0, 1, 2] if count >= 3 else [0]
    given: Any = channels
    listed = list(given) if isinstance(given, Sequence) else []
    known = range(count)
    if len(listed) not in (1, 3) or any(isinstance(each, bool | str) or each not in known for each in listed):
        raise OptionError(
            f"channels to be one or three numbers from 0 to {count - 1}",
            got=repr(channels),
            fix="For example channels=(0,)." if count < 3 else "For example channels=(2, 1, 0).",
        )
    return listed


def draw_image(axes: Axes, image: Tensor, channels: Sequence[int] | None = None) -> None:
    """Draw an image ``c h w`` without ticks, from 0 (black) to 1 (white); of more channels, some."""
    axes.imshow(displayable(image, channels), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def grid_of_tiles(tiles: Sequence[Tensor]) -> Tensor:
    """Arrange nine tiles ``n c p p`` in a white 3x3 grid with gaps of one pixel: ``n c 3p+2 3p+2``.

    Example:
        >>> grid_of_tiles([torch.zeros(2, 1, 4, 4)] * 9).shape
        torch.Size([2, 1, 14, 14])
    """
    stretched = torch.stack([torch.stack([stretch(tile) for tile in place]) for place in tiles])
    framed = nn.functional.pad(stretched, (0, 1, 0, 1), value=1.0)
    return rearrange(framed, "(r k) n c h w -> n c (r h) (k w)", r=3)[..., :-1, :-1]


def outlined(width: float = 2.0) -> list[Any]:
    """Make path effects that outline white text in black, for use on any image."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black")]


def class_name(label: int, class_names: Sequence[str]) -> str:
    """Look up the name of a class; its number if there are no names.

    Example:
        >>> class_name(1, ["sky", "road"]), class_name(1, [])
        ('road', '1')
    """
    return class_names[label] if class_names else str(label)


def check_names(classes: int, class_names: Sequence[str]) -> None:
    """Check that class names, if there are any, cover all ``classes`` classes.

    Raises:
        OptionError: A class has no name.
    """
    if class_names and classes > len(class_names):
        raise OptionError(
            f"class_names for labels up to {classes - 1}", got=f"{len(class_names)} names", fix="Name every class."
        )
