from __future__ import annotations

import torch

from pretextkit.models import LinearHead


def test_linear_head_is_one_affine_map() -> None:
    head = LinearHead(3, 2)
    features = torch.arange(12.0).view(4, 3)
    weight, bias = head.linear.weight.tolist(), head.linear.bias.tolist()
    expected = [
        [sum(w * x for w, x in zip(line, row, strict=True)) + b for line, b in zip(weight, bias, strict=True)]
        for row in features.tolist()
    ]
    torch.testing.assert_close(head(features), torch.tensor(expected))
    assert sum(parameter.numel() for parameter in head.parameters()) == 3 * 2 + 2
