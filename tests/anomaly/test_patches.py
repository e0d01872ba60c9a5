from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretextkit.errors import OptionError, ShapeError
from pretextkit.functional import TopFraction, patch_anomaly_score
from pretextkit.testing import TinyBackbone
from tests.helpers import uniform


def patch_maps(model: Any, normal: Tensor, images: Tensor, **options: Any) -> Tensor:
    maps = patch_anomaly_score(model, normal, images, **options).maps
    assert maps is not None
    return maps


@pytest.mark.parametrize("k", [1, 3])
def test_maps_match_a_loop(k: int) -> None:
    normal, images = uniform(3, 3, 6, 8), uniform(2, 3, 6, 8, seed=1)

    def smooth(image: Tensor, y: int, x: int) -> Tensor:
        return image[:, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean((1, 2))

    reference = [smooth(image, y, x) for image in normal for y, x in np.ndindex(6, 8)]
    found = patch_maps(nn.Identity(), normal, images, k=k, memory_bank_size=10_000)
    for n, y, x in np.ndindex(2, 6, 8):
        nearest = sorted((smooth(images[n], y, x) - each).norm().item() for each in reference)[:k]
        assert found[n, y, x].item() == pytest.approx(sum(nearest) / k, rel=1e-3, abs=1e-3)


def test_maps_of_several_layers_have_the_size_of_the_image() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 2, 1))
    result = patch_anomaly_score(net, uniform(4, 3, 16, 20), uniform(2, 3, 16, 20, seed=1), layers=["0", "1"])
    assert result.maps is not None
    assert result.maps.shape == (2, 16, 20)
    torch.testing.assert_close(result.scores, result.maps.amax((1, 2)))


def test_defect_is_localized() -> None:
    normal = 0.5 + 0.1 * uniform(8, 3, 32, 32)
    images = 0.5 + 0.1 * uniform(3, 3, 32, 32, seed=1)
    images[1, :, 20:26, 4:10] = 0.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = TinyBackbone()
    result = patch_anomaly_score(backbone, normal, images, layers="all")
    assert result.scores.argmax() == 1
    assert result.maps is not None
    y, x = divmod(int(result.maps[1].argmax()), 32)
    assert 16 <= y <= 30
    assert 0 <= x <= 14


def test_memory_bank_is_bounded_and_drawn_from_the_seed() -> None:
    normal, images = uniform(4, 3, 8, 8), uniform(2, 3, 8, 8, seed=1)
    full = patch_maps(nn.Identity(), normal, images)
    few = [patch_maps(nn.Identity(), normal, images, memory_bank_size=8, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(few[0], few[1])
    assert not torch.equal(few[0], few[2])
    assert (few[0] >= full - 1e-6).all()  # a sample has no nearer neighbors
    state = torch.get_rng_state()
    patch_maps(nn.Identity(), normal, images, memory_bank_size=8)
    assert torch.equal(torch.get_rng_state(), state)


def test_maps_ignore_batch_size_and_state_is_restored() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    normal, images = uniform(5, 3, 8, 8), uniform(5, 3, 8, 8, seed=1)
    expected = patch_maps(net, normal, images, reduction=TopFraction(0.1))
    torch.testing.assert_close(patch_maps(net, normal, images, batch_size=2), expected, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize(("name", "default"), [("k", 1), ("memory_bank_size", 16384), ("batch_size", 64)])
def test_invalid_options_are_refused(name: str, default: int) -> None:
    with pytest.raises(OptionError) as caught:
        patch_anomaly_score(nn.Identity(), uniform(2, 3, 8, 8), uniform(2, 3, 8, 8), **{name: 0})  # type: ignore[arg-type]
    assert caught.value.text == (f"Expected {name} to be an integer >= 1, but got 0. The default is {default}.")


def test_unsuitable_maps_are_refused() -> None:
    with pytest.raises(ShapeError, match="Expected maps b d h w from layer 'last', but got shape"):
        patch_anomaly_score(nn.Flatten(), uniform(2, 3, 8, 8), uniform(2, 3, 8, 8))
    with pytest.raises(ShapeError) as caught:
        patch_anomaly_score(nn.Identity(), uniform(2, 3, 8, 8), uniform(2, 1, 8, 8))
    assert caught.value.text == (
        "Expected maps of 3 channels, as for normal images, but got 1. "
        "Let the backbone give maps b d h w with the same d for all images."
    )
