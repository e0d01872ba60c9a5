"""``pretextkit fixmatch``: train a classifier of images from a backbone, few labels and images without a label."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pretextkit.cli._command import Command
from pretextkit.cli._commands._finetune import describe_classifier
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
from pretextkit.cli._script import Code, Script, call, literal
from pretextkit.functional import fixmatch

__all__ = ["COMMAND"]

ELSEWHERE = (*FILE_OPTIONS, "augment", "weak", "strong", "callbacks")


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("train", metavar="TRAIN", help=f"images, some of them labeled: {IMAGES}")
    parser.add_argument("val", metavar="VAL", nargs="?", help="labeled images that score the classifier at the end")
    text = "images without a label, such as the folder of the pretraining; by default those of TRAIN without one"
    parser.add_argument("--unlabeled", metavar="IMAGES", help=text)
    add_out_flag(parser, "file of the classifier, which 'pretextkit predict' reads", default="classifier.pt")
    parser.add_argument("--head", default="linear", metavar="NAME", help="registered head (default: linear)")
    add_backbone_flags(parser, default=None)
    add_labels_flags(parser, other="val")
    add_image_flags(parser)
    add_flags(parser.add_argument_group("training"), fixmatch, leave_out=ELSEWHERE)


def _write(options: Namespace) -> Script:
    check_file(options.out)
    sets = {"train": options.train, "unlabeled": options.unlabeled, "val": options.val}
    labels = {"train": labels_of(options), "unlabeled": False, "val": labels_of(options, "val")}
    keywords = {"unlabeled": "unlabeled", "test": "val"}
    chosen = {keyword: Code(name) for keyword, name in keywords.items() if sets[name]}
    chosen |= given(options, fixmatch, leave_out=ELSEWHERE)
    body = [
        *input_lines(options, sets, labels),
        f"result = {call('fixmatch', 'backbone', literal(options.head), 'train', **chosen)}",
        call("result.classifier.save", literal(options.out)),
    ]
    words = ["pretextkit", "predict", str(options.out), "new-photos", "--csv", "predictions.csv"]
    return Script(body, files=(Path(options.out),), hints=(f"Next: {shlex.join(words)}",))


COMMAND = Command(
    name="fixmatch",
    summary="train a classifier of images from a backbone, few labels and images without a label",
    example="pretextkit fixmatch photos --backbone run --labels labels.csv --out birds.pt --checkpoint birds",
    add_flags=_add_flags,
    write=_write,
    describe=describe_classifier,
)
