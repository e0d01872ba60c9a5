from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pretextkit.errors import OptionError, ShapeError
from pretextkit.tasks import ProjectionHead, PrototypeHead


def test_projection_has_batch_norm_in_hidden_layers_only() -> None:
    kinds = [type(layer) for layer in ProjectionHead(8, 16, 16, 4).layers]
    assert kinds == 2 * [nn.Linear, nn.BatchNorm1d, nn.ReLU] + [nn.Linear]
    assert all(layer.bias is None for layer in ProjectionHead(8, 16, 4).layers if isinstance(layer, nn.Linear))


def test_projection_refuses_one_row_in_training() -> None:
    head = ProjectionHead(8, 16, 4)
    with pytest.raises(ShapeError, match=r"^Expected at least 2 rows, because the head uses BatchNorm, but got 1"):
        head(torch.ones(1, 8))
    assert head.eval()(torch.ones(1, 8)).shape == (1, 4)
    with pytest.raises(OptionError, match=r"^Expected width to be an integer >= 1, but got 0"):
        ProjectionHead(8, 0)


def test_prototype_scores_are_cosines() -> None:
    head, z = PrototypeHead(5, 7), torch.randn(4, 5)
    expected = F.cosine_similarity(z[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(z), expected)
    torch.testing.assert_close(head(1000 * z), expected)  # SwAV without normalization overflows


def test_prototype_scores_are_exact_under_autocast() -> None:
    head, z = PrototypeHead(5, 7), torch.randn(4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        scores = head(z)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, head(z))
