"""Two linear layers, as projection heads and small classifiers are."""

from __future__ import annotations

from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.contracts import Head
from pretextkit.errors import ShapeError
from pretextkit.registries import register_head

__all__ = ["MLPHead"]


@register_head("mlp")
class MLPHead(Head):
    """Features ``b d`` to ``b k``: linear, BatchNorm, ReLU, linear.

    The projection head of SimCLR (Chen et al. 2020, arXiv 2002.05709). BatchNorm in the hidden layer needs at least
    two rows in training.

    Args:
        in_dim: ``d``.
        out_dim: ``k``.
        hidden_dim: Width of the hidden layer; ``d`` by default.

    Raises:
        OptionError: A width is no whole number of at least 1.
        ShapeError: In training there is a single row, which BatchNorm cannot normalize.

    Example:
        >>> MLPHead(256, 128)(torch.rand(4, 256)).shape
        torch.Size([4, 128])
    """

    def __init__(self, in_dim: int, out_dim: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        fix = "For example MLPHead(backbone.feature_dim, 128)."
        in_dim, out_dim = check_int("in_dim", in_dim, fix=fix), check_int("out_dim", out_dim, fix=fix)
        hidden_dim = in_dim if hidden_dim is None else check_int("hidden_dim", hidden_dim, fix="None makes it in_dim.")
        self.layers = nn.Sequential(
            nn.Linear(in_dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, out_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        if self.training and len(features) < 2:
            raise ShapeError(
                "at least 2 rows, as the head has BatchNorm",
                got=len(features),
                fix="Raise the batch size, or call eval() first.",
            )
        logits: Tensor = self.layers(features)
        return logits
