"""The step of a task through a wrapper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

import pretextkit as pk
from pretextkit.errors import OptionError, ShapeError
from pretextkit.functional import run_step
from pretextkit.testing import TinyBackbone
from tests.helpers import generator, random_images

IMAGES = random_images(8, size=(16, 16))


class Wrapper(nn.Module):
    """Any framework's wrapper: it holds the task, and does its work when it is called itself."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.batches: list[Any] = []

    def forward(self, batch: Any) -> Any:
        self.batches.append(batch)
        return self.module(batch)


def task() -> pk.tasks.Rotation[Any]:
    torch.manual_seed(0)
    return pk.tasks.Rotation(TinyBackbone())


def test_run_step_of_a_task_is_its_step() -> None:
    expected = task().step(IMAGES, generator())
    found = run_step(task(), IMAGES, generator())
    assert torch.equal(found.loss, expected.loss)
    assert found.metrics.keys() == expected.metrics.keys()


@pytest.mark.parametrize("wrap", [Wrapper, lambda inner: Wrapper(Wrapper(inner)), nn.DataParallel, torch.compile])
def test_wrapper_gets_the_views_of_the_task_inside(wrap: Any) -> None:
    wrapped = wrap(task()) if wrap is not torch.compile else torch.compile(task(), backend="eager")
    loss = run_step(wrapped, IMAGES, generator()).loss
    assert torch.allclose(loss, task().step(IMAGES, generator()).loss)
    torch.autograd.backward(loss)
    assert all(weight.grad is not None for weight in wrapped.parameters())
    if isinstance(wrapped, Wrapper):
        assert len(wrapped.batches) == 1


def test_gradients_go_through_the_hooks_of_ddp() -> None:
    """They average the gradients, and run only if the wrapper itself is called."""
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        group = torch.distributed.group.WORLD
        wrapped = nn.parallel.DistributedDataParallel(task())
        averaged: list[int] = []

        def hook(group, bucket):  # type: ignore[no-untyped-def]  # torch refuses annotations that are texts
            averaged.append(len(bucket.buffer()))
            return allreduce_hook(group, bucket)

        wrapped.register_comm_hook(group, hook)
        torch.autograd.backward(run_step(wrapped, IMAGES, generator()).loss)
    finally:
        torch.distributed.destroy_process_group()
    assert sum(averaged) == sum(weight.numel() for weight in wrapped.parameters())


def test_views_are_made_in_float32_and_without_gradient() -> None:
    wrapped = Wrapper(task())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run_step(wrapped, (IMAGES * 255).byte(), generator())
    (batch,) = wrapped.batches
    assert batch.images.dtype == torch.float32
    assert batch.images.max() <= 1
    assert not batch.images.requires_grad


class Spy(pk.PretextTask[Any]):
    """Record whether views have a gradient and autocast."""

    def __init__(self) -> None:
        super().__init__(TinyBackbone())
        self.seen: list[tuple[bool, bool]] = []

    def views(self, images: Tensor, generator: Generator) -> tuple[Tensor]:
        self.seen.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return (images,)

    def forward(self, batch: tuple[Tensor]) -> pk.TaskOutput:
        return pk.TaskOutput(self.backbone(batch[0]).mean(), {})


def test_gradient_and_autocast_are_off_for_views_alone() -> None:
    wrapped = Wrapper(spy := Spy())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = run_step(wrapped, IMAGES, generator())
    assert spy.seen == [(False, False)]
    assert output.loss.requires_grad


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("rotation", r"Build it: pretextkit.pretext_tasks\['rotation'\]\(backbone\)"),
        (pk.tasks.Rotation, r"Build it: Rotation\(backbone\)"),
        (TinyBackbone(), "Expected a pretext task, but got a TinyBackbone"),
        (Wrapper(nn.Linear(2, 2)), "Expected a pretext task, but got a Linear"),
    ],
)
def test_what_holds_no_task_is_refused(wrong: Any, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        run_step(wrong, IMAGES, generator())


def test_images_of_another_rank_are_refused() -> None:
    with pytest.raises(ShapeError, match="b c h w"):
        run_step(task(), IMAGES[0], generator())
