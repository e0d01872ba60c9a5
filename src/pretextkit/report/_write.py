"""Write a report to one HTML file."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - in the example

from pretextkit._atomic import atomic_write
from pretextkit.comparison._folders import read_folder
from pretextkit.contracts import PretextTask
from pretextkit.data import ImagesLike, as_source
from pretextkit.errors import OptionError
from pretextkit.report._origin import program_note, repeat_of, title_of
from pretextkit.report._page import Section, page
from pretextkit.report._sections import Shown, sections_of
from pretextkit.training._description import describe_device, describe_versions
from pretextkit.training._hardware import resolve_device

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
        title: Title of the page; by default the kind of the result, with task and backbone where they are known.
        images: Images to show, in the forms of :func:`~pretextkit.functional.extract_features`: those that a probe,
            a fine-tuning or an anomaly score has scored, in its order, or any images for the views of ``task``. Of
            scored images, the page shows the worst errors, neighbors and an embedding.
        task: Pretext task whose views of ``images`` are drawn.

    Returns:
        The path.

    Raises:
        DataError: ``result`` is something else, or the folder holds no result.
        OptionError: ``path`` is a folder.
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
    path = Path(path)
    if path.is_dir():
        raise OptionError(f"a file to write at {path}", got="a folder", fix=f"For example {path / 'report.html'}.")
    held = None if images is None else as_source(images, labels=False).in_memory().images
    given = result if isinstance(result, Mapping) else {"": result}
    results = {name: read_folder(Path(each)) if isinstance(each, str | Path) else each for name, each in given.items()}
    sections: list[Section] = []
    for name, each in results.items():
        found = sections_of(each, Shown(held, task, name))
        repeat = Section("How to repeat", repeat_of(each) + ("" if each is not given[name] else program_note()))
        several = f"{name}: " if len(results) > 1 else ""
        sections += [one._replace(title=f"{several}{one.title}") for one in (*found, repeat)]
    text = page(title or _title(results), sections, _writer())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode())
    return path


def _title(results: Mapping[str, Any]) -> str:
    """Name the only result, or the results by their titles."""
    return ", ".join(name or title_of(each) for name, each in results.items()) or "Report of pretextkit"


def _writer() -> str:
    """Name the versions, the system and the device that wrote the page; a training may have had others."""
    system = f"{platform.system()} {platform.machine()}, {describe_device(resolve_device())}"
    return f"Page written by {describe_versions()}, {system}."
