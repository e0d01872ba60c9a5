"""The layout of patches and the option checks that both patch tasks share."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator

from pretextkit.errors import OptionError, ShapeError
from pretextkit.tasks import Jigsaw, JigsawContext, PatchLayout
from pretextkit.testing import TinyBackbone

PatchTasks = type[Jigsaw | JigsawContext]
each_task = pytest.mark.parametrize("task", [Jigsaw, JigsawContext])


@pytest.mark.parametrize("size", range(26, 257))
def test_fitted_layout_fills_the_image_with_separate_patches(size: int) -> None:
    patch, gap, jitter = layout = PatchLayout.fitting(size)
    assert jitter >= 1
    assert gap - 2 * jitter >= 1
    assert patch >= 6
    assert layout.span == 3 * patch + 2 * gap + 2 * jitter
    assert size - 3 < layout.span <= size


@each_task
@pytest.mark.parametrize(("height", "width"), [(25, 25), (25, 64), (64, 8), (1, 1)])
def test_images_too_small_for_any_layout_are_refused(task: PatchTasks, height: int, width: int) -> None:
    with pytest.raises(ShapeError) as caught:
        task(TinyBackbone()).step(torch.zeros(2, 3, height, width), Generator())
    assert caught.value.text == (
        "Expected images of at least 26 pixels, for a 3x3 grid of 6-pixel patches, "
        f"but got {min(height, width)} pixels. Enlarge the images, or pass layout=PatchLayout(patch, gap, jitter)."
    )


def test_shorter_side_determines_the_layout() -> None:
    task = JigsawContext(TinyBackbone())
    assert task.layout_for(torch.zeros(1, 3, 32, 99)) == task.layout_for(torch.zeros(1, 3, 99, 32))
    assert task.layout_for(torch.zeros(1, 3, 32, 99)).patch == 8


@each_task
@pytest.mark.parametrize(("height", "width"), [(31, 40), (40, 31)])
def test_layout_larger_than_the_images_is_refused(task: PatchTasks, height: int, width: int) -> None:
    layout = PatchLayout(patch=6, gap=5, jitter=2)
    assert layout.span == 32
    with pytest.raises(ShapeError) as caught:
        task(TinyBackbone(), layout=layout).step(torch.zeros(2, 3, height, width), Generator())
    assert caught.value.text == (
        "Expected images of at least 32 pixels a side, for PatchLayout(patch=6, gap=5, jitter=2), "
        f"but got {height}x{width}. Enlarge the images, or choose a smaller layout."
    )
    assert task(TinyBackbone(), layout=layout).layout_for(torch.zeros(2, 3, 32, 32)) == layout


@each_task
@pytest.mark.parametrize(
    ("layout", "wrong"),
    [
        (PatchLayout(0, 6, 2), "patch to be an integer >= 1, but got 0"),
        (PatchLayout(8, 3, 2), "gap to be an integer >= 4, but got 3"),
        (PatchLayout(8, 0, -1), "jitter to be an integer >= 0, but got -1"),
    ],
)
def test_invalid_layouts_are_refused(task: PatchTasks, layout: PatchLayout, wrong: str) -> None:
    with pytest.raises(OptionError) as caught:
        task(TinyBackbone(), layout=layout)
    text = caught.value.text
    assert text.startswith(f"Expected {wrong}. ")
    assert text.endswith("For example PatchLayout(patch=16, gap=6, jitter=2).")
    assert ("A gap of twice the jitter keeps neighbors from overlapping." in text) == ("gap" in wrong)


@each_task
@pytest.mark.parametrize("color_drop", [-0.1, 1.1, math.nan])
def test_color_drop_out_of_range_is_refused(task: PatchTasks, color_drop: float) -> None:
    with pytest.raises(OptionError) as caught:
        task(TinyBackbone(), color_drop=color_drop)
    assert (
        caught.value.text == f"Expected color_drop to be a number in [0, 1], but got {color_drop}. The default is 0.66."
    )
