from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from pretextkit.errors import DataError, OptionError, ShapeError, UnknownNameError
from pretextkit.functional import reconstruction_anomaly_score


def pictures(n: int = 5, channels: int = 3, size: int = 16) -> Tensor:
    return torch.rand(n, channels, size, size + 4, generator=Generator().manual_seed(0))


def half(images: Tensor) -> Tensor:
    return images / 2


@pytest.mark.parametrize(("error", "power"), [("l1", 1), ("l2", 2)])
def test_maps_are_differences_averaged_over_channels(error: Any, power: int) -> None:
    images = pictures()
    result = reconstruction_anomaly_score(half, images, error=error)
    for n in range(5):
        for y, x in [(0, 0), (3, 17), (15, 19)]:
            expected = sum(abs(v / 2) ** power for v in images[n, :, y, x].tolist()) / 3
            assert result.maps[n, y, x].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(result.scores, result.maps.mean((1, 2)))


def test_modules_behind_a_lambda_come_back_and_see_no_batch() -> None:
    encoder, decoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()), nn.Conv2d(4, 3, 1)
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    whole = reconstruction_anomaly_score(lambda x: decoder(encoder(x)), pictures())
    single = reconstruction_anomaly_score(lambda x: decoder(encoder(x)), pictures(), batch_size=1)
    torch.testing.assert_close(single.maps, whole.maps)
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    assert all(module.training for module in [*encoder.modules(), decoder])


def test_the_default_is_the_mean_square() -> None:
    images = pictures()
    result = reconstruction_anomaly_score(half, images)
    torch.testing.assert_close(result.scores, (images / 2).square().mean((1, 2, 3)))
    assert result.maps.shape == (5, 16, 20)


def test_a_perfect_reconstruction_scores_zero() -> None:
    for error in ("l1", "l2", "ssim"):
        result = reconstruction_anomaly_score(nn.Identity(), pictures(), error=error)
        torch.testing.assert_close(result.scores, torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_torchmetrics(channels: int) -> None:
    images = pictures(channels=channels)
    result = reconstruction_anomaly_score(half, images, error="ssim", batch_size=2)
    _, full = structural_similarity_index_measure(
        images / 2, images, data_range=1.0, reduction="none", return_full_image=True
    )
    torch.testing.assert_close(result.maps, 1 - full.mean(1))
    assert result.maps.shape == (5, 16, 20)
    assert (result.scores > 0.05).all()


def test_ssim_sees_a_blur_where_it_is() -> None:
    images = pictures(1, size=32)

    def blur_left(x: Tensor) -> Tensor:
        blurred = nn.functional.avg_pool2d(x, 5, 1, 2)
        return torch.cat([blurred[..., :18], x[..., 18:]], -1)

    maps = reconstruction_anomaly_score(blur_left, images, error="ssim").maps
    assert maps[..., :10].mean() > 10 * maps[..., -10:].mean()


def test_ssim_needs_images_as_large_as_its_window() -> None:
    with pytest.raises(ShapeError) as caught:
        reconstruction_anomaly_score(half, torch.rand(2, 3, 10, 64), error="ssim")
    assert str(caught.value) == (
        "Expected images of at least 11x11 pixels for error='ssim', but got 10x64. Use error='l2', or resize them."
    )
    assert reconstruction_anomaly_score(half, torch.rand(2, 3, 11, 11), error="ssim").maps.shape == (2, 11, 11)


def test_reductions() -> None:
    images = torch.zeros(2, 1, 20, 20)
    images[0, 0, :2, :2] = torch.tensor([[1.0, 0.8], [0.6, 0.4]])  # 1% of 400 pixels is 4
    images[1] = 0.3
    scores = {
        reduction: reconstruction_anomaly_score(torch.zeros_like, images, error="l1", reduction=reduction).scores
        for reduction in ("mean", "max", "top1%")
    }
    torch.testing.assert_close(scores["mean"], torch.tensor([2.8 / 400, 0.3]))
    torch.testing.assert_close(scores["max"], torch.tensor([1.0, 0.3]))
    torch.testing.assert_close(scores["top1%"], torch.tensor([0.7, 0.3]))


def test_the_highest_hundredth_is_at_least_a_pixel() -> None:
    images = torch.zeros(1, 1, 3, 3)
    images[0, 0, 1, 1] = 1.0
    assert reconstruction_anomaly_score(torch.zeros_like, images, reduction="top1%").scores.item() == 1.0


def test_a_strange_image_scores_higher() -> None:
    images = pictures() * 0.1 + 0.4
    images[2] = 1 - images[2] * 2

    def model(x: Tensor) -> Tensor:
        return torch.full_like(x, 0.45)

    assert reconstruction_anomaly_score(model, images).scores.argmax() == 2


def test_batches_do_not_matter_and_order_is_kept() -> None:
    images = pictures(7)
    whole = reconstruction_anomaly_score(half, images)
    parts = reconstruction_anomaly_score(half, images, batch_size=3)
    torch.testing.assert_close(whole.maps, parts.maps)


def test_bytes_and_arrays_are_scaled_to_one() -> None:
    array = (pictures(3, size=8) * 255).byte().permute(0, 2, 3, 1).numpy()
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return x * 0

    result = reconstruction_anomaly_score(model, array, error="l1")
    assert seen[0].dtype == torch.float32
    assert float(seen[0].max()) <= 1
    np.testing.assert_allclose(result.maps.numpy(), array.mean(3) / 255, rtol=1e-4)


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
def test_the_module_comes_back_as_it_was(fails: bool) -> None:
    model = Model(fails)
    model.drop.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        reconstruction_anomaly_score(model, pictures())
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
            "Expected the name of a reconstruction error, but got 'L2'. Did you mean 'l2'? Known: l1, l2, ssim.",
        ),
        (
            {"reduction": "top1"},
            UnknownNameError,
            "Expected the name of a reduction, but got 'top1'. Did you mean 'top1%'? Known: mean, max, top1%.",
        ),
        ({"batch_size": 0}, OptionError, "Expected a batch size of at least 1, but got 0. The default is 256."),
    ],
)
def test_options(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        reconstruction_anomaly_score(half, pictures(), **options)
    assert str(caught.value) == text


def test_another_shape_is_no_reconstruction() -> None:
    with pytest.raises(ShapeError) as caught:
        reconstruction_anomaly_score(lambda x: x.mean((2, 3)), pictures())
    assert str(caught.value) == (
        "Expected reconstructions of the images' shape (5, 3, 16, 20), but got (5, 3). "
        "Make reconstruct return images: decoder(encoder(images))."
    )


def test_a_reconstruction_that_is_not_finite_is_no_score() -> None:
    with pytest.raises(DataError) as caught:
        reconstruction_anomaly_score(lambda x: x / 0, pictures())
    assert str(caught.value) == "Expected finite reconstructions, but got NaN or inf. Check the model's weights."


def test_bad_images_are_refused() -> None:
    with pytest.raises(DataError, match="Divide by 255"):
        reconstruction_anomaly_score(half, pictures() * 255)
    with pytest.raises(ShapeError, match="Add the missing axis"):
        reconstruction_anomaly_score(half, pictures()[0])


def test_it_prints_as_a_line() -> None:
    result = reconstruction_anomaly_score(torch.zeros_like, torch.ones(3, 1, 4, 4))
    assert str(result) == "3 anomaly scores from 1 to 1, median 1"
