"""Distillation: the teacher is any function, and never changes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

import pretextkit as pk
from pretextkit.errors import CheckpointError, OptionError, ShapeError
from pretextkit.functional import pretrain
from pretextkit.tasks import Distillation
from pretextkit.testing import TinyBackbone, toy_images
from tests.helpers import require_exact_resume, toy_teacher

IMAGES = toy_images(16, size=16, generator=Generator().manual_seed(0))
RUN: dict[str, Any] = {"batch_size": 8, "device": "cpu", "precision": "fp32", "progress": False}


def make(seed: int = 0, teacher: Any = None, **options: Any) -> Distillation[TinyBackbone]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Distillation(TinyBackbone(), teacher=toy_teacher() if teacher is None else teacher, **options)


def test_loss_equals_a_loop() -> None:
    teacher = toy_teacher().eval()
    task = make(teacher=teacher).eval()
    batch = task.views(IMAGES, Generator().manual_seed(1))
    assert batch.a is batch.b  # a consistent teacher sees the same view
    cosines = []
    for image in batch.a:
        ours, theirs = task.head(task.backbone(image[None]))[0].detach(), teacher(image[None])[0].detach()
        cosines.append(float(ours @ theirs / (ours.norm() * theirs.norm())))
    assert task(batch).loss.item() == pytest.approx(-sum(cosines) / 16, rel=1e-5)


def test_perfect_student_has_a_loss_of_minus_1() -> None:
    teacher = toy_teacher()
    task = Distillation(copy.deepcopy(teacher), teacher=teacher)
    with torch.no_grad():
        task.head.linear.weight.copy_(torch.eye(64))
        task.head.linear.bias.zero_()
    output = task.step(IMAGES, Generator().manual_seed(1))
    assert output.loss.item() == pytest.approx(-1, abs=1e-5)
    assert output.metrics["top1"] == 1
    assert output.metrics["cosine"] == pytest.approx(1, abs=1e-5)


def test_squared_error_of_unit_features_is_another_form_of_the_cosine() -> None:
    def error(predictions: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(F.normalize(predictions), F.normalize(targets))

    cosine, squared = (task.step(IMAGES, Generator().manual_seed(1)).loss for task in (make(), make(loss=error)))
    torch.testing.assert_close(squared, 2 * (1 + cosine) / 64)


def test_running_mean_of_the_teacher_is_subtracted() -> None:
    task, seen = make(), []
    task.loss = lambda predictions, targets: seen.append(targets) or predictions.sum()  # type: ignore[func-returns-value]
    features = task.teacher(task.views(IMAGES, Generator().manual_seed(1)).b)
    for _ in range(2):
        task.step(IMAGES, Generator().manual_seed(1))
        task.after_step()
    torch.testing.assert_close(seen, [features, features - features.mean(0)])


def test_teacher_never_changes_nor_trains() -> None:
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(2))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    task = make(teacher=lambda images: teacher(images).mean(2))
    pretrain(task, IMAGES, steps=3, **RUN)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in teacher.parameters())
    assert teacher.training
    assert not any("teacher" in name for name in task.state_dict())
    assert torch.equal(task.teacher(IMAGES), task.teacher(IMAGES))  # without dropout


def test_run_resumes_exactly_and_only_with_its_teacher(tmp_path: Path) -> None:
    require_exact_resume(make, IMAGES, tmp_path)
    with pytest.raises(CheckpointError, match=r"task\.teacher_weights: .* there, .* here"):
        pretrain(make(teacher=TinyBackbone()), IMAGES, steps=4, checkpoint=tmp_path, **RUN)


@pytest.mark.parametrize(
    ("teacher", "width"),
    [
        (lambda images: images.mean((2, 3)), 3),
        (lambda images: nn.functional.adaptive_avg_pool2d(images, 2), 3),  # maps are averaged
        (nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.LazyLinear(5)), 5),  # takes 32 pixels and more
        (lambda images: nn.functional.interpolate(images, 64).flatten(1)[:, :7], 7),
    ],
)
def test_width_is_found_by_a_dry_run(teacher: Any, width: int) -> None:
    task = make(teacher=teacher)
    assert task.head.linear.out_features == task.teacher.width == width
    images = toy_images(4, size=32, generator=Generator().manual_seed(0))
    assert task.step(images, Generator()).loss.isfinite()


def test_gray_teacher_is_found_by_a_dry_run() -> None:
    gray = nn.Sequential(nn.Conv2d(1, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    task = make(teacher=gray)
    assert task.step(IMAGES[:, :1], Generator()).loss.isfinite()
    assert task.teacher.width == 6


def test_teacher_that_shares_weights_is_refused() -> None:
    backbone = TinyBackbone()
    for teacher in (backbone, lambda images: 2 * backbone(images)):
        with pytest.raises(OptionError, match=r"shares no weights with the backbone, but got .*copy\.deepcopy\("):
            Distillation(backbone, teacher=teacher)
    Distillation(backbone, teacher=copy.deepcopy(backbone))


def test_other_teachers_are_refused() -> None:
    def fails(images: Tensor) -> Tensor:
        raise ValueError("only images of 5x5 pixels")

    with pytest.raises(OptionError, match=r"but got ValueError: only images of 5x5 pixels for a black image\. Pass a"):
        make(teacher=fails)
    with pytest.raises(OptionError, match=r"^Expected a module or a function from .* but got the name"):
        make(teacher="resnet18")
    with pytest.raises(OptionError, match=r"^Expected a module or a function .*, but got the class"):
        make(teacher=TinyBackbone)
    task = make(teacher=lambda images: images.flatten(1))
    with pytest.raises(ShapeError, match=r"^Expected 3072 features from the teacher, .* but got 768"):
        task.step(IMAGES, Generator())


def test_task_is_created_by_name() -> None:
    task = pk.pretext_tasks.create("distillation", TinyBackbone(), teacher=toy_teacher())
    assert isinstance(task, Distillation)


def test_student_learns_more_than_the_mean_of_the_teacher() -> None:
    """The cosine is that of centered features, so that a constant prediction has one of 0."""
    images = toy_images(64, size=16, generator=Generator().manual_seed(0))
    result = pretrain(make(), images, **RUN | {"epochs": 40, "batch_size": 32})
    assert result.history.rows[0]["cosine"] < 0.1
    assert result.history.last["cosine"] > 0.3
    assert result.history.last["rankme"] > 8  # a teacher that is not centered teaches one direction
