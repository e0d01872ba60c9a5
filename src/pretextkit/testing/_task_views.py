"""Checks of ``PretextTask.views``."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit.testing._cases import (
    TaskCase,
    generator,
    global_rng_states,
    global_seed,
    image_tensors,
    same,
    tensors,
)
from pretextkit.testing._runner import require

__all__ = ["CHECKS"]


def views_are_float_tensors(case: TaskCase) -> None:
    """Views are a tuple of tensors with finite float32 images, without gradient."""
    batch = case.batch(case.task())
    require(isinstance(batch, tuple), f"views returns a {type(batch).__name__}; return a NamedTuple of tensors.")
    images = image_tensors(batch)
    require(bool(images), "No field of the views is a float tensor b c h w; return at least one.")
    for tensor in tensors(batch):
        require(not tensor.requires_grad, "A view has a gradient; make views from the images only.")
    for view in images:
        require(view.dtype == torch.float32, f"float32 images give views of {view.dtype}.")
        require(bool(view.isfinite().all()), "A view holds NaN or inf.")


def views_repeat_under_one_seed(case: TaskCase) -> None:
    """Views depend on the seed of the generator, and not on the global seed."""
    task, images = case.task(), case.images(8)
    with global_seed(1):
        first = case.views(task, images, seed=3)
    with global_seed(2):
        second = case.views(task, images, seed=3)
    require(
        same(first, second),
        "Two calls with one seed give different views; draw all random numbers from the generator argument.",
    )


def views_use_the_generator(case: TaskCase) -> None:
    """Views differ between seeds, and between two calls with one generator."""
    task, images, draws = case.task(), case.images(8), generator(0)
    first, second = (task.views(images, draws) for _ in range(2))
    require(not same(first, second), "Two calls with one generator give the same views; the generator is ignored.")
    require(not same(first, case.views(task, images, seed=1)), "Two seeds give the same views.")


def views_leave_global_rng_unchanged(case: TaskCase) -> None:
    """Making views draws nothing from the global RNGs of torch, numpy and Python."""
    task, images = case.task(), case.images(8)
    before = global_rng_states()
    case.views(task, images)
    for library, state in global_rng_states().items():
        require(state == before[library], f"The global RNG of {library} advanced; draw from the generator argument.")


def views_leave_images_unchanged(case: TaskCase) -> None:
    """Making views does not change the images."""
    task, images = case.task(), case.images(8)
    before = images.clone()
    case.views(task, images)
    require(torch.equal(images, before), "views changed the images in place; clone them before writing.")


def views_read_no_parameter(case: TaskCase) -> None:
    """Views do not depend on parameters or on train and eval mode."""
    task = case.task()
    batch = case.batch(task)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.fill_(torch.nan)
    require(same(batch, case.batch(task)), "Views depend on a parameter; move computations with weights to forward.")
    require(same(case.batch(case.task().eval()), batch), "Views differ between train and eval mode.")


def views_draw_for_each_image(case: TaskCase) -> None:
    """Every image has its own random draw: equal images in one batch get different views."""
    b = 8
    images = case.images(1).repeat(b, 1, 1, 1)
    rows = _rows(case.views(case.task(), images), b)
    require(bool(rows), "No field of the views has one or more rows for every image.")
    longest = max(len(tensor) for tensor in rows)
    joined = torch.cat([tensor for tensor in rows if len(tensor) == longest], 1)
    distinct, allowed = len(torch.unique(joined, dim=0)), len(joined) // b
    require(
        distinct > allowed,
        f"{b} equal images give only {distinct} different views: all images share one random draw.",
    )


def views_keep_images_separate(case: TaskCase) -> None:
    """Changing one image changes only the views of this image."""
    b = 8
    task, images = case.task(), case.images(b)
    other = images.clone()
    other[0] = case.images(1, seed=99)[0]
    before, after = (_rows(case.views(task, batch), b) for batch in (images, other))
    for rows, changed in zip(before, after, strict=True):
        count = int((rows != changed).any(1).sum())
        require(
            count <= len(rows) // b,
            f"Changing 1 of {b} images changes {count} of {len(rows)} rows of the views: images are mixed.",
        )


def views_ignore_memory_layout(case: TaskCase) -> None:
    """Views are the same for contiguous, transposed, channels_last and float64 images."""
    task, images = case.task(), case.images(6)
    batch = case.views(task, images)
    layouts = {
        "transposed memory": images.transpose(2, 3).contiguous().transpose(2, 3),
        "channels_last": images.contiguous(memory_format=torch.channels_last),
        "float64": images.double(),
    }
    for layout, twin in layouts.items():
        require(same(batch, case.views(task, twin), tolerance=1e-4), f"Images in {layout} give different views.")


def _rows(batch: object, b: int) -> list[Tensor]:
    """Flatten each tensor with a multiple of b rows: ``r n``."""
    found = [tensor for tensor in tensors(batch) if tensor.ndim > 0 and len(tensor) > 0 and len(tensor) % b == 0]
    return [tensor.reshape(len(tensor), -1).double() for tensor in found]


CHECKS = (
    views_are_float_tensors,
    views_repeat_under_one_seed,
    views_use_the_generator,
    views_leave_global_rng_unchanged,
    views_leave_images_unchanged,
    views_read_no_parameter,
    views_draw_for_each_image,
    views_keep_images_separate,
    views_ignore_memory_layout,
)
