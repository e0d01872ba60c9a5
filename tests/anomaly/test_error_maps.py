from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pretextkit.anomaly._error_maps import Reduction
from pretextkit.errors import OptionError, ShapeError
from pretextkit.functional import TopFraction, reconstruction_anomaly_score


def reduced(images: Tensor, reduction: Reduction) -> Tensor:
    return reconstruction_anomaly_score(torch.zeros_like, images, error="l1", reduction=reduction).scores


def test_reductions_match_closed_forms() -> None:
    images = torch.zeros(2, 1, 20, 20)
    images[0, 0, :2, :2] = torch.tensor([[1.0, 0.8], [0.6, 0.4]])  # 1% of 400 pixels is 4
    images[1] = 0.3
    torch.testing.assert_close(reduced(images, "mean"), torch.tensor([2.8 / 400, 0.3]))
    torch.testing.assert_close(reduced(images, "max"), torch.tensor([1.0, 0.3]))
    torch.testing.assert_close(reduced(images, TopFraction()), torch.tensor([0.7, 0.3]))
    torch.testing.assert_close(reduced(images, TopFraction(0.02)), torch.tensor([0.35, 0.3]))
    torch.testing.assert_close(reduced(images, TopFraction(1)), reduced(images, "mean"))


def test_top_fraction_takes_at_least_one_pixel() -> None:
    images = torch.zeros(1, 1, 3, 3)
    images[0, 0, 1, 1] = 1.0
    assert reduced(images, TopFraction(0.01)).item() == 1.0


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_top_fraction_refuses_fractions_out_of_range(fraction: float) -> None:
    with pytest.raises(OptionError) as caught:
        TopFraction(fraction)
    assert caught.value.text == (
        f"Expected fraction to be a number in (0, 1], but got {fraction}. "
        "0.01 takes the highest hundredth of the pixels."
    )


def test_reduction_of_wrong_shape_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        reduced(torch.rand(3, 1, 4, 4), lambda maps: maps.mean(1))
    assert caught.value.text == (
        "Expected a reduction that gives 3 scores for 3 maps, but got shape (3, 4). "
        "Reduce the last two axes: maps.amax((1, 2))."
    )
