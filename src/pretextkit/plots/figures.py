"""Figures without pyplot, which would keep them alive and look for a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pretextkit.errors import PretextkitError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["new_figure"]


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
