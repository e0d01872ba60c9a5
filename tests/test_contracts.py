from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.batches import Labeled
from pretextkit.contracts import Backbone, Head, InputNormalization, PretextTask, SpatialBackbone, TaskOutput
from pretextkit.errors import DataError, OptionError, ShapeError
from tests.helpers import generator, uniform

LUMA = (0.299, 0.587, 0.114)
WRONG_SHAPES = [(3, 8, 8), (2, 8, 8, 3), (2, 16, 16, 13), (2, 24, 32, 4), (8, 8), (2, 1, 3, 8, 8)]


def pixel_images(channels: int = 3, dtype: torch.dtype = torch.uint8) -> Tensor:
    levels = torch.randint(256, (7, channels, 5, 6), generator=generator(), dtype=torch.uint8)
    return levels if dtype == torch.uint8 else levels.to(dtype) / 255


def numpy_adapted(images: Tensor, channels: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    pixels = images.numpy().astype(np.float64) / (255 if images.dtype == torch.uint8 else 1)
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, 1)
    return np.stack([sum(weight * image[c] for c, weight in enumerate(LUMA)) for image in pixels])[:, None]


each_kind = pytest.mark.parametrize("given", [1, 3], ids=["from-gray", "from-color"])
each_need = pytest.mark.parametrize("needed", [1, 3], ids=["to-gray", "to-color"])


@each_kind
@each_need
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
def test_normalization_equals_numpy(given: int, needed: int, dtype: torch.dtype) -> None:
    images, normalization = pixel_images(given, dtype), InputNormalization(needed)
    before = images.clone()
    pixels = numpy_adapted(images, needed)
    torch.testing.assert_close(normalization.adapt(images), torch.from_numpy(pixels).float())

    unmeasured = normalization(images)
    torch.testing.assert_close(unmeasured, torch.from_numpy((pixels - 0.5) / 0.25).float(), atol=1e-5, rtol=1e-5)
    assert not normalization.measured

    assert normalization.measure(images) is normalization
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    torch.testing.assert_close(normalization.mean, torch.from_numpy(mean).float())
    torch.testing.assert_close(normalization.std, torch.from_numpy(std).float())
    assert normalization.measured

    normal = normalization(images)
    assert normal.shape == (7, needed, 5, 6)
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(needed), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std((0, 2, 3), correction=0), torch.ones(needed), atol=1e-5, rtol=0)
    assert torch.equal(images, before)


def test_normalization_has_statistics_per_channel() -> None:
    images = pixel_images(dtype=torch.float32) * torch.tensor([1.0, 0.5, 0.1]).view(3, 1, 1)
    normalization = InputNormalization(3).measure(images)
    assert normalization.mean[0] > normalization.mean[1] > normalization.mean[2]
    swapped = normalization(images.flip(1))
    assert not torch.allclose(swapped, normalization(images).flip(1), atol=0.1)


def test_constant_channel_has_std_of_one_gray_level() -> None:
    normalization = InputNormalization(3).measure(torch.full((2, 3, 4, 4), 128, dtype=torch.uint8))
    assert normalization.std.tolist() == pytest.approx([1 / 255] * 3)
    assert normalization(torch.full((1, 3, 1, 1), 129, dtype=torch.uint8)).flatten().tolist() == pytest.approx(
        [1.0] * 3, abs=1e-3
    )


def test_luma_weights_sum_to_one() -> None:
    white = torch.ones(1, 3, 1, 1)
    assert InputNormalization(1).adapt(white).item() == pytest.approx(1)


def test_normalization_is_in_state_dict_and_not_trainable() -> None:
    measured, new = InputNormalization(3).measure(pixel_images()), InputNormalization(3)
    new.load_state_dict(measured.state_dict())
    assert set(measured.state_dict()) == {"mean", "std", "measured"}
    assert torch.equal(new(pixel_images()), measured(pixel_images()))
    assert new.measured
    assert not list(measured.parameters())


def test_normalization_passes_gradient_to_the_pixels() -> None:
    """Saliency and adversarial examples need it."""
    images = pixel_images(dtype=torch.float32).requires_grad_()
    (gradient,) = torch.autograd.grad(InputNormalization(1)(images).sum(), images)
    torch.testing.assert_close(gradient[0, :, 0, 0], 4 * torch.tensor(LUMA))


def test_normalization_repr_shows_mean_and_std() -> None:
    assert repr(InputNormalization(1)) == "InputNormalization(channels=1, mean=[0.5], std=[0.25])"


@pytest.mark.parametrize("channels", [0, -3])
def test_normalization_refuses_channels_below_one(channels: int) -> None:
    with pytest.raises(OptionError) as caught:
        InputNormalization(channels)
    assert caught.value.text == (
        f"Expected in_channels to be an integer >= 1, but got {channels}. 1 is gray, 3 is color, 13 are thirteen bands."
    )


def shape_text(shape: tuple[int, ...]) -> str:
    return f"Expected images b c h w, but got shape {shape}. "


@pytest.mark.parametrize("shape", WRONG_SHAPES)
def test_normalization_refuses_wrong_shapes(shape: tuple[int, ...]) -> None:
    normalization = InputNormalization(3)
    methods: tuple[Callable[[Tensor], Any], ...] = (normalization, normalization.adapt, normalization.measure)
    for method in methods:
        with pytest.raises(ShapeError) as caught:
            method(torch.zeros(shape))
        assert str(caught.value).startswith(shape_text(shape))
    assert not normalization.measured


class Ramp(SpatialBackbone):
    """Two stages: the normalized images, and twice the normalized images."""

    feature_dim = 3

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        normal = self.normalization(images)
        return normal, 2 * normal


def test_spatial_backbone_needs_only_stages() -> None:
    backbone, images = Ramp(), pixel_images()
    assert torch.equal(backbone.feature_map(images), backbone.stages(images)[1])
    expected = (2 * (images.double() / 255 - 0.5) / 0.25).sum((2, 3)) / 30
    torch.testing.assert_close(backbone(images).double(), expected, atol=1e-5, rtol=0)
    assert backbone.normalization.channels == 3
    assert Ramp(in_channels=1).normalization.channels == 1


@pytest.mark.parametrize("base", [Backbone, SpatialBackbone, Head, PretextTask])
def test_abstract_classes_cannot_be_instantiated(base: Any) -> None:
    with pytest.raises(TypeError, match="abstract"):
        base()


class Spy(PretextTask[Labeled]):
    """Record images, grad mode and autocast of each call of views."""

    def __init__(self) -> None:
        super().__init__(Ramp())
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Tensor, bool, bool]] = []

    def views(self, images: Tensor, generator: Generator) -> Labeled:
        self.seen.append((images, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return Labeled(images, torch.randint(9, (len(images),), generator=generator))

    def forward(self, batch: Labeled) -> TaskOutput:
        product = torch.eye(2) @ torch.eye(2)
        return TaskOutput(self.scale * batch.labels.sum(), {"autocast": torch.tensor(product.dtype == torch.bfloat16)})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16], ids=str)
@each_kind
def test_step_converts_images_to_float32_in_unit_range(dtype: torch.dtype, given: int) -> None:
    task, images = Spy(), pixel_images(given, dtype)
    task.step(images, Generator())
    ((seen, _, _),) = task.seen
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen.double(), images.double() / (255 if dtype == torch.uint8 else 1))


def test_step_disables_grad_and_autocast_only_for_views() -> None:
    task = Spy()
    with torch.autocast("cpu", torch.bfloat16):
        output = task.step(pixel_images(), generator(4))
    ((_, gradient, autocast),) = task.seen
    assert not gradient
    assert not autocast
    assert output.loss.requires_grad
    assert output.metrics["autocast"]
    expected = task(task.views(pixel_images(), generator(4)))
    assert output.loss.item() == expected.loss.item()


def test_step_runs_forward_hooks() -> None:
    """Distributed wrappers and profilers use these hooks."""
    task, calls = Spy(), []
    task.register_forward_hook(lambda *_: calls.append(1))
    task.step(pixel_images(), Generator())
    assert calls == [1]


@pytest.mark.parametrize("shape", WRONG_SHAPES)
def test_step_refuses_wrong_shapes(shape: tuple[int, ...]) -> None:
    task = Spy()
    with pytest.raises(ShapeError) as caught:
        task.step(torch.zeros(shape), Generator())
    assert str(caught.value).startswith(shape_text(shape))
    assert not task.seen


def test_after_step_changes_nothing_by_default() -> None:
    task = Spy()
    state = {name: value.clone() for name, value in task.state_dict().items()}
    task.after_step()
    assert all(torch.equal(value, state[name]) for name, value in task.state_dict().items())


def test_package_exports_the_contracts() -> None:
    assert (pk.Backbone, pk.SpatialBackbone, pk.Head) == (Backbone, SpatialBackbone, Head)
    assert (pk.PretextTask, pk.TaskOutput, pk.InputNormalization) == (PretextTask, TaskOutput, InputNormalization)


def test_measure_of_several_chunks_equals_one_chunk() -> None:
    images = uniform(2500, 3, 4, 4)
    images[2048:] = 1.0
    measured = InputNormalization(3).measure(images)
    torch.testing.assert_close(measured.mean, images.double().mean((0, 2, 3)).float())
    torch.testing.assert_close(measured.std, images.double().std((0, 2, 3), correction=0).float())


def test_measure_refuses_an_empty_batch() -> None:
    with pytest.raises(ShapeError) as caught:
        InputNormalization(3).measure(torch.zeros(0, 3, 4, 4))
    assert caught.value.text == "Expected at least one image, but got shape (0, 3, 4, 4). Pass the training images."


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool], ids=str)
def test_normalization_refuses_other_dtypes(dtype: torch.dtype) -> None:
    with pytest.raises(DataError) as caught:
        InputNormalization(3)(torch.zeros(2, 3, 8, 8).to(dtype))
    assert str(caught.value).startswith(
        f"Expected images of dtype uint8 (0 to 255) or floating-point (0 to 1), but got {dtype}. "
    )


@pytest.mark.parametrize("shape", [(2, 3, 0, 8), (0, 1, 8, 0)])
def test_normalization_refuses_images_without_pixels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        InputNormalization(3)(torch.zeros(shape))
    assert caught.value.text == (
        f"Expected images b c h w of at least one pixel, but got shape {shape}. Check how the images were cropped."
    )
