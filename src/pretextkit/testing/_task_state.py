"""Checks of state that moves with the steps: momentum copies, centers, queues and running statistics of a task."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit.testing._cases import Task, TaskCase, global_seed, map_tensors, same
from pretextkit.testing._runner import require

__all__ = ["CHECKS"]

PER_BATCH = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
"""Modules that treat a batch and its parts differently; the checks set them to evaluation mode."""


def forward_moves_no_state(case: TaskCase) -> None:
    """Computing a loss changes no state of the task, except the statistics of BatchNorm."""
    task = _fixed(case.task())
    before = _state(task)
    batch = case.batch(task)
    first, second = (_loss(task, batch) for _ in range(2))
    moved = [name for name, value in _state(task).items() if not same(value, before[name])]
    require(not moved, f"forward changed {moved[:3]}; collect what it measures, and commit it in after_step.")
    require(same(first, second), "The second loss of one batch differs from the first: forward changed some state.")


def parts_leave_the_state_of_the_batch(case: TaskCase) -> None:
    """A batch in one part and in two parts leaves the same momentum copies, centers and queues."""
    full, parts = _one_step(case, 1), _one_step(case, 2)
    for name, value in _state(full).items():
        near = same(value, _state(parts)[name], tolerance=1e-4)
        require(near, f"{name} differs if a batch is computed in two parts; move it in after_step, once a step.")


def parts_have_the_gradient_of_the_batch(case: TaskCase) -> None:
    """A batch in one part and in two parts has the same loss and gradient."""
    task = _fixed(case.task())
    batch = case.batch(task)
    losses, gradients = [], []
    for count in (1, 2):
        task.zero_grad()
        losses.append(_backward(task, _parts(batch, count)))
        gradients.append({n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None})
    require(
        same(*losses, tolerance=1e-4),
        f"The loss is {float(losses[0]):.6g} in one part and {float(losses[1]):.6g} in two: it compares images.",
    )
    for name, gradient in gradients[0].items():
        near = (gradient - gradients[1][name]).norm() < 1e-3 * (gradient.norm() + 1e-3)
        require(bool(near), f"The gradient of {name} differs between one part and two: the loss compares images.")


def _one_step(case: TaskCase, count: int) -> Task:
    """Compute a batch in parts, change the weights, and call ``after_step``."""
    task = _fixed(case.task())
    _backward(task, _parts(case.batch(task), count))
    with torch.no_grad():
        for parameter in task.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.1)
    task.after_step()
    return task


def _fixed(task: Task) -> Task:
    task = copy.deepcopy(task)
    for module in task.modules():
        if isinstance(module, PER_BATCH):
            module.eval()
    return task


def _state(task: Task) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in task.state_dict().items()}


def _parts(batch: Any, count: int) -> list[Any]:
    def part(index: int, tensor: Tensor) -> Tensor:
        whole = tensor.ndim == 0 or len(tensor) % count
        return tensor if whole else tensor.chunk(count)[index]

    return [map_tensors(lambda tensor, index=index: part(index, tensor), batch) for index in range(count)]  # type: ignore[misc]


def _loss(task: Task, batch: Any) -> Tensor:
    with global_seed(0):
        loss: Tensor = task(map_tensors(torch.clone, batch)).loss
    return loss


def _backward(task: Task, parts: list[Any]) -> Tensor:
    """Return the mean loss of the parts, and add up its gradient."""
    losses = []
    for part in parts:
        loss = _loss(task, part) / len(parts)
        torch.autograd.backward(loss)
        losses.append(loss.detach())
    return torch.stack(losses).sum()


CHECKS = (forward_moves_no_state, parts_leave_the_state_of_the_batch, parts_have_the_gradient_of_the_batch)
