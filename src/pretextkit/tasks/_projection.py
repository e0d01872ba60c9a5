"""Projection heads of joint embedding."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.contracts import Head
from pretextkit.models.heads._mlp import require_two_rows

__all__ = ["ProjectionHead", "PrototypeHead", "check_widths", "normed_projection"]


class ProjectionHead(Head):
    """A multilayer perceptron with BatchNorm and ReLU in every hidden layer, and a plain linear layer at the end.

    The expander of Barlow Twins and VICReg. No layer has a bias, because their losses ignore or remove a constant: the
    gradient of a bias would be rounding only. This is the difference from :class:`~pretextkit.models.MLPHead`.

    Args:
        in_dim: Width of the features.
        widths: Widths of the layers, hidden ones first.

    Raises:
        OptionError: A width is not an integer >= 1.
        ShapeError: There are fewer than 2 rows in training.

    Example:
        >>> ProjectionHead(64, 512, 512, 128)(torch.rand(4, 64)).shape
        torch.Size([4, 128])
    """

    def __init__(self, in_dim: int, *widths: int) -> None:
        super().__init__()
        sizes = [
            check_int("width", width, fix="For example ProjectionHead(64, 512, 128).") for width in (in_dim, *widths)
        ]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-2])

    def forward(self, features: Tensor) -> Tensor:
        require_two_rows(self, features)
        projections: Tensor = self.layers(features)
        return projections


def normed_projection(in_dim: int, *widths: int) -> nn.Sequential:
    """Build a projection head that ends in BatchNorm, as in SimSiam, MoCo v3 and NNCLR.

    Example:
        >>> normed_projection(64, 512, 128)(torch.rand(4, 64)).mean(0).abs().max() < 1e-5
        tensor(True)
    """
    return nn.Sequential(ProjectionHead(in_dim, *widths), nn.BatchNorm1d(widths[-1], affine=False))


def check_widths(of: type, **widths: int) -> tuple[int, ...]:
    """Check options of a task that are widths of its heads.

    Raises:
        OptionError: A width is not an integer >= 1.

    Example:
        >>> check_widths(ProjectionHead, hidden_dim=512, projection_dim=128)
        (512, 128)
    """
    return tuple(check_int(name, width, of=of) for name, width in widths.items())


class PrototypeHead(Head):
    """Cosines of embeddings with learned prototypes: the last layer of SwAV and DINO.

    Embeddings and prototypes are normalized inside, in fp32 even under autocast: without this, scores grow until
    SwAV's exponentials overflow.

    Args:
        in_dim: Width of the embeddings.
        prototypes: Number of prototypes.

    Raises:
        OptionError: A number is not an integer >= 1.

    Example:
        >>> PrototypeHead(8, 100)(1000 * torch.rand(4, 8)).abs().max() <= 1
        tensor(True)
    """

    def __init__(self, in_dim: int, prototypes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(check_int("prototypes", prototypes), check_int("in_dim", in_dim)))

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            wide = features if features.dtype == torch.float64 else features.float()
            return nn.functional.normalize(wide) @ nn.functional.normalize(self.weight.to(wide.dtype)).T
