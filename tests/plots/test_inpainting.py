from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from pretextkit import Masked
from pretextkit.errors import OptionError, ShapeError
from pretextkit.plots import inpainting
from pretextkit.tasks import ContextEncoder, Denoising
from pretextkit.testing import TinyBackbone
from tests.helpers import uniform


def example(channels: int = 3) -> tuple[Masked, Tensor]:
    images = uniform(4, channels, 6, 8)
    mask = uniform(4, 1, 6, 8, seed=1) > 0.6
    return Masked(torch.where(mask, 0.5, images), mask, images), uniform(4, channels, 6, 8, seed=2)


def shown(figure: Figure, place: int) -> Any:
    (image,) = figure.axes[place].images
    return np.asarray(image.get_array())


def naive_decibels(image: Tensor, truth: Tensor, mask: Tensor) -> float:
    """Compute the PSNR of the hidden pixels of one image ``c h w`` with loops."""
    errors = []
    for row, column in mask[0].nonzero().tolist():
        errors += [
            (float(a) - float(b)) ** 2 for a, b in zip(image[:, row, column], truth[:, row, column], strict=True)
        ]
    return -10 * math.log10(sum(errors) / len(errors))


@pytest.mark.parametrize("channels", [1, 3])
def test_only_hidden_pixels_are_filled_and_measured(channels: int) -> None:
    batch, filled = example(channels)
    figure = inpainting(batch, filled, count=3, title="inpainting")
    assert len(figure.axes) == 9
    assert figure.get_suptitle() == "inpainting"
    assert [figure.axes[place].get_ylabel() for place in (0, 1, 2)] == ["hole", "filled", "original"]
    for column in range(3):
        hole, fill, original = figure.axes[3 * column : 3 * column + 3]
        pasted = batch.target[column].clone()
        for row, place in batch.mask[column, 0].nonzero().tolist():
            pasted[:, row, place] = filled[column, :, row, place]
        for axes, image in ((hole, batch.visible[column]), (fill, pasted), (original, batch.target[column])):
            expected = image[0] if channels == 1 else image.permute(1, 2, 0)
            np.testing.assert_array_equal(shown(figure, figure.axes.index(axes)), expected)
            assert axes.images[0].get_clim() == (0, 1)
        word = "PSNR " if column == 0 else ""
        for axes, image in ((hole, batch.visible[column]), (fill, pasted)):
            decibels = naive_decibels(image, batch.target[column], batch.mask[column])
            assert axes.get_title() == f"{word}{decibels:.1f} dB"
        assert original.get_title() == ""
    figure.savefig(io.BytesIO(), format="png")


def test_line_outlines_the_hidden_pixels() -> None:
    batch, filled = example()
    figure = inpainting(batch, filled, count=1)
    hidden = batch.mask[0, 0]
    expected = set()
    for y in range(6):
        for x in range(8):
            for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                inside = 0 <= y + dy < 6 and 0 <= x + dx < 8
                if hidden[y, x] and not (inside and hidden[y + dy, x + dx]):
                    expected.add((y + dy / 2, x + dx / 2))  # the middle of the edge between the two
    for axes in figure.axes[:2]:
        (lines,) = axes.collections
        segments = lines.get_segments()  # type: ignore[attr-defined]
        assert len(segments) == len(expected)
        assert {tuple(segment.mean(0)[::-1].tolist()) for segment in segments} == expected
        assert all(np.abs(segment[0] - segment[1]).sum() == 1 for segment in segments)
    assert not figure.axes[2].collections


@pytest.mark.parametrize("task", [ContextEncoder(TinyBackbone()), Denoising(TinyBackbone())])
def test_batches_of_tasks_are_accepted_and_not_modified(task: Any) -> None:
    batch = task.views(uniform(7, 3, 16, 16), Generator().manual_seed(0))
    kept = [field.clone() for field in batch]
    figure = inpainting(batch, task.reconstruct(batch.visible))
    assert len(figure.axes) == 18  # six of the seven
    assert all(torch.equal(field, before) for field, before in zip(batch, kept, strict=True))
    figure.savefig(io.BytesIO(), format="png")


def test_image_without_hidden_pixels_has_no_psnr() -> None:
    batch, filled = example()
    batch.mask[0] = False
    figure = inpainting(batch, filled, count=2)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["", "", ""]
    assert not figure.axes[0].collections[0].get_paths()
    figure.savefig(io.BytesIO(), format="png")


def test_invalid_input_is_refused() -> None:
    batch, filled = example()
    with pytest.raises(OptionError, match=r"Expected count to be an integer >= 1, but got 0\. The default is 6\."):
        inpainting(batch, filled, count=0)
    with pytest.raises(ShapeError) as caught:
        inpainting(batch, filled[:2])
    assert caught.value.text == (
        "Expected visible, target and filled b c h w and a bool mask b 1 h w of the same images, but got visible, "
        "mask, target and filled of shapes (4, 3, 6, 8), (4, 1, 6, 8), (4, 3, 6, 8), (2, 3, 6, 8). Pass a batch "
        "from views, and the reconstruction of its visible images."
    )
    with pytest.raises(ShapeError, match="a bool mask b 1 h w"):
        inpainting(batch._replace(mask=batch.mask.float()), filled)
