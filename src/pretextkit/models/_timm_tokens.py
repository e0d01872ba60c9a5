"""timm's vision transformers as backbones that compute on tokens."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit._modules import module_device, module_dtype
from pretextkit.contracts import TokenBackbone
from pretextkit.errors import OptionError, ShapeError

__all__ = ["TimmTokens", "is_token_network"]

STAGES = 4


def is_token_network(network: nn.Module) -> bool:
    """Return whether a network is a ``VisionTransformer`` of timm, without importing timm."""
    module = sys.modules.get("timm.models.vision_transformer")
    return module is not None and type(network) is module.VisionTransformer


class TimmTokens(TokenBackbone):
    """timm's ``VisionTransformer`` as a backbone, which :func:`wrap` makes.

    Class and register tokens stay in the network; the features are the average of the tokens of patches.

    Example:
        >>> import timm  # doctest: +SKIP
        >>> wrap(timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4))  # doctest: +SKIP
    """

    def __init__(self, network: Any) -> None:
        patch = network.patch_embed.patch_size
        if patch[0] != patch[1]:
            raise OptionError(
                "a VisionTransformer with square patches",
                got=f"patches of {patch[0]}x{patch[1]} pixels",
                fix="Create it with one number, such as patch_size=16.",
            )
        super().__init__(in_channels=network.patch_embed.proj.in_channels)
        self.normalization.to(module_device(network), module_dtype(network))
        self.network = network
        self.feature_dim = network.embed_dim
        self.patch = patch[0]
        self.prefix: int = network.num_prefix_tokens
        pooled_norm = network.fc_norm
        if isinstance(network.norm, nn.Identity):  # with average pooling, timm norms the average
            network.norm = pooled_norm
        network.fc_norm, network.head, network.attn_pool = nn.Identity(), nn.Identity(), None
        self.any_size = network.dynamic_img_size
        self.pads = network.patch_embed.dynamic_img_pad
        count, depth = min(STAGES, len(network.blocks)), len(network.blocks)
        self.ends = tuple((number + 1) * depth // count for number in range(count))
        if not self.any_size:
            self.smallest_image = min(network.patch_embed.img_size)
        elif not self.pads:
            self.smallest_image = self.patch

    def tokens(self, images: Tensor) -> Tensor:
        images = self.normalization(images)
        self.check_size(*images.shape[2:])
        embedded: Tensor = self.network.norm_pre(self.embed(images))
        return embedded[:, self.prefix :]

    def embed(self, images: Tensor) -> Tensor:
        """Map normalized images to prefix tokens and patches, with their positions."""
        embedded: Tensor = self.network._pos_embed(self.network.patch_embed(images))
        return embedded

    def prefix_tokens(self, tokens: Tensor) -> Tensor:
        """Return the class and register tokens with their positions, which depend on no image."""
        size = (self.patch, self.patch) if self.any_size else self.network.patch_embed.img_size
        image = tokens.new_zeros(1, self.normalization.channels, *size)
        embedded: Tensor = self.network.norm_pre(self.embed(image))
        return embedded[:, : self.prefix].expand(len(tokens), -1, -1)

    def encode_stages(self, tokens: Tensor) -> tuple[Tensor, ...]:
        if self.prefix:
            tokens = torch.cat([self.prefix_tokens(tokens), tokens], 1)
        stages = []
        for number, block in enumerate(self.network.blocks, 1):
            tokens = block(tokens)
            if number in self.ends:
                stages.append(tokens)
        stages[-1] = self.network.norm(tokens)
        return tuple(stage[:, self.prefix :] for stage in stages)

    def check_size(self, height: int, width: int) -> None:
        """Refuse images that the network does not take, with the size that it takes."""
        only = None if self.any_size else tuple(self.network.patch_embed.img_size)
        fix = "Create it by timm.create_model(..., dynamic_img_size=True, dynamic_img_pad=True) for images of any size."
        if only is not None and (height, width) != only:
            wanted = f"images of {only[0]}x{only[1]} pixels, the only size that this VisionTransformer takes"
        elif self.any_size and not self.pads and (height % self.patch or width % self.patch):
            wanted = f"images whose sides are multiples of {self.patch} pixels, the patch of this VisionTransformer"
        else:
            return
        raise ShapeError(wanted, got=f"{height}x{width}", fix=fix)

    def __repr__(self) -> str:
        return f"TimmTokens(patch={self.patch}, {len(self.network.blocks)} blocks; {self.feature_dim} features)"
