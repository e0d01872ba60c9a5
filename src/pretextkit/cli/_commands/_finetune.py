"""``pretextkit finetune``: train a classifier of images, from a backbone and labels."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from pretextkit.cli._classifier import add_classifier_flags, classifier_script, describe_classifier
from pretextkit.cli._command import Command
from pretextkit.cli._flags import given
from pretextkit.cli._inputs import FILE_OPTIONS, input_lines, labels_of
from pretextkit.cli._outputs import check_file
from pretextkit.cli._script import Script, call, literal
from pretextkit.functional import freeze_and_finetune

__all__ = ["COMMAND"]

ELSEWHERE = (*FILE_OPTIONS, "augment", "callbacks")


def _add_flags(parser: ArgumentParser) -> None:
    add_classifier_flags(parser, freeze_and_finetune, ELSEWHERE)


def _write(options: Namespace) -> Script:
    check_file(options.out)
    labels = {"train": labels_of(options), "val": labels_of(options, "val")}
    sets = ["train"] if options.val is None else ["train", "val"]
    chosen = given(options, freeze_and_finetune, leave_out=ELSEWHERE)
    trained = call("freeze_and_finetune", "backbone", literal(options.head), *sets, **chosen)
    paths = {"train": options.train, "val": options.val}
    return classifier_script(options, [*input_lines(options, paths, labels), f"result = {trained}"])


COMMAND = Command(
    name="finetune",
    summary="train a classifier of images from a backbone and labels",
    example="pretextkit finetune photos --backbone run --labels labels.csv --out birds.pt",
    add_flags=_add_flags,
    write=_write,
    describe=describe_classifier,
)
