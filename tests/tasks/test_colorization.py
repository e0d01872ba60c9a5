from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.errors import OptionError, ShapeError
from pretextkit.functional import linear_probe, pretrain
from pretextkit.tasks import Colorization
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.views._lab import lab_to_rgb, rgb_to_lab, same_lightness


def some(n: int = 4, size: int | tuple[int, int] = 32, channels: int = 3, seed: int = 0) -> Tensor:
    return toy_images(n, size=size, channels=channels, generator=Generator().manual_seed(seed))


def task_of(seed: int = 0, **options: Any) -> Colorization:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Colorization(TinyBackbone(), augmentation=None, **options)


def test_views_keep_lightness_and_target_is_the_image() -> None:
    images, draws = some(), Generator().manual_seed(0)
    before = draws.get_state()
    batch = task_of().views(images, draws)
    shown, true = (rgb_to_lab(each) for each in (batch.input.expand(-1, 3, -1, -1), images))
    torch.testing.assert_close(shown[:, 0], true[:, 0], atol=1e-2, rtol=0)
    assert shown[:, 1:].abs().max() < 1e-3
    assert torch.equal(batch.target, images)
    assert torch.equal(draws.get_state(), before)


def test_prediction_depends_on_lightness_only() -> None:
    task = task_of().eval()
    lab = rgb_to_lab(some())
    lab[:, 0] = 40 + 0.2 * lab[:, 0]
    one, other = (
        lab_to_rgb(torch.cat([lab[:, :1], 0.2 * lab[:, 1:]], 1)),
        lab_to_rgb(torch.cat([lab[:, :1], -0.2 * lab[:, 1:]], 1)),
    )
    assert (one - other).abs().max() > 0.05
    made = task.colorize(one)
    torch.testing.assert_close(task.colorize(other), made, atol=1e-3, rtol=0)
    torch.testing.assert_close(task.colorize(same_lightness(one)), made, atol=1e-4, rtol=0)


def test_loss_and_metrics_match_a_loop_over_pixels() -> None:
    task = task_of().eval()
    images = some(2, 9)
    batch = task.views(images, Generator())
    decoded = task.head(task.backbone.feature_map(batch.input)).detach()
    predicted = 220 * nn.functional.interpolate(decoded, (9, 9), mode="bilinear", align_corners=False) - 110
    true = rgb_to_lab(images)[:, 1:]
    squares, distances, chromas = [], [], []
    for image in range(2):
        for row in range(9):
            for column in range(9):
                a, b = (predicted - true)[image, :, row, column].tolist()
                squares += [(a / 110) ** 2, (b / 110) ** 2]
                distances.append(math.hypot(a, b))
                chromas.append(math.hypot(*true[image, :, row, column].tolist()))
    output = task(batch)
    assert output.loss.item() == pytest.approx(sum(squares) / len(squares), rel=1e-4)
    assert {name: value.item() for name, value in output.metrics.items()} == pytest.approx(
        {"color_error": sum(distances) / len(distances), "color_error_of_gray": sum(chromas) / len(chromas)},
        rel=1e-4,
    )


def test_perfect_prediction_restores_the_image() -> None:
    images = torch.rand(2, 3, 16, 16, generator=Generator().manual_seed(0))
    true = rgb_to_lab(images)[:, 1:]
    task = task_of()
    task.head.forward = lambda features: true / 220 + 0.5  # type: ignore[method-assign]
    assert task(task.views(images, Generator())).loss.item() < 1e-10
    torch.testing.assert_close(task.colorize(images), images, atol=1e-3, rtol=0)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 33, (30, 45)])
def test_colorize_accepts_any_size_and_channels(in_channels: int, channels: int, size: int | tuple[int, int]) -> None:
    images = some(2, size, channels)
    with torch.no_grad():
        made = Colorization(TinyBackbone(in_channels=in_channels)).colorize(images)
    assert made.shape == (2, 3, *images.shape[2:])
    assert made.min() >= 0
    assert made.max() <= 1


def test_half_precision_gives_float32_losses() -> None:
    task, images = task_of(), some()
    expected = task.step(images, Generator()).loss
    with torch.autocast("cpu", torch.bfloat16):
        output = task.step(images, Generator())
        made = task.eval().colorize(images)
    assert output.loss.dtype == torch.float32
    assert output.loss.item() == pytest.approx(expected.item(), rel=0.02)
    assert made.dtype == torch.float32


def test_pretrain_refuses_gray_images_before_training() -> None:
    sample = pk.data.load("sample").train_images[:64]
    with pytest.raises(ShapeError) as caught:
        pretrain(task_of(), sample, steps=2, batch_size=16, progress=False)
    assert caught.value.text == (
        "Expected images of 3 channels, but got gray images. Gray images have no colors to predict: pretrain on "
        "color images, or with another task."
    )


def test_training_learns_colors_implied_by_shapes() -> None:
    """Horizontal stripes are red and vertical stripes are green, so the color is predictable."""
    red, green = torch.tensor([0.8, 0.2, 0.2]), torch.tensor([0.2, 0.42, 0.2])
    waves = 0.5 + 0.5 * (torch.arange(16.0) * torch.rand(64, 1, generator=Generator().manual_seed(0)).add(1)).sin()
    across = waves[:32, None, :, None] * red.view(1, 3, 1, 1) * torch.ones(16)
    down = waves[32:, None, None, :] * green.view(1, 3, 1, 1) * torch.ones(16, 1)
    task = task_of()
    options: dict[str, Any] = {"batch_size": 32, "learning_rate": 3e-3, "progress": False, "precision": "fp32"}
    last = pretrain(task, torch.cat([across, down]), epochs=60, **options).history.last
    assert last["color_error"] < 0.35 * last["color_error_of_gray"]
    made = rgb_to_lab(task.eval().colorize(torch.cat([across, down])).detach())[:, 1].mean((1, 2))
    assert (made[:32] > 5).all()
    assert (made[32:] < -5).all()


def test_backbone_is_probed_on_color_and_gray_images() -> None:
    task = task_of()
    labels = torch.arange(24) % 2
    for channels in (1, 3):
        data = (some(24, channels=channels), labels)
        assert 0 <= linear_probe(task.backbone, data, layers="all").accuracy <= 1


def test_invalid_backbone_and_bottleneck_are_refused() -> None:
    class Flat(pk.Backbone):
        feature_dim = 3

        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    with pytest.raises(OptionError, match="a SpatialBackbone, because images are decoded from its last feature map"):
        Colorization(Flat())  # type: ignore[type-var]
    with pytest.raises(OptionError, match="bottleneck"):
        task_of(bottleneck=0)
    assert task_of(bottleneck=2).head.layers[0].out_channels == 2
