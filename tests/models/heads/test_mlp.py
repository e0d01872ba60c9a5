from __future__ import annotations

import pytest
import torch
from torch import Generator

from pretextkit.errors import ShapeError
from pretextkit.models import MLPHead


def test_hidden_units_are_normalized_and_rectified() -> None:
    head = MLPHead(4, 3, hidden_dim=6)
    features = torch.randn(16, 4, generator=Generator().manual_seed(0))
    weights = {name: value.detach() for name, value in head.named_parameters()}
    assert sorted(value.shape for value in weights.values()) == [(3,), (3, 6), (6,), (6,), (6, 4)]
    hidden = features @ weights["layers.0.weight"].T
    normal = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
    expected = normal.clamp(min=0) @ weights["layers.3.weight"].T + weights["layers.3.bias"]
    torch.testing.assert_close(head(features), expected, atol=1e-5, rtol=1e-4)


def test_hidden_width_defaults_to_the_feature_width() -> None:
    assert MLPHead(5, 2).layers[0].out_features == 5
    assert MLPHead(5, 2, hidden_dim=7).layers[0].out_features == 7


@pytest.mark.parametrize("rows", [0, 1])
def test_single_row_is_refused_in_training_only(rows: int) -> None:
    head = MLPHead(5, 2)
    with pytest.raises(ShapeError) as caught:
        head(torch.zeros(rows, 5))
    assert caught.value.text == (
        f"Expected at least 2 rows, because the head uses BatchNorm, but got {rows}. "
        "Increase the batch size, or call eval() first."
    )
    assert head.eval()(torch.zeros(rows, 5)).shape == (rows, 2)
