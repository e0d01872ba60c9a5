"""A Sphinx extension: one page for each built-in pretext task, from the registry, its docstring and the measurements.

The pages are written from the live package at each build, as the reference is: no page can be missing or out of date.
So are the cards that the gallery shows.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Generator

import pretextkit as pk
from pretextkit.comparison._cost import views_per_image
from pretextkit.plots._metrics import BASELINES, better_direction
from pretextkit.testing import TinyBackbone, TinyTokenBackbone, toy_images
from pretextkit.training._history import History

if TYPE_CHECKING:
    from sphinx.application import Sphinx

AT_CHANCE = {
    "agreement": "one over ``prototypes_used``",
    "alignment": "2 for independent embeddings, 0 for equal ones",
    "color_error": "``color_error_of_gray``",
    "cosine": "0",
    "invariance": "0 for equal views, or collapsed ones",
    "mse": "the variance of the target; ``mse_of_mean``, where there is one",
    "mse_border": "the variance of the target",
    "mse_hidden": "the variance of the target",
    "outputs_used": "1 if one output wins always",
    "prototypes_used": "1 if all views choose one prototype",
    "psnr": "``psnr_input``, where there is one",
    "psnr_hidden": "``psnr_mean``",
    "sigreg": "0.4 for a single point, 0 for a Gaussian",
    "teacher_entropy": "0 if certain, the logarithm of ``outputs`` if uniform",
    "top1": "one over the number of candidates in the batch",
    "uniformity": "0 for a single point",
}
"""Value at chance of each metric but accuracy, which the task states, and baselines."""
IMAGES = 8_000
"""Number of images for which the recommended settings are shown."""


def task_names() -> list[str]:
    """List the built-in tasks."""
    return [name for name in pk.pretext_tasks if pk.pretext_tasks[name].__module__.startswith("pretextkit.")]


def new_task(name: str) -> pk.PretextTask[Any, Any]:
    """Build a task on a tiny backbone."""
    backbone = TinyTokenBackbone() if name == "mae" else TinyBackbone()
    options = {"teacher": TinyBackbone()} if name == "distillation" else {}
    return pk.pretext_tasks.create(name, backbone, **options)


def paragraphs(name: str) -> Iterator[str]:
    """Yield the paragraphs of a class's docstring before its arguments."""
    cls = pk.pretext_tasks[name]
    text = re.sub(r":meth:`(\w+)`", rf":py:meth:`~pretextkit.tasks.{cls.__name__}.\1`", inspect.getdoc(cls) or "")
    yield from re.split(r"\n\n", re.split(r"\n\n(?:Args|Raises|Example):", text)[0])


def metrics_of(name: str) -> list[tuple[str, str, str]]:
    """List the metrics of a step on toy images: name, better direction, and value at chance."""
    task = new_task(name)
    with torch.no_grad():
        output = task.step(toy_images(8, generator=Generator().manual_seed(0)), Generator().manual_seed(0))
    rows = []
    for metric in output.metrics:
        if metric in BASELINES:
            rows.append((metric, "baseline", "itself"))
            continue
        is_accuracy = metric.partition("_")[0] == "accuracy"
        chance = f"{task.chance_accuracy:.3g}" if is_accuracy else AT_CHANCE[metric]
        rows.append((metric, better_direction(metric) or "between the ends", chance))
    return rows


def options_of(name: str) -> list[tuple[str, str]]:
    """List the options of a task with their defaults."""
    parameters = inspect.signature(pk.pretext_tasks[name]).parameters.values()
    return [(each.name, _default(each)) for each in parameters if each.kind is each.KEYWORD_ONLY]


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    shown = getattr(parameter.default, "__name__", None) or repr(parameter.default)
    return f"``{shown}``"


class Measured(NamedTuple):
    """Table of a task beside random weights, and the settings of the task, which are too long for a cell."""

    title: str
    header: list[str]
    rows: list[list[str]]
    settings: str


def measured(name: str, figures: Path) -> list[Measured]:
    """Find the rows of a task in the committed reports of experiments/methods.py."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
    from tables import cell_text

    found = []
    for path in sorted(figures.glob("methods*.json")):
        for title, table in json.loads(path.read_text("utf-8"))["tables"].items():
            if name in table["rows"]:
                columns = [each for each in table["columns"] if each != "settings"]
                rows = {
                    key: dict(zip(table["columns"], map(cell_text, table["rows"][key]), strict=True))
                    for key in ("random init", name)
                    if key in table["rows"]
                }
                cells = [[key, *(row[column] for column in columns)] for key, row in rows.items()]
                found.append(Measured(title, ["%", *columns], cells, rows[name].get("settings", "")))
    return found


def curves(name: str, figures: Path) -> dict[str, History]:
    """Find the curves of a task in the same reports: data set and seed, and the rows over the steps."""
    found = {}
    for path in sorted(figures.glob("methods*.json")):
        for key, run in json.loads(path.read_text("utf-8"))["rows"].items():
            data, method, seed = key.split("; ")
            if method == name and run["curve"]:
                curve = tuple({**row, "epoch": row["step"]} for row in run["curve"])
                found[f"{data}, seed {seed}"] = History(curve)
    return found


def draw_curve(name: str, figures: Path, path: Path) -> str | None:
    """Draw the first curve of a task, and return its data set and seed; None if there is none."""
    for title, history in curves(name, figures).items():
        figure = pk.plots.training_curves(history)
        for axes in figure.axes:
            axes.set_xlabel("step")
        figure.savefig(path, dpi=70, metadata={"Software": None})
        return title
    return None


def list_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Format a table of reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        lines += [f"   {'*' if not number else ' '} - {cell}" for number, cell in enumerate(row)]
    return [*lines, ""]


def page(name: str, figures: Path, folder: Path) -> str:
    """Write the page of a task, whose curve is drawn in ``folder``."""
    cls, task = pk.pretext_tasks[name], new_task(name)
    texts = list(paragraphs(name))
    unsuited, explained = ([text for text in texts if text.startswith(start)] for start in ("Not suited", "Metrics"))
    about = [text for text in texts if text not in (*unsuited, *explained)]
    settings = cls.recommended
    views = views_per_image(task, toy_images(8, generator=Generator().manual_seed(0)))
    parts = [cls.__name__, "=" * len(cls.__name__), "", *(line for text in about for line in (text, ""))]
    parts += [f".. figure:: /figures/task-{name}.png", f"   :alt: views of eight images by {name}", ""]
    parts += ["When not to use it", "------------------", "", *unsuited, ""]
    parts += ["Options", "-------", "", f"Registered as ``{name}``, as the class"]
    parts += [f":py:class:`~pretextkit.tasks.{cls.__name__}`, whose reference describes each option.", ""]
    parts += ["", *list_table(["Option", "Default"], [[f"``{key}``", value] for key, value in options_of(name)])]
    parts += [
        f"Recommended for {IMAGES:,} images: a learning rate of {settings.learning_rate:g} (AdamW), batches of "
        f"{settings.batch_size_for(IMAGES)}, {settings.epochs_for(IMAGES)} epochs. A step sends {views:.3g} full "
        "images through the backbone for each image of the batch.",
        "",
    ]
    parts += ["Metrics", "-------", "", *(text.removeprefix("Metrics: ") for text in explained), ""]
    parts += list_table(
        ["Metric", "Better", "At chance"], [[f"``{key}``", better, chance] for key, better, chance in metrics_of(name)]
    )
    for title, header, rows, used in measured(name, figures):
        parts += [f"Measured: {title}", "-" * (10 + len(title)), "", *list_table(header, rows)]
        parts += [f"Settings of {name}: {used}.", ""] if used else []
    if title := draw_curve(name, figures, folder / f"curve-{name}.png"):
        parts += ["Expected curve", "--------------", "", f".. figure:: curve-{name}.png"]
        parts += [f"   :alt: loss, spread and effective rank of {name} over the steps", ""]
        parts += [f"   A run of the table above, {title}: loss, and what warns of collapse.", ""]
    return "\n".join(parts)


def thumbnail(picture: Path, path: Path) -> None:
    """Write a small picture of the left part of the figure of a task, which ends between two views."""
    image = Image.open(picture).convert("RGB")
    white = [min(image.crop((x, 0, x + 1, image.height)).tobytes()) == 255 for x in range(image.width)]
    width = min(image.width, 2 * image.height)
    image = image.crop((0, 0, max(x + 1 for x in range(width) if white[x]), image.height))
    image.thumbnail((320, 160))
    image.save(path)


def cards(figures: Path, folder: Path) -> str:
    """Write the cards of the gallery, one for each task, and their thumbnails in ``folder``."""
    lines = [".. grid:: 2 2 3 3", "   :gutter: 3", ""]
    for name in task_names():
        cls = pk.pretext_tasks[name]
        thumbnail(figures / f"task-{name}.png", folder / f"{name}.png")
        lines += [f"   .. grid-item-card:: {cls.__name__}", f"      :link: /reference/generated/tasks/{name}"]
        lines += ["      :link-type: doc", f"      :img-top: /reference/generated/tasks/{name}.png"]
        lines += [f"      :img-alt: views by {name}", "", f"      {(inspect.getdoc(cls) or '').splitlines()[0]}", ""]
    return "\n".join(lines)


def write_pages(app: Sphinx) -> None:
    """Write the pages of all tasks, and leave those that have not changed."""
    folder, figures = Path(app.srcdir) / "reference" / "generated" / "tasks", Path(app.srcdir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cards.inc").write_text(cards(figures, folder), encoding="utf-8")
    pages = {name: page(name, figures, folder) for name in task_names()}
    for stale in set(folder.glob("*.rst")) - {folder / f"{name}.rst" for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
