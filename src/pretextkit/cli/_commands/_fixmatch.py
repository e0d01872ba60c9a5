"""``pretextkit fixmatch``: train a classifier of images from a backbone, few labels and images without a label."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from pretextkit.cli._classifier import add_classifier_flags, classifier_script, describe_classifier
from pretextkit.cli._command import Command
from pretextkit.cli._flags import given
from pretextkit.cli._inputs import FILE_OPTIONS, input_lines, labels_of
from pretextkit.cli._outputs import check_file
from pretextkit.cli._script import Code, Script, call, literal
from pretextkit.functional import fixmatch

__all__ = ["COMMAND"]

ELSEWHERE = (*FILE_OPTIONS, "augment", "weak", "strong", "callbacks")


def _add_flags(parser: ArgumentParser) -> None:
    text = "images without a label, such as the folder of the pretraining; by default those of TRAIN without one"
    parser.add_argument("--unlabeled", metavar="IMAGES", help=text)
    add_classifier_flags(parser, fixmatch, ELSEWHERE)


def _write(options: Namespace) -> Script:
    check_file(options.out)
    paths = {"train": options.train, "unlabeled": options.unlabeled, "val": options.val}
    labels = {"train": labels_of(options), "unlabeled": False, "val": labels_of(options, "val")}
    variables = {"unlabeled": "unlabeled", "test": "val"}
    sets = {keyword: Code(name) for keyword, name in variables.items() if paths[name]}
    chosen = given(options, fixmatch, leave_out=ELSEWHERE)
    trained = call("fixmatch", "backbone", literal(options.head), "train", **sets, **chosen)
    return classifier_script(options, [*input_lines(options, paths, labels), f"result = {trained}"])


COMMAND = Command(
    name="fixmatch",
    summary="train a classifier of images from a backbone, few labels and images without a label",
    example="pretextkit fixmatch photos --backbone run --labels labels.csv --out birds.pt --checkpoint birds",
    add_flags=_add_flags,
    write=_write,
    describe=describe_classifier,
)
