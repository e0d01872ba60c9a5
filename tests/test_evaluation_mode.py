from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device


class Counting(nn.Module):
    """A layer that changes and replaces its buffers, also in evaluation mode."""

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


def test_modes_and_buffers_are_restored_in_place() -> None:
    counting = Counting()
    model = nn.Sequential(counting, nn.Dropout().eval())
    buffers = dict(model.named_buffers())
    with evaluation_mode(model):
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


def test_state_is_restored_after_an_error() -> None:
    model, state = Counting(), torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), evaluation_mode(model):  # noqa: PT012
        model(torch.rand(4, 2))
        raise ZeroDivisionError
    assert model.training
    assert model.calls == 0
    assert torch.is_grad_enabled()
    assert torch.equal(state, torch.get_rng_state())


def test_global_generator_is_restored() -> None:
    state = torch.get_rng_state()
    with evaluation_mode(nn.Identity()):
        torch.rand(5)
    assert torch.equal(state, torch.get_rng_state())


class Holder:
    """A plain class that calls its module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Any:
        return self.module(x)

    def method(self, x: Tensor) -> Any:
        return self.module(x)


class Heir(Holder):
    """A class that inherits its call."""


GLOBAL = nn.Sequential(Counting(), nn.Dropout())


def through_a_global(x: Tensor) -> Any:
    return GLOBAL(x)


def with_defaults(x: Tensor, one: Any = GLOBAL, *, other: Any = GLOBAL) -> Any:
    return other(one(x))


def callables(model: nn.Module) -> dict[str, Callable[[Tensor], Any]]:
    """Callables that lead to a model."""

    def inner(x: Tensor) -> Any:
        return model(x)

    return {
        "lambda": lambda x: model(x),
        "nested": lambda x: inner(x) + 1,
        "method": Holder(model).method,
        "forward": model.forward,
        "object": Holder(model),
        "heir": Heir(model),
        "partial": functools.partial(lambda m, x: m(x), model),
        "partial of keywords": functools.partial(lambda x, m: m(x), m=model),
        "partial of an object": functools.partial(Holder(model)),
        "global": through_a_global,
        "global of a global": lambda x: through_a_global(x),
        "defaults": with_defaults,
    }


@pytest.mark.parametrize("kind", callables(GLOBAL))
def test_modules_inside_a_callable_evaluate_and_are_restored(kind: str) -> None:
    function = callables(GLOBAL)[kind]
    buffers = dict(GLOBAL.named_buffers())
    values = {name: buffer.clone() for name, buffer in buffers.items()}
    with evaluation_mode(function):
        one = function(torch.ones(4, 2))
        assert not any(module.training for module in GLOBAL.modules())
        assert torch.equal(one, function(torch.ones(4, 2)))
    assert all(module.training for module in GLOBAL.modules())
    assert all(buffer is buffers[name] for name, buffer in GLOBAL.named_buffers())
    assert all(torch.equal(buffer, values[name]) for name, buffer in GLOBAL.named_buffers())


def test_hidden_modules_are_found_when_called() -> None:
    hidden = [Counting(), nn.Sequential(Counting(), Counting().eval())]
    modes = [module.training for model in hidden for module in model.modules()]
    with pytest.raises(ZeroDivisionError), evaluation_mode(lambda x: hidden[1](hidden[0](x))):  # noqa: PT012
        for model in hidden:
            model(torch.rand(4, 2))
            assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert [module.training for model in hidden for module in model.modules()] == modes
    for model in hidden:
        assert not any(b.any() for name, b in model.named_buffers() if name.endswith(("calls", "last", "mean")))


def test_modules_called_afterwards_keep_their_mode() -> None:
    with evaluation_mode(lambda x: x):
        assert not torch.is_grad_enabled()
    model = Counting()
    model(torch.rand(4, 2))
    assert model.training
    assert model.calls == 1


def test_module_device_of_weights_buffers_and_functions() -> None:
    cpu, meta = torch.device("cpu"), torch.device("meta")
    assert module_device(lambda x: x) == cpu
    assert module_device(nn.Identity()) == cpu
    assert module_device(nn.Linear(2, 2, device="meta")) == meta
    assert module_device(nn.BatchNorm1d(2, affine=False, device="meta")) == meta


@pytest.mark.parametrize("kind", ["lambda", "nested", "method", "forward", "object", "heir", "partial"])
def test_module_device_of_callables(kind: str) -> None:
    function = callables(nn.Linear(2, 2, device="meta"))[kind]
    assert module_device(function) == torch.device("meta")


def test_module_device_handles_empty_cells_and_cycles() -> None:
    def unborn(x: Tensor) -> Any:
        return later(unborn(x), model)

    model = nn.Linear(2, 2, device="meta")
    assert module_device(unborn) == torch.device("meta")
    later: Any = None
