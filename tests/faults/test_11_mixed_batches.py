"""Sizes, channels and kinds of images that differ between batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import pretextkit as pk
from pretextkit.data import as_source
from pretextkit.data._accepted_channels import retry_in_color
from pretextkit.errors import ShapeError
from pretextkit.functional import (
    extract_features,
    linear_probe,
    neighbor_anomaly_score,
    patch_anomaly_score,
    pretrain,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
)

from .test_1_missing_labels import HOLDERS, Items

ODD: dict[str, Any] = {
    "first": lambda i: i == 0,
    "last": lambda i: i == 23,
    "one batch": lambda i: 8 <= i < 12,
    "half": lambda i: i % 2 == 1,
}


@pytest.mark.parametrize("held", ["set", "loader"])
def test_sizes_that_differ_raise_shape_error(held: str) -> None:
    items = [(torch.rand(3, 32 + 8 * (i % 2), 32), i % 2) for i in range(12)]
    data: Any = Items(items) if held == "set" else DataLoader(Items(items), batch_size=1)
    task = pk.tasks.SimCLR(pk.models.SmallCNN())
    with pytest.raises(ShapeError):
        pretrain(task, data, steps=1, batch_size=4, progress=False)
    with pytest.raises(ShapeError):
        linear_probe(nn.Flatten(), data, data)
    with pytest.raises(ShapeError):
        as_source(data).in_memory()
    with pytest.raises(ShapeError) as caught:
        reconstruction_anomaly_score(nn.Identity(), data, batch_size=1)
    assert str(caught.value).startswith(
        "Expected images h w of one size, because their maps form one tensor, but got (32, 32) and (40, 32). Resize"
    )


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("gray_is_odd", [True, False])
def test_gray_beside_color_equals_all_rgb(holder: str, odd: str, gray_is_odd: bool) -> None:
    grays = torch.rand(24, 1, 4, 4)
    if holder == "labels apart":  # a collation of its own stacks images of one kind only
        pytest.skip("stacks the images itself")
    images = [gray if ODD[odd](i) == gray_is_odd else gray.expand(3, 4, 4) for i, gray in enumerate(grays)]
    data = HOLDERS[holder]
    expected = nn.Conv2d(3, 2, 1)
    net = nn.Sequential(expected, nn.Flatten())
    right = extract_features(net, grays.expand(-1, 3, -1, -1)).layers["last"]
    found = extract_features(net, data(list(images)), batch_size=4).layers["last"]
    torch.testing.assert_close(found, right)
    assert as_source(data(list(images))).in_memory().images.shape == (24, 3, 4, 4)
    maps = reconstruction_anomaly_score(nn.Conv2d(3, 3, 1), data(list(images)), batch_size=1).maps
    assert maps is not None
    assert maps.shape == (24, 4, 4)


@pytest.mark.filterwarnings("ignore:The brightest pixel:pretextkit.errors.DataWarning")
@pytest.mark.parametrize("holder", ["set", "loader", "stream"])
@pytest.mark.parametrize("odd", ODD)
def test_bytes_beside_floats_equal_all_floats(holder: str, odd: str) -> None:
    pixels = torch.randint(0, 2, (24, 3, 4, 4), dtype=torch.uint8)  # so dark that floats of 0 to 255 would pass
    images = [each if ODD[odd](i) else each.float() / 255 for i, each in enumerate(pixels)]
    held = as_source(HOLDERS[holder](list(images))).in_memory().images
    torch.testing.assert_close(held, pixels.float() / 255)


def test_gray_images_alone_stay_gray() -> None:
    assert as_source(Items([torch.rand(1, 4, 4)] * 5)).in_memory().images.shape == (5, 1, 4, 4)


def test_failure_on_color_images_does_not_read_again() -> None:
    class Counted(Items):
        reads = 0

        def __getitem__(self, index: int) -> Any:
            self.reads += 1
            return super().__getitem__(index)

    data = Counted([torch.rand(3, 4, 4)] * 6)
    with pytest.raises(ZeroDivisionError):
        extract_features(lambda x: x / (1 // 0), data)
    assert data.reads == 6


def test_failure_on_gray_images_beside_bands_does_not_read_again() -> None:
    """Only colors have a gray form, so the second pass would fail as the first."""
    passes = []

    def work(source: Any) -> None:
        passes.append([batch.images.shape[1] for batch in source.in_order(1)])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        retry_in_color(work, as_source(Items([torch.rand(1, 8, 8), torch.rand(5, 8, 8)])))
    assert passes == [[1, 5]]


class ColorBackbone(pk.Backbone):
    """A backbone that takes RGB images only, and does not convert gray ones."""

    feature_dim = 4

    def __init__(self) -> None:
        super().__init__(in_channels=3)
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layer(images).mean((2, 3))
        return features


SCORES: dict[str, Any] = {
    "patches": lambda images: patch_anomaly_score(nn.Conv2d(3, 4, 3), images, images, batch_size=2).scores,
    "rotation": lambda images: rotation_anomaly_score(pk.tasks.Rotation(ColorBackbone()), images, batch_size=2).scores,
    "reconstruction": lambda images: reconstruction_anomaly_score(nn.Conv2d(3, 3, 1), images, batch_size=2).scores,
    "neighbors": lambda images: neighbor_anomaly_score(nn.Conv2d(3, 4, 3), images, images).scores,
    "pretrain": lambda images: trained(images, ColorBackbone()),
}


def trained(images: Any, backbone: pk.Backbone, batch_size: int = 2) -> torch.Tensor:
    task = pk.tasks.Rotation(backbone)
    pretrain(task, images, epochs=2, batch_size=batch_size, device="cpu", precision="fp32", progress=False)
    return torch.cat([weight.detach().flatten() for weight in task.parameters()])


@pytest.mark.parametrize("work", SCORES)
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("gray_is_odd", [True, False])
def test_own_color_module_takes_gray_beside_color(work: str, odd: str, gray_is_odd: bool) -> None:
    """The result is that of the same images as RGB, also where a batch is all gray, or the first one."""
    grays = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = [gray if ODD[odd](i) == gray_is_odd else gray.expand(3, -1, -1) for i, gray in enumerate(grays)]
    found, right = [], Items([gray.expand(3, -1, -1) for gray in grays])
    for data in (Items(images), right):
        torch.manual_seed(0)
        found.append(SCORES[work](data))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("work", SCORES)
@pytest.mark.parametrize("held", ["loader", "stream"])
def test_own_color_module_takes_first_batches_all_gray(work: str, held: str) -> None:
    grays = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = [gray if i < 9 else gray.expand(3, -1, -1) for i, gray in enumerate(grays)]
    found = []
    for each in (images, [gray.expand(3, -1, -1) for gray in grays]):
        torch.manual_seed(0)
        found.append(SCORES[work](HOLDERS[held](list(each))))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("work", SCORES)
def test_own_color_module_refuses_gray_images_alone(work: str) -> None:
    with pytest.raises(RuntimeError, match="to have 3 channels"):
        SCORES[work](Items([torch.rand(1, 8, 8)] * 24))


def test_backbone_that_takes_gray_images_gets_them() -> None:
    channels = set()

    class Watching(ColorBackbone):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            channels.add(images.shape[1])
            return super().forward(images.expand(-1, 3, -1, -1))

    trained(Items([torch.rand(1 if i < 20 else 3, 8, 8) for i in range(24)]), Watching(), batch_size=1)
    assert channels == {1, 3}
