"""``pretextkit pretrain``: train a backbone on images without labels."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

import pretextkit as pk
from pretextkit.cli._command import Command
from pretextkit.cli._flags import add_flags, given, parse_assignments
from pretextkit.cli._inputs import (
    FILE_OPTIONS,
    IMAGES,
    add_backbone_flags,
    add_image_flags,
    backbone_lines,
    has_labels,
    image_flags,
    image_lines,
    seed_line,
    trained_format,
)
from pretextkit.cli._outputs import add_out_flag, check_folder
from pretextkit.cli._script import Script, call, literal
from pretextkit.functional import PretrainResult, pretrain

__all__ = ["COMMAND"]

ELSEWHERE = (*FILE_OPTIONS, "checkpoint", "augment", "callbacks")
"""Keywords with a flag of another group or name, or without a flag."""


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGES", help=f"{IMAGES}; or several files")
    add_out_flag(
        parser, "folder of the run: checkpoint, history and backbone.pt; the command resumes there", default="run"
    )
    task = parser.add_argument_group("task")
    task.add_argument("--task", default="simclr", metavar="NAME", help="pretext task (default: simclr)")
    text = "keyword of the constructor of the task; repeatable"
    task.add_argument("--task-option", metavar="NAME=VALUE", action="append", default=[], help=text)
    add_backbone_flags(parser, default="resnet18")
    add_image_flags(parser)
    add_flags(parser.add_argument_group("training"), pretrain, leave_out=ELSEWHERE)


def _write(options: Namespace) -> Script:
    check_folder(options.out)
    task = parse_assignments(options.task_option, pk.pretext_tasks[options.task], "--task-option")
    file = options.out / "backbone.pt"
    chosen = {"checkpoint": options.out, **given(options, pretrain, leave_out=ELSEWHERE)}
    body = [
        seed_line(options),
        *backbone_lines(options),
        f"task = {call(f'pk.pretext_tasks[{literal(options.task)}]', 'backbone', **task)}",
        *image_lines("photos", options.images, options, trained_format(options.backbone)),
        f"result = {call('pretrain', 'task', 'photos', **chosen)}",
        call("pk.save_backbone", "backbone", literal(file)),
    ]
    return Script(body, files=(options.out, file), hints=_next_steps(options))


def _next_steps(options: Namespace) -> tuple[str, str]:
    """Write the commands of a probe and of a report."""
    images, run = options.images[0], str(options.out)
    flags = image_flags(options, leave_out=("size", "fit"))  # commands find these in the run
    labels = [] if has_labels(images) else ["--labels", "labels.csv"]
    views = [word for text in options.task_option for word in ("--task-option", text)]
    probe = shlex.join(["pretextkit", "probe", images, "--backbone", run, *labels, *flags])
    report = shlex.join(["pretextkit", "report", run, "--images", images, *views, *flags])
    return f"Next: {probe}", f"Report: {report}"


def _describe(result: PretrainResult) -> Mapping[str, Any]:
    names = ("steps", "resumed_at", "seconds", "images_per_second", "device", "precision", "stopped", "settings")
    return {name: getattr(result, name) for name in names} | {
        "last": result.history.last,
        "history": result.history.rows,
    }


COMMAND = Command(
    name="pretrain",
    summary="train a backbone on images without labels",
    example="pretextkit pretrain photos --task simclr --backbone resnet18 --out run",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
