"""``pretextkit anomaly``: score images by their difference from normal images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from typing import Any

from pretextkit.cli._command import Command, UsageError
from pretextkit.cli._flags import add_flags, given, keyword_flag
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
from pretextkit.functional import (
    AnomalyScores,
    mahalanobis_anomaly_score,
    neighbor_anomaly_score,
    patch_anomaly_score,
)

__all__ = ["COMMAND"]

METHODS: dict[str, Callable[..., AnomalyScores]] = {
    "neighbors": neighbor_anomaly_score,
    "mahalanobis": mahalanobis_anomaly_score,
    "patches": patch_anomaly_score,
}

ELSEWHERE = (*FILE_OPTIONS, "reduction")


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("normal", metavar="NORMAL", help=f"normal images: {IMAGES}")
    text = "images to score; without, odd images are searched among NORMAL"
    parser.add_argument("images", metavar="IMAGES", nargs="?", help=text)
    text = "distance to the nearest neighbors, to the distribution, or of each patch (default: neighbors)"
    parser.add_argument("--method", choices=METHODS, default="neighbors", help=text)
    add_csv_flag(parser, "file and score, the most anomalous first")
    add_backbone_flags(parser, default=PIXELS, pixels=True)
    add_image_flags(parser)
    for name, function in METHODS.items():
        add_flags(parser.add_argument_group(f"method {name}"), function, leave_out=ELSEWHERE)


def _write(options: Namespace) -> Script:
    check_file(options.csv, "table.csv")
    function = METHODS[options.method]
    _check_method(options, function)
    names = ["normal"] if options.images is None else ["normal", "images"]
    body = input_lines(options, {name: getattr(options, name) for name in names}, defaults={"fit": "pad"})
    chosen = given(options, function, leave_out=ELSEWHERE)
    body.append(f"result = {call(function.__name__, 'backbone', 'normal', names[-1], **chosen)}")
    show = ("for row in result.rows[:10]:", "    print(f\"{row['score']:.4g}  {row['file']}\")", "print(result)")
    body += csv_lines(options.csv)
    return Script(body, show, files=(options.csv,), hints=pixel_hints(options))


def _check_method(options: Namespace, function: Callable[..., AnomalyScores]) -> None:
    """Refuse flags of another method.

    Raises:
        UsageError: The method has no such keyword, or cannot work with these images.
    """
    own = given(options, function)
    others = {name for each in METHODS.values() for name in given(options, each)} - set(own)
    if others:
        raise UsageError(f"--method {options.method} takes no {', '.join(map(keyword_flag, sorted(others)))}")
    if options.method == "patches" and options.backbone == PIXELS:
        raise UsageError("--method patches needs --backbone: pixels are no patches")
    if options.method == "patches" and options.images is None:
        raise UsageError("--method patches needs NORMAL and IMAGES: each patch would find itself")


def _describe(result: AnomalyScores) -> Mapping[str, Any]:
    return {"scores": result.rows}


COMMAND = Command(
    name="anomaly",
    summary="score images by their difference from normal images",
    example="pretextkit anomaly good-parts new-parts --backbone run --csv scores.csv",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
