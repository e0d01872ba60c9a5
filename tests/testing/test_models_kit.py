"""Every check of backbones and heads detects a broken model and reports the fault."""

from __future__ import annotations

import pytest

from pretextkit.testing import TinyBackbone, backbone_checks, check_backbone, check_head, head_checks
from pretextkit.testing._runner import failure

from .broken_models import BROKEN_BACKBONES, BROKEN_HEADS, CorrectHead


def test_kit_passes_correct_models() -> None:
    check_backbone(TinyBackbone)
    check_head(CorrectHead, feature_shape=(8,))


def test_every_check_has_a_broken_model() -> None:
    assert {check.name for check in backbone_checks(TinyBackbone)} == set(BROKEN_BACKBONES)
    assert {check.name for check in head_checks(CorrectHead, feature_shape=(8,))} == set(BROKEN_HEADS)


@pytest.mark.parametrize("name", BROKEN_BACKBONES)
def test_check_detects_broken_backbone(name: str) -> None:
    (check,) = (check for check in backbone_checks(BROKEN_BACKBONES[name]) if check.name == name)
    assert failure(check)


@pytest.mark.parametrize("name", BROKEN_HEADS)
def test_check_detects_broken_head(name: str) -> None:
    checks = head_checks(BROKEN_HEADS[name], feature_shape=(8,))
    (check,) = (check for check in checks if check.name == name)
    assert failure(check)


def test_factory_of_another_kind_is_reported() -> None:
    (check, *_) = backbone_checks(CorrectHead)  # type: ignore[arg-type]
    assert failure(check) == "Expected the factory to build a Backbone, but got a CorrectHead."
    (check, *_) = head_checks(TinyBackbone, feature_shape=(8,))  # type: ignore[arg-type]
    assert failure(check) == "Expected the factory to build a Head, but got a TinyBackbone."
