"""Figure that a notebook shows; the file imports matplotlib, and is imported when the first figure is made."""

from __future__ import annotations

import io
from typing import NoReturn

from matplotlib.figure import Figure

from pretextkit.errors import PretextkitError

__all__ = ["ShownFigure"]


class ShownFigure(Figure):
    """Figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def show(self, warn: bool = True) -> NoReturn:
        """Refuse to open a window, which only figures of pyplot have.

        Raises:
            PretextkitError: Always.
        """
        fix = 'Save it with figure.savefig("figure.png"), or end the cell of a notebook with it.'
        raise PretextkitError("a figure of pyplot to open a window for", got="a figure without one", fix=fix)
