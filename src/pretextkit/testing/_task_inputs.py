"""Checks of accepted images and of clear errors for others; ``PretextTask.step`` checks rank and dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit.errors import PretextkitError
from pretextkit.testing._cases import TaskCase, generator, global_seed, score
from pretextkit.testing._runner import require
from pretextkit.testing._toys import toy_images

__all__ = ["CHECKS"]


def accepts_odd_batches(case: TaskCase) -> None:
    """Batches of 2, 3, 5 and 7 images give a finite loss."""
    for n in (2, 3, 5, 7):
        _require_finite(_loss(case, case.images(n)), f"{n} images")


def accepts_or_refuses_one_image(case: TaskCase) -> None:
    """A single image gives a finite loss or a PretextkitError."""
    _require_finite_or_refused(case, case.images(1), "1 image")


def accepts_gray_and_color(case: TaskCase) -> None:
    """Images of 1 and of 3 channels give a finite loss, because a backbone of 1 or 3 channels adapts them."""
    for channels in (1, 3) if case.channels in (1, 3) else (case.channels,):
        images = toy_images(4, size=case.image_size, channels=channels, generator=generator(0))
        _require_finite(_loss(case, images), f"{channels} channels")


def accepts_extreme_images(case: TaskCase) -> None:
    """Black, white, checkered and nearly constant images give a finite loss and finite gradients."""
    images = case.images(6)
    extremes = {"black": torch.zeros_like(images), "white": torch.ones_like(images)}
    extremes["checkered"] = extremes["black"].clone()
    extremes["checkered"][..., ::2, ::2] = extremes["checkered"][..., 1::2, 1::2] = 1
    extremes["nearly gray"] = 0.5 + 1e-4 * (images - 0.5)
    for name, extreme in extremes.items():
        task = case.task()
        with global_seed(0):
            loss = task.step(extreme, generator(0)).loss
        _require_finite(loss, f"{name} images")
        torch.autograd.backward(loss)
        broken = [n for n, p in task.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        require(not broken, f"On {name} images the gradient of {broken[:1]} is not finite; divide by max(std, eps).")


def accepts_bfloat16_autocast(case: TaskCase) -> None:
    """The loss under bfloat16 autocast is finite and near the float32 loss."""
    task = case.task()
    batch = case.batch(task, n=16)
    expected = score(task, batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = score(task, batch).loss.float()
    near = bool((loss - expected).abs() < 0.1 * (1 + expected.abs()))
    require(near, f"The loss is {float(expected):.4g} in float32, but {float(loss):.4g} in bfloat16.")


def accepts_or_refuses_small_images(case: TaskCase) -> None:
    """Images of 1x1, 2x2, 4x4 and 8x8 pixels give a finite loss or a PretextkitError."""
    for size in (1, 2, 4, 8):
        images = toy_images(4, size=size, channels=case.channels, generator=generator(0))
        _require_finite_or_refused(case, images, f"{size}x{size} pixels")


def accepts_or_refuses_oblong_images(case: TaskCase) -> None:
    """Images that are not square give a finite loss or a PretextkitError."""
    images = case.images(4)
    for oblong in (images[..., :-5], images[..., :-5, :]):
        _require_finite_or_refused(case, oblong, f"{oblong.shape[2]}x{oblong.shape[3]} pixels")


def _loss(case: TaskCase, images: Tensor) -> Tensor:
    with torch.no_grad(), global_seed(0):
        return case.task().step(images, generator(0)).loss


def _require_finite(loss: Tensor, what: str) -> None:
    require(bool(loss.isfinite().all()), f"{what} give a loss of {loss}.")


def _require_finite_or_refused(case: TaskCase, images: Tensor, what: str) -> None:
    try:
        loss = _loss(case, images)
    except PretextkitError:
        return
    except Exception as error:
        require(False, f"{what} raise {type(error).__name__} ({error}); raise a ShapeError that names a fix.")
        return
    _require_finite(loss, what)


CHECKS = (
    accepts_odd_batches,
    accepts_or_refuses_one_image,
    accepts_gray_and_color,
    accepts_extreme_images,
    accepts_bfloat16_autocast,
    accepts_or_refuses_small_images,
    accepts_or_refuses_oblong_images,
)
