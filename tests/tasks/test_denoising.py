from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from pretextkit.batches import Masked
from pretextkit.errors import OptionError
from pretextkit.tasks import Denoising, GaussianNoise, HiddenPatches
from pretextkit.tasks._denoising import Corruption
from pretextkit.testing import TinyBackbone, toy_images


def some(n: int = 4, channels: int = 3, seed: int = 0) -> Tensor:
    return toy_images(n, channels=channels, generator=Generator().manual_seed(seed))


def views(images: Tensor, corruption: Corruption, seed: int = 0) -> Masked:
    return Denoising(TinyBackbone(), augmentation=None, corruption=corruption).views(
        images, Generator().manual_seed(seed)
    )


@pytest.mark.parametrize(
    "corruption",
    [HiddenPatches(), HiddenPatches(fraction=0.2, patch=1), GaussianNoise(), GaussianNoise(std=0.05)],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_target_is_the_image_and_visible_pixels_are_kept(corruption: Corruption, channels: int) -> None:
    images = some(channels=channels)
    batch = views(images, corruption)
    assert torch.equal(batch.target, images)
    assert torch.equal(batch.visible.masked_fill(batch.mask, 0), images.masked_fill(batch.mask, 0))
    assert (batch.visible != images)[batch.mask.expand_as(images)].float().mean() > 0.5


@pytest.mark.parametrize(("fraction", "patch"), [(0.5, 4), (0.25, 8), (0.1, 1)])
def test_hidden_patches_cover_the_given_fraction(fraction: float, patch: int) -> None:
    shares = views(some(8), HiddenPatches(fraction, patch)).mask.float().mean((1, 2, 3))
    assert shares.sub(fraction).abs().max() < 0.01


def test_hidden_pixels_do_not_affect_predictions() -> None:
    task = Denoising(TinyBackbone(), augmentation=None).eval()
    images = some()
    batch = task.views(images, Generator().manual_seed(0))
    other = torch.where(batch.mask, 1 - images, images)
    twin = task.views(other, Generator().manual_seed(0))
    assert torch.equal(twin.visible, batch.visible)
    assert torch.equal(task.reconstruct(twin.visible), task.reconstruct(batch.visible))
    assert not torch.equal(twin.target, batch.target)


def test_noise_has_the_given_deviation_in_every_channel() -> None:
    noise = views(torch.full((6, 3, 64, 64), 0.5), GaussianNoise(std=0.1)).visible - 0.5
    assert (noise.std((2, 3)) - 0.1).abs().max() < 0.01
    assert noise.mean((2, 3)).abs().max() < 0.01
    assert torch.corrcoef(noise.flatten(2).flatten(0, 1)).fill_diagonal_(0).abs().max() < 0.08
    strong = views(some(), GaussianNoise(std=3)).visible
    assert strong.min() == 0
    assert strong.max() == 1


def test_loss_counts_all_pixels_and_metric_hidden_ones() -> None:
    task = Denoising(TinyBackbone(), augmentation=None)
    batch = task.views(some(), Generator().manual_seed(0))
    errors = (task.reconstruct(batch.visible) - batch.target).square().mean(1).detach()
    hidden = [float(errors[b, row, column]) for b, row, column in batch.mask[:, 0].nonzero().tolist()]
    corrupted = float((batch.visible - batch.target).square().mean())
    output = task(batch)
    expected = {
        "mse": float(errors.mean()),
        "mse_hidden": sum(hidden) / len(hidden),
        "psnr": -10 * math.log10(float(errors.mean())),
        "psnr_input": -10 * math.log10(corrupted),
    }
    assert output.loss.item() == pytest.approx(expected["mse"], rel=1e-4)
    assert {name: value.item() for name, value in output.metrics.items()} == pytest.approx(expected, rel=1e-4)


def test_backbone_sees_the_corrupted_images() -> None:
    task = Denoising(TinyBackbone(), augmentation=None).eval()
    batch = task.views(some(), Generator().manual_seed(0))
    with torch.no_grad():
        made = task.reconstruct(batch.visible)
        perfect = task(Masked(batch.visible, batch.mask, made)).loss
        copied = task(Masked(batch.target, batch.mask, made)).loss
    assert perfect == 0
    assert copied > 0


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan])
def test_noise_out_of_range_is_refused(std: float) -> None:
    with pytest.raises(OptionError) as caught:
        views(some(), GaussianNoise(std))
    assert caught.value.text == f"Expected std to be a number in (0, inf), but got {std}. For example 0.2."


def test_custom_corruption_is_accepted() -> None:
    def darken(images: Tensor, generator: Generator) -> Masked:
        return Masked(images / 2, torch.ones_like(images[:, :1], dtype=torch.bool), images)

    output = Denoising(TinyBackbone(), augmentation=None, corruption=darken).step(some(), Generator())
    assert output.loss.isfinite()
