"""Display of results in notebooks and interactive sessions."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["Displayed", "html_table"]


class Displayed:
    """Result with a line as its ``repr`` and a table in a notebook.

    Example:
        >>> class Score(Displayed):
        ...     def __str__(self):
        ...         return "a score of 3"
        ...     def display_table(self):
        ...         return [["Image", "Score"], ["a < b", "3"]]
        >>> Score()
        <Score: a score of 3>
        >>> "a &lt; b" in Score()._repr_html_()
        True
    """

    def display_line(self) -> str:
        """Return the line in ``repr``."""
        return str(self)

    def display_table(self) -> Sequence[Sequence[str]]:
        """Return a header and rows."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.display_line()}>"

    def _repr_html_(self) -> str:
        return f"<div><p>{escape(self.display_line())}</p>{html_table(self.display_table())}</div>"


def html_table(table: Sequence[Sequence[str]]) -> str:
    """Write a header and rows as an HTML table.

    Example:
        >>> html_table([["Class"], ["cat"]])
        '<table><thead><tr><th>Class</th></tr></thead><tbody><tr><td>cat</td></tr></tbody></table>'
    """
    header, *rows = table
    lines = "".join(_line(row, "td") for row in rows)
    return f"<table><thead>{_line(header, 'th')}</thead><tbody>{lines}</tbody></table>"


def _line(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
