"""Checks of numeric options: integers, real numbers, and sequences of values."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

from pretextkit.errors import OptionError

__all__ = ["check_float", "check_int", "check_sequence"]


def check_int(
    name: str, value: Any, *, at_least: int | None = 1, fix: str = "", of: Callable[..., Any] | None = None
) -> int:
    """Convert an integer option to an ``int``, and check its range.

    Args:
        name: Name of the option.
        value: An integer of Python or of another library; bools and strings are refused.
        at_least: Smallest value that is allowed; None allows every integer.
        fix: Sentence that says what to do instead.
        of: Function or class that has the option: the error names the default in its signature.

    Raises:
        OptionError: The value is not an integer, or is too small.

    Example:
        >>> check_int("k", torch.tensor(3), fix="For example k=20.")
        3
        >>> def vote(k=20):
        ...     return check_int("k", k, of=vote)
        >>> vote("3")
        Traceback (most recent call last):
            ...
        pretextkit.errors.OptionError: Expected k to be an integer >= 1, but got '3'. The default is 20.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (at_least is not None and number < at_least):
        bound = "" if at_least is None else f" >= {at_least}"
        raise OptionError(f"{name} to be an integer{bound}", got=repr(value), fix=_advice(name, fix, of))
    return number


def check_float(name: str, value: Any, within: str, *, fix: str = "", of: Callable[..., Any] | None = None) -> float:
    """Convert a numeric option to a ``float``, and check its range.

    Args:
        name: Name of the option.
        value: A number of Python or of another library; bools, strings and NaN are refused.
        within: Range of values, such as ``"(0, 1]"``: a round bracket excludes its end.
        fix: Sentence that says what to do instead.
        of: Function or class that has the option: the error names the default in its signature.

    Raises:
        OptionError: The value is not a number, or is out of range.

    Example:
        >>> check_float("fraction", 1, "(0, 1]", fix="For example fraction=0.5.")
        1.0
        >>> check_float("fraction", 0.0, "(0, 1]", fix="For example fraction=0.5.")
        Traceback (most recent call last):
            ...
        pretextkit.errors.OptionError: Expected fraction to be a number in (0, 1], but got 0.0. For example ...
    """
    low, high = map(float, within[1:-1].split(","))
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # RuntimeError: a tensor of several numbers
        number = math.nan
    excluded = (number == low and within[0] == "(") or (number == high and within[-1] == ")")
    if excluded or not low <= number <= high:
        raise OptionError(f"{name} to be a number in {within}", got=repr(value), fix=_advice(name, fix, of))
    return number


def check_sequence(
    name: str,
    values: Any,
    *,
    at_least: int = 1,
    at_most: int | None = None,
    fix: str = "",
    of: Callable[..., Any] | None = None,
) -> list[Any]:
    """Convert an option that has several values to a list, and check its length.

    Args:
        name: Name of the option.
        values: An iterable that is not a string; the values themselves are not checked.
        at_least: Smallest length that is allowed.
        at_most: Largest length that is allowed; None sets no limit.
        fix: Sentence that says what to do instead.
        of: Function or class that has the option: the error names the default in its signature.

    Raises:
        OptionError: ``values`` is not such an iterable, or is too short or too long.

    Example:
        >>> check_sequence("seeds", range(3), fix="For example seeds=(0, 1, 2).")
        [0, 1, 2]
        >>> check_sequence("seeds", 3, fix="For example seeds=(0, 1, 2).")
        Traceback (most recent call last):
            ...
        pretextkit.errors.OptionError: Expected seeds to be a sequence of at least 1 value, but got 3. For example ...
    """
    try:
        found = None if isinstance(values, str | bytes) else list(values)
    except TypeError:
        found = None
    if found is None or not at_least <= len(found) <= (len(found) if at_most is None else at_most):
        length = _length(at_least, at_most)
        raise OptionError(f"{name} to be a sequence{length}", got=repr(values), fix=_advice(name, fix, of))
    return found


def _length(at_least: int, at_most: int | None) -> str:
    if at_most is None:
        return f" of at least {at_least} value{'s' * (at_least != 1)}" if at_least else ""
    return f" of {at_least} values" if at_least == at_most else f" of {at_least} to {at_most} values"


def _advice(name: str, fix: str, of: Callable[..., Any] | None) -> str:
    option = inspect.signature(of).parameters.get(name) if of else None
    if option is None or option.default is option.empty:
        return fix
    return f"The default is {option.default!r}. {fix}".rstrip()
