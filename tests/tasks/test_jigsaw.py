from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from pretextkit.batches import Tiles
from pretextkit.contracts import Backbone
from pretextkit.errors import OptionError
from pretextkit.tasks import Jigsaw, PatchLayout, distant_permutations
from pretextkit.tasks import _jigsaw as jigsaw
from pretextkit.tasks import _patches as patch_tasks
from pretextkit.testing import TinyBackbone


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable standardization, so pixels reveal the position of a tile."""
    monkeypatch.setattr(patch_tasks, "standardize_patches", lambda patches: patches)


def views(images: Tensor, *, seed: int = 0, orders: int = 6, **options: object) -> tuple[Jigsaw, Tiles]:
    task = Jigsaw(TinyBackbone(), augmentation=None, orders=orders, **options)  # type: ignore[arg-type]
    return task, task.views(images, Generator().manual_seed(seed))


def coordinates(n: int, height: int, width: int) -> Tensor:
    """Make images whose three channels hold the row, the column and the image number of each pixel."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    numbers = torch.arange(n).view(n, 1, 1).expand(n, height, width)
    return torch.stack([rows.expand(n, -1, -1), columns.expand(n, -1, -1), numbers], 1).float()


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("height", "width", "layout"),
    [(32, 32, None), (64, 80, None), (40, 60, PatchLayout(7, 4, 2)), (33, 26, PatchLayout(8, 1, 0))],
)
def test_labels_match_the_order_of_the_tiles(height: int, width: int, layout: PatchLayout | None) -> None:
    """Each tile is one piece of its image, at the grid position given by the order, up to jitter."""
    n = 64
    task, batch = views(coordinates(n, height, width), layout=layout, color_drop=0)
    patch, gap, jitter = layout or PatchLayout.fitting(min(height, width))
    begins = []
    for tile in batch.tiles:
        first = tile[:, :, 0, 0]
        assert torch.equal(tile[:, 2], torch.arange(n).view(n, 1, 1).expand(-1, patch, patch).float())
        assert torch.equal(tile[:, :2], first[:, :2, None, None] + coordinates(1, patch, patch)[:, :2])
        begins.append(first[:, :2])
    corners = torch.stack(begins, 1).long()  # n 9 2
    for image, label in zip(corners, batch.permutation.tolist(), strict=True):
        sorted_back = torch.empty_like(image)
        sorted_back[task.orders[label]] = image
        grid = torch.tensor([(row, column) for row in range(3) for column in range(3)]) * (patch + gap)
        jitters = sorted_back - grid - (sorted_back - grid).amin(0)
        assert jitters.max() <= 2 * jitter
    assert batch.permutation.dtype == torch.int64
    assert set(batch.permutation.tolist()) == set(range(6))


@pytest.mark.usefixtures("plain")
def test_sorted_tiles_form_the_image() -> None:
    """Without gap, jitter and removal of shortcuts, the sorted tiles form the image."""
    images = torch.rand(12, 3, 24, 24, generator=Generator().manual_seed(0))
    task, batch = views(images, layout=PatchLayout(8, 0, 0), color_drop=0)
    for row, label in enumerate(batch.permutation.tolist()):
        sorted_tiles = torch.empty(9, 3, 8, 8)
        sorted_tiles[task.orders[label]] = torch.stack([tile[row] for tile in batch.tiles])
        assert torch.equal(rearrange(sorted_tiles, "(r k) c h w -> c (r h) (k w)", r=3), images[row])


@pytest.mark.usefixtures("plain")
def test_tiles_never_overlap_and_have_independent_jitter() -> None:
    _, batch = views(coordinates(200, 32, 32), color_drop=0)
    patch, gap, jitter = PatchLayout.fitting(32)
    corners = torch.stack([tile[:, :2, 0, 0] for tile in batch.tiles], 1)
    for one, other in combinations(range(9), 2):
        assert (corners[:, one] - corners[:, other]).abs().amax(1).min() >= patch + gap - 2 * jitter
    within = corners.remainder(patch + gap)
    assert len(torch.unique(within[:, :, 0], dim=0)) > 150


@pytest.mark.usefixtures("plain")
def test_grid_position_is_random() -> None:
    """A grid of 26x26 pixels starts at any of 3 rows and 5 columns, drawn for each image."""
    _, batch = views(coordinates(200, 28, 30), layout=PatchLayout(8, 1, 0), color_drop=0)
    corners = torch.stack([tile[:, :2, 0, 0] for tile in batch.tiles], 1).amin(1)
    assert {(int(row), int(column)) for row, column in corners} == {(r, c) for r in range(3) for c in range(5)}


def test_tiles_are_standardized_and_drop_colors_separately() -> None:
    images = 0.2 + 0.1 * torch.rand(300, 3, 32, 32, generator=Generator().manual_seed(0))
    _, batch = views(images)
    gray = torch.stack([(tile == tile[:, :1]).flatten(1).all(1).float() for tile in batch.tiles])
    assert (gray.mean(1) - 0.66).abs().max() < 0.1
    assert torch.corrcoef(gray).fill_diagonal_(0).abs().max() < 0.25
    for tile in batch.tiles:
        assert (tile.mean((1, 2, 3)) - 0.5).abs().max() < 0.01
        assert (tile.std((1, 2, 3)) - 0.25).abs().max() < 0.01


@pytest.mark.parametrize(("count", "least"), [(2, 9), (9, 7), (64, 6)])
def test_orders_differ_in_many_positions(count: int, least: int) -> None:
    orders = distant_permutations(count)
    assert orders.shape == (count, 9)
    assert torch.equal(orders.sort(1).values, torch.arange(9).expand(count, 9))
    apart = (orders[:, None] != orders).sum(2)
    assert apart[~torch.eye(count, dtype=torch.bool)].min() >= least


def test_orders_match_a_loop() -> None:
    from itertools import permutations

    every = [tuple(row) for row in torch.tensor(list(permutations(range(4)))).tolist()]
    shuffled = [every[i] for i in torch.randperm(24, generator=Generator().manual_seed(0)).tolist()]
    chosen = [shuffled[0]]
    while len(chosen) < 8:
        nearest = [min(sum(a != b for a, b in zip(row, other, strict=True)) for other in chosen) for row in shuffled]
        chosen.append(shuffled[nearest.index(max(nearest))])
    assert [tuple(row) for row in distant_permutations(8, length=4).tolist()] == chosen


def test_all_permutations_are_available_and_reproducible() -> None:
    every = distant_permutations(24, length=4)
    assert len(torch.unique(every, dim=0)) == 24
    jigsaw._distant_permutations.cache_clear()
    assert torch.equal(distant_permutations(24, length=4), every)


def test_tasks_do_not_share_their_orders() -> None:
    one, other = (
        Jigsaw(TinyBackbone(), augmentation=None, orders=6),
        Jigsaw(TinyBackbone(), augmentation=None, orders=6),
    )
    one.orders.zero_()
    assert torch.equal(other.orders, distant_permutations(6))
    assert other.orders.any()


def test_orders_are_saved_in_the_state_dict() -> None:
    one, other = (
        Jigsaw(TinyBackbone(), augmentation=None, orders=6),
        Jigsaw(TinyBackbone(), augmentation=None, orders=6),
    )
    one.orders = one.orders.flip(0)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.orders, one.orders)
    assert not torch.equal(distant_permutations(6), one.orders)


class ChannelMeans(Backbone):
    feature_dim = 3

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def test_loss_is_the_cross_entropy_of_tiles_in_order() -> None:
    task = Jigsaw(ChannelMeans(), augmentation=None, orders=5)
    draws = Generator().manual_seed(0)
    tiles = tuple(torch.rand(4, 3, 8, 8, generator=draws) for _ in range(9))
    batch = Tiles(tiles, torch.tensor([0, 4, 2, 2]))
    logits = task.head(torch.cat([tile.mean((2, 3)) for tile in tiles], 1)).tolist()
    labels = batch.permutation.tolist()
    rows = [math.log(sum(map(math.exp, row))) - row[k] for row, k in zip(logits, labels, strict=True)]
    output = task(batch)
    assert output.loss.item() == pytest.approx(sum(rows) / 4, rel=1e-5)
    right = [row.index(max(row)) == k for row, k in zip(logits, labels, strict=True)]
    assert output.metrics["accuracy"].item() == pytest.approx(sum(right) / 4)


@pytest.mark.parametrize("right", range(5))
def test_accuracy_counts_correct_predictions(right: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Jigsaw(ChannelMeans(), augmentation=None, orders=5)
    permutation = torch.tensor([0, 4, 2, 3])
    said = torch.where(torch.arange(4) < right, permutation, (permutation + 1) % 5)
    monkeypatch.setattr(task.head, "forward", lambda _: nn.functional.one_hot(said, 5))
    assert task(Tiles((torch.zeros(4, 3, 8, 8),) * 9, permutation)).metrics["accuracy"] == right / 4


@pytest.mark.parametrize("orders", [0, 1, 362881])
def test_invalid_numbers_of_orders_are_refused(orders: int) -> None:
    with pytest.raises(OptionError) as caught:
        Jigsaw(TinyBackbone(), augmentation=None, orders=orders)
    assert caught.value.text == f"Expected orders to be an integer from 2 to 362880, but got {orders}. For example 64."
