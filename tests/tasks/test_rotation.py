from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from pretextkit.batches import Labeled
from pretextkit.contracts import Backbone
from pretextkit.errors import ShapeError
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone, toy_images


class PixelFeatures(Backbone):
    """A backbone whose features are the first four pixels."""

    feature_dim = 4

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0]


def fixed_task() -> Rotation:
    """A task whose logits are the first four pixels."""
    task = Rotation(PixelFeatures(), augmentation=None)
    with torch.no_grad():
        task.head.linear.weight.copy_(torch.eye(4))
        task.head.linear.bias.zero_()
    return task


def batch_of(logits: list[list[float]], labels: list[int]) -> Labeled:
    return Labeled(torch.tensor(logits).view(-1, 1, 1, 4), torch.tensor(labels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_views_hold_all_four_rotations_with_labels(n: int, channels: int) -> None:
    images = toy_images(n, size=9, channels=channels, generator=Generator().manual_seed(0))
    batch = Rotation(PixelFeatures(), augmentation=None).views(images, Generator())
    assert batch.labels.dtype == torch.int64
    seen = set()
    for view, label in zip(batch.images, batch.labels.tolist(), strict=True):
        upright = torch.rot90(view, -label, (1, 2))
        (which,) = [i for i, image in enumerate(images) if torch.equal(image, upright)]
        seen.add((which, label))
    assert len(batch.images) == 4 * n
    assert seen == {(which, label) for which in range(n) for label in range(4)}


def test_labels_count_counterclockwise_quarter_turns() -> None:
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 0, 3] = 1  # above right; a quarter turn counter-clockwise takes it above left
    views = Rotation(PixelFeatures(), augmentation=None).views(corner, Generator()).images[:, 0]
    assert [divmod(int(view.argmax()), 4) for view in views] == [(0, 3), (0, 0), (3, 0), (3, 3)]


def test_views_do_not_use_the_generator() -> None:
    generator = Generator().manual_seed(0)
    before = generator.get_state()
    Rotation(PixelFeatures(), augmentation=None).views(torch.rand(2, 1, 4, 4, generator=Generator()), generator)
    assert torch.equal(generator.get_state(), before)


def test_non_square_images_are_refused() -> None:
    task = Rotation(TinyBackbone(), augmentation=None)
    with pytest.raises(ShapeError) as caught:
        task.step(torch.zeros(2, 3, 32, 40), Generator())
    assert caught.value.text == (
        "Expected square images b c h h, but got shape (2, 3, 32, 40). "
        "Crop them to squares: torchvision.transforms.functional.center_crop(images, min(images.shape[2:]))."
    )


def test_loss_is_the_cross_entropy() -> None:
    logits, labels = [[2.0, 0.0, -1.0, 0.5], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]], [0, 3, 1]
    rows = [math.log(sum(map(math.exp, row))) - row[k] for row, k in zip(logits, labels, strict=True)]
    assert fixed_task()(batch_of(logits, labels)).loss.item() == pytest.approx(sum(rows) / 3, rel=1e-6)


def test_accuracy_is_computed_for_each_angle() -> None:
    """Correct are two of three images at 0 degrees, none of one at 90, both at 180, and one of two at 270."""
    said = [(0, 0), (0, 0), (0, 3), (1, 0), (2, 2), (2, 2), (3, 3), (3, 1)]
    batch = batch_of([[5.0 * (guess == k) for k in range(4)] for _, guess in said], [label for label, _ in said])
    metrics = {name: value.item() for name, value in fixed_task()(batch).metrics.items()}
    assert metrics == pytest.approx(
        {"accuracy": 5 / 8, "accuracy_0": 2 / 3, "accuracy_90": 0, "accuracy_180": 1, "accuracy_270": 1 / 2}
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_loss_of_half_precision_logits_is_float32(dtype: torch.dtype) -> None:
    batch = batch_of([[2.0, 0.0, -1.0, 0.5], [1.0, 2.0, 3.0, 4.0]], [0, 1])
    expected = fixed_task()(batch)
    output = fixed_task().to(dtype)(Labeled(batch.images.to(dtype), batch.labels))
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected.loss)  # these logits are exact in half precision


def test_names_of_labels_are_the_angles_of_the_images() -> None:
    images = toy_images(2, size=8, generator=Generator().manual_seed(0))
    batch = fixed_task().rotate(images)
    for label, name in enumerate(Rotation.label_names):
        quarters = int(name.removesuffix("°")) // 90
        assert torch.equal(batch.images[batch.labels == label], torch.rot90(images, quarters, (2, 3)))
    assert len(Rotation.label_names) == 4
