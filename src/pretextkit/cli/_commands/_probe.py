"""``pretextkit probe``: fit a linear classifier to the features of a backbone, and score it."""

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
    backbone_flags,
    image_flags,
    input_lines,
    label_flags,
    labels_of,
)
from pretextkit.cli._outputs import add_out_flag, check_file
from pretextkit.cli._script import Script, call, literal
from pretextkit.functional import ProbeResult, linear_probe

__all__ = ["COMMAND"]


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("train", metavar="TRAIN", help=f"labeled images: {IMAGES}")
    parser.add_argument("test", metavar="TEST", nargs="?", help="test images; without, the accuracy is cross-validated")
    add_out_flag(parser, "file of the classifier, which 'pretextkit predict' reads")
    add_backbone_flags(parser, default=None)
    add_labels_flags(parser, other="test")
    add_image_flags(parser)
    add_flags(parser.add_argument_group("probe"), linear_probe, leave_out=FILE_OPTIONS)


def _write(options: Namespace) -> Script:
    check_file(options.out)
    labels = {"train": labels_of(options), "test": labels_of(options, "test")}
    test = [] if options.test is None else ["test"]
    body = input_lines(options, {"train": options.train, "test": options.test}, labels)
    chosen = given(options, linear_probe, leave_out=FILE_OPTIONS)
    body.append(f"result = {call('linear_probe', 'backbone', 'train', *test, **chosen)}")
    if options.out is None:
        words = ["pretextkit", "finetune", options.train, *backbone_flags(options), "--out", "classifier.pt"]
        words += [*label_flags(options), *image_flags(options)]
        return Script(body, hints=(f"Next: {shlex.join(words)}",))
    body.append(call("result.classifier.save", literal(options.out)))
    words = ["pretextkit", "predict", str(options.out), "new-photos", "--csv", "predictions.csv"]
    return Script(body, files=(Path(options.out),), hints=(f"Next: {shlex.join(words)}",))


def _describe(result: ProbeResult) -> Mapping[str, Any]:
    names = (
        "accuracy",
        "interval",
        "balanced_accuracy",
        "layer",
        "layers",
        "label_count",
        "cross_validated",
        "seconds",
    )
    return {name: getattr(result, name) for name in names} | {"scored_images": len(result.targets)}


COMMAND = Command(
    name="probe",
    summary="score the features of a backbone by a linear classifier",
    example="pretextkit probe photos --backbone run --labels labels.csv\n"
    "pretextkit probe photos/train photos/test --backbone resnet18",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
