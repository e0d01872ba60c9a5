from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Generator, Tensor

from pretextkit.batches import Masked
from pretextkit.contracts import Head
from pretextkit.errors import OptionError, ShapeError
from pretextkit.models import PatchDiscriminator
from pretextkit.tasks import CenterBlock, ContextEncoder, RandomBlocks
from pretextkit.tasks._context_encoder import HoleShape, dilate_border
from pretextkit.testing import Check, TinyBackbone, parametrize_checks, pretext_task_checks, toy_images

HOLES = [CenterBlock(), CenterBlock(0.3), RandomBlocks(), RandomBlocks(blocks=1, side=0.4)]
every_hole = pytest.mark.parametrize("hole", HOLES, ids=str)


def some(n: int = 4, size: int = 32, channels: int = 3) -> Tensor:
    return toy_images(n, size=size, channels=channels, generator=Generator().manual_seed(0))


@every_hole
@pytest.mark.parametrize("channels", [1, 3])
def test_hole_has_the_mean_color_and_target_is_the_image(hole: HoleShape, channels: int) -> None:
    images = some(channels=channels)
    batch = ContextEncoder(TinyBackbone(), augmentation=None, hole=hole).views(images, Generator().manual_seed(0))
    assert torch.equal(batch.target, images)
    for image, view, mask in zip(images, batch.visible, batch.mask[:, 0], strict=True):
        assert torch.equal(view[:, ~mask], image[:, ~mask])
        mean = image[:, ~mask].mean(1, keepdim=True)
        torch.testing.assert_close(view[:, mask], mean.expand(-1, int(mask.sum())))


def test_default_holes_have_the_size_of_the_paper() -> None:
    images = some(16, size=64)
    assert (CenterBlock()(images, Generator()).float().mean((1, 2, 3)) == 1 / 4).all()
    shares = RandomBlocks()(images, Generator().manual_seed(0)).float().mean((1, 2, 3))
    assert shares.max() <= 1 / 4
    assert shares.min() >= 1 / 16


@every_hole
def test_hidden_pixels_do_not_affect_predictions(hole: HoleShape) -> None:
    task = ContextEncoder(TinyBackbone(), augmentation=None, hole=hole).eval()
    batch = task.views(some(), Generator().manual_seed(0))
    twin = task.views(torch.where(batch.mask, 1 - some(), some()), Generator().manual_seed(0))
    assert torch.equal(twin.visible, batch.visible)
    assert torch.equal(task.reconstruct(twin.visible), task.reconstruct(batch.visible))
    assert not torch.equal(twin.target, batch.target)


@pytest.mark.parametrize("width", [0, 1, 3])
def test_border_matches_a_loop(width: int) -> None:
    mask = torch.rand(2, 1, 9, 11, generator=Generator().manual_seed(0)) < 0.1
    border = dilate_border(mask, width)
    for b in range(2):
        for row in range(9):
            for column in range(11):
                near = mask[
                    b, 0, max(row - width, 0) : row + width + 1, max(column - width, 0) : column + width + 1
                ].any()
                assert bool(border[b, 0, row, column]) == bool(near and not mask[b, 0, row, column])


@pytest.mark.parametrize(("overlap", "border_weight"), [(2, 10.0), (1, 3.0), (0, 10.0), (2, 0.0)])
def test_loss_and_metrics_match_a_loop_over_hole_and_border(overlap: int, border_weight: float) -> None:
    task = ContextEncoder(TinyBackbone(), augmentation=None, overlap=overlap, border_weight=border_weight)
    batch = task.views(some(), Generator().manual_seed(0))
    errors = (task.reconstruct(batch.visible).detach() - batch.target).square().mean(1)
    border = dilate_border(batch.mask, overlap)
    hidden, around = errors[batch.mask[:, 0]].tolist(), errors[border[:, 0]].tolist()
    of_mean = (batch.visible - batch.target).square().mean(1)[batch.mask[:, 0]].tolist()
    weights = len(hidden) + border_weight * len(around)
    output = task(batch)
    assert output.loss.item() == pytest.approx((sum(hidden) + border_weight * sum(around)) / weights, rel=1e-4)
    assert {name: value.item() for name, value in output.metrics.items()} == pytest.approx(
        {
            "mse_hidden": sum(hidden) / len(hidden),
            "mse_border": sum(around) / max(len(around), 1),
            "psnr_hidden": -10 * math.log10(sum(hidden) / len(hidden)),
            "psnr_mean": -10 * math.log10(sum(of_mean) / len(of_mean)),
        },
        rel=1e-4,
    )


def test_border_pixels_weigh_ten_times_hole_pixels() -> None:
    task = ContextEncoder(TinyBackbone(), augmentation=None, hole=CenterBlock())
    batch = task.views(some(1), Generator())
    fake = task.reconstruct(batch.visible).detach()

    def loss(row: int) -> float:
        """Compute the loss of a reconstruction that is wrong in one pixel of the middle column."""
        target = fake.clone()
        target[..., row, 16] += 0.5
        return task(Masked(batch.visible, batch.mask, target)).loss.item()

    hole, border, outside = loss(16), loss(7), loss(5)  # the hole is rows 8 to 23, the border rows 6 and 7
    assert hole > 0
    assert border == pytest.approx(10 * hole, rel=1e-4)
    assert outside == 0


def test_fill_changes_only_the_hole() -> None:
    task = ContextEncoder(TinyBackbone(), augmentation=None).eval()
    batch = task.views(some(), Generator().manual_seed(0))
    filled = task.fill(batch.visible, batch.mask)
    assert torch.equal(filled.masked_fill(batch.mask, 0), batch.target.masked_fill(batch.mask, 0))
    assert torch.equal(filled * batch.mask, task.reconstruct(batch.visible) * batch.mask)


@pytest.mark.parametrize(("overlap", "border_weight"), [(-1, 10.0), (2, -1.0), (2, math.nan)])
def test_options_out_of_range_are_refused(overlap: int, border_weight: float) -> None:
    with pytest.raises(OptionError) as caught:
        ContextEncoder(TinyBackbone(), augmentation=None, overlap=overlap, border_weight=border_weight)
    assert caught.value.text == (
        "Expected overlap to be an integer >= 0, but got -1. The default is 2. 0 leaves the border out."
        if overlap < 0
        else f"Expected border_weight to be a number in [0, inf), but got {border_weight}. The default is 10.0."
    )


def test_images_too_small_for_a_hole_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^Expected images of at least 2x2 pixels, but got 1x1\. "):
        ContextEncoder(TinyBackbone(), augmentation=None).step(torch.zeros(2, 3, 1, 1), Generator())


WEIGHT = 0.004
"""A small weight keeps the discriminator unsure; a confident one would leave no gradient to compare."""


class SumOfPixels(Head):
    """A discriminator in closed form: the brightness of an image relative to gray, times one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(WEIGHT))

    def forward(self, features: Tensor) -> Tensor:
        return self.weight * (features - 0.5).sum((1, 2, 3), keepdim=True)


def gradients(task: ContextEncoder, batch: Masked) -> dict[str, Tensor]:
    task.zero_grad()
    torch.autograd.backward(task(batch).loss)
    return {name: weight.grad.clone() for name, weight in task.named_parameters() if weight.grad is not None}


def test_adversarial_loss_matches_a_loop_over_holes() -> None:
    task = ContextEncoder(TinyBackbone(), augmentation=None, discriminator=SumOfPixels(), adversarial_weight=0.5)
    batch = task.views(some(), Generator().manual_seed(0))
    fake = task.reconstruct(batch.visible).detach()

    def logit(image: Tensor, mask: Tensor) -> float:
        return WEIGHT * (image[:, mask[0]] - 0.5).sum().item()

    def softplus(value: float) -> float:
        return math.log(1 + math.exp(value))

    real = [logit(image, mask) for image, mask in zip(batch.target, batch.mask, strict=True)]
    fake_logits = [logit(image, mask) for image, mask in zip(fake, batch.mask, strict=True)]
    discriminator_term = sum(softplus(-one) for one in real) / 4 + sum(softplus(one) for one in fake_logits) / 4
    generator_term = sum(softplus(-one) for one in fake_logits) / 4
    plain = ContextEncoder.forward(without_discriminator(task), batch).loss.item()
    output = task(batch)
    assert output.metrics["discriminator"].item() == pytest.approx(discriminator_term, rel=1e-4)
    assert output.metrics["generator"].item() == pytest.approx(generator_term, rel=1e-4)
    assert output.loss.item() == pytest.approx(plain + discriminator_term + 0.5 * generator_term, rel=1e-4)


def without_discriminator(task: ContextEncoder) -> ContextEncoder:
    twin = copy.deepcopy(task)
    twin.discriminator = None
    return twin


def test_each_network_gets_gradients_of_its_own_loss() -> None:
    """Each network gets the gradient of its own loss, although one backward pass computes both."""
    task = ContextEncoder(TinyBackbone(), augmentation=None, discriminator=SumOfPixels(), adversarial_weight=0.5)
    batch = task.views(some(), Generator().manual_seed(0))
    found = gradients(task, batch)
    # Gradient of the discriminator in closed form: d/dw of softplus(-w s) and softplus(w s), for real and fake sums s.
    fake = task.reconstruct(batch.visible).detach()
    sums = [((image - 0.5) * batch.mask).sum((1, 2, 3)) for image in (batch.target, fake)]
    slope = (-sums[0] * torch.sigmoid(-WEIGHT * sums[0])).mean() + (sums[1] * torch.sigmoid(WEIGHT * sums[1])).mean()
    torch.testing.assert_close(found["discriminator.weight"], slope, rtol=1e-4, atol=1e-5)
    leaked = (
        -sums[1] * torch.sigmoid(-WEIGHT * sums[1])
    ).mean()  # gradient of the generator loss, which must not reach the discriminator
    assert leaked.abs() > 0.01 * slope.abs()
    # Gradient of the other networks: reconstruction loss plus 0.5 times the generator loss.
    plain = without_discriminator(task)
    rest = plain.reconstruct(batch.visible)
    generator_term = torch.nn.functional.softplus(-WEIGHT * ((rest - 0.5) * batch.mask).sum((1, 2, 3))).mean()
    rewarded = torch.autograd.grad(generator_term, list(plain.parameters()), retain_graph=True, allow_unused=True)
    assert max(float(each.abs().max()) for each in rewarded if each is not None) > 0.01
    torch.autograd.backward(plain(batch).loss + 0.5 * generator_term)
    for name, weight in plain.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_discriminator_sees_only_the_hole() -> None:
    task = ContextEncoder(TinyBackbone(), augmentation=None, discriminator=PatchDiscriminator())
    assert isinstance(task.discriminator, PatchDiscriminator)
    batch = task.views(some(), Generator().manual_seed(0))
    seen: list[Tensor] = []
    handle = task.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    task(batch)
    handle.remove()
    assert len(seen) == 3
    for images, content in zip(seen, (batch.target, *[task.reconstruct(batch.visible)] * 2), strict=True):
        mask = batch.mask.expand_as(images)
        assert (images[~mask] == 0.5).all()
        torch.testing.assert_close(images[mask], content[mask])


@pytest.mark.parametrize("channels", [1, 3])
def test_adversarial_training_reduces_both_losses(channels: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)  # with other weights, the discriminator needs more than 60 steps to win
        task = ContextEncoder(TinyBackbone(), augmentation=None, discriminator=PatchDiscriminator())
    optimizer = torch.optim.AdamW(task.parameters(), 3e-3)
    rows: list[dict[str, float]] = []
    for step in range(60):
        output = task.step(some(16, channels=channels), Generator().manual_seed(step))
        optimizer.zero_grad()
        torch.autograd.backward(output.loss)
        optimizer.step()
        rows.append({name: value.item() for name, value in output.metrics.items()})
    first, *_, last = rows
    assert last["mse_hidden"] < first["mse_hidden"]
    assert last["discriminator"] < first["discriminator"]  # blurred fills are easy to detect


def test_separately_sharded_discriminator_is_refused() -> None:
    """Before the forward pass, fully_shard restores the weights that require gradients."""
    discriminator = SumOfPixels()
    discriminator.unshard = lambda: None  # type: ignore[assignment]
    with pytest.raises(OptionError) as caught:
        ContextEncoder(TinyBackbone(), augmentation=None, discriminator=discriminator).step(
            some(), Generator().manual_seed(0)
        )
    assert caught.value.text == (
        "Expected a discriminator that is sharded only as part of the task, but got a discriminator that was passed to "
        "fully_shard itself. Call fully_shard on the task and on its other parts, but not on the discriminator."
    )


def test_discriminator_that_is_no_head_is_refused() -> None:
    with pytest.raises(OptionError) as caught:
        ContextEncoder(TinyBackbone(), augmentation=None, discriminator=True)  # type: ignore[arg-type]
    assert caught.value.text == (
        "Expected discriminator to be a Head or None, but got bool. "
        "Pass pretextkit.models.PatchDiscriminator() or another Head."
    )


ADVERSARIAL = pretext_task_checks(
    lambda: ContextEncoder(TinyBackbone(), augmentation=None, discriminator=PatchDiscriminator()),
    expected_failures={"parts_have_the_gradient_of_the_batch": "a mean over hidden pixels, which are more in one part"},
)


# The loss of two networks that compete swings, and after few steps its sign depends on the processor.
@parametrize_checks(
    {"with a discriminator": [check for check in ADVERSARIAL if check.name != "learns_on_unseen_images"]}
)
def test_contract_holds_with_a_discriminator(check: Check) -> None:
    check.run()
