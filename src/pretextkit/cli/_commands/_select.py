"""``pretextkit select``: the images to label first."""

from __future__ import annotations

import shlex
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
    add_labels_flags,
    backbone_flags,
    image_flags,
    input_lines,
    labels_of,
    pixel_hints,
)
from pretextkit.cli._outputs import add_csv_flag, check_file, csv_lines
from pretextkit.cli._script import Code, Script, call
from pretextkit.functional import Selection, select_to_label

__all__ = ["COMMAND"]

METHODS = ("typiclust", "probcover", "k-center", "k-means++", "random")
OTHERS = ("backbone", "labeled", "method", *FILE_OPTIONS)
"""Keywords that have a flag or a value of their own."""


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGES", help=IMAGES)
    parser.add_argument("--n", type=int, default=100, metavar="N", help="images to choose (default: 100)")
    text = "typical images first, by one of two methods; unlike images first, by one of two; or a random order"
    parser.add_argument("--method", choices=METHODS, default="typiclust", help=f"{text} (default: typiclust)")
    add_csv_flag(parser, "file and label, which is empty: fill it in, and give the table as --labels")
    add_backbone_flags(parser, default=PIXELS, pixels=True)
    add_labels_flags(parser)
    add_image_flags(parser)
    add_flags(parser.add_argument_group("features"), select_to_label, leave_out=OTHERS)


def _write(options: Namespace) -> Script:
    check_file(options.csv, "table.csv")
    labels = labels_of(options)
    body = input_lines(options, {"images": options.images}, {"images": labels})
    values: dict[str, Any] = {"backbone": Code("backbone"), "method": options.method}
    if labels is not None:
        values["labeled"] = Code("torch.tensor(images.labels) >= 0")
    values |= given(options, select_to_label, leave_out=OTHERS)
    body.append(f"result = {call('select_to_label', 'images', str(options.n), **values)}")
    body += csv_lines(options.csv)
    return Script(body, files=(options.csv,), hints=(*pixel_hints(options), *_next_step(options)))


def _next_step(options: Namespace) -> tuple[str, ...]:
    """Say what to do with the table; pixels train nothing, and a second table is no use alone."""
    if options.csv is None or options.backbone == PIXELS or options.labels is not None:
        return ()
    words = ["pretextkit", "finetune", options.images, *backbone_flags(options), "--out", "classifier.pt"]
    words += ["--labels", str(options.csv), *image_flags(options)]
    return (f"Next: fill in the column label of {options.csv}, then: {shlex.join(words)}",)


def _describe(result: Selection) -> Mapping[str, Any]:
    return {"selection": result.rows}


COMMAND = Command(
    name="select",
    summary="choose the images to label first",
    example="pretextkit select photos --n 100 --backbone run --csv to_label.csv",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
