from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pretextkit.errors import UnknownNameError
from pretextkit.models import ResNet18
from pretextkit.training import LARS, build_optimizer, parameter_groups, warmup_cosine
from pretextkit.training._optim import default_learning_rate


def lars_by_the_book(
    weights: list[list[float]],
    gradients: list[list[list[float]]],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    coefficient: float,
    trust: bool,
) -> list[list[float]]:
    """LARS, number by number; ``gradients`` are indexed by step, tensor and entry."""
    weights = [list(weight) for weight in weights]
    velocities = [[0.0] * len(weight) for weight in weights]
    for step in gradients:
        for weight, velocity, gradient in zip(weights, velocities, step, strict=True):
            direction = [g + weight_decay * w for g, w in zip(gradient, weight, strict=True)]
            ratio = 1.0
            if trust:
                length = math.sqrt(sum(d * d for d in direction))
                size = math.sqrt(sum(w * w for w in weight))
                if length > 0 and size > 0:
                    ratio = coefficient * size / length
            for i, d in enumerate(direction):
                velocity[i] = momentum * velocity[i] + ratio * d
                weight[i] -= lr * velocity[i]
    return weights


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lars_matches_naive_steps(trust: bool, weight_decay: float, momentum: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    start[2] = 0  # a layer of zeros still has to leave zero
    gradients = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    gradients[1, 0] = 0  # a layer without gradient must not divide by zero
    options = {"lr": 0.3, "momentum": momentum, "weight_decay": weight_decay, "coefficient": 0.02}
    weights = [nn.Parameter(row.clone()) for row in start]
    optimizer = LARS([{"params": weights, "trust": trust}], **options)
    for step in gradients:
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
    expected = lars_by_the_book(start.tolist(), gradients.tolist(), trust=trust, **options)
    torch.testing.assert_close(torch.stack([w.data for w in weights]), torch.tensor(expected, dtype=torch.float64))


def test_lars_without_trust_matches_torch_sgd() -> None:
    start = torch.randn(6, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    pair: list[tuple[Tensor, torch.optim.Optimizer]] = [
        (ours, LARS([{"params": [ours], "trust": False}], 0.1, momentum=0.9, weight_decay=0.01)),
        (theirs, torch.optim.SGD([theirs], 0.1, momentum=0.9, weight_decay=0.01)),
    ]
    for _ in range(4):
        for weight, optimizer in pair:
            optimizer.zero_grad()
            weight.square().sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_lars_groups_keep_their_options() -> None:
    fast, slow = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = LARS([{"params": [fast]}, {"params": [slow], "lr": 0.0}], 1.0, coefficient=0.1)
    for weight in (fast, slow):
        weight.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    assert torch.equal(slow.data, torch.ones(2))
    torch.testing.assert_close(fast.data, 1 - 0.1 * math.sqrt(2) * torch.tensor([0.6, 0.8]))


def test_lars_steps_are_invariant_to_gradient_scale() -> None:
    moved = []
    for scale in (1e-3, 1e3):
        weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        weight.grad = scale * torch.tensor([1.0, -1.0])
        LARS([weight], 1.0).step()
        moved.append(weight.data)
    torch.testing.assert_close(*moved)


def test_lars_skips_missing_gradients_and_calls_closure() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = LARS([used, unused], 0.1, weight_decay=0.5)

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        loss = used.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    assert optimizer.step(closure).item() == 2
    assert torch.equal(unused.data, torch.ones(2))
    assert not torch.equal(used.data, torch.ones(2))


def test_lars_resumes_from_its_state_dict() -> None:
    def steps(optimizer: torch.optim.Optimizer, weight: Tensor, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            weight.square().sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    full = nn.Parameter(torch.ones(3))
    steps(LARS([full], 1.0), full, 6)
    stopped = nn.Parameter(torch.ones(3))
    first = LARS([stopped], 1.0)
    steps(first, stopped, 3)
    second = LARS([stopped], 1.0)
    second.load_state_dict(first.state_dict())
    steps(second, stopped, 3)
    assert torch.equal(full, stopped)


def names_in(module: nn.Module, group: dict[str, Any]) -> set[str]:
    ids = {id(weight) for weight in group["params"]}
    return {name for name, weight in module.named_parameters() if id(weight) in ids}


def test_resnet_groups_exclude_batchnorm_and_biases_from_decay() -> None:
    module = nn.Sequential(ResNet18(), nn.Linear(512, 4))
    decayed, rest = parameter_groups(module)
    expected = set()
    for prefix, layer in module.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            expected |= {f"{prefix}.weight", f"{prefix}.bias"}
    assert names_in(module, rest) == expected | {"1.bias"}
    assert names_in(module, decayed) | names_in(module, rest) == {name for name, _ in module.named_parameters()}
    assert not names_in(module, decayed) & names_in(module, rest)
    assert (rest["weight_decay"], rest["trust"]) == (0.0, False)
    assert set(decayed) == {"params"}


def test_parameter_groups_exclude_frozen_weights() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).requires_grad_(False)
    assert parameter_groups(module) == []
    module[1].bias.requires_grad_(True)
    assert [names_in(module, group) for group in parameter_groups(module)] == [{"1.bias"}]


@pytest.mark.parametrize(
    ("name", "kind", "decay"),
    [("adamw", torch.optim.AdamW, 0.05), ("sgd", torch.optim.SGD, 5e-4), ("lars", LARS, 1e-6)],
)
def test_build_optimizer_builds_by_name(name: Any, kind: type[torch.optim.Optimizer], decay: float) -> None:
    module = nn.Linear(2, 2)
    optimizer = build_optimizer(name, parameter_groups(module), 0.5)
    assert type(optimizer) is kind
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [decay, 0.0]
    if name != "adamw":
        assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
    own = build_optimizer(name, parameter_groups(module), 0.5, 0.0)
    assert [group["weight_decay"] for group in own.param_groups] == [0.0, 0.0]
    if name == "lars":
        assert [group["trust"] for group in optimizer.param_groups] == [True, False]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_every_optimizer_reduces_the_loss(name: Any) -> None:
    module = nn.Linear(2, 2)
    optimizer = build_optimizer(name, parameter_groups(module), 1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = module(torch.ones(1, 2)).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("call", [lambda: build_optimizer("adam", [], 0.1), lambda: default_learning_rate("adam", 1)])  # type: ignore[arg-type]
def test_unknown_optimizer_error_suggests_a_name(call: Any) -> None:
    with pytest.raises(UnknownNameError) as caught:
        call()
    assert caught.value.text == (
        "Expected the name of an optimizer, but got 'adam'. Did you mean 'adamw'? Known: adamw, sgd, lars."
    )


@given(st.integers(1, 500), st.data())
def test_warmup_cosine_rises_to_one_and_falls_to_zero(steps: int, data: Any) -> None:
    warmup = data.draw(st.integers(0, steps))
    factors = [warmup_cosine(step, steps, warmup) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(set(factors[:warmup]))
    assert factors[warmup:] == sorted(set(factors[warmup:]), reverse=True)
    if warmup:
        assert factors[0] == 1 / warmup
        assert factors[warmup - 1] == 1
    if warmup < steps:
        assert factors[warmup] == 1
    assert sum(factors[warmup:]) == pytest.approx((steps - warmup + 1) / 2 if warmup < steps else 0)
