"""A task's step through a wrapper, which averages gradients only if it is called itself."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from pretextkit._color import as_float
from pretextkit._modules import unwrap
from pretextkit._validation import check_image_batch
from pretextkit.contracts import PretextTask, TaskOutput
from pretextkit.training._task_check import check_task

__all__ = ["run_step"]


def run_step(task: nn.Module, images: Tensor, generator: Generator) -> TaskOutput:
    """Make views of images and compute their loss, with a task or with any wrapper around it.

    The views come from the task inside, and the wrapper is called on them. So ``DistributedDataParallel`` averages the
    gradients over processes, which it does not after ``wrapper.module.step(images, generator)``. Of a task without a
    wrapper, this is ``task.step(images, generator)``.

    Args:
        task: Pretext task, or the result of Accelerate's ``prepare``, Fabric's ``setup``, ``DistributedDataParallel``
            or ``torch.compile``.
        images: ``b c h w``, uint8 or float in [0, 1].
        generator: Source of all random numbers in the views, on the CPU.

    Returns:
        A loss with gradient, and metrics without.

    Raises:
        OptionError: There is no pretext task inside ``task``.
        ShapeError: The images have another rank.
        DataError: The images are neither uint8 nor floating-point.

    Example:
        >>> import pretextkit as pk
        >>> task = pk.tasks.Rotation(pk.models.SmallCNN())
        >>> wrapped = torch.nn.DataParallel(task)
        >>> run_step(wrapped, torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).loss.shape
        torch.Size([])
    """
    inner = find_task(task)
    check_image_batch(images)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        batch = inner.views(as_float(images), generator)
    return cast(TaskOutput, task(batch))


def find_task(module: Any) -> PretextTask[Any, Any]:
    """Return the task inside wrappers, which hold a module as ``module``.

    Raises:
        OptionError: There is no task.
    """
    inner = unwrap(module)
    while isinstance(inner, nn.Module) and not isinstance(inner, PretextTask) and hasattr(inner, "module"):
        inner = unwrap(inner.module)
    check_task(inner)
    return cast("PretextTask[Any, Any]", inner)
