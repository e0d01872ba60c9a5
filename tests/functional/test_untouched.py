from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pretextkit.functional.untouched import evaluating, module_device


class Counting(nn.Module):
    """Moves and replaces its buffers, also in evaluation mode."""

    calls: Tensor
    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(3), persistent=False)
        self.register_buffer("nothing", None)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = torch.full((3,), torch.nan)
        out: Tensor = self.norm(x)
        return out


def test_modes_and_buffers_come_back_as_the_same_objects() -> None:
    counting = Counting()
    model = nn.Sequential(counting, nn.Dropout().eval())
    buffers = dict(model.named_buffers())
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        model(torch.rand(4, 2))
        assert counting.calls == 1
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert torch.is_grad_enabled()
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    assert counting.calls == 0
    assert torch.equal(counting.last, torch.zeros(3))
    assert counting.nothing is None


def test_all_comes_back_after_an_error() -> None:
    model, state = Counting(), torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), evaluating(model):  # noqa: PT012
        model(torch.rand(4, 2))
        raise ZeroDivisionError
    assert model.training
    assert model.calls == 0
    assert torch.is_grad_enabled()
    assert torch.equal(state, torch.get_rng_state())


def test_the_global_generator_comes_back() -> None:
    state = torch.get_rng_state()
    with evaluating(nn.Identity()):
        torch.rand(5)
    assert torch.equal(state, torch.get_rng_state())


def test_functions_are_left_alone() -> None:
    with evaluating(lambda x: x):
        assert not torch.is_grad_enabled()


def test_device_of_weights_buffers_and_functions() -> None:
    cpu, meta = torch.device("cpu"), torch.device("meta")
    assert module_device(lambda x: x) == cpu
    assert module_device(nn.Identity()) == cpu
    assert module_device(nn.Linear(2, 2, device="meta")) == meta
    assert module_device(nn.BatchNorm1d(2, affine=False, device="meta")) == meta
