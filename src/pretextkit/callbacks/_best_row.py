"""Search of the best row of a history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pretextkit.errors import OptionError

__all__ = ["Best", "check_best", "is_better", "read_number"]

Best = Literal["lowest", "highest"]
"""Which value of a column is best: the lowest of a loss, the highest of an accuracy."""


def check_best(best: str) -> None:
    """Check the choice of the best value.

    Raises:
        OptionError: It is neither ``"lowest"`` nor ``"highest"``.

    Example:
        >>> check_best("lowest")
    """
    if best not in ("lowest", "highest"):
        fix = "A loss is best at its lowest, an accuracy at its highest."
        raise OptionError("best to be 'lowest' or 'highest'", got=repr(best), fix=fix)


def is_better(value: float, than: float | None, best: Best) -> bool:
    """Return whether a value is strictly better than another; NaN, which is not measured, never is.

    Example:
        >>> is_better(0.5, 0.4, "lowest"), is_better(0.5, 0.4, "highest"), is_better(0.5, None, "lowest")
        (False, True, True)
    """
    if math.isnan(value) or than is None:
        return not math.isnan(value)
    return value < than if best == "lowest" else value > than


def read_number(rows: Sequence[Mapping[str, float]], column: str) -> float:
    """Read a column of the newest row.

    Raises:
        OptionError: The row has no such column.

    Example:
        >>> read_number([{"epoch": 1.0, "loss": 0.5}], "loss")
        0.5
    """
    if column not in rows[-1]:
        raise OptionError(
            f"a column {column!r} in the history",
            got=", ".join(rows[-1]),
            fix="Choose one of them, or place the callback that measures it before this callback.",
        )
    return rows[-1][column]
