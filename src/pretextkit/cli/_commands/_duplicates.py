"""``pretextkit duplicates``: find nearly equal images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from pretextkit.cli._command import Command
from pretextkit.cli._flags import add_flags, given
from pretextkit.cli._inputs import (
    FILE_OPTIONS,
    IMAGES,
    PIXELS,
    add_backbone_flags,
    add_image_flags,
    input_lines,
    pixel_hints,
)
from pretextkit.cli._outputs import add_csv_flag, check_file, csv_lines
from pretextkit.cli._script import Script, call
from pretextkit.functional import Duplicates, near_duplicates

__all__ = ["COMMAND"]


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGES", help=IMAGES)
    text = "second set, such as test images: pairs of one image of each are searched; without, pairs within IMAGES"
    parser.add_argument("others", metavar="OTHERS", nargs="?", help=text)
    add_csv_flag(parser, "first, second and distance")
    add_backbone_flags(parser, default=PIXELS, pixels=True)
    add_image_flags(parser)
    add_flags(parser.add_argument_group("features"), near_duplicates, leave_out=FILE_OPTIONS)


def _write(options: Namespace) -> Script:
    check_file(options.csv, "table.csv")
    names = ["images"] if options.others is None else ["images", "others"]
    body = input_lines(options, {name: getattr(options, name) for name in names})
    chosen = given(options, near_duplicates, leave_out=FILE_OPTIONS)
    body.append(f"result = {call('near_duplicates', 'backbone', *names, **chosen)}")
    body += csv_lines(options.csv)
    show = ("print(repr(result))", "print(result)")
    return Script(body, show, files=(options.csv,), hints=pixel_hints(options))


def _describe(result: Duplicates) -> Mapping[str, Any]:
    return {"duplicates": result.rows, "redundant": [result.other_files[row] for row in result.redundant]}


COMMAND = Command(
    name="duplicates",
    summary="find pairs of nearly equal images, within one set or between two",
    example="pretextkit duplicates photos --csv duplicates.csv\npretextkit duplicates train test --backbone run",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
