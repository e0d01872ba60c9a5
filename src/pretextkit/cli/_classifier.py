"""What the commands that train a classifier share: their flags, the end of their program, and their numbers."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pretextkit.cli._flags import add_flags
from pretextkit.cli._inputs import IMAGES, add_backbone_flags, add_image_flags, add_labels_flags
from pretextkit.cli._outputs import add_out_flag
from pretextkit.cli._script import Script, call, literal
from pretextkit.functional import FinetuneResult

__all__ = ["add_classifier_flags", "classifier_script", "describe_classifier"]


def add_classifier_flags(parser: ArgumentParser, function: Callable[..., Any], leave_out: Sequence[str]) -> None:
    """Add the flags of images, labels, backbone and head, and those of the function that trains."""
    parser.add_argument("train", metavar="TRAIN", help=f"images, some or all of them labeled: {IMAGES}")
    parser.add_argument("val", metavar="VAL", nargs="?", help="labeled images that score the classifier at the end")
    add_out_flag(parser, "file of the classifier, which 'pretextkit predict' reads", default="classifier.pt")
    parser.add_argument("--head", default="linear", metavar="NAME", help="registered head (default: linear)")
    add_backbone_flags(parser, default=None)
    add_labels_flags(parser, other="val")
    add_image_flags(parser)
    add_flags(parser.add_argument_group("training"), function, leave_out=leave_out)


def classifier_script(options: Namespace, body: Sequence[str]) -> Script:
    """Save the classifier of ``result`` at the end of a program, and name the command that uses it."""
    words = ["pretextkit", "predict", str(options.out), "new-photos", "--csv", "predictions.csv"]
    return Script(
        [*body, call("result.classifier.save", literal(options.out))],
        files=(Path(options.out),),
        hints=(f"Next: {shlex.join(words)}",),
    )


def describe_classifier(result: FinetuneResult) -> Mapping[str, Any]:
    """Give the numbers of a trained classifier for JSON."""
    names = ("accuracy", "balanced_accuracy", "settings", "seconds", "stopped")
    classes = result.classifier.class_names
    return {name: getattr(result, name) for name in names} | {"class_names": classes, "history": result.history.rows}
