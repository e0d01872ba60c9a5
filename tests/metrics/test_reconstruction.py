from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from pretextkit.losses import psnr


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=Generator().manual_seed(seed))


@pytest.mark.parametrize("mse", [1.0, 0.25, 1e-3])
def test_psnr_equals_its_definition_in_decibels(mse: float) -> None:
    assert psnr(torch.tensor(mse)).item() == pytest.approx(10 * math.log10(1 / mse), abs=1e-4)


def test_psnr_of_zero_error_is_100_without_gradient() -> None:
    zero = torch.zeros((), requires_grad=True)
    assert psnr(zero) == 100
    assert not psnr(zero).requires_grad


def test_psnr_agrees_with_torchmetrics() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    one, other = draw(2, 3, 8, 8), draw(2, 3, 8, 8, seed=1)
    mse = (one - other).square().mean()
    torch.testing.assert_close(psnr(mse), peak_signal_noise_ratio(one, other, data_range=1.0))
