"""Sphinx configuration; ``nox -s docs`` builds into ``docs/_build/html``."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils.nodes import Text, document, entry
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import gallery_figures

import pretextkit

project = "pretextkit"
author = "the pretextkit authors"
copyright = "2026, the pretextkit authors"
release = version = pretextkit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "reference_pages",
]
exclude_patterns = ["_build", "figures", "gallery"]  # gallery/ holds scripts; their pages are generated
html_theme = "furo"
html_title = "pretextkit"
html_static_path = ["_static"]
html_css_files = ["custom.css"]

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("pretextkit",),
    "reference_url": {"pretextkit": None},
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("gallery_figures",),
    "capture_repr": (),
    "reset_modules": (),  # the default imports pyplot
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 3600,  # seconds of the machine that built the page tell nothing
}

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_inherit_docstrings = False  # torch describes every "forward" alike
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

# The build has no network: classes of other packages have no target; all of ours must have one.
nitpick_ignore_regex = [
    ("py:class", r"(torch|collections|pathlib|abc|pytest|numpy|sklearn|typing_extensions)\..*"),
    ("py:class", r"Tensor|(nn\.)?Module|Figure|Path"),
    # aliases and protocols in private modules, which the text of the argument describes
    ("py:class", r"TaskFactory|PretrainOptions|FinetuneOptions|Augmentation|ErrorMaps|Reduction|Metric"),
    ("py:class", r"AugmentationChoice|AverageChoice|HeadLayers|OnError|Size|LabelsOfFiles|Opener|CallbackLike|Best"),
    ("py:class", r"Model|MapHead|Layers|Trainable|Fit|ClassWeights|pretextkit\.metrics\._detection\.HasScores"),
    # bases without public names
    ("py:class", r"pretextkit\.(_arguments\.RecordsArguments|_display\.Displayed|sklearn\._image.*)"),
    ("py:attr", r"trunk|normalization"),  # set in __init__, and described by their classes
    ("py:.*", r"pretextkit\.(contracts|registries|data\._items)\.(\w*T|D)"),  # type variables
]


def join_spreads(app: Sphinx, doctree: document) -> None:
    """Keep a mean and its deviation in the cell of a table on one line."""
    for cell in doctree.findall(entry):
        for text in [text for text in cell.findall(Text) if " ± " in text]:
            text.parent.replace(text, Text(text.replace(" ± ", "\u00a0±\u00a0")))


def setup(app: Sphinx) -> None:
    """Connect the changes of pages that no option of Sphinx makes."""
    app.connect("doctree-read", join_spreads)
    app.connect("doctree-read", gallery_figures.describe_thumbnails)
