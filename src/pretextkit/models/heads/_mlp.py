"""MLPHead: two linear layers, for projections and small classifiers."""

from __future__ import annotations

import torch  # noqa: F401 - in the example
from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.contracts import Head
from pretextkit.errors import ShapeError
from pretextkit.registries import register_head

__all__ = ["MLPHead", "require_two_rows"]


@register_head("mlp")
class MLPHead(Head):
    """A multilayer perceptron from features ``b d`` to ``b k``: linear, BatchNorm, ReLU, linear.

    The projection head of SimCLR (Chen et al. 2020, arXiv 2002.05709). BatchNorm in the hidden layer requires at least
    two rows in training.

    Args:
        in_dim: ``d``, width of the features.
        out_dim: ``k``, width of the output.
        hidden_dim: Width of the hidden layer; None uses ``d``.

    Raises:
        OptionError: A width is not an integer >= 1.
        ShapeError: There are fewer than 2 rows in training.

    Example:
        >>> MLPHead(256, 128)(torch.rand(4, 256)).shape
        torch.Size([4, 128])
    """

    def __init__(self, in_dim: int, out_dim: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        fix = "For example MLPHead(backbone.feature_dim, 128)."
        in_dim, out_dim = check_int("in_dim", in_dim, fix=fix), check_int("out_dim", out_dim, fix=fix)
        hidden_dim = in_dim if hidden_dim is None else check_int("hidden_dim", hidden_dim, fix="None uses in_dim.")
        self.layers = nn.Sequential(
            nn.Linear(in_dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, out_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        require_two_rows(self, features)
        logits: Tensor = self.layers(features)
        return logits


def require_two_rows(head: nn.Module, features: Tensor) -> None:
    """Refuse a single row in training, because BatchNorm then divides by a variance of 0.

    Raises:
        ShapeError: There are fewer than 2 rows in training.

    Example:
        >>> require_two_rows(nn.Identity().eval(), torch.ones(1, 4))
    """
    if head.training and len(features) < 2:
        raise ShapeError(
            "at least 2 rows, because the head uses BatchNorm",
            got=len(features),
            fix="Increase the batch size, or call eval() first.",
        )
