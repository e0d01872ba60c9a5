"""Pictures of the gallery: sphinx-gallery looks for figures of pyplot, which the plots of pretextkit do not use.

``conf.py`` names this module to sphinx-gallery.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from docutils.nodes import document, image
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx_gallery.scrapers import figure_rst


def save_figure(block: Any, variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """Save the figure that the last line of a script made, and return its directive."""
    figure = variables["example_globals"].get("___")  # the value of the last line
    if not isinstance(figure, Figure):
        return ""
    path = next(variables["image_path_iterator"])
    figure.savefig(path, dpi=100)
    return str(figure_rst([path], settings["src_dir"], str(block.content).splitlines()[0]))


def describe_thumbnails(app: Sphinx, doctree: document) -> None:
    """Name the plot of each thumbnail for readers who do not see pictures; sphinx-gallery has no option for it."""
    for picture in doctree.findall(image):
        if found := re.search(r"sphx_glr_(\w+)_thumb", picture["uri"]):
            picture["alt"] = f"a figure of plots.{found[1]}"


def _get_sg_image_scraper() -> Callable[..., str]:
    return save_figure
