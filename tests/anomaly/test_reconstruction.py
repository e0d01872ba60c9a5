from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from pretextkit.anomaly import feature_distance
from pretextkit.errors import DataError, OptionError, PretextkitError, ShapeError, UnknownNameError
from pretextkit.functional import AnomalyScores, reconstruction_anomaly_score
from pretextkit.tasks import Autoencoder, Rotation
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images


def oblong_images(n: int = 5, channels: int = 3, size: int = 16) -> Tensor:
    return random_images(n, channels=channels, size=(size, size + 4))


def scored(reconstruct: Any, images: Any, **options: Any) -> tuple[Tensor, Tensor]:
    result = reconstruction_anomaly_score(reconstruct, images, **options)
    assert result.maps is not None
    return result.scores, result.maps


def half(images: Tensor) -> Tensor:
    return images / 2


@pytest.mark.parametrize(("error", "power"), [("l1", 1), ("l2", 2)])
def test_maps_average_differences_over_channels(error: Any, power: int) -> None:
    images = oblong_images()
    scores, maps = scored(half, images, error=error)
    for n in range(5):
        for y, x in [(0, 0), (3, 17), (15, 19)]:
            expected = sum(abs(v / 2) ** power for v in images[n, :, y, x].tolist()) / 3
            assert maps[n, y, x].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(scores, maps.mean((1, 2)))


def test_modules_inside_a_lambda_are_evaluated_and_restored() -> None:
    encoder, decoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()), nn.Conv2d(4, 3, 1)
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    expected = scored(lambda x: decoder(encoder(x)), oblong_images())
    single = scored(lambda x: decoder(encoder(x)), oblong_images(), batch_size=1)
    torch.testing.assert_close(single, expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    assert all(module.training for module in [*encoder.modules(), decoder])


def test_default_score_is_the_mean_squared_error() -> None:
    images = oblong_images()
    scores, maps = scored(half, images)
    torch.testing.assert_close(scores, (images / 2).square().mean((1, 2, 3)))
    assert maps.shape == (5, 16, 20)


def test_perfect_reconstruction_scores_zero() -> None:
    for error in ("l1", "l2", "ssim"):
        result = reconstruction_anomaly_score(nn.Identity(), oblong_images(), error=error)
        torch.testing.assert_close(result.scores, torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_matches_torchmetrics(channels: int) -> None:
    images = oblong_images(channels=channels)
    scores, maps = scored(half, images, error="ssim", batch_size=2)
    _, full = structural_similarity_index_measure(
        images / 2, images, data_range=1.0, reduction="none", return_full_image=True
    )
    torch.testing.assert_close(maps, 1 - full.mean(1))
    assert maps.shape == (5, 16, 20)
    assert (scores > 0.05).all()


def test_ssim_localizes_a_blur() -> None:
    images = oblong_images(1, size=32)

    def blur_left(x: Tensor) -> Tensor:
        blurred = nn.functional.avg_pool2d(x, 5, 1, 2)
        return torch.cat([blurred[..., :18], x[..., 18:]], -1)

    _, maps = scored(blur_left, images, error="ssim")
    assert maps[..., :10].mean() > 10 * maps[..., -10:].mean()


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(ShapeError) as caught:
        reconstruction_anomaly_score(half, torch.rand(2, 3, 10, 64), error="ssim")
    assert caught.value.text == (
        "Expected images of at least 11x11 pixels for error='ssim', but got 10x64. "
        "Use error='l2', or resize the images."
    )
    assert scored(half, torch.rand(2, 3, 11, 11), error="ssim")[1].shape == (2, 11, 11)


def test_anomalous_image_scores_highest() -> None:
    images = oblong_images() * 0.1 + 0.4
    images[2] = 1 - images[2] * 2

    def model(x: Tensor) -> Tensor:
        return torch.full_like(x, 0.45)

    assert reconstruction_anomaly_score(model, images).scores.argmax() == 2


def test_scores_keep_order_and_ignore_batch_size() -> None:
    images = oblong_images(7)
    torch.testing.assert_close(scored(half, images), scored(half, images, batch_size=3))


def test_byte_arrays_are_scaled_to_one() -> None:
    array = (oblong_images(3, size=8) * 255).byte().permute(0, 2, 3, 1).numpy()
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return x * 0

    _, maps = scored(model, array, error="l1")
    assert seen[0].dtype == torch.float32
    assert float(seen[0].max()) <= 1
    np.testing.assert_allclose(maps.numpy(), array.mean(3) / 255, rtol=1e-4)


class Model(nn.Module):
    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.fails = fails

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.norm.running_var.fill_(2.0)  # type: ignore[union-attr]
        if self.fails:
            raise RuntimeError
        out: Tensor = self.drop(self.norm(images))
        return out


@pytest.mark.parametrize("fails", [False, True])
def test_module_state_is_restored(fails: bool) -> None:
    model = Model(fails)
    model.drop.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        reconstruction_anomaly_score(model, oblong_images())
    except RuntimeError:
        assert fails
    assert [module.training for module in model.modules()] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"error": "L2"},
            UnknownNameError,
            "Expected the name of a reconstruction error, but got 'L2'. Did you mean 'l2'? Known: l1, l2, ssim. "
            "feature_distance(backbone) is another.",
        ),
        (
            {"reduction": "top1%"},
            UnknownNameError,
            "Expected the name of a reduction, but got 'top1%'. Known: mean, max. "
            "TopFraction(0.01) takes the highest pixels.",
        ),
        (
            {"batch_size": 0},
            OptionError,
            "Expected batch_size to be an integer >= 1, but got 0. The default is 256.",
        ),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], kind: type[PretextkitError], text: str) -> None:
    with pytest.raises(kind) as caught:
        reconstruction_anomaly_score(half, oblong_images(), **options)
    assert caught.value.text == text


def test_reconstruction_of_wrong_shape_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        reconstruction_anomaly_score(lambda x: x.mean((2, 3)), oblong_images())
    assert caught.value.text == (
        "Expected reconstructions with the shape of the images (5, 3, 16, 20), but got (5, 3). "
        "Return images from reconstruct: decoder(encoder(images))."
    )


def test_nonfinite_reconstruction_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        reconstruction_anomaly_score(lambda x: x / 0, oblong_images())
    assert caught.value.text == "Expected finite reconstructions, but got NaN or inf. Check the model's weights."


def test_invalid_images_are_refused() -> None:
    with pytest.raises(DataError, match="Divide by 255"):
        reconstruction_anomaly_score(half, oblong_images() * 255)
    with pytest.raises(ShapeError, match="Add the missing axis"):
        reconstruction_anomaly_score(half, oblong_images()[0])


def test_errors_and_reductions_can_be_functions() -> None:
    images = oblong_images()
    scores, maps = scored(
        half, images, error=lambda a, b: (a - b).amax(1), reduction=lambda maps: maps.flatten(1).amin(1)
    )
    torch.testing.assert_close(maps, (images / 2).amax(1))
    torch.testing.assert_close(scores, maps.amin((1, 2)))


def test_error_maps_of_wrong_shape_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        reconstruction_anomaly_score(half, oblong_images(), error=lambda a, b: a - b)
    assert caught.value.text == (
        "Expected error maps b h w of shape (5, 16, 20), but got shape (5, 3, 16, 20). "
        "Average over channels: maps.mean(1)."
    )


def naive_feature_distance(maps: list[tuple[Tensor, Tensor]], size: tuple[int, int]) -> Tensor:
    """Feature distance position by position, from the maps of images and reconstructions at each layer."""
    total = torch.zeros(len(maps[0][0]), *size)
    for a, b in maps:
        small = torch.zeros(len(a), *a.shape[2:])
        for n, y, x in np.ndindex(*small.shape):
            left, right = a[n, :, y, x], b[n, :, y, x]
            small[n, y, x] = (left / left.norm() - right / right.norm()).square().sum()
        total += nn.functional.interpolate(small[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return total / len(maps)


def test_feature_distance_matches_a_loop() -> None:
    images = oblong_images(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1))
    maps = [(layer(images), layer(images / 2)) for layer in (net[:1], net)]
    _, found = scored(half, images, error=feature_distance(net, layers=["0", "2"]))
    torch.testing.assert_close(found, naive_feature_distance(maps, (16, 20)))


def test_feature_distance_localizes_missing_content() -> None:
    images = oblong_images(2, size=32)

    def without_left(x: Tensor) -> Tensor:
        return torch.cat([torch.full_like(x[..., :18], 0.5), x[..., 18:]], -1)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = TinyBackbone()
    _, maps = scored(without_left, images, error=feature_distance(backbone))
    assert maps.shape == (2, 32, 36)
    assert maps[..., :8].mean() > 5 * maps[..., -8:].mean()


def test_feature_distance_backbone_state_is_restored() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    expected = scored(nn.AvgPool2d(3, 1, 1), oblong_images(), error=feature_distance(backbone))
    single = scored(nn.AvgPool2d(3, 1, 1), oblong_images(), error=feature_distance(backbone), batch_size=1)
    torch.testing.assert_close(single, expected)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(module.training for module in backbone.modules())


def test_feature_distance_is_differentiable() -> None:
    images = oblong_images(2).requires_grad_()
    (gradient,) = torch.autograd.grad(
        feature_distance(nn.Conv2d(3, 4, 3), layers="last")(images, half(images) + 0.3).sum(), images
    )
    assert gradient.abs().sum() > 0


def test_feature_distance_refuses_layers_without_maps() -> None:
    with pytest.raises(ShapeError) as caught:
        reconstruction_anomaly_score(half, oblong_images(), error=feature_distance(nn.Flatten(), layers="last"))
    assert caught.value.text == (
        "Expected maps b d h w from layer 'last', but got shape (5, 960). "
        "Choose a layer before the average over the map, by its name in dict(named_modules())."
    )


def test_anomaly_scores_print_as_one_line() -> None:
    result = reconstruction_anomaly_score(torch.zeros_like, torch.ones(3, 1, 4, 4))
    assert str(result) == "3 anomaly scores from 1 to 1, median 1"
    assert AnomalyScores(torch.tensor([1.0, 3.0])).maps is None


@pytest.mark.parametrize("shape", [(4, 3, 16, 17), (1, 3, 16, 16), (4, 1, 16, 16)])
def test_feature_distance_refuses_mismatched_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        feature_distance(TinyBackbone())(torch.rand(4, 3, 16, 16), torch.rand(shape))
    assert caught.value.text == (
        f"Expected reconstructions with the shape of the images, but got {shape} for (4, 3, 16, 16). "
        "Pass one reconstruction for each image, resized to the image."
    )


@pytest.mark.parametrize(
    ("task", "fix"), [(Autoencoder, "Pass task.reconstruct."), (Rotation, "Train pretextkit.tasks.Autoencoder")]
)
def test_task_is_refused_and_names_its_function(task: Any, fix: str) -> None:
    built = task(TinyBackbone())
    with pytest.raises(OptionError, match=f"but got the task {task.__name__}. {fix}"):
        reconstruction_anomaly_score(built, random_images(2))
    if task is Autoencoder:
        assert reconstruction_anomaly_score(built.reconstruct, random_images(2)).scores.shape == (2,)
