"""Every check of backbones and heads detects a broken model and reports the fault."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

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


class StartsAtZero(TinyBackbone):
    """A branch that starts at zero, as in timm's ResNets: its weights have no gradient before the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.scale = nn.Conv2d(64, 64, 3, padding=1), nn.Parameter(torch.zeros(64, 1, 1))

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        *before, last = super().stages(images)
        return *before, last + self.scale * self.branch(last)


class ScaleOfNothing(StartsAtZero):
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        return TinyBackbone.stages(self, images)


def test_branch_that_starts_at_zero_passes() -> None:
    check_backbone(StartsAtZero)
    (check,) = (each for each in backbone_checks(ScaleOfNothing) if each.name == "every_parameter_gets_gradient")
    assert "branch.weight" in (failure(check) or "")


class LargeImages(TinyBackbone):
    smallest_image = 40

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        stages = super().stages(images)
        assert min(images.shape[2:]) >= 40
        return stages


def test_kit_shows_no_image_below_the_smallest() -> None:
    check_backbone(LargeImages)


def test_factory_of_another_kind_is_reported() -> None:
    (check, *_) = backbone_checks(CorrectHead)  # type: ignore[arg-type]
    assert failure(check) == "Expected the factory to build a Backbone, but got a CorrectHead."
    (check, *_) = head_checks(TinyBackbone, feature_shape=(8,))  # type: ignore[arg-type]
    assert failure(check) == "Expected the factory to build a Head, but got a TinyBackbone."
