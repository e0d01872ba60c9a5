"""``pretextkit finetune``: train a classifier of images, from a backbone and labels."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretextkit.cli._command import Command
from pretextkit.cli._flags import add_flags, given
from pretextkit.cli._inputs import (
    FILE_OPTIONS,
    IMAGES,
    add_backbone_flags,
    add_image_flags,
    add_labels_flags,
    input_lines,
    labels_of,
)
from pretextkit.cli._outputs import add_out_flag, check_file
from pretextkit.cli._script import Script, call, literal
from pretextkit.functional import FinetuneResult, freeze_and_finetune

__all__ = ["COMMAND", "describe_classifier"]

ELSEWHERE = (*FILE_OPTIONS, "augment", "callbacks")


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("train", metavar="TRAIN", help=f"images, some or all of them labeled: {IMAGES}")
    parser.add_argument("val", metavar="VAL", nargs="?", help="labeled images that score the classifier at the end")
    add_out_flag(parser, "file of the classifier, which 'pretextkit predict' reads", default="classifier.pt")
    parser.add_argument("--head", default="linear", metavar="NAME", help="registered head (default: linear)")
    add_backbone_flags(parser, default=None)
    add_labels_flags(parser, other="val")
    add_image_flags(parser)
    add_flags(parser.add_argument_group("training"), freeze_and_finetune, leave_out=ELSEWHERE)


def _write(options: Namespace) -> Script:
    check_file(options.out)
    labels = {"train": labels_of(options), "val": labels_of(options, "val")}
    sets = ["train"] if options.val is None else ["train", "val"]
    chosen = given(options, freeze_and_finetune, leave_out=ELSEWHERE)
    body = [
        *input_lines(options, {"train": options.train, "val": options.val}, labels),
        f"result = {call('freeze_and_finetune', 'backbone', literal(options.head), *sets, **chosen)}",
        call("result.classifier.save", literal(options.out)),
    ]
    words = ["pretextkit", "predict", str(options.out), "new-photos", "--csv", "predictions.csv"]
    return Script(body, files=(Path(options.out),), hints=(f"Next: {shlex.join(words)}",))


def describe_classifier(result: FinetuneResult) -> Mapping[str, Any]:
    """Give the numbers of a trained classifier for JSON."""
    names = ("accuracy", "balanced_accuracy", "settings", "seconds", "stopped")
    classes = result.classifier.class_names
    return {name: getattr(result, name) for name in names} | {"class_names": classes, "history": result.history.rows}


COMMAND = Command(
    name="finetune",
    summary="train a classifier of images from a backbone and labels",
    example="pretextkit finetune photos --backbone run --labels labels.csv --out birds.pt",
    add_flags=_add_flags,
    write=_write,
    describe=describe_classifier,
)
