"""Small views of a network that takes no small images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.errors import ShapeError
from tests.helpers import generator, random_images


def wrapped() -> pk.SpatialBackbone:
    """Wrap a network that takes images of 24 pixels and more."""
    return pk.models.wrap(nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 11)))


@pytest.mark.parametrize("name", ["dino", "lejepa", "swav"])
def test_too_small_views_are_refused_with_the_size_that_works(name: str) -> None:
    smallest = wrapped().smallest_image
    task: Any = pk.pretext_tasks.create(name, wrapped())
    size = 2 * smallest  # small views have half the side
    with pytest.raises(ShapeError) as caught:
        task.step(random_images(4, size=(size - 2, size + 4)), generator())
    assert f"Expected views of at least {smallest}x{smallest} pixels, the smallest that Sequential takes" in str(
        caught.value
    )
    assert f"views of {smallest - 1} pixels a side, of images of {size - 2}x{size + 4}" in str(caught.value)
    assert f"Enlarge the images to at least {size} pixels a side" in str(caught.value)
    assert task.step(random_images(4, size=(size, size)), generator()).loss.isfinite()


def test_backbones_of_any_size_take_views_of_any_shape() -> None:
    def views(images: Tensor, generator: torch.Generator) -> pk.batches.MultiViews:
        return pk.batches.MultiViews((images, images), (images[:, :, :5, :5],))

    task = pk.tasks.LeJEPA(pk.models.SmallCNN(), augmentation=views)
    assert task.step(random_images(4, size=(32, 32)), generator()).loss.isfinite()
