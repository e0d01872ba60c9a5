"""Every check of a backbone or a head can fail, and says what is wrong."""

from __future__ import annotations

import pytest

from pretextkit.testing import TinyBackbone, backbone_checks, check_backbone, check_head, head_checks
from pretextkit.testing._runner import failure

from .broken_models import BROKEN_BACKBONES, BROKEN_HEADS, CorrectHead


def test_correct_models_pass() -> None:
    check_backbone(TinyBackbone)
    check_head(CorrectHead, feature_shape=(8,))


def test_no_check_is_idle() -> None:
    assert {check.name for check in backbone_checks(TinyBackbone)} == set(BROKEN_BACKBONES)
    assert {check.name for check in head_checks(CorrectHead, feature_shape=(8,))} == set(BROKEN_HEADS)


@pytest.mark.parametrize("name", BROKEN_BACKBONES)
def test_broken_backbone_is_caught(name: str) -> None:
    (check,) = (check for check in backbone_checks(BROKEN_BACKBONES[name]) if check.name == name)
    assert failure(check)


@pytest.mark.parametrize("name", BROKEN_HEADS)
def test_broken_head_is_caught(name: str) -> None:
    checks = head_checks(BROKEN_HEADS[name], feature_shape=(8,))
    (check,) = (check for check in checks if check.name == name)
    assert failure(check)


def test_what_is_no_backbone_or_head_is_named() -> None:
    (check, *_) = backbone_checks(CorrectHead)  # type: ignore[arg-type]
    assert failure(check) == "The factory makes a CorrectHead, not a Backbone."
    (check, *_) = head_checks(TinyBackbone, feature_shape=(8,))  # type: ignore[arg-type]
    assert failure(check) == "The factory makes a TinyBackbone, not a Head."
