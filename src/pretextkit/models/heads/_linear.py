"""LinearHead: one linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.contracts import Head
from pretextkit.registries import register_head

__all__ = ["LinearHead"]


@register_head("linear")
class LinearHead(Head):
    """A linear layer from features ``b d`` to ``b k``.

    Args:
        in_dim: ``d``, width of the features.
        out_dim: ``k``, width of the output.

    Raises:
        OptionError: A width is not an integer >= 1.

    Example:
        >>> LinearHead(256, 10)(torch.rand(4, 256)).shape
        torch.Size([4, 10])
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        fix = "For example LinearHead(backbone.feature_dim, 10)."
        self.linear = nn.Linear(check_int("in_dim", in_dim, fix=fix), check_int("out_dim", out_dim, fix=fix))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits
