"""What is registered is the test matrix: a new built-in is tested without writing a test.

``OPTIONS`` and ``EXPECTED_FAILURES`` say what a name needs beside the defaults; installed plug-ins are tested as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import pretextkit as pk
from pretextkit.testing import (
    Check,
    TinyBackbone,
    backbone_checks,
    head_checks,
    parametrize_checks,
    pretext_task_checks,
)

ALL_FOUR = "all four rotations of every image, nothing is random"
AS_THEY_ARE = "images are shown as they are, nothing is random"
NO_COLORS = "gray images have no colors to predict, and are refused"
EXPECTED_FAILURES: Mapping[str, Mapping[str, str]] = {
    "autoencoder": {"views_draw_for_each_image": AS_THEY_ARE, "views_use_the_generator": AS_THEY_ARE},
    "colorization": {
        "takes_gray_and_color": NO_COLORS,
        "views_draw_for_each_image": AS_THEY_ARE,
        "views_use_the_generator": AS_THEY_ARE,
    },
    "rotation": {"views_draw_for_each_image": ALL_FOUR, "views_use_the_generator": ALL_FOUR},
}
HEADS: Mapping[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {
    "linear": ((16, 5), (16,)),
    "mlp": ((16, 5), (16,)),
    "conv-decoder": ((16,), (16, 4, 4)),
    "patch-discriminator": ((), (3, 16, 16)),
}
"""Arguments of each head, and the shape of one image's features."""


def tasks() -> dict[str, list[Check]]:
    return {
        name: pretext_task_checks(
            lambda name=name: pk.pretext_tasks.create(name, TinyBackbone()),  # type: ignore[misc]
            expected_failures=EXPECTED_FAILURES.get(name, {}),
        )
        for name in pk.pretext_tasks
    }


def backbones() -> dict[str, list[Check]]:
    return {
        f"{name}-{channels}": backbone_checks(
            lambda name=name, channels=channels: pk.backbones.create(name, in_channels=channels)  # type: ignore[misc]
        )
        for name in pk.backbones
        for channels in (1, 3)
    }


def heads() -> dict[str, list[Check]]:
    return {
        name: head_checks(lambda name=name: pk.heads.create(name, *HEADS[name][0]), feature_shape=HEADS[name][1])  # type: ignore[misc]
        for name in pk.heads
        if name in HEADS
    }


@parametrize_checks(tasks())
def test_pretext_task(check: Check) -> None:
    check.run()


@parametrize_checks(backbones())
def test_backbone(check: Check) -> None:
    check.run()


@parametrize_checks(heads())
def test_head(check: Check) -> None:
    check.run()


def test_every_head_has_arguments_to_be_tried_with() -> None:
    assert set(pk.heads) == set(HEADS)


@pytest.mark.parametrize("name", pk.pretext_tasks)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_task_takes_every_kind_of_backbone(name: str, channels: int) -> None:
    wanted = "takes_odd_batches" if name == "colorization" else "takes_gray_and_color"
    make = lambda: pk.pretext_tasks.create(name, TinyBackbone(in_channels=channels))  # noqa: E731
    (check,) = (check for check in pretext_task_checks(make) if check.name == wanted)
    check.run()
