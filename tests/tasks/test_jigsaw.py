from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from pretextkit.batches import Tiles
from pretextkit.contracts import Backbone
from pretextkit.errors import OptionError, ShapeError
from pretextkit.tasks import Jigsaw, PatchLayout, distant_permutations
from pretextkit.tasks import _jigsaw as jigsaw
from pretextkit.tasks import _patches as patch_tasks
from pretextkit.testing import TinyBackbone


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles are left as they are cut, so that their pixels tell where they come from."""
    monkeypatch.setattr(patch_tasks, "standardize_patches", lambda patches: patches)


def views(images: Tensor, *, seed: int = 0, orders: int = 6, **options: object) -> tuple[Jigsaw, Tiles]:
    task = Jigsaw(TinyBackbone(), orders=orders, **options)  # type: ignore[arg-type]
    return task, task.views(images, Generator().manual_seed(seed))


def coordinates(n: int, height: int, width: int) -> Tensor:
    """Images of three channels: each pixel's row, its column, and the number of its image."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    numbers = torch.arange(n).view(n, 1, 1).expand(n, height, width)
    return torch.stack([rows.expand(n, -1, -1), columns.expand(n, -1, -1), numbers], 1).float()


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("height", "width", "layout"),
    [(32, 32, None), (64, 80, None), (40, 60, PatchLayout(7, 4, 2)), (33, 26, PatchLayout(8, 1, 0))],
)
def test_targets_are_true(height: int, width: int, layout: PatchLayout | None) -> None:
    """Each tile is one piece of its image and begins in the cell that the order says, up to its jitter."""
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
def test_sorting_the_tiles_back_gives_the_image() -> None:
    """Without gap, jitter and cures, the nine tiles in their old places are the image."""
    images = torch.rand(12, 3, 24, 24, generator=Generator().manual_seed(0))
    task, batch = views(images, layout=PatchLayout(8, 0, 0), color_drop=0)
    for row, label in enumerate(batch.permutation.tolist()):
        cells = torch.empty(9, 3, 8, 8)
        cells[task.orders[label]] = torch.stack([tile[row] for tile in batch.tiles])
        assert torch.equal(rearrange(cells, "(r k) c h w -> c (r h) (k w)", r=3), images[row])


@pytest.mark.usefixtures("plain")
def test_tiles_never_overlap_and_jitter_is_their_own() -> None:
    _, batch = views(coordinates(200, 32, 32), color_drop=0)
    patch, gap, jitter = PatchLayout.fitting(32)
    corners = torch.stack([tile[:, :2, 0, 0] for tile in batch.tiles], 1)
    for one, other in combinations(range(9), 2):
        assert (corners[:, one] - corners[:, other]).abs().amax(1).min() >= patch + gap - 2 * jitter
    within = corners.remainder(patch + gap)
    assert len(torch.unique(within[:, :, 0], dim=0)) > 150


@pytest.mark.usefixtures("plain")
def test_the_grid_lies_anywhere_in_the_image() -> None:
    """A grid of 26 by 26 pixels begins in any of 3 rows and 5 columns, drawn for each image."""
    _, batch = views(coordinates(200, 28, 30), layout=PatchLayout(8, 1, 0), color_drop=0)
    corners = torch.stack([tile[:, :2, 0, 0] for tile in batch.tiles], 1).amin(1)
    assert {(int(row), int(column)) for row, column in corners} == {(r, c) for r in range(3) for c in range(5)}


def test_every_tile_is_standardised_and_drops_its_colors_by_itself() -> None:
    images = 0.2 + 0.1 * torch.rand(300, 3, 32, 32, generator=Generator().manual_seed(0))
    _, batch = views(images)
    gray = torch.stack([(tile == tile[:, :1]).flatten(1).all(1).float() for tile in batch.tiles])
    assert (gray.mean(1) - 0.66).abs().max() < 0.1
    assert torch.corrcoef(gray).fill_diagonal_(0).abs().max() < 0.25
    for tile in batch.tiles:
        assert (tile.mean((1, 2, 3)) - 0.5).abs().max() < 0.01
        assert (tile.std((1, 2, 3)) - 0.25).abs().max() < 0.01


@pytest.mark.parametrize(("count", "least"), [(2, 9), (9, 7), (64, 6)])
def test_orders_are_far_from_each_other(count: int, least: int) -> None:
    orders = distant_permutations(count)
    assert orders.shape == (count, 9)
    assert torch.equal(orders.sort(1).values, torch.arange(9).expand(count, 9))
    apart = (orders[:, None] != orders).sum(2)
    assert apart[~torch.eye(count, dtype=torch.bool)].min() >= least


def test_orders_equal_a_loop() -> None:
    from itertools import permutations

    every = [tuple(row) for row in torch.tensor(list(permutations(range(4)))).tolist()]
    shuffled = [every[i] for i in torch.randperm(24, generator=Generator().manual_seed(0)).tolist()]
    chosen = [shuffled[0]]
    while len(chosen) < 8:
        nearest = [min(sum(a != b for a, b in zip(row, other, strict=True)) for other in chosen) for row in shuffled]
        chosen.append(shuffled[nearest.index(max(nearest))])
    assert [tuple(row) for row in distant_permutations(8, length=4).tolist()] == chosen


def test_all_orders_can_be_had_and_are_the_same_each_time() -> None:
    every = distant_permutations(24, length=4)
    assert len(torch.unique(every, dim=0)) == 24
    jigsaw._distant_permutations.cache_clear()
    assert torch.equal(distant_permutations(24, length=4), every)


def test_changing_the_orders_of_one_task_changes_no_other() -> None:
    one, other = Jigsaw(TinyBackbone(), orders=6), Jigsaw(TinyBackbone(), orders=6)
    one.orders.zero_()
    assert torch.equal(other.orders, distant_permutations(6))
    assert other.orders.any()


def test_the_orders_travel_with_the_weights() -> None:
    one, other = Jigsaw(TinyBackbone(), orders=6), Jigsaw(TinyBackbone(), orders=6)
    one.orders = one.orders.flip(0)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.orders, one.orders)
    assert not torch.equal(distant_permutations(6), one.orders)


class Means(Backbone):
    feature_dim = 3

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def test_the_head_sees_the_tiles_in_the_order_shown_and_loss_is_the_cross_entropy() -> None:
    task = Jigsaw(Means(), orders=5)
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
def test_accuracy_counts_what_is_right(right: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Jigsaw(Means(), orders=5)
    permutation = torch.tensor([0, 4, 2, 3])
    said = torch.where(torch.arange(4) < right, permutation, (permutation + 1) % 5)
    monkeypatch.setattr(task.head, "forward", lambda _: nn.functional.one_hot(said, 5))
    assert task(Tiles((torch.zeros(4, 3, 8, 8),) * 9, permutation)).metrics["accuracy"] == right / 4


@pytest.mark.parametrize("orders", [0, 1, 362881])
def test_orders_that_cannot_be_had_are_refused(orders: int) -> None:
    with pytest.raises(OptionError) as caught:
        Jigsaw(TinyBackbone(), orders=orders)
    assert str(caught.value) == f"Expected 2 to 362880 orders of 9 pieces, but got {orders}. The default is 64."


@pytest.mark.parametrize(
    ("layout", "wrong"),
    [
        (PatchLayout(0, 6, 2), "patch to be an integer >= 1, but got 0"),
        (PatchLayout(8, 3, 2), "gap to be an integer >= 4, but got 3"),
        (PatchLayout(8, 0, -1), "jitter to be an integer >= 0, but got -1"),
    ],
)
def test_layouts_that_overlap_are_refused(layout: PatchLayout, wrong: str) -> None:
    with pytest.raises(OptionError) as caught:
        Jigsaw(TinyBackbone(), layout=layout)
    text = str(caught.value)
    assert text.startswith(f"Expected {wrong}. ")
    assert text.endswith("For example PatchLayout(patch=16, gap=6, jitter=2).")
    assert ("A gap of twice the jitter keeps neighbors from overlapping." in text) == ("gap" in wrong)


@pytest.mark.parametrize("color_drop", [-0.1, 1.1, math.nan])
def test_color_drop_out_of_range_is_refused(color_drop: float) -> None:
    with pytest.raises(OptionError) as caught:
        Jigsaw(TinyBackbone(), color_drop=color_drop)
    assert (
        str(caught.value) == f"Expected color_drop to be a number in [0, 1], but got {color_drop}. The default is 0.66."
    )


def test_images_too_small_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^Expected images of at least 26 pixels, for a 3x3 grid of 6-pixel patches"):
        views(torch.zeros(2, 3, 25, 40))
    with pytest.raises(ShapeError) as caught:
        views(torch.zeros(2, 3, 31, 40), layout=PatchLayout(patch=6, gap=5, jitter=2))
    assert str(caught.value) == (
        "Expected images of at least 32 pixels a side, for PatchLayout(patch=6, gap=5, jitter=2), but got 31x40. "
        "Enlarge the images, or choose a smaller layout."
    )
