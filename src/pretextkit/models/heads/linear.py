"""One linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from pretextkit.contracts import Head
from pretextkit.registries import head

__all__ = ["LinearHead"]


@head("linear")
class LinearHead(Head):
    """Features ``b d`` to ``b k`` by one linear layer.

    Example:
        >>> LinearHead(256, 10)(torch.rand(4, 256)).shape
        torch.Size([4, 10])
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits
