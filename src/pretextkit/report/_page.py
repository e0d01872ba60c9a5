"""HTML of a report: one file without scripts, fonts or links to other files."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from pretextkit._display import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Section", "figure", "lines", "page", "paragraph", "table"]

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: 0.2rem 0.5rem; text-align: right; white-space: nowrap; }
th { vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { background: Canvas; left: 0; position: sticky; text-align: left; }
tbody tr:hover { background: var(--soft); }
pre { background: var(--soft); border-radius: 4px; overflow-wrap: anywhere; padding: 0.6rem; white-space: pre-wrap; }
.text th, .text td { text-align: left; white-space: normal; } .text td:last-child { overflow-wrap: anywhere; }
img { background: white; border-radius: 4px; height: auto; max-width: 100%; }
figure { margin: 0.5rem 0; overflow-x: auto; } figcaption { font-size: 0.9rem; opacity: 0.8; }
nav { column-gap: 1rem; display: flex; flex-wrap: wrap; }
footer { border-top: 1px solid var(--line); margin-top: 2rem; font-size: 0.9rem; }
"""


class Section(NamedTuple):
    """A heading and HTML below it."""

    title: str
    body: str


def table(rows: Sequence[Sequence[str]], *, text: bool = False) -> str:
    """Write a header and rows as a table that scrolls sideways on a narrow screen; cells of ``text`` are wrapped.

    Example:
        >>> table([["Class"], ["cat"]])[:25]
        '<div class="wide"><table>'
    """
    return f'<div class="wide{" text" if text else ""}">{html_table(rows)}</div>'


def lines(text: str) -> str:
    """Write text as it is, with its line breaks.

    Example:
        >>> lines("loss < 1")
        '<pre>loss &lt; 1</pre>'
    """
    return f"<pre>{escape(text)}</pre>"


def paragraph(text: str) -> str:
    """Write a paragraph.

    Example:
        >>> paragraph("loss < 1")
        '<p>loss &lt; 1</p>'
    """
    return f"<p>{escape(text)}</p>"


def figure(drawn: Figure, caption: str) -> str:
    """Write a figure as a picture inside the page, with its caption.

    On a narrow screen, the picture shrinks to four fifths of its width, because smaller letters are hard to read; then
    it scrolls sideways.
    """
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=110)
    data, text = base64.b64encode(file.getvalue()).decode(), escape(caption)
    width = round(80 * drawn.get_figwidth())
    style = f"min-width: min({round(0.8 * width)}px, 60rem)"
    image = f'<img alt="{text}" width="{width}" style="{style}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def page(title: str, sections: Iterable[Section], footer: str) -> str:
    """Write the whole page.

    Example:
        >>> text = page("Digits", [Section("Accuracy", "<p>0.9</p>")], "pretextkit")
        >>> "<h1>Digits</h1>" in text, '<h2 id="s1">Accuracy</h2>' in text
        (True, True)
    """
    numbered = list(enumerate(sections, 1))
    links = "".join(f'<a href="#s{number}">{escape(section.title)}</a>' for number, section in numbered)
    body = "".join(f'<h2 id="s{number}">{escape(section.title)}</h2>{section.body}' for number, section in numbered)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<nav>{links}</nav>{body}<footer>{escape(footer)}</footer></body></html>\n"
    )
