from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pretextkit.errors import ShapeError
from pretextkit.views import all_rotations, rotate90
from tests.helpers import random_images


def some_images(n: int = 6, side: int = 5) -> Tensor:
    return random_images(n, size=side)


def naive_rotation(image: Tensor, turns: int) -> Tensor:
    """Rotate counter-clockwise pixel by pixel: the last column becomes the first row."""
    for _ in range(turns % 4):
        side = image.shape[-1]
        before, image = image, torch.empty_like(image)
        for row in range(side):
            for column in range(side):
                image[:, side - 1 - column, row] = before[:, row, column]
    return image


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=5), st.integers(1, 5))
def test_each_image_rotates_by_its_own_turns(turns: list[int], side: int) -> None:
    images = some_images(len(turns), side)
    expected = torch.stack([naive_rotation(image, k) for image, k in zip(images, turns, strict=True)])
    assert torch.equal(rotate90(images, torch.tensor(turns)), expected)


@pytest.mark.parametrize("turns", range(4))
def test_rotation_direction_matches_torch(turns: int) -> None:
    images = some_images()
    expected = torch.stack([torch.rot90(image, turns, (1, 2)) for image in images])
    assert torch.equal(rotate90(images, torch.full((6,), turns)), expected)
    assert torch.equal(all_rotations(images)[6 * turns : 6 * turns + 6], expected)


def test_inverse_rotation_restores_the_images() -> None:
    images, turns = some_images(), torch.arange(6)
    assert torch.equal(rotate90(rotate90(images, turns), -turns), images)


def test_non_square_images_are_refused() -> None:
    text = (
        "Expected square images b c h h, but got shape (2, 3, 4, 5). "
        "Crop them to squares: torchvision.transforms.functional.center_crop(images, min(images.shape[2:]))."
    )
    for rotate in (all_rotations, lambda images: rotate90(images, torch.zeros(2).long())):
        with pytest.raises(ShapeError) as caught:
            rotate(torch.zeros(2, 3, 4, 5))
        assert caught.value.text == text


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), ()])
def test_wrong_number_of_turns_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        rotate90(torch.zeros(2, 3, 4, 4), torch.zeros(shape).long())
    assert caught.value.text == f"Expected one turn for each image, but got {shape} turns. Pass turns of shape (b,)."
