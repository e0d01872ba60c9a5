"""ViTTiny: a vision transformer for small images."""

from __future__ import annotations

import torch  # noqa: F401 - in the example
from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.contracts import TokenBackbone
from pretextkit.models._transformer import Block, initialize, sincos_positions
from pretextkit.registries import register_backbone

__all__ = ["ViTTiny"]

WIDTH, DEPTH, HEADS, STAGES = 192, 8, 3, 4


@register_backbone("vit-tiny")
class ViTTiny(TokenBackbone):
    """A vision transformer with 3.6 M parameters and 192 features, for images from 32 pixels on.

    It has the width and the heads of ViT-Ti (Touvron et al. 2021, arXiv 2012.12877), and eight blocks. Patches of 4
    pixels make 8x8 tokens of a 32x32 image. Positions are sines and cosines of the row and the column (Chen et al.
    2021, arXiv 2104.02057), so that images of any size and shape go in. There is no class token: the features are
    the average of the tokens. The stages are the tokens after every second block.

    Transformers need more images and epochs than convolutional networks of the same cost.

    Args:
        in_channels: Channels of the images. A network of 1 or 3 channels also takes images of the other kind.
        patch: Side of a patch in pixels.

    Raises:
        OptionError: ``patch`` is not an integer >= 1.

    Example:
        >>> backbone = ViTTiny()
        >>> [tuple(stage.shape[1:]) for stage in backbone.stages(torch.rand(2, 3, 32, 32))]
        [(192, 8, 8), (192, 8, 8), (192, 8, 8), (192, 8, 8)]
        >>> tokens = backbone.tokens(torch.rand(2, 3, 32, 32))
        >>> tokens.shape, backbone.encode(tokens[:, ::4]).shape
        (torch.Size([2, 64, 192]), torch.Size([2, 16, 192]))
    """

    feature_dim = WIDTH

    def __init__(self, *, in_channels: int = 3, patch: int = 4) -> None:
        super().__init__(in_channels=in_channels)
        self.patch = check_int("patch", patch, of=type(self))
        self.embedding = nn.Conv2d(in_channels, WIDTH, self.patch, self.patch)
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        initialize(self)
        nn.init.xavier_uniform_(self.embedding.weight.data.flatten(1))

    def tokens(self, images: Tensor) -> Tensor:
        images = self.normalization(images)
        rows, columns = self.grid(images)
        bottom, right = rows * self.patch - images.shape[2], columns * self.patch - images.shape[3]
        tokens: Tensor = self.embedding(nn.functional.pad(images, (0, right, 0, bottom))).flatten(2).transpose(1, 2)
        return tokens + sincos_positions(rows, columns, WIDTH, tokens)

    def encode_stages(self, tokens: Tensor) -> tuple[Tensor, ...]:
        stages = []
        for number, block in enumerate(self.blocks, 1):
            tokens = block(tokens)
            if number % (DEPTH // STAGES) == 0:
                stages.append(tokens)
        return (*stages[:-1], self.norm(tokens))
