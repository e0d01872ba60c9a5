"""Conformance of every registered class, installed plug-ins included: the registries are the test matrix.

``EXPECTED_FAILURES`` exempts tasks from checks, and ``HEADS`` holds the arguments of each head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import pretextkit as pk
from pretextkit.testing import (
    Check,
    TinyBackbone,
    TinyTokenBackbone,
    backbone_checks,
    head_checks,
    parametrize_checks,
    pretext_task_checks,
)
from tests.helpers import toy_task

NO_COLORS = "refuses gray images, which have no colors to predict"
COMPARES = {"parts_have_the_gradient_of_the_batch": "compares the images of a batch"}
EXPECTED_FAILURES: Mapping[str, Mapping[str, str]] = {
    "barlow-twins": COMPARES,
    "colorization": {"accepts_gray_and_color": NO_COLORS},
    "context-encoder": {
        "parts_have_the_gradient_of_the_batch": "a mean over hidden pixels, which are more in one part"
    },
    "dcl": COMPARES,  # of examples/plugin_package, if it is installed
    "lejepa": COMPARES,
    "moco-v3": COMPARES,
    "nnclr": COMPARES,
    "simclr": COMPARES,
    "swav": COMPARES,
    "vicreg": COMPARES,
}
LIBRARIES = (
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "timm/resnet18",
    "timm/convnext_atto",
    "timm/vit_tiny_patch16_224",
)
"""Networks that are not listed, because a library has them; those of timm need the group ``backbones``."""
HEADS: Mapping[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {
    "linear": ((16, 5), (16,)),
    "mlp": ((16, 5), (16,)),
    "conv-decoder": ((16,), (16, 4, 4)),
    "patch-discriminator": ((), (3, 16, 16)),
}
"""Arguments of each head, and the shape of the features of one image."""


def tasks() -> dict[str, list[Check]]:
    return {
        name: pretext_task_checks(
            lambda name=name: toy_task(name),  # type: ignore[misc]
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


def libraries() -> dict[str, list[Check]]:
    return {
        name: backbone_checks(lambda name=name: pk.backbones.create(name))  # type: ignore[misc]
        for name in LIBRARIES
        if name in pk.backbones
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


@parametrize_checks(libraries())
def test_backbone_of_another_library(check: Check) -> None:
    check.run()


@parametrize_checks(heads())
def test_head(check: Check) -> None:
    check.run()


def test_every_registered_head_has_test_arguments() -> None:
    assert set(pk.heads) == set(HEADS)


@pytest.mark.parametrize("name", pk.pretext_tasks)
@pytest.mark.parametrize("channels", [1, 3])
def test_task_accepts_gray_and_color_backbones(name: str, channels: int) -> None:
    expected = "accepts_odd_batches" if name == "colorization" else "accepts_gray_and_color"
    kind = TinyTokenBackbone if name == "mae" else TinyBackbone
    make = lambda: toy_task(name, kind(in_channels=channels))  # noqa: E731
    (check,) = (check for check in pretext_task_checks(make) if check.name == expected)
    check.run()
