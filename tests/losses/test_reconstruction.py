from __future__ import annotations

import pytest
import torch

from pretextkit.losses import weighted_mse
from tests.helpers import uniform


def test_weighted_error_equals_a_loop() -> None:
    predictions, targets, weights = uniform(2, 3, 4, 5), uniform(2, 3, 4, 5, seed=1), uniform(2, 1, 4, 5, seed=2)
    total = weight_sum = 0.0
    for b in range(2):
        for row in range(4):
            for column in range(5):
                weight = float(weights[b, 0, row, column])
                error = sum(float(predictions[b, c, row, column] - targets[b, c, row, column]) ** 2 for c in range(3))
                total += weight * error / 3
                weight_sum += weight
    assert weighted_mse(predictions, targets, weights).item() == pytest.approx(total / weight_sum, rel=1e-5)


def test_equal_weights_give_the_mean_squared_error() -> None:
    predictions, targets = uniform(2, 3, 4, 5), uniform(2, 3, 4, 5, seed=1)
    expected = (predictions - targets).square().mean()
    for weights in (torch.ones(2, 1, 4, 5), torch.full((2, 1, 4, 5), 7.0), torch.ones(2, 1, 4, 5, dtype=torch.bool)):
        torch.testing.assert_close(weighted_mse(predictions, targets, weights), expected)


def test_gradients_are_proportional_to_weights() -> None:
    predictions = torch.ones(1, 2, 1, 3, requires_grad=True)
    loss = weighted_mse(predictions, torch.zeros(1, 2, 1, 3), torch.tensor([[[[0.0, 1.0, 10.0]]]]))
    (gradient,) = torch.autograd.grad(loss, predictions)
    torch.testing.assert_close(gradient[0, :, 0], torch.tensor([[0.0, 1.0, 10.0]] * 2) / 11)


def test_zero_weights_give_zero_error() -> None:
    assert weighted_mse(uniform(1, 1, 2, 2), uniform(1, 1, 2, 2, seed=1), torch.zeros(1, 1, 2, 2)) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    predictions, targets = torch.full((64, 3, 64, 64), 0.7, dtype=dtype), torch.zeros(64, 3, 64, 64, dtype=dtype)
    loss = weighted_mse(predictions, targets, torch.ones(64, 1, 64, 64, dtype=dtype))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(predictions[0, 0, 0, 0].item() ** 2)
