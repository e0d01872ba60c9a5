from __future__ import annotations

import math

import pytest
import torch

import pretextkit as pk
from pretextkit.models import ViTTiny
from pretextkit.models._transformer import sincos_positions
from tests.helpers import random_images


def test_vit_tiny_has_between_3_and_5_million_parameters() -> None:
    assert 3e6 < sum(parameter.numel() for parameter in ViTTiny().parameters()) < 5e6


def test_encoding_of_all_tokens_is_the_feature_map() -> None:
    backbone = ViTTiny().eval()
    images = random_images(2, size=(33, 40))
    with torch.no_grad():
        tokens = backbone.encode(backbone.tokens(images))
        assert backbone.grid(images) == (9, 10)
        assert torch.equal(backbone.feature_map(images)[:, :, 3, 7], tokens[:, 3 * 10 + 7])
        assert torch.equal(backbone(images), backbone.feature_map(images).mean((2, 3)))


def test_encoding_ignores_the_order_of_tokens() -> None:
    """Positions are in the tokens, so a permutation of the tokens permutes the result."""
    backbone = ViTTiny().eval()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = backbone.tokens(random_images(2, size=(32, 32)))
        torch.testing.assert_close(
            backbone.encode(tokens[:, order]), backbone.encode(tokens)[:, order], atol=1e-4, rtol=0
        )


def test_hidden_pixels_change_no_token_of_another_patch() -> None:
    backbone, images = ViTTiny().eval(), random_images(2, size=(32, 32))
    changed = images.clone()
    changed[:, :, 4:8, 8:12] = 0
    with torch.no_grad():
        differs = (backbone.tokens(images) != backbone.tokens(changed)).any(2).any(0)
    assert differs.nonzero().flatten().tolist() == [1 * 8 + 2]


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (1, 1)])
def test_positions_match_loops(rows: int, columns: int) -> None:
    positions = sincos_positions(rows, columns, 8, torch.zeros(1))
    for row in range(rows):
        for column in range(columns):
            expected = []
            for place in (row, column):
                angles = [place * 10_000 ** -(k / 2) for k in range(2)]
                expected += [*map(math.sin, angles), *map(math.cos, angles)]
            torch.testing.assert_close(positions[row * columns + column], torch.tensor(expected))


def test_patch_is_checked() -> None:
    with pytest.raises(pk.PretextkitError, match="patch to be an integer >= 1"):
        ViTTiny(patch=0)
