"""``pretextkit report``: one HTML page of a training or a comparison."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pretextkit as pk
from pretextkit.cli._command import Command, UsageError
from pretextkit.cli._flags import parse_assignments
from pretextkit.cli._inputs import IMAGES, add_image_flags, image_lines, trained_format
from pretextkit.cli._outputs import add_out_flag, check_file
from pretextkit.cli._script import Code, Script, call, literal
from pretextkit.comparison._folders import read_folder
from pretextkit.training import History

__all__ = ["COMMAND"]


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of a training or a comparison")
    add_out_flag(parser, "HTML file", default="report.html")
    views = parser.add_argument_group("views of a training")
    views.add_argument("--images", metavar="IMAGES", help=f"images whose views are drawn: {IMAGES}")
    text = "keyword of the constructor of the task, as in the training; repeatable"
    views.add_argument("--task-option", metavar="NAME=VALUE", action="append", default=[], help=text)
    add_image_flags(parser)


def _write(options: Namespace) -> Script:
    check_file(options.out, "report.html")
    if options.images is None and options.task_option:
        raise UsageError("--task-option needs --images, whose views are drawn")
    body = [] if options.images is None else _view_lines(options)
    shown = {"images": Code("images"), "task": Code("task")} if body else {}
    write = call("pk.report.write", literal(options.folder), literal(options.out), **shown)
    return Script([*body, f"result = {write}"], (), files=(options.out,))


def _view_lines(options: Namespace) -> list[str]:
    """Write code that binds the task of a training, and some images of the size that it was given.

    Raises:
        UsageError: The folder is that of a comparison.
        UnknownNameError: The task is not registered.
    """
    run = read_folder(options.folder)
    if not isinstance(run, History):
        raise UsageError("--images needs the folder of a training; this one holds a comparison")
    name = str(run.settings.get("task"))
    chosen = parse_assignments(options.task_option, pk.pretext_tasks[name], "--task-option")
    backbone = f"pk.load_backbone({literal(options.folder)})"
    return [
        f"task = {call(f'pk.pretext_tasks[{literal(name)}]', backbone, **chosen)}",
        *image_lines("photos", options.images, options, trained_format(str(options.folder))),
        "images = next(pk.data.as_source(photos).in_order(32)).images",
    ]


def _describe(result: Path) -> Mapping[str, Any]:
    return {"report": str(result)}


COMMAND = Command(
    name="report",
    summary="write an HTML page of a training or a comparison",
    example="pretextkit report run --images photos --out run.html",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
