"""One step and its state; the loop's tests have the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from pretextkit.contracts import TaskOutput
from pretextkit.training import parameter_groups
from pretextkit.training._objectives import Objective
from pretextkit.training._settings import Plan, Settings
from pretextkit.training._step import TrainStep

PLAN = Plan(batch_size=4, learning_rate=0.1, per_epoch=10, total=10, warmup=0)


class Regression(Objective):
    def __init__(self) -> None:
        self.module = nn.Linear(3, 1)
        with torch.no_grad():
            self.module.weight.copy_(torch.tensor([[0.5, -0.25, 0.125]]))
            self.module.bias.zero_()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.module)

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        return images

    def loss(self, batch: Any) -> TaskOutput:
        return TaskOutput((self.module(batch).float() - 1).square().mean(), {})


def train_step() -> TrainStep:
    """Return a step with scaled losses, on the CPU."""
    return TrainStep(Regression(), Settings(optimizer="adamw"), PLAN, torch.device("cpu"), "fp16")


def batch(step: int, value: float = 1.0) -> Tensor:
    return value * torch.rand(4, 3, generator=Generator().manual_seed(step))


def test_scaler_skips_a_step_with_infinite_gradient() -> None:
    one = train_step()
    before = one.objective.module.weight.clone()  # type: ignore[operator]
    one.step(0, [batch(0, 1e30)])
    assert torch.equal(one.objective.module.weight, before)  # type: ignore[arg-type]
    assert one.scaler.get_scale() == 2**15
    one.step(1, [batch(1)])
    assert not torch.equal(one.objective.module.weight, before)  # type: ignore[arg-type]


def test_state_dict_restores_scaler_and_optimizer() -> None:
    full, stopped, resumed = train_step(), train_step(), train_step()
    for step in range(6):
        full.step(step, [batch(step, 1e30 if step == 1 else 1.0)])
        if step < 3:
            stopped.step(step, [batch(step, 1e30 if step == 1 else 1.0)])
    resumed.load_state_dict(stopped.state_dict())
    for step in range(3, 6):
        resumed.step(step, [batch(step)])
    assert resumed.scaler.state_dict() == full.scaler.state_dict()
    assert resumed.scaler.get_scale() < 2**16  # halved before the stop
    assert resumed.scaler.state_dict()["_growth_tracker"] > 0
    for name, value in full.objective.module.state_dict().items():
        assert torch.equal(resumed.objective.module.state_dict()[name], value)
