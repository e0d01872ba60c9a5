"""Options that are numbers: whole where something is counted, and within a range where something is measured."""

from __future__ import annotations

import math
import operator
from typing import Any

from pretextkit.errors import OptionError

__all__ = ["check_float", "check_int", "check_sequence"]


def check_int(name: str, value: Any, *, at_least: int | None = 1, fix: str) -> int:
    """Give an option that counts something, of whatever library's integers, as Python's own.

    Args:
        name: The option's.
        value: What the caller passed; ``True`` counts nothing, and a text is no number.
        at_least: The smallest allowed; None allows all.
        fix: What to do instead, as a sentence.

    Raises:
        OptionError: It is no whole number, or below the smallest.

    Example:
        >>> check_int("k", torch.tensor(3), fix="The default is 20.")
        3
        >>> check_int("k", "3", fix="The default is 20.")
        Traceback (most recent call last):
            ...
        pretextkit.errors.OptionError: Expected k as a whole number of at least 1, but got '3'. The default is 20.
    """
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None or (at_least is not None and count < at_least):
        least = "" if at_least is None else f" of at least {at_least}"
        raise OptionError(f"{name} as a whole number{least}", got=repr(value), fix=fix)
    return count


def check_float(name: str, value: Any, within: str, *, fix: str) -> float:
    """Give an option that measures something, of whatever library's numbers, as Python's own.

    Args:
        name: The option's.
        value: What the caller passed; ``True`` measures nothing, a text is no number, and NaN is in no range.
        within: The range, such as ``"(0, 1]"``: a round bracket leaves its end out.
        fix: What to do instead, as a sentence.

    Raises:
        OptionError: It is no number, or out of range.

    Example:
        >>> check_float("share", 1, "(0, 1]", fix="The default is 0.5.")
        1.0
        >>> check_float("share", 0.0, "(0, 1]", fix="The default is 0.5.")
        Traceback (most recent call last):
            ...
        pretextkit.errors.OptionError: Expected share as a number in (0, 1], but got 0.0. The default is 0.5.
    """
    low, high = map(float, within[1:-1].split(","))
    try:
        found = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # of tensors, too, that hold several numbers
        found = math.nan
    outside = (found == low and within[0] == "(") or (found == high and within[-1] == ")")
    if outside or not low <= found <= high:
        raise OptionError(f"{name} as a number in {within}", got=repr(value), fix=fix)
    return found


def check_sequence(name: str, values: Any, *, at_least: int = 1, at_most: int | None = None, fix: str) -> list[Any]:
    """Give the values of an option that takes some of them.

    Args:
        name: The option's.
        values: What the caller passed; a text is one value.
        at_least: How many there must be.
        at_most: How many there may be.
        fix: What to do instead, as a sentence.

    Raises:
        OptionError: It is one value, or too few or too many.

    Example:
        >>> check_sequence("seeds", range(3), fix="For example seeds=(0, 1, 2).")
        [0, 1, 2]
    """
    try:
        found = None if isinstance(values, str | bytes) else list(values)
    except TypeError:
        found = None
    if found is None or not at_least <= len(found) <= (at_most or len(found)):
        length = f" of at least {at_least}" if at_least else ""
        length += "" if at_most is None else f" and at most {at_most}"
        raise OptionError(f"{name} as a sequence{length}", got=repr(values), fix=fix)
    return found
