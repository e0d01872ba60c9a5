"""``pretextkit neighbors``: find the most similar images."""

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
from pretextkit.functional import Neighbors, nearest_neighbors

__all__ = ["COMMAND"]


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("queries", metavar="QUERIES", help=f"an image file, or {IMAGES}")
    text = "images among which neighbors are searched; without, the other images of QUERIES"
    parser.add_argument("database", metavar="DATABASE", nargs="?", help=text)
    parser.add_argument("--k", type=int, default=5, metavar="N", help="neighbors of each query (default: 5)")
    add_csv_flag(parser, "query, rank, neighbor and distance")
    add_backbone_flags(parser, default=PIXELS, pixels=True)
    add_image_flags(parser)
    add_flags(parser.add_argument_group("features"), nearest_neighbors, leave_out=FILE_OPTIONS)


def _write(options: Namespace) -> Script:
    check_file(options.csv, "table.csv")
    # The database comes first: queries get the size of its images.
    names = ["queries"] if options.database is None else ["database", "queries"]
    body = input_lines(options, {name: getattr(options, name) for name in names})
    values = {"k": options.k, **given(options, nearest_neighbors, leave_out=FILE_OPTIONS)}
    body.append(f"result = {call('nearest_neighbors', 'backbone', *reversed(names), **values)}")
    body += csv_lines(options.csv)
    return Script(body, files=(options.csv,), hints=pixel_hints(options))


def _describe(result: Neighbors) -> Mapping[str, Any]:
    return {"neighbors": result.rows}


COMMAND = Command(
    name="neighbors",
    summary="find the most similar images of each image",
    example="pretextkit neighbors one.jpg photos --backbone run --csv neighbors.csv",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
