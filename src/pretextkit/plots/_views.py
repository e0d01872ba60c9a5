"""Plot of the views of a pretext task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pretextkit._validation import check_int
from pretextkit.batches import Labeled, MultiViews, PatchPair, Tiles, TwoViews
from pretextkit.errors import DataError, OptionError
from pretextkit.plots._figures import draw_image, grid_of_tiles, new_figure, stretch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["views"]

POSITIONS = ("above left", "above", "above right", "left", "right", "below left", "below", "below right")


class _Row(NamedTuple):
    name: str
    images: Tensor
    """``n c h w``."""


def views(
    batch: Any, *, count: int = 8, label_names: Sequence[str] = (), channels: Sequence[int] | None = None
) -> Figure:
    """Draw the first images of a batch of views, with their labels.

    Check views before training: most mistakes in a pretext task are visible. The layout depends on the type of batch:
    ``Labeled`` images have one row per label; ``TwoViews`` and ``MultiViews`` are drawn below each other; the patches
    of a ``PatchPair`` are drawn at their positions in the image, and ``Tiles`` in shuffled order; other named tuples
    have one row for each field ``b c h w``. Images outside [0, 1] are rescaled one by one.

    Args:
        batch: Batch from ``views`` of a task.
        count: Maximum number of images in a row.
        label_names: Names of the labels 0, 1, …; ``task.label_names`` has those of a task.
        channels: One or three channels to draw, as gray or as red, green and blue; by default the first.

    Returns:
        A figure to save or display.

    Raises:
        OptionError: ``count`` is below 1, ``label_names`` lacks a label, or ``channels`` are no channels of the images.
        DataError: ``batch`` is not a named tuple with images.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> from pretextkit import Labeled
        >>> batch = Labeled(torch.rand(6, 3, 8, 8), torch.tensor([0, 0, 0, 1, 1, 1]))
        >>> [axes.get_ylabel() for axes in views(batch, count=1, label_names=("cat", "dog")).axes]
        ['cat', 'dog']
    """
    check_int("count", count, of=views)
    rows, titles = _rows(batch, count, label_names)
    columns = max(len(row.images) for row in rows)
    gutter = 0.12 * max(len(row.name) for row in rows)

    figure = new_figure(1.1 * columns + gutter, (1.1 + (0.25 if titles else 0)) * len(rows))
    for line, row in enumerate(rows):
        for column, image in enumerate(row.images):
            axes = figure.add_subplot(len(rows), columns, line * columns + column + 1)
            draw_image(axes, image, _channels_of(image, channels))
            if column == 0:
                axes.set_ylabel(row.name, rotation="horizontal", ha="right", va="center")
            if line == 0 and titles:
                axes.set_title(titles[column], fontsize="small")
    return figure


def _channels_of(image: Tensor, channels: Sequence[int] | None) -> Sequence[int] | None:
    """Give the channels to draw; a gray view of images of more channels, as of colorization, has no choice."""
    return None if len(image) == 1 else channels


def _rows(batch: Any, count: int, label_names: Sequence[str]) -> tuple[list[_Row], list[str]]:
    """Arrange a batch as rows of images and, for some batches, titles of the columns."""
    if isinstance(batch, Labeled):
        return _by_label(batch, count, label_names), []
    if isinstance(batch, TwoViews):
        return [_Row("view a", batch.a[:count]), _Row("view b", batch.b[:count])], []
    if isinstance(batch, MultiViews):
        kinds = (("global", batch.global_views), ("local", batch.local_views))
        named = [(f"{kind} {number}", view) for kind, views in kinds for number, view in enumerate(views, 1)]
        return [_Row(name, view[:count]) for name, view in named], []
    if isinstance(batch, Tiles):
        return [_Row("tiles", grid_of_tiles([tile[:count] for tile in batch.tiles]))], [
            f"order {k}" for k in batch.permutation[:count].tolist()
        ]
    if isinstance(batch, PatchPair):
        return [_Row("pair", _in_place(batch, count))], [POSITIONS[place] for place in batch.position[:count].tolist()]
    fields = batch._asdict() if hasattr(batch, "_asdict") else {}
    rows = [
        _Row(name, value[:count]) for name, value in fields.items() if isinstance(value, Tensor) and value.ndim == 4
    ]
    if not rows or not len(rows[0].images):
        raise DataError(
            "a named tuple with images b c h w",
            got=type(batch).__name__,
            fix="Pass the result of task.views(images, generator).",
        )
    return rows, []


def _by_label(batch: Labeled, count: int, label_names: Sequence[str]) -> list[_Row]:
    labels = torch.unique(batch.labels).tolist()
    if label_names and labels[-1] >= len(label_names):
        raise OptionError(
            f"label_names for labels up to {labels[-1]}", got=f"{len(label_names)} names", fix="Name every label."
        )
    return [
        _Row(label_names[label] if label_names else f"label {label}", batch.images[batch.labels == label][:count])
        for label in labels
    ]


def _in_place(batch: PatchPair, count: int) -> Tensor:
    """Draw pairs ``n c p p`` in a white 3x3 grid with gaps of one pixel: ``n c 3p+2 3p+2``."""
    center, neighbor = (torch.stack([stretch(patch) for patch in patches[:count]]) for patches in batch[:2])
    side = center.shape[-1]
    step = side + 1
    canvas = center.new_ones(*center.shape[:2], 3 * side + 2, 3 * side + 2)
    canvas[:, :, step : step + side, step : step + side] = center
    for grid, patch, place in zip(canvas, neighbor, batch.position.tolist(), strict=False):
        index = place if place < 4 else place + 1  # index 4 of nine is the center, which is no position
        top, left = index // 3 * step, index % 3 * step
        grid[:, top : top + side, left : left + side] = patch
    return canvas
