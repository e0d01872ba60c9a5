"""Settings and scores as a reader wants them: without empty values, hashes and false precision."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["same_decimals", "setting_rows"]

NAMES = {
    "accumulate": "parts of a batch",
    "chance_accuracy": "accuracy of random guesses",
    "extends": "steps of the finished run that this run extends",
    "source": "images from",
    "warmup": "warm-up steps",
}
"""Names that say more than those in Python."""


def setting_rows(values: Mapping[str, Any]) -> list[list[str]]:
    """List names and values; empty values are left out.

    Example:
        >>> setting_rows({"epochs": 3.0, "batch_size": 16, "extends": 0, "pretraining": {}, "seeds": [0, 1]})
        [['epochs', '3'], ['batch size', '16'], ['seeds', '0, 1']]
    """
    rows = [[NAMES.get(name, name.replace("_", " ")), _as_text(value)] for name, value in values.items()]
    return [row for row, name in zip(rows, values, strict=True) if row[1] and (name != "extends" or values[name])]


def same_decimals(values: Sequence[float]) -> list[str]:
    """Write numbers with one number of decimals, four digits of the largest.

    Example:
        >>> same_decimals([0.254, 0.25431, 0.1]), same_decimals([1234.5, 2.0]), same_decimals([2e-12])
        (['0.2540', '0.2543', '0.1000'], ['1234', '2'], ['2.000e-12'])
    """
    largest = max(map(abs, values), default=0.0)
    if not math.isfinite(largest):
        return [f"{value:.4g}" for value in values]
    decimals = max(0, 3 - math.floor(math.log10(largest))) if largest else 0
    return [f"{value:.3e}" if decimals > 8 else f"{value:.{decimals}f}" for value in values]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_as_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_as_text, value))
    return re.sub(r"^(\d+ images).* [0-9a-f]{16}$", r"\1", str(value))
