"""Tests of single tasks: naive twins of the loss, correct targets, and independence of hidden pixels.

The conformance kit has no knowledge of a task and cannot check its targets; these functions can.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pretextkit.tasks import Autoencoder, Colorization, ContextEncoder, Denoising, Jigsaw
from pretextkit.testing import toy_images
from pretextkit.views._lab import rgb_to_lab, same_lightness

from .planted_in_built_in import NarrowAutoencoder
from .toy_tasks import ToyContext, ToyContrast, ToyInpainting, ToyMomentum, ToyRotation


def images(n: int = 6) -> Tensor:
    return toy_images(n, generator=torch.Generator().manual_seed(0))


def batch_of(task: Any, pixels: Tensor | None = None) -> Any:
    return task.views(images() if pixels is None else pixels.clone(), torch.Generator().manual_seed(0))


def rotating_back_restores_the_image(task: ToyRotation) -> None:
    """Rotating a view back by its label restores the image."""
    batch = batch_of(task)
    for image, view, label in zip(images(), batch.images, batch.labels, strict=True):
        assert torch.equal(torch.rot90(view, -int(label), (1, 2)), image)


def cross_entropy_equals_a_loop(task: ToyRotation) -> None:
    """The loss is the mean over rows of the log-sum-exp of the logits minus the logit of the label."""
    batch = batch_of(task)
    logits = task.head(task.backbone(batch.images)).tolist()
    rows = [math.log(sum(map(math.exp, row))) - row[k] for row, k in zip(logits, batch.labels.tolist(), strict=True)]
    torch.testing.assert_close(task(batch).loss.item(), sum(rows) / len(rows), rtol=1e-4, atol=1e-5)


def neighbor_offsets_match_positions(task: ToyContext) -> None:
    """On images that hold pixel coordinates, center and neighbor differ by the offset of the position."""
    grid = torch.stack(torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij"))
    batch = batch_of(task, torch.cat((grid, grid[:1])).repeat(16, 1, 1, 1) / 32)
    moved = (batch.neighbor - batch.center).mean((2, 3))[:, :2] * 32
    offsets = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    for (row, column), position in zip(moved.tolist(), batch.position.tolist(), strict=True):
        assert (round(row / 10), round(column / 10)) == offsets[position]


def nt_xent_equals_a_loop(task: ToyContrast) -> None:
    """The loss contrasts each row with all other rows; its partner is the positive."""
    batch = batch_of(task)
    z = torch.nn.functional.normalize(task.head(task.backbone(torch.cat(batch)))).tolist()
    n, total = len(z) // 2, 0.0
    for i, row in enumerate(z):
        score = [math.exp(sum(a * b for a, b in zip(row, other, strict=True)) / task.temperature) for other in z]
        total += math.log(sum(score) - score[i]) - math.log(score[(i + n) % (2 * n)])
    torch.testing.assert_close(task(batch).loss.item(), total / (2 * n), rtol=1e-3, atol=1e-4)


def hidden_pixels_change_no_prediction(task: ToyInpainting | ContextEncoder | Denoising) -> None:
    """Changing the pixels under the mask does not change the prediction."""
    batch = batch_of(task)
    other = batch_of(task, torch.where(batch.mask, 1 - images(), images()))
    assert torch.equal(batch.mask, other.mask)
    torch.testing.assert_close(task.reconstruct(batch.visible), task.reconstruct(other.visible))


def loss_counts_hidden_pixels_only(task: ToyInpainting) -> None:
    """The loss is the mean squared error of the hidden pixels, by a loop."""
    batch = batch_of(task)
    error = (task.reconstruct(batch.visible) - batch.target).square().mean(1).detach()
    hidden = [float(error[b, r, c]) for b, r, c in batch.mask[:, 0].nonzero().tolist()]
    torch.testing.assert_close(task(batch).loss.item(), sum(hidden) / len(hidden), rtol=1e-4, atol=1e-6)


def copy_is_the_moving_average(task: ToyMomentum) -> None:
    """After a step, the copy is m times itself plus 1 - m times the weights."""
    weights, lagging = task.head[2].weight, task.copy[1][2].weight  # type: ignore[index]
    with torch.no_grad():
        weights.add_(1)
    wanted = task.momentum * lagging.detach().clone() + (1 - task.momentum) * weights.detach()
    task.after_step()
    torch.testing.assert_close(task.copy[1][2].weight.detach(), wanted)  # type: ignore[index]


def loss_counts_hole_and_border_only(task: ContextEncoder) -> None:
    """The loss is the weighted squared error of the hole and its border, by a loop."""
    batch = batch_of(task)
    error = (task.reconstruct(batch.visible) - batch.target).square().mean(1).detach()
    total = weights = 0.0
    for b, r, c in torch.ones_like(batch.mask[:, 0]).nonzero().tolist():
        near = batch.mask[
            b, 0, max(r - task.overlap, 0) : r + task.overlap + 1, max(c - task.overlap, 0) : c + task.overlap + 1
        ]
        weight = 1.0 if batch.mask[b, 0, r, c] else task.border_weight * bool(near.any())
        total, weights = total + weight * float(error[b, r, c]), weights + weight
    torch.testing.assert_close(task(batch).loss.item(), total / weights, rtol=1e-4, atol=1e-6)


def target_is_the_image(task: Any) -> None:
    """The target equals the image."""
    assert torch.equal(batch_of(task).target, images())


def loss_counts_every_pixel(task: Denoising) -> None:
    """The loss is the mean squared error of all pixels, corrupted or not."""
    batch = batch_of(task)
    error = (task.reconstruct(batch.visible) - batch.target).square().mean().item()
    torch.testing.assert_close(task(batch).loss.item(), error, rtol=1e-4, atol=1e-6)


def code_has_the_rank_of_the_bottleneck(task: NarrowAutoencoder) -> None:
    """The decoder output at one map position has the rank of the bottleneck."""
    decoder = task.head.eval()
    code = task.backbone.feature_map(images(1)).detach()[:, :, :1, :1]
    slopes = torch.func.jacrev(lambda place: decoder(place).flatten())(code).flatten(1)
    assert torch.linalg.matrix_rank(slopes.double(), rtol=1e-5) <= 2


def reconstruction_depends_on_code_only(task: Autoencoder) -> None:
    """Images with the same code have the same reconstruction."""
    code = task.backbone.feature_map(images(1)).detach()
    task.backbone.stages = lambda images: (code.expand(len(images), -1, -1, -1),)  # type: ignore[method-assign]
    made = task.reconstruct(images())
    torch.testing.assert_close(made, made[:1].expand_as(made))


def colors_change_no_prediction(task: Colorization) -> None:
    """An image and the gray image of equal lightness give the same prediction."""
    shown, gray = (batch_of(task, each).input for each in (images(), same_lightness(images()).expand(-1, 3, -1, -1)))
    made = (task.head(task.backbone.feature_map(each)) for each in (shown, gray))
    torch.testing.assert_close(*made, atol=1e-3, rtol=0)


def color_loss_equals_a_loop(task: Colorization) -> None:
    """The loss is the mean squared error of a* and b* in units of 110, by a loop."""
    drawn = 2 * task.head(task.backbone.feature_map(same_lightness(images()))).detach() - 1
    true = rgb_to_lab(images())[:, 1:] / 110
    errors = [(one - other) ** 2 for one, other in zip(drawn.flatten().tolist(), true.flatten().tolist(), strict=True)]
    torch.testing.assert_close(task(batch_of(task)).loss.item(), sum(errors) / len(errors), rtol=1e-4, atol=1e-6)


def tiles_match_their_permutation(task: Jigsaw) -> None:
    """On images that hold pixel coordinates, each tile comes from the grid position of its permutation."""
    batch, step = _corners(task)
    cells = (batch // step * torch.tensor([3, 1])).sum(2)
    assert torch.equal(cells, task.orders[_tiles(task).permutation])


def permutations_are_distinct(task: Jigsaw) -> None:
    """All permutations differ, and each has every tile once."""
    assert len(torch.unique(task.orders, dim=0)) == len(task.orders)
    assert torch.equal(task.orders.sort(1).values, torch.arange(9).expand_as(task.orders))


def tiles_do_not_touch(task: Jigsaw) -> None:
    """At least one pixel lies between two tiles."""
    corners, _ = _corners(task)
    apart = (corners[:, :, None] - corners[:, None]).abs().amax(3)[:, ~torch.eye(9, dtype=torch.bool)]
    assert int(apart.min()) > _tiles(task).tiles[0].shape[2]


def _tiles(task: Jigsaw) -> Any:
    """Cut unprocessed tiles from images that hold pixel coordinates."""
    grid = torch.stack(torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij"))
    task.remove_shortcuts = lambda patches, generator: patches  # type: ignore[method-assign]
    return batch_of(task, torch.cat((grid, grid[:1])).repeat(16, 1, 1, 1))


def _corners(task: Jigsaw) -> tuple[Tensor, int]:
    """Return row and column ``n 9 2`` of each tile, and the grid spacing in pixels."""
    layout = task.layout_for(images())
    corners = torch.stack([tile[:, :2, 0, 0] for tile in _tiles(task).tiles], 1).long()
    return corners, layout.patch + layout.gap


OWN_TESTS: dict[type[Any], tuple[Callable[[Any], None], ...]] = {
    ToyRotation: (rotating_back_restores_the_image, cross_entropy_equals_a_loop),
    ToyContext: (neighbor_offsets_match_positions,),
    ToyMomentum: (copy_is_the_moving_average,),
    ToyContrast: (nt_xent_equals_a_loop,),
    ToyInpainting: (hidden_pixels_change_no_prediction, loss_counts_hidden_pixels_only),
    ContextEncoder: (hidden_pixels_change_no_prediction, loss_counts_hole_and_border_only, target_is_the_image),
    Denoising: (hidden_pixels_change_no_prediction, loss_counts_every_pixel, target_is_the_image),
    NarrowAutoencoder: (code_has_the_rank_of_the_bottleneck, reconstruction_depends_on_code_only, target_is_the_image),
    Colorization: (colors_change_no_prediction, color_loss_equals_a_loop, target_is_the_image),
    Jigsaw: (tiles_match_their_permutation, permutations_are_distinct, tiles_do_not_touch),
}


def own_tests(task: type[Any]) -> tuple[Callable[[Any], None], ...]:
    """Find the tests of ``task`` or of its correct parent class."""
    return next(tests for kind, tests in OWN_TESTS.items() if issubclass(task, kind))


def fails(test: Callable[[Any], None], task: Any) -> bool:
    try:
        test(task)
    except Exception:
        return True
    return False
