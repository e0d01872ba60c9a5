"""A warning for files that use a small part of their range of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pretextkit.data._brightness import DARK
from pretextkit.data._decoding import opened
from pretextkit.data._file_reader import FileReader
from pretextkit.data._value_range import FULL, warn_of_range
from pretextkit.errors import DataError, DataWarning, warn

__all__ = ["spread", "warn_of_darkness"]

SEARCHED = 64
"""Files searched for a bright pixel, before a set is called dark."""

COMPARED = 4
"""Files of which the values beyond black and white are counted."""

HEADERS = 256
"""Files whose headers are searched for a depth of 16 bits, beside images of 8 bits."""

SHALLOW = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp"})
"""Suffixes of files that are never deep."""

DEEP = 65535
"""White of files of 16 bits."""

STATE_WHITE = (
    "16-bit files that use fewer bits keep few gray levels. If their highest value is {top}, state it: "
    "pretextkit.data.FolderImages({root!r}, white={top})."
)


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Choose up to ``count`` files, evenly spread."""
    step = max(1, math.ceil(len(paths) / count))
    return list(paths[::step])


def warn_of_darkness(reader: FileReader, paths: Sequence[Path], root: Path) -> bool:
    """Warn if the brightest pixel of many files is below a tenth of the range, or if many values are beyond it.

    One file is decoded if it is bright, and a few if black and white are stated. Files of 16 bits beside brighter ones
    of 8 bits are searched by themselves.

    Returns:
        Whether all files are dark.
    """
    values, seen = reader.values, _search(reader, spread(paths, SEARCHED))
    what, is_dark = f"{seen.files} images in {root}", 0 < seen.share < DARK
    if values is not None and reader.open is None and seen.files:
        warn_of_range(values, seen.beyond, seen.share, seen.highest, what)
    elif values is not None and is_dark:
        text = f"The brightest pixel of {what} is {seen.share:.2%} of the way from black={values.black:g} to "
        fix = f"white={values.white:g}. Choose a white near their highest value."
        warn(text + fix, DataWarning, see="images-darker-or-brighter-than-expected")
    elif is_dark:
        if seen.white == DEEP:
            cause = STATE_WHITE.format(top=_full(seen.highest), root=str(root))
        else:
            cause = "If floats in [0, 1] were cast to bytes, write the files again, scaled by 255."
        text = f"The brightest pixel of {what} is {seen.highest:g}, below a tenth of the range 0 to {seen.white:.0f}."
        warn(f"{text} {cause}", DataWarning, see="images-darker-or-brighter-than-expected")
    elif reader.reads_bytes and not (seen.white == DEEP and seen.highest >= DARK * DEEP):
        _warn_of_dark_deep_files(reader, paths, root)
    return is_dark


class _Seen(NamedTuple):
    """Brightness of the files that were decoded."""

    files: int
    highest: float
    """Highest value of the files of the deepest kind."""
    white: float
    """White of that kind."""
    share: float
    """Brightest pixel of all files, as a share of the range of its own file."""
    beyond: float
    """Fraction of the values beyond black and white."""


def _search(reader: FileReader, sample: Sequence[Path]) -> _Seen:
    """Decode files until one is bright."""
    values = None if reader.open is not None else reader.values
    highest: dict[float, float] = {}
    beyond, share = [], float("-inf")
    for path in sample:
        try:
            value, white, outside = reader.brightness(path)
        except DataError:  # found again, with a clear message, when the image is read
            continue
        highest[white] = max(value, highest.get(white, value))
        beyond.append(outside)
        black = 0.0 if values is None else values.black
        share = max(share, (value - black) / (white - black))
        if len(beyond) >= (1 if reader.values is None else COMPARED) and share >= DARK:
            break
    white = max(highest, default=0.0)
    return _Seen(len(beyond), highest.get(white, 0.0), white, share, sum(beyond) / max(1, len(beyond)))


def _warn_of_dark_deep_files(reader: FileReader, paths: Sequence[Path], root: Path) -> None:
    """Warn if files of 16 bits are dark, beside files of 8 bits that are not."""
    deep = []
    for path in spread([path for path in paths if path.suffix.lower() not in SHALLOW], HEADERS):
        with suppress(DataError), opened(path, reader.max_pixels) as image:
            deep += [path] if image.mode.startswith("I") else []
    seen = _search(reader, spread(deep, SEARCHED))
    if 0 < seen.share < DARK:
        warn(
            f"The brightest pixel of {seen.files} 16-bit images in {root}, such as {deep[0].name}, is "
            f"{seen.highest:g}, below a tenth of the range 0 to 65535, and images of 8 bits beside them are brighter. "
            "Move the 16-bit images to a folder of their own, and state their highest value: "
            f"pretextkit.data.FolderImages(folder, white={_full(seen.highest)}).",
            DataWarning,
            see="images-darker-or-brighter-than-expected",
        )


def _full(highest: float) -> int:
    """Give the highest value of the format to which a value belongs."""
    return next(full for full in FULL if highest <= full)
