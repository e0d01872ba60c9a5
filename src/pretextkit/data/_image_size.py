"""Sizes of images in the arguments of functions: the side of a square, or height and width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pretextkit._validation import check_int, described
from pretextkit.data._types import Size
from pretextkit.errors import OptionError

__all__ = ["as_size", "check_size", "height_width", "size_text"]

FIX = "For example size=64, or size=(240, 320) for 240 rows of 320 pixels."


def check_size(size: Any, *, fix: str = FIX, of: Callable[..., Any] | None = None) -> Size:
    """Convert an option ``size`` to the side of a square, or to a height and a width that differ.

    Args:
        size: An integer, or a pair of integers, of Python or of another library.
        fix: Sentence that says what to do instead.
        of: Function that has the option, if its default is the fix.

    Raises:
        OptionError: It is something else, or not positive.

    Example:
        >>> check_size(32), check_size([240, 320]), check_size((32, 32))
        (32, (240, 320), 32)
    """
    if not isinstance(size, Sequence) or isinstance(size, str):
        if isinstance(size, int | float | str) or getattr(size, "ndim", None) == 0:
            return check_int("size", size, fix=fix, of=of)
        raise OptionError("size to be a side in pixels, or a pair (height, width)", got=described(size), fix=fix)
    if len(size) != 2:
        raise OptionError("size to be a side in pixels, or a pair (height, width)", got=repr(size), fix=fix)
    height, width = (check_int(name, each, fix=fix) for name, each in zip(("height", "width"), size, strict=True))
    return as_size(height, width)


def as_size(height: int, width: int) -> Size:
    """Return the side of a square, and a pair for other shapes.

    Example:
        >>> as_size(32, 32), as_size(240, 320)
        (32, (240, 320))
    """
    return height if height == width else (height, width)


def height_width(size: Size) -> tuple[int, int]:
    """Return height and width.

    Example:
        >>> height_width(32), height_width((240, 320))
        ((32, 32), (240, 320))
    """
    return (size, size) if isinstance(size, int) else size


def size_text(size: Size) -> str:
    """Write a size as in ``--size``.

    Example:
        >>> size_text(32), size_text((240, 320))
        ('32x32', '240x320')
    """
    return "{}x{}".format(*height_width(size))
