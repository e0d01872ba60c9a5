"""``pretextkit compare``: compare pretext tasks on one budget."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from pretextkit.cli._command import Command
from pretextkit.cli._flags import add_flags, given
from pretextkit.cli._inputs import FILE_OPTIONS, IMAGES, add_image_flags, add_labels_flags, image_lines, labels_of
from pretextkit.cli._outputs import add_out_flag, check_folder
from pretextkit.cli._script import Code, Script, call, literal
from pretextkit.functional import Comparison, compare

__all__ = ["COMMAND"]

ELSEWHERE = (*FILE_OPTIONS, "images", "save", "pretraining", "finetuning", "callbacks")

HOLD_OUT = (
    "_, held_out = pk.data.stratified_split(photos.labels, 0.8)",
    "test = Subset(photos, held_out)",
    "train = Subset(photos, sorted(set(range(len(photos))) - set(held_out.tolist())))",
)
"""Statements that hold out a fifth of the labeled images."""


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("train", metavar="TRAIN", help=f"images, some or all of them labeled: {IMAGES}")
    parser.add_argument("test", metavar="TEST", nargs="?", help="test images; without, a fifth of the labeled images")
    tasks = ["rotation", "simclr"]
    text = "pretext tasks (default: rotation simclr)"
    parser.add_argument("--tasks", nargs="+", metavar="NAME", default=tasks, help=text)
    parser.add_argument("--backbone", metavar="NAME", default="resnet18", help="backbone (default: resnet18)")
    parser.add_argument("--images", metavar="IMAGES", help="images for pretraining; by default those of TRAIN")
    add_out_flag(parser, "folder of the finished runs; the command resumes there")
    add_labels_flags(parser, other="test")
    add_image_flags(parser)
    add_flags(parser.add_argument_group("comparison"), compare, leave_out=ELSEWHERE)


def _write(options: Namespace) -> Script:
    if options.out is not None:
        check_folder(options.out)
    first = "photos" if options.test is None else "train"
    body = image_lines(first, options.train, options, {}, labels_of(options))
    same = {} if hasattr(options, "size") or options.train.endswith(".npz") else {"size": Code(f"{first}.size")}
    chosen = given(options, compare, leave_out=ELSEWHERE)
    if options.test is None:
        body += HOLD_OUT
    else:
        body += image_lines("test", options.test, options, same, labels_of(options, "test"))
    if options.images is not None:
        body += image_lines("images", options.images, options, same)
        chosen["images"] = Code("images")
    if options.out is not None:
        chosen["save"] = options.out
    arguments = (literal(options.tasks), literal(options.backbone), "train", "test")
    body.append(f"result = {call('compare', *arguments, **chosen)}")
    return Script(body, files=(options.out and options.out / "comparison.json",))


def _describe(result: Comparison) -> Mapping[str, Any]:
    return result.to_dict()


COMMAND = Command(
    name="compare",
    summary="compare pretext tasks on one budget, beside random weights and supervised training",
    example="pretextkit compare photos --labels labels.csv --tasks rotation simclr --epochs 10 --out comparison",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
