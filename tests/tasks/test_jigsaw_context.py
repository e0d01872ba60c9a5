from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from pretextkit.batches import PatchPair
from pretextkit.contracts import Backbone
from pretextkit.errors import OptionError, ShapeError
from pretextkit.tasks import JigsawContext, PatchLayout
from pretextkit.tasks import _patches as patch_tasks
from pretextkit.testing import TinyBackbone

CHANCE = 1 / 8
SIDES = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
"""Offsets down and right from the center, row by row."""

Plain = Callable[[], None]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Plain:
    """Return a function that disables standardization, so pixels reveal the position of a patch."""
    return lambda: monkeypatch.setattr(patch_tasks, "standardize_patches", lambda patches: patches)


def views(images: Tensor, *, seed: int = 0, **options: object) -> PatchPair:
    task = JigsawContext(TinyBackbone(), augmentation=None, **options)  # type: ignore[arg-type]
    return task.views(images, Generator().manual_seed(seed))


def coordinates(n: int, height: int, width: int) -> Tensor:
    """Make images whose three channels hold the row, the column and the image number of each pixel."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    numbers = torch.arange(n).view(n, 1, 1).expand(n, height, width)
    return torch.stack([rows.expand(n, -1, -1), columns.expand(n, -1, -1), numbers], 1).float()


def corners(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Read the corners of patches of :func:`coordinates`, and assert that each is one piece of one image."""
    size = patches.shape[2]
    first = patches[:, :, 0, 0]
    piece = coordinates(1, size, size)[:, :2]
    assert torch.equal(patches[:, :2], first[:, :2, None, None] + piece)
    assert torch.equal(patches[:, 2], first[:, 2, None, None].expand(-1, size, size))
    return first[:, :2].long(), first[:, 2].long()


@pytest.mark.parametrize(
    ("height", "width", "layout"),
    [
        (26, 26, None),
        (32, 32, None),
        (64, 96, None),
        (40, 60, PatchLayout(patch=7, gap=4, jitter=2)),
        (33, 26, PatchLayout(patch=8, gap=1, jitter=0)),
    ],
)
def test_labels_match_the_neighbor_position(height: int, width: int, layout: PatchLayout | None, plain: Plain) -> None:
    """Patches start at the position of their target, up to independent jitter of both."""
    plain()
    n, pairs = 64, 16
    batch = views(coordinates(n, height, width), layout=layout, pairs=pairs, color_drop=0)
    patch, gap, jitter = layout or PatchLayout.fitting(min(height, width))
    assert batch.position.dtype == torch.int64
    (center, image), (neighbor, other) = corners(batch.center), corners(batch.neighbor)
    assert torch.equal(image, torch.arange(n).repeat_interleave(pairs))
    assert torch.equal(other, image)
    moved = neighbor - center - (patch + gap) * torch.tensor(SIDES)[batch.position]
    for axis in range(2):
        assert set(moved[:, axis].tolist()) == set(range(-2 * jitter, 2 * jitter + 1))
    if jitter:
        assert abs(torch.corrcoef(moved.T.float())[0, 1]) < 0.15
    counts = torch.bincount(batch.position, minlength=8) / (n * pairs)
    assert (counts - CHANCE).abs().max() < 0.05


@pytest.mark.parametrize("layout", [None, PatchLayout(patch=7, gap=4, jitter=2), PatchLayout(patch=6, gap=2, jitter=1)])
def test_patches_of_a_pair_never_overlap(layout: PatchLayout | None, plain: Plain) -> None:
    """With a fitted layout, patches do not touch either."""
    plain()
    batch = views(coordinates(300, 40, 45), layout=layout, color_drop=0)
    patch = batch.center.shape[2]
    apart = (corners(batch.neighbor)[0] - corners(batch.center)[0]).abs().amax(1)
    assert apart.min() >= patch + (layout is None)


def test_grid_position_is_random_in_larger_images(plain: Plain) -> None:
    plain()
    layout = PatchLayout(patch=7, gap=4, jitter=2)
    batch = views(coordinates(1500, 37, 60), layout=layout, color_drop=0)
    for patches, margin in ((batch.neighbor, 0), (batch.center, layout.patch + layout.gap)):
        begins, _ = corners(patches)
        for axis, side in enumerate((37, 60)):
            assert begins[:, axis].min() == margin
            assert begins[:, axis].max() == side - layout.patch - margin
    columns = corners(batch.center)[0][:, 1].float()
    assert abs(columns.mean() - (60 - 7) / 2) < 0.5


def test_pairs_of_an_image_are_drawn_independently(plain: Plain) -> None:
    plain()
    batch = views(coordinates(400, 64, 64), pairs=2, color_drop=0)
    first, second = batch.position[0::2], batch.position[1::2]
    assert abs((first == second).float().mean() - CHANCE) < 0.06
    begins, _ = corners(batch.center)
    assert abs(torch.corrcoef(torch.stack([begins[0::2, 0], begins[1::2, 0]]).float())[0, 1]) < 0.15


@pytest.mark.parametrize("size", [26, 27, 28, 32, 33, 63, 64, 65, 96, 97, 224, 256])
def test_views_exist_for_every_size(size: int) -> None:
    batch = views(torch.zeros(2, 3, size, size), pairs=2)
    patch = PatchLayout.fitting(size).patch
    assert batch.center.shape == batch.neighbor.shape == (4, 3, patch, patch)
    assert batch.position.shape == (4,)


@pytest.mark.parametrize("pairs", [0, -1])
def test_fewer_than_one_pair_is_refused(pairs: int) -> None:
    with pytest.raises(OptionError) as caught:
        JigsawContext(TinyBackbone(), augmentation=None, pairs=pairs)
    assert caught.value.text == f"Expected pairs to be an integer >= 1, but got {pairs}. The default is 4."


def test_colors_are_dropped_from_each_patch_separately() -> None:
    images = torch.rand(500, 3, 32, 32, generator=Generator().manual_seed(0))
    batch = views(images)
    gray = [(patches == patches[:, :1]).flatten(1).all(1).float() for patches in (batch.center, batch.neighbor)]
    for share in gray:
        assert abs(share.mean() - 0.66) < 0.05
    assert abs(torch.corrcoef(torch.stack(gray))[0, 1]) < 0.1


def test_every_patch_is_standardized() -> None:
    batch = views(0.2 + 0.1 * torch.rand(16, 3, 32, 32, generator=Generator().manual_seed(0)))
    for patches in (batch.center, batch.neighbor):
        assert (patches.mean((1, 2, 3)) - 0.5).abs().max() < 0.01
        assert (patches.std((1, 2, 3)) - 0.25).abs().max() < 0.01
        assert patches.min() >= 0
        assert patches.max() <= 1


def readable(features: Tensor, position: Tensor) -> float:
    """Compute the accuracy on the second half of a linear model fitted to the first half."""
    features = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    half = len(features) // 2
    targets = nn.functional.one_hot(position, 8).double()
    weights = torch.linalg.pinv(features[:half]) @ targets[:half]
    return float(((features[half:] @ weights).argmax(1) == position[half:]).double().mean())


def fringed(n: int, size: int = 64) -> Tensor:
    """Make textures with chromatic aberration: red is magnified and blue is shrunk."""
    generator = Generator().manual_seed(0)
    waves = 0.5 * torch.randn(n, 2, 12, generator=generator)
    phases = 2 * math.pi * torch.rand(n, 12, generator=generator)
    middle = torch.arange(size) - (size - 1) / 2
    place = torch.stack(torch.meshgrid(middle, middle, indexing="ij"), 2)
    channels = [
        (torch.einsum("y x a, n a w -> n y x w", zoom * place, waves) + phases[:, None, None]).sin().mean(3)
        for zoom in (1.05, 1.0, 0.95)
    ]
    return 0.5 + 0.4 * torch.stack(channels, 1)


def fringes(patches: Tensor) -> Tensor:
    """Estimate the shift between red and blue, down and right: ``b 2``."""
    green, difference = patches[:, 1], (patches[:, 0] - patches[:, 2])[:, 1:-1, 1:-1]
    slopes = ((green[:, 2:, 1:-1] - green[:, :-2, 1:-1]) / 2, (green[:, 1:-1, 2:] - green[:, 1:-1, :-2]) / 2)
    return torch.stack([(difference * slope).mean((1, 2)) / slope.square().mean((1, 2)) for slope in slopes], 1)


def test_dropping_colors_hides_chromatic_aberration() -> None:
    images = fringed(300)
    found = {}
    for color_drop in (0.0, 1.0):
        batch = views(images, color_drop=color_drop)
        shifts = torch.cat([fringes(batch.center), fringes(batch.neighbor)], 1)
        found[color_drop] = readable(shifts, batch.position)
    assert found[0.0] > 3 * CHANCE  # the shortcut exists
    assert abs(found[1.0] - CHANCE) < 0.05


def vignetted(n: int, size: int = 64) -> Tensor:
    """Make noise that becomes darker and lower in contrast from top to bottom."""
    noise = 0.4 + 0.6 * torch.rand(n, 3, size, size, generator=Generator().manual_seed(0))
    return noise * torch.linspace(1, 0.8, size)[:, None]


def test_standardization_hides_vignetting(plain: Plain) -> None:
    def shortcut_accuracy() -> float:
        batch = views(vignetted(500), color_drop=0)
        moments = [moment((1, 2, 3)) for p in (batch.center, batch.neighbor) for moment in (p.mean, p.std)]
        return readable(torch.stack(moments, 1), batch.position)

    assert abs(shortcut_accuracy() - CHANCE) < 0.05
    plain()
    assert shortcut_accuracy() > 2 * CHANCE


def seams(batch: PatchPair) -> Tensor:
    """Compute the difference of facing edges for each of the eight neighbor positions: ``b 8``."""
    # Facing edges of center and neighbor, for a neighbor before, level with, or after the center.
    end: dict[int, tuple[int | slice, int | slice]] = {-1: (0, -1), 0: (slice(None), slice(None)), 1: (-1, 0)}
    unlike = []
    for below, right in SIDES:
        (row, facing_row), (column, facing_column) = end[below], end[right]
        here, there = batch.center[:, :, row, column], batch.neighbor[:, :, facing_row, facing_column]
        unlike.append((here - there).square().flatten(1).mean(1))
    return torch.stack(unlike, 1)


def test_gaps_hide_continuous_lines(plain: Plain) -> None:
    plain()
    noise = torch.rand(400, 3, 66, 66, generator=Generator().manual_seed(0))
    images = nn.functional.avg_pool2d(noise, 3, stride=1)  # only nearby pixels are similar
    found = {}
    for layout in (PatchLayout(patch=20, gap=0, jitter=0), PatchLayout.fitting(64)):
        batch = views(images, layout=layout, color_drop=0.0)
        found[layout.gap] = float((seams(batch).argmin(1) == batch.position).double().mean())
    assert found[0] > 3 * CHANCE  # the shortcut exists
    assert found[6] < 1.5 * CHANCE


class ChannelMeans(Backbone):
    """A backbone whose features are the mean of each channel."""

    feature_dim = 3

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def test_head_sees_center_then_neighbor() -> None:
    task = JigsawContext(ChannelMeans(), augmentation=None)
    generator = Generator().manual_seed(0)
    center, neighbor = (torch.rand(5, 3, 8, 8, generator=generator) for _ in range(2))
    batch = PatchPair(center, neighbor, torch.tensor([0, 7, 3, 3, 1]))
    logits = task.head(torch.cat([center.mean((2, 3)), neighbor.mean((2, 3))], 1)).tolist()
    rows = [math.log(sum(map(math.exp, row))) - row[k] for row, k in zip(logits, batch.position.tolist(), strict=True)]
    output = task(batch)
    assert output.loss.item() == pytest.approx(sum(rows) / 5, rel=1e-5)
    right = [row.index(max(row)) == k for row, k in zip(logits, batch.position.tolist(), strict=True)]
    assert output.metrics["accuracy"].item() == pytest.approx(sum(right) / 5)


@pytest.mark.parametrize("right", range(5))
def test_accuracy_counts_correct_predictions(right: int) -> None:
    task = JigsawContext(ChannelMeans(), augmentation=None)
    position = torch.tensor([0, 7, 3, 5])
    said = torch.where(torch.arange(4) < right, position, (position + 1) % 8)
    patches = torch.zeros(4, 3, 8, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task.head, "forward", lambda _: nn.functional.one_hot(said, 8))
        assert task(PatchPair(patches, patches, position)).metrics["accuracy"] == right / 4


def test_single_pair_is_refused_in_training() -> None:
    """The head has BatchNorm; four pairs of one image suffice."""
    image = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ShapeError, match=r"^Expected at least 2 rows, because the head uses BatchNorm, but got 1\."):
        JigsawContext(TinyBackbone(), augmentation=None, pairs=1).step(image, Generator())
    assert JigsawContext(TinyBackbone(), augmentation=None).step(image, Generator()).loss.isfinite()


def test_subclass_can_override_remove_shortcuts() -> None:
    class Inverted(JigsawContext):
        def remove_shortcuts(self, patches: Tensor, generator: Generator) -> Tensor:
            return 1 - patches

    images = torch.rand(8, 3, 32, 32, generator=Generator().manual_seed(0))
    layout = PatchLayout(patch=8, gap=3, jitter=0)
    batch = Inverted(TinyBackbone(), layout=layout, pairs=1, augmentation=None).views(
        images, Generator().manual_seed(0)
    )
    windows = (1 - images).unfold(2, 8, 1).unfold(3, 8, 1)
    for image, patch in zip(windows, batch.center, strict=True):
        assert (image == patch[:, None, None]).flatten(3).all(3).all(0).sum() == 1
