from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from pretextkit.batches import ImageToImage
from pretextkit.contracts import Backbone, SpatialBackbone
from pretextkit.errors import OptionError, ShapeError
from pretextkit.functional import reconstruction_anomaly_score
from pretextkit.models import ResNet18, SmallCNN
from pretextkit.tasks import Autoencoder, Denoising
from pretextkit.testing import TinyBackbone, toy_images


def some(n: int = 4, size: int | tuple[int, int] = 32, channels: int = 3, seed: int = 0) -> Tensor:
    return toy_images(n, size=size, channels=channels, generator=Generator().manual_seed(seed))


def test_views_are_the_images_without_random_draws() -> None:
    images, draws = some(), Generator().manual_seed(0)
    before = draws.get_state()
    batch = Autoencoder(TinyBackbone(), augmentation=None).views(images, draws)
    assert torch.equal(batch.input, images)
    assert torch.equal(batch.target, images)
    assert torch.equal(draws.get_state(), before)


@pytest.mark.parametrize("task", [Autoencoder, Denoising])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 33, (30, 45)])
def test_reconstructions_have_the_shape_of_the_images(
    task: type[Autoencoder | Denoising], in_channels: int, channels: int, size: int | tuple[int, int]
) -> None:
    images = some(2, size, channels)
    with torch.no_grad():
        made = task(TinyBackbone(in_channels=in_channels)).reconstruct(images)
    assert made.shape == images.shape
    assert made.min() >= 0
    assert made.max() <= 1


@pytest.mark.parametrize(
    ("backbone", "doublings"), [(SmallCNN, 3), (ResNet18, 3), (lambda: ResNet18(stem="imagenet"), 5)]
)
def test_built_in_backbones_are_decoded_at_full_resolution(
    backbone: Callable[[], SpatialBackbone], doublings: int
) -> None:
    """The decoder output has the resolution of the image, without resizing."""
    layers = Autoencoder(backbone()).head.layers
    assert sum(isinstance(layer, nn.Upsample) for layer in layers) == doublings


def test_loss_is_the_mean_squared_error_of_every_pixel() -> None:
    task = Autoencoder(TinyBackbone(), augmentation=None)
    batch = ImageToImage(some(2, 28), some(2, 28, seed=1))
    made = task.reconstruct(batch.input).detach()
    errors = [(float(a) - float(b)) ** 2 for a, b in zip(made.flatten(), batch.target.flatten(), strict=True)]
    expected = sum(errors) / len(errors)
    output = task(batch)
    assert output.loss.item() == pytest.approx(expected, rel=1e-4)
    assert output.metrics["mse"].item() == pytest.approx(expected, rel=1e-4)
    assert output.metrics["psnr"].item() == pytest.approx(-10 * math.log10(expected), abs=1e-3)


def test_gray_images_are_compared_with_decoded_luma() -> None:
    task = Autoencoder(TinyBackbone(), augmentation=None)
    with torch.no_grad():
        task.head.layers[-1].weight.zero_()  # type: ignore[operator]
        task.head.layers[-1].bias.copy_(torch.tensor([10.0, -10.0, 0.0]))  # type: ignore[operator]
    red, green, blue = torch.sigmoid(torch.tensor([10.0, -10.0, 0.0])).tolist()
    expected = torch.full((1, 1, 32, 32), 0.299 * red + 0.587 * green + 0.114 * blue)
    torch.testing.assert_close(task.reconstruct(some(1, channels=1)), expected)


def test_bottleneck_limits_the_rank_of_the_code() -> None:
    """With one channel, the code at each position is one number, and varies along one direction."""
    task = Autoencoder(TinyBackbone(), augmentation=None, bottleneck=1)
    narrow = task.head.layers[:2](task.backbone.feature_map(some(8)))
    values = torch.linalg.svdvals(narrow.permute(0, 2, 3, 1).flatten(0, 2) - narrow.mean((0, 2, 3)))
    assert values[0] > 0.1
    assert values[1] < 1e-4 * values[0]


def test_trial_forward_pass_does_not_change_the_backbone() -> None:
    backbone = SmallCNN().train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    Autoencoder(backbone)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(module.training for module in backbone.modules())


class Flat(Backbone):
    feature_dim = 3

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


@pytest.mark.parametrize("task", [Autoencoder, Denoising])
def test_backbone_without_maps_is_refused(task: type[Autoencoder | Denoising]) -> None:
    with pytest.raises(OptionError) as caught:
        task(Flat())  # type: ignore[arg-type]
    assert caught.value.text == (
        "Expected a SpatialBackbone, because images are decoded from its last feature map, but got Flat. "
        "Derive it from pretextkit.SpatialBackbone and define stages()."
    )


@pytest.mark.parametrize("task", [Autoencoder, Denoising])
def test_bottleneck_below_one_is_refused(task: type[Autoencoder | Denoising]) -> None:
    with pytest.raises(OptionError) as caught:
        task(TinyBackbone(), bottleneck=0)
    assert caught.value.text == ("Expected bottleneck to be an integer >= 1, but got 0. None leaves the map as it is.")


def test_single_image_without_batch_axis_is_refused() -> None:
    with pytest.raises(ShapeError, match="Add the missing axis"):
        Autoencoder(TinyBackbone(), augmentation=None).reconstruct(some()[0])


def test_image_unseen_in_training_scores_higher() -> None:
    """An autoencoder overfitted to one image scores a changed image higher, at the changed pixels."""
    normal = some(1)
    task = Autoencoder(TinyBackbone(), augmentation=None)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        torch.autograd.backward(task.step(normal, Generator()).loss)
        optimizer.step()
    anomalous = normal.clone()
    anomalous[..., 20:28, 4:12] = 1 - anomalous[..., 20:28, 4:12]
    result = reconstruction_anomaly_score(task.reconstruct, torch.cat([normal, anomalous]))
    assert result.scores[1] > 2 * result.scores[0]
    assert result.maps is not None
    assert result.maps[1, 20:28, 4:12].mean() > 2 * result.maps[1].mean()
    assert task.training
