"""A run that differs in an option is another run: it neither resumes nor returns the old result."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit._fingerprint import frozen_weights, module_options
from pretextkit.errors import CheckpointError, OptionError, PretextkitError, TrainingWarning
from pretextkit.functional import compare, fixmatch, pretrain
from pretextkit.models import ViTTiny
from pretextkit.tasks import BYOL, DINO, Distillation, MoCoV3, SimCLR, VICReg
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

IMAGES, LABELS = random_images(24), torch.arange(24) % 3
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


def half(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions - targets).square().mean() / 2


def features(images: Tensor) -> Tensor:
    return images.mean((2, 3))


CHANGES: dict[str, tuple[Callable[..., pk.PretextTask[Any, Any]], dict[str, Any]]] = {
    "weights of VICReg": (VICReg, {"variance_weight": 0.0, "invariance_weight": 1.0}),
    "momentum of BYOL": (BYOL, {"momentum": 0.5}),
    "momentum of MoCo": (MoCoV3, {"momentum": 0.5}),
    "momentum of DINO": (DINO, {"momentum": 0.5}),
    "center of DINO": (DINO, {"center_momentum": 0.5}),
    "loss of the distillation": (lambda b, **more: Distillation(b, teacher=features, **more), {"loss": half}),
    "augmentation": (SimCLR, {"augmentation": pk.views.LightAugmentation()}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_option_of_a_task_is_another_run(name: str, tmp_path: Path) -> None:
    task, change = CHANGES[name]
    options = {"steps": 1, "batch_size": 8, "checkpoint": tmp_path / "run", **QUIET}
    torch.manual_seed(0)
    pretrain(task(TinyBackbone()), IMAGES, **options)
    with pytest.raises(CheckpointError, match=r"to belong to this run, but got task\."):
        pretrain(task(TinyBackbone(), **change), IMAGES, **options)
    assert pretrain(task(TinyBackbone()), IMAGES, **options).resumed_at == 1  # the same call is the same run


OTHER: dict[type, Callable[[Any], Any]] = {
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: value / 2,
}


def test_every_number_of_every_task_is_in_the_identity() -> None:
    missed = []
    for name in sorted(set(pk.pretext_tasks) - {"mae", "distillation"}):
        task = pk.pretext_tasks[name]
        for option, parameter in inspect.signature(task).parameters.items():
            change = OTHER.get(type(parameter.default))
            if change is None:
                continue
            try:
                other = task(TinyBackbone(), **{option: change(parameter.default)})
            except PretextkitError:
                continue  # out of range
            if described(other) == described(task(TinyBackbone())):
                missed.append(f"{name}: {option}")
    assert missed == []


def described(task: nn.Module) -> tuple[Any, ...]:
    return module_options(task, "task"), {name: value.shape for name, value in task.state_dict().items()}


def test_options_have_no_addresses_and_no_layers_of_torch() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.measure, self.table = nn.Dropout(0.3), features, {"a": [1, 2]}
            self.rates = [0.1, 0.2]
            self.weight = torch.zeros(2)

    assert module_options(Own(), "task") == {
        "task.measure": "features",
        "task.table": "{'a': [1, 2]}",
        "task.rates": "[0.1, 0.2]",
    }


def dark(images: Tensor, generator: Generator) -> Tensor:
    return images * 0.1


def noisy(images: Tensor, generator: Generator) -> Tensor:
    return (images + torch.rand(images.shape, generator=generator)).clamp(0, 1)


def test_compare_does_not_return_the_run_of_another_augmentation(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 8, "label_fractions": (1.0,), "finetune_steps": 1, **QUIET}
    parts = (IMAGES, LABELS), (random_images(6, seed=1), LABELS[:6])

    def run(task: Callable[[Any], Any]) -> Any:
        return compare({"own": task}, TinyBackbone, *parts, save=tmp_path / "saved", **options)

    run(lambda backbone: SimCLR(backbone, augmentation=dark))
    with pytest.raises(CheckpointError, match=r"trained\.augmentation: 'dark' there, 'noisy' here"):
        run(lambda backbone: SimCLR(backbone, augmentation=noisy))
    run(lambda backbone: SimCLR(backbone, augmentation=dark))


def matched(folder: Path, backbone: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    labels = torch.where(torch.arange(24) < 9, LABELS, -1)
    options = {"steps": 1, "batch_size": 4, "checkpoint": folder / "run", **QUIET, **options}
    return fixmatch(backbone(), "linear", (IMAGES, labels), **options)


def test_fixmatch_on_another_layer_is_another_run(tmp_path: Path) -> None:
    matched(tmp_path, ViTTiny, layers=["stage4"])
    with pytest.raises(CheckpointError, match="layers: 'stage4 1x1' there, 'stage1 1x1' here"):
        matched(tmp_path, ViTTiny, layers=["stage1"])


@pytest.mark.parametrize("other", [["stage1"], "all", "none"])
def test_fixmatch_of_other_weights_is_another_run(other: Any, tmp_path: Path) -> None:
    matched(tmp_path, TinyBackbone, trainable=["stage2"])
    with pytest.raises(CheckpointError, match="frozen weights: "):
        matched(tmp_path, TinyBackbone, trainable=other)


def test_frozen_weights_are_part_of_the_run(tmp_path: Path) -> None:
    options = {"steps": 1, "batch_size": 8, "checkpoint": tmp_path / "run", **QUIET}
    pretrain(SimCLR(TinyBackbone()), IMAGES, **options)
    task = SimCLR(TinyBackbone())
    next(task.parameters()).requires_grad_(False)
    with pytest.raises(CheckpointError, match="frozen weights: "):
        pretrain(task, IMAGES, **options)
    assert frozen_weights(task).startswith("1 of ")


def test_frozen_backbone_is_warned_of() -> None:
    frozen = SimCLR(TinyBackbone().requires_grad_(False))
    with pytest.warns(TrainingWarning, match="weights of the backbone are frozen: only the head"):
        pretrain(frozen, IMAGES, steps=1, batch_size=8, **QUIET)


def test_partly_frozen_backbone_is_no_mistake(recwarn: pytest.WarningsRecorder) -> None:
    task = SimCLR(TinyBackbone())
    task.backbone.layers[-1].requires_grad_(False)  # of a first convolution alone, GroupNorm crashes in torch 2.4
    pretrain(task, IMAGES, steps=1, batch_size=8, **QUIET)
    assert not [each for each in recwarn if "frozen" in str(each.message)]


def test_size_of_the_unlabeled_batch_is_checked_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="unlabeled_batch_size to be at most the 24 unlabeled images, but got 25"):
        matched(tmp_path, TinyBackbone, unlabeled_batch_size=25)
