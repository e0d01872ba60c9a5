from __future__ import annotations

import pytest
import torch

from pretextkit.errors import DataError, ShapeError
from pretextkit.losses import masked_mse, weighted_mse
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


def test_masked_error_equals_a_loop() -> None:
    predictions, targets = uniform(2, 4, 3), uniform(2, 4, 3, seed=1)
    mask = uniform(2, 4, seed=2) < 0.5
    errors = [
        sum((float(predictions[b, n, d]) - float(targets[b, n, d])) ** 2 for d in range(3)) / 3
        for b in range(2)
        for n in range(4)
        if mask[b, n]
    ]
    assert 0 < len(errors) < 8
    assert masked_mse(predictions, targets, mask).item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_visible_patches_get_no_gradient() -> None:
    predictions = torch.ones(1, 3, 2, requires_grad=True)
    mask = torch.tensor([[True, False, True]])
    (gradient,) = torch.autograd.grad(masked_mse(predictions, torch.zeros(1, 3, 2), mask), predictions)
    torch.testing.assert_close(gradient[0], torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.5, 0.5]]))


def test_masked_error_without_a_masked_patch_is_zero() -> None:
    assert masked_mse(uniform(1, 2, 3), uniform(1, 2, 3, seed=1), torch.zeros(1, 2, dtype=torch.bool)) == 0


def test_masked_error_refuses_other_masks() -> None:
    with pytest.raises(ShapeError, match=r"^Expected predictions and targets b n d, and a mask b n, but got"):
        masked_mse(uniform(1, 2, 3), uniform(1, 2, 3), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(DataError, match=r"^Expected a bool mask, but got torch.float32\. Mark masked patches"):
        masked_mse(uniform(1, 2, 3), uniform(1, 2, 3), torch.ones(1, 2))


def test_masked_error_is_computed_in_float32() -> None:
    predictions, mask = torch.full((64, 64, 192), 0.7, dtype=torch.float16), torch.ones(64, 64, dtype=torch.bool)
    loss = masked_mse(predictions, torch.zeros_like(predictions), mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(predictions[0, 0, 0].item() ** 2)
