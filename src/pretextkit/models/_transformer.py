"""Parts of transformers: a block, and positions of patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Block", "initialize", "sincos_positions"]


class Block(nn.Module):
    """Self-attention and a perceptron, each after a norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.perceptron(self.norm2(tokens))  # type: ignore[no-any-return]

    def attention(self, tokens: Tensor) -> Tensor:
        """Mix tokens ``b n d`` by their similarity."""
        queries, keys, values = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)  # b heads n d/heads
        return self.projection(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def sincos_positions(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """Describe the positions of a grid, row by row, by sines and cosines of rows and columns.

    Returns:
        ``n d`` with n = ``rows * columns`` and d = ``width``, on the device and in the dtype of ``like``.

    Example:
        >>> sincos_positions(2, 2, 4, torch.zeros(1))[0]  # row 0, column 0
        tensor([0., 1., 0., 1.])
    """
    frequencies = 10_000 ** -(torch.arange(width // 4, device=like.device) / (width // 4))
    row, column = (torch.arange(count, device=like.device)[:, None] * frequencies for count in (rows, columns))
    row, column = torch.cat([row.sin(), row.cos()], 1), torch.cat([column.sin(), column.cos()], 1)
    grid = torch.cat([row[:, None].expand(-1, columns, -1), column[None].expand(rows, -1, -1)], 2)
    return grid.flatten(0, 1).to(like.dtype)


def initialize(network: nn.Module) -> None:
    """Draw the weights of linear layers as MAE does (He et al. 2022, arXiv 2111.06377); biases become 0.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> initialize(layer)
        >>> layer.bias.any()
        tensor(False)
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
