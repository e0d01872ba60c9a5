"""A warning for files that use a small part of their range of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pretextkit.data._brightness import DARK
from pretextkit.data._file_reader import FileReader
from pretextkit.data._value_range import FULL, warn_of_range
from pretextkit.errors import DataError, DataWarning, warn

__all__ = ["spread", "warn_of_darkness"]

SEARCHED = 64
"""Files searched for a bright pixel, before a set is called dark."""

COMPARED = 4
"""Files of which the values beyond black and white are counted."""

STATE_WHITE = (
    "16-bit files that use fewer bits keep few gray levels. If their highest value is {top}, state it: "
    "pretextkit.data.FolderImages({root!r}, white={top})."
)


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Choose up to ``count`` files, evenly spread."""
    step = max(1, math.ceil(len(paths) / count))
    return list(paths[::step])


def warn_of_darkness(reader: FileReader, paths: Sequence[Path], root: Path) -> None:
    """Warn if the brightest pixel of many files is below a tenth of the range, or if many values are beyond it.

    One file is decoded if it is bright, and a few if black and white are stated.
    """
    values = reader.values
    highest, white, shares = float("-inf"), 0.0, []
    sample = spread(paths, SEARCHED)
    for path in sample:
        try:
            value, kind, beyond = reader.brightness(path)
        except DataError:  # found again, with a clear message, when the image is read
            continue
        highest, white = max(highest, value), max(white, kind)
        shares.append(beyond)
        if len(shares) >= (1 if values is None else COMPARED) and _is_bright(reader, highest, white):
            break
    if not shares:
        return
    what = f"{len(shares)} images in {root}"
    if values is not None and reader.open is None:
        brightest = (highest - values.black) / (values.white - values.black)
        warn_of_range(values, sum(shares) / len(shares), brightest, highest, what)
    elif values is not None and 0 < highest < DARK:
        text = f"The brightest pixel of {what} is {highest:.2%} of the way from black={values.black:g} to "
        fix = f"white={values.white:g}. Choose a white near their highest value."
        warn(text + fix, DataWarning, see="images-darker-or-brighter-than-expected")
    elif values is None and highest > 0 and not _is_bright(reader, highest, white):
        if white == 65535:
            cause = STATE_WHITE.format(top=next(full for full in FULL if highest <= full), root=str(root))
        else:
            cause = "If floats in [0, 1] were cast to bytes, write the files again, scaled by 255."
        text = f"The brightest pixel of {what} is {highest:g}, below a tenth of the range 0 to {white:.0f}. {cause}"
        warn(text, DataWarning, see="images-darker-or-brighter-than-expected")


def _is_bright(reader: FileReader, highest: float, white: float) -> bool:
    if reader.values is None or reader.open is not None:
        return highest >= DARK * white
    return highest - reader.values.black >= DARK * (reader.values.white - reader.values.black)
