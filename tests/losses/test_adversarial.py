from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from pretextkit.errors import DataError, ShapeError
from pretextkit.losses import discriminator_loss, generator_loss


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_adversarial_losses_match_a_loop_over_probabilities() -> None:
    real, fake = logits(2, 1, 3, 4), logits(2, 1, 3, 4, seed=1)
    of_real = [-math.log(sigmoid(value)) for value in real.flatten().tolist()]
    of_fake = [-math.log(1 - sigmoid(value)) for value in fake.flatten().tolist()]
    assert discriminator_loss(real, fake).item() == pytest.approx(sum(of_real) / 24 + sum(of_fake) / 24)
    passing = [-math.log(sigmoid(value)) for value in fake.flatten().tolist()]
    assert generator_loss(fake).item() == pytest.approx(sum(passing) / 24)


def test_discriminator_loss_of_sure_and_unsure_logits() -> None:
    sure, zero = torch.full((4,), 100.0), torch.zeros(4)
    assert discriminator_loss(sure, -sure).item() == pytest.approx(0, abs=1e-6)
    assert discriminator_loss(-sure, sure).item() == pytest.approx(200)
    assert discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))


def test_generator_gradient_survives_a_sure_discriminator() -> None:
    fake = torch.full((4,), -30.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_loss(fake), fake)
    assert gradient.tolist() == pytest.approx([-1 / 4] * 4)
    (saturated,) = torch.autograd.grad(-discriminator_loss(-fake.detach(), fake), fake)
    assert saturated.abs().max() < 1e-9


def test_half_precision_is_computed_in_fp32() -> None:
    fake = logits(50).half()
    assert generator_loss(fake).dtype == torch.float32
    assert generator_loss(fake).item() == pytest.approx(generator_loss(fake.double()).item(), rel=1e-5)


def test_invalid_logits_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        discriminator_loss(torch.zeros(2), torch.zeros(3))
    assert caught.value.text == (
        "Expected real and fake logits of the same shape, but got shapes (2,) and (3,). "
        "Pass real and fake images of the same shape to the discriminator."
    )
    with pytest.raises(ShapeError, match=r"^Expected at least one logit, but got shape \(0, 1\)\. Check the output"):
        generator_loss(torch.zeros(0, 1))
    with pytest.raises(DataError, match=r"^Expected logits of a floating-point dtype, but got torch.int64\. "):
        discriminator_loss(torch.zeros(2, dtype=torch.int64), torch.zeros(2))
