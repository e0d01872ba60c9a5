"""``pretextkit predict``: predict the classes of images by a saved classifier."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pretextkit.cli._command import Command
from pretextkit.cli._flags import add_flags, given
from pretextkit.cli._inputs import IMAGES
from pretextkit.cli._outputs import add_csv_flag, check_file, csv_lines
from pretextkit.cli._script import Script, call, literal
from pretextkit.data._file_listing import image_suffixes
from pretextkit.errors import OptionError
from pretextkit.functional import Classifier, Predictions

__all__ = ["COMMAND"]


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("classifier", metavar="CLASSIFIER", help="file that 'finetune' or 'probe --out' wrote")
    parser.add_argument("images", nargs="+", metavar="IMAGES", help=f"{IMAGES}; or several files")
    add_csv_flag(parser, "file, class and probability")
    add_flags(parser.add_argument_group("prediction"), Classifier.predict)


def _write(options: Namespace) -> Script:
    check_file(options.csv, "table.csv")
    _check_order(options.classifier, options.images)
    images = options.images[0] if len(options.images) == 1 else options.images
    body = [
        f"classifier = pk.load_classifier({literal(options.classifier)})",
        f"result = {call('classifier.predict', literal(images), **given(options, Classifier.predict))}",
    ]
    return Script([*body, *csv_lines(options.csv)], files=(options.csv,))


def _check_order(classifier: str, images: Sequence[str]) -> None:
    """Refuse images in place of the classifier.

    Raises:
        OptionError: The first argument is a folder or an image.
    """
    is_image = Path(classifier).suffix.lower() in image_suffixes()
    if not is_image and not Path(classifier).is_dir():
        return
    fix = "Pass a file that 'pretextkit finetune --out' or 'pretextkit probe --out' wrote."
    if len(images) == 1 and Path(images[0]).is_file() and Path(images[0]).suffix.lower() not in image_suffixes():
        fix = f"The classifier comes first: {shlex.join(['pretextkit', 'predict', images[0], classifier])}. {fix}"
    kind = "image" if is_image else "folder"
    raise OptionError("the file of a classifier before the images", got=f"the {kind} {classifier!r}", fix=fix)


def _describe(result: Predictions) -> Mapping[str, Any]:
    return {"class_names": result.class_names, "predictions": result.rows}


COMMAND = Command(
    name="predict",
    summary="predict the class of each image by a saved classifier",
    example="pretextkit predict birds.pt new-photos --csv predictions.csv",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
