"""What a task's own tests look like: naive twins, true targets, and hidden pixels that change nothing.

The conformance kit knows no task, so that it cannot know whether a target is true; each of these functions knows one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pretextkit.testing import toy_images

from .toy_tasks import ToyContext, ToyContrast, ToyInpainting, ToyMomentum, ToyRotation


def images(n: int = 6) -> Tensor:
    return toy_images(n, generator=torch.Generator().manual_seed(0))


def batch_of(task: Any, pixels: Tensor | None = None) -> Any:
    return task.views(images() if pixels is None else pixels.clone(), torch.Generator().manual_seed(0))


def turning_back_gives_the_image(task: ToyRotation) -> None:
    """A view turned back by its label is the image it was made of."""
    batch = batch_of(task)
    for image, view, label in zip(images(), batch.images, batch.labels, strict=True):
        assert torch.equal(torch.rot90(view, -int(label), (1, 2)), image)


def cross_entropy_equals_a_loop(task: ToyRotation) -> None:
    """The loss is the mean over rows of the log-sum-exp of a row's logits less the logit of its label."""
    batch = batch_of(task)
    logits = task.head(task.backbone(batch.images)).tolist()
    rows = [math.log(sum(map(math.exp, row))) - row[k] for row, k in zip(logits, batch.labels.tolist(), strict=True)]
    torch.testing.assert_close(task(batch).loss.item(), sum(rows) / len(rows), rtol=1e-4, atol=1e-5)


def neighbours_lie_where_their_index_says(task: ToyContext) -> None:
    """On images whose pixels hold their own coordinates, patches differ by the offset of their index."""
    grid = torch.stack(torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij"))
    batch = batch_of(task, torch.cat((grid, grid[:1])).repeat(16, 1, 1, 1) / 32)
    moved = (batch.neighbour - batch.centre).mean((2, 3))[:, :2] * 32
    offsets = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    for (row, column), position in zip(moved.tolist(), batch.position.tolist(), strict=True):
        assert (round(row / 10), round(column / 10)) == offsets[position]


def nt_xent_equals_a_loop(task: ToyContrast) -> None:
    """Each row against every row but itself, its partner being the right one."""
    batch = batch_of(task)
    z = torch.nn.functional.normalize(task.head(task.backbone(torch.cat(batch)))).tolist()
    n, total = len(z) // 2, 0.0
    for i, row in enumerate(z):
        score = [math.exp(sum(a * b for a, b in zip(row, other, strict=True)) / task.temperature) for other in z]
        total += math.log(sum(score) - score[i]) - math.log(score[(i + n) % (2 * n)])
    torch.testing.assert_close(task(batch).loss.item(), total / (2 * n), rtol=1e-3, atol=1e-4)


def hidden_pixels_change_no_prediction(task: ToyInpainting) -> None:
    """What is hidden cannot be seen: other pixels under the mask give the same prediction."""
    batch = batch_of(task)
    other = batch_of(task, torch.where(batch.mask, 1 - images(), images()))
    assert torch.equal(batch.mask, other.mask)
    torch.testing.assert_close(task.predict(batch.visible), task.predict(other.visible))


def only_hidden_pixels_count(task: ToyInpainting) -> None:
    """The loss is the mean squared error of the hidden pixels, counted one by one."""
    batch = batch_of(task)
    error = (task.predict(batch.visible) - batch.target).square().mean(1).detach()
    hidden = [float(error[b, r, c]) for b, r, c in batch.mask[:, 0].nonzero().tolist()]
    torch.testing.assert_close(task(batch).loss.item(), sum(hidden) / len(hidden), rtol=1e-4, atol=1e-6)


def copy_is_the_moving_average(task: ToyMomentum) -> None:
    """After a step the copy is m times itself plus 1 - m times the weights."""
    weights, lagging = task.head[2].weight, task.copy[1][2].weight  # type: ignore[index]
    with torch.no_grad():
        weights.add_(1)
    wanted = task.momentum * lagging.detach().clone() + (1 - task.momentum) * weights.detach()
    task.after_step()
    torch.testing.assert_close(task.copy[1][2].weight.detach(), wanted)  # type: ignore[index]


OWN_TESTS: dict[type[Any], tuple[Callable[[Any], None], ...]] = {
    ToyRotation: (turning_back_gives_the_image, cross_entropy_equals_a_loop),
    ToyContext: (neighbours_lie_where_their_index_says,),
    ToyMomentum: (copy_is_the_moving_average,),
    ToyContrast: (nt_xent_equals_a_loop,),
    ToyInpainting: (hidden_pixels_change_no_prediction, only_hidden_pixels_count),
}


def own_tests(task: type[Any]) -> tuple[Callable[[Any], None], ...]:
    """Find the tests written for ``task``, or for the correct task that it is a broken child of."""
    return next(tests for kind, tests in OWN_TESTS.items() if issubclass(task, kind))


def fails(test: Callable[[Any], None], task: Any) -> bool:
    try:
        test(task)
    except Exception:
        return True
    return False
