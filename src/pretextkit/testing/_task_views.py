"""Checks of ``PretextTask.views``."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit.testing._cases import (
    TaskCase,
    generator,
    global_rng_states,
    image_tensors,
    same,
    seeded,
    tensors,
)
from pretextkit.testing._runner import require

__all__ = ["CHECKS"]


def views_are_float_tensors(case: TaskCase) -> None:
    """Views are a tuple of tensors with float32 images, finite and without gradient."""
    batch = case.batch(case.task())
    require(isinstance(batch, tuple), f"views returns a {type(batch).__name__}; return a NamedTuple of tensors.")
    images = image_tensors(batch)
    require(bool(images), "No field of the views is a float tensor b c h w.")
    for tensor in tensors(batch):
        require(not tensor.requires_grad, "A view carries gradient; make views from images alone.")
    for view in images:
        require(view.dtype == torch.float32, f"float32 images give views of {view.dtype}.")
        require(bool(view.isfinite().all()), "A view holds NaN or inf.")


def views_repeat_under_one_seed(case: TaskCase) -> None:
    """Views are the same for the same generator seed, whatever the global seed."""
    task, images = case.task(), case.images(8)
    with seeded(1):
        first = case.views(task, images, seed=3)
    with seeded(2):
        second = case.views(task, images, seed=3)
    require(same(first, second), "Two calls with one seed differ; draw everything from the generator passed.")


def views_use_the_generator(case: TaskCase) -> None:
    """Views differ between seeds, and between two calls with one generator."""
    task, images, draws = case.task(), case.images(8), generator(0)
    first, second = (task.views(images, draws) for _ in range(2))
    require(not same(first, second), "Two calls with one generator give the same views; the generator is ignored.")
    require(not same(first, case.views(task, images, seed=1)), "Two seeds give the same views.")


def views_leave_global_rng_alone(case: TaskCase) -> None:
    """Views draw nothing from the global RNGs of torch, numpy and Python."""
    task, images = case.task(), case.images(8)
    before = global_rng_states()
    case.views(task, images)
    for library, state in global_rng_states().items():
        require(state == before[library], f"The global RNG of {library} moved; draw from the generator passed.")


def views_change_no_input(case: TaskCase) -> None:
    """Views leave the images they are given as they were."""
    task, images = case.task(), case.images(8)
    before = images.clone()
    case.views(task, images)
    require(torch.equal(images, before), "The images were changed in place; clone before writing.")


def views_read_no_parameter(case: TaskCase) -> None:
    """Views are the same with every parameter replaced by NaN, and in either mode."""
    task = case.task()
    batch = case.batch(task)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.fill_(torch.nan)
    require(same(batch, case.batch(task)), "Views depend on a parameter; what needs weights belongs in forward.")
    require(same(case.batch(case.task().eval()), batch), "Views differ between train and eval mode.")


def views_draw_for_each_image(case: TaskCase) -> None:
    """Equal images in one batch get different views: every image has its own draw."""
    b = 8
    images = case.images(1).repeat(b, 1, 1, 1)
    rows = _rows(case.views(case.task(), images), b)
    require(bool(rows), "No field of the views has rows for every image.")
    longest = max(len(tensor) for tensor in rows)
    joined = torch.cat([tensor for tensor in rows if len(tensor) == longest], 1)
    distinct, allowed = len(torch.unique(joined, dim=0)), len(joined) // b
    require(
        distinct > allowed,
        f"{b} equal images give {distinct} different views, as one image alone would: one draw serves the whole batch.",
    )


def views_keep_images_apart(case: TaskCase) -> None:
    """Changing one image changes only that image's views."""
    b = 8
    task, images = case.task(), case.images(b)
    other = images.clone()
    other[0] = case.images(1, seed=99)[0]
    before, after = (_rows(case.views(task, batch), b) for batch in (images, other))
    for rows, changed in zip(before, after, strict=True):
        share = int((rows != changed).any(1).sum())
        require(
            share <= len(rows) // b,
            f"Changing 1 of {b} images changed {share} of {len(rows)} rows of the views: images are mixed.",
        )


def views_ignore_memory_layout(case: TaskCase) -> None:
    """Views are the same for contiguous, transposed, channels-last and float64 images."""
    task, images = case.task(), case.images(6)
    batch = case.views(task, images)
    layouts = {
        "transposed memory": images.transpose(2, 3).contiguous().transpose(2, 3),
        "channels_last": images.contiguous(memory_format=torch.channels_last),
        "float64": images.double(),
    }
    for layout, twin in layouts.items():
        require(same(batch, case.views(task, twin), tolerance=1e-4), f"Images in {layout} give other views.")


def _rows(batch: object, b: int) -> list[Tensor]:
    """Flatten every tensor whose rows belong to images: ``r n`` with r a multiple of b."""
    rowed = [tensor for tensor in tensors(batch) if tensor.ndim > 0 and len(tensor) > 0 and len(tensor) % b == 0]
    return [tensor.reshape(len(tensor), -1).double() for tensor in rowed]


CHECKS = (
    views_are_float_tensors,
    views_repeat_under_one_seed,
    views_use_the_generator,
    views_leave_global_rng_alone,
    views_change_no_input,
    views_read_no_parameter,
    views_draw_for_each_image,
    views_keep_images_apart,
    views_ignore_memory_layout,
)
