"""Write a report to one HTML file."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import pretextkit
from pretextkit._atomic import atomic_write
from pretextkit.contracts import PretextTask
from pretextkit.data import ImagesLike, as_source
from pretextkit.report._folders import read_folder
from pretextkit.report._page import Section, lines, page
from pretextkit.report._sections import Shown, sections_of

__all__ = ["write"]


def write(
    result: Any,
    path: str | Path,
    *,
    title: str = "",
    images: ImagesLike | None = None,
    task: PretextTask[Any, Any] | None = None,
) -> Path:
    """Write a result to one HTML file, which opens without a network, on a phone, and in the dark.

    The page has what was run and how to repeat it, tables, figures, and versions. It has no script, and refers to no
    other file.

    Args:
        result: Result of ``pretrain``, ``compare``, a probe, ``freeze_and_finetune`` or an anomaly score; the folder
            of a training or a comparison; or a mapping from titles to several of these.
        path: File to write; its folder is created.
        title: Title of the page; by default the kind of the result.
        images: Images to show, in the forms of :func:`~pretextkit.functional.extract_features`: those that a probe,
            a fine-tuning or an anomaly score has scored, in its order, or any images for the views of ``task``. Of
            scored images, the page shows the worst errors, neighbors and an embedding.
        task: Pretext task whose views of ``images`` are drawn.

    Returns:
        The path.

    Raises:
        DataError: ``result`` is something else, or the folder holds no result.
        ShapeError: ``images`` are not those that the result has scored.
        PretextkitError: matplotlib is not installed (extra ``plot``).

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pretextkit.functional import linear_probe
        >>> probe = linear_probe(torch.nn.Identity(), (torch.eye(2).repeat(9, 1), torch.arange(18) % 2))
        >>> with TemporaryDirectory() as folder:
        ...     write(probe, f"{folder}/probe.html").read_text("utf-8")[:15]
        '<!DOCTYPE html>'
    """
    held = None if images is None else as_source(images, labels=False).in_memory().images
    shown = Shown(held, task)
    results = result if isinstance(result, Mapping) else {"": result}
    sections: list[Section] = []
    for name, each in results.items():
        read = read_folder(Path(each)) if isinstance(each, str | Path) else each
        found = sections_of(read, shown)
        sections += [each._replace(title=f"{name}: {each.title}") for each in found] if name else found
    sections.append(Section("How to repeat", lines(_program())))
    text = page(title or _title(result), sections, _versions())
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode())
    return path


def _title(result: Any) -> str:
    if isinstance(result, str | Path):
        return f"pretextkit: {Path(result).name}"
    return "pretextkit" if isinstance(result, Mapping) else f"pretextkit: {type(result).__name__}"


def _program() -> str:
    return shlex.join([Path(sys.executable).name, *sys.argv]) if sys.argv[0] else "an interactive session"


def _versions() -> str:
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return f"pretextkit {pretextkit.__version__}, torch {torch.__version__}, {system}"
