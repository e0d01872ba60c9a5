"""Checks of what follows the weights: momentum copies, moved in ``PretextTask.after_step``."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit.testing._cases import Task, TaskCase, generator, same, seeded
from pretextkit.testing._runner import require

__all__ = ["CHECKS"]


def copies_have_their_own_memory(case: TaskCase) -> None:
    """No frozen copy shares memory with a trainable parameter, and none is a second name for one."""
    task = case.task()
    trainable = {p.untyped_storage().data_ptr(): name for name, p in _trainable(task).items()}
    for name, copy in _copies(task).items():
        original = trainable.get(copy.untyped_storage().data_ptr())
        require(original is None, f"{name} shares memory with {original}; copy.deepcopy the module.")
    names: dict[int, str] = {}
    for name, parameter in task.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        require(
            first == name, f"{name} is {first} under a second name; copy.deepcopy the module if it is to lag behind."
        )


def copies_follow_after_step(case: TaskCase) -> None:
    """Every frozen copy moves in ``after_step``, towards the weights it copies."""
    task = case.task()
    copies = _copies(task)
    weights = _trainable(task)
    pairs = {name: [w for w, weight in weights.items() if _is_copy(copy, weight)] for name, copy in copies.items()}
    _step(case, task)
    before = {name: copy.clone() for name, copy in _named(task, copies).items()}
    task.after_step()
    for name, copy in _named(task, copies).items():
        require(not same(copy, before[name]), f"{name} is frozen and after_step does not move it.")
        if len(pairs[name]) == 1:
            weight = weights[pairs[name][0]].detach()
            closer = (copy - weight).norm() < (before[name] - weight).norm()
            require(bool(closer), f"after_step moves {name} away from {pairs[name][0]}, the weights it copies.")


def after_step_leaves_weights_alone(case: TaskCase) -> None:
    """``after_step`` changes no trainable parameter."""
    task = case.task()
    _step(case, task)
    before = {name: weight.detach().clone() for name, weight in _trainable(task).items()}
    task.after_step()
    for name, weight in _trainable(task).items():
        require(same(weight, before[name]), f"after_step changed {name}, which the optimizer trains; freeze the copy.")


def _trainable(task: Task) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in task.named_parameters() if parameter.requires_grad}


def _copies(task: Task) -> dict[str, Tensor]:
    """Find frozen parameters, and buffers that start as the copy of a trainable parameter."""
    frozen = {name: p.detach() for name, p in task.named_parameters() if not p.requires_grad}
    weights = _trainable(task).values()
    return frozen | {n: b for n, b in task.named_buffers() if any(_is_copy(b, weight) for weight in weights)}


def _named(task: Task, copies: dict[str, Tensor]) -> dict[str, Tensor]:
    """Look the copies up again: ``after_step`` may have put new tensors in their place."""
    now: dict[str, Tensor] = {**dict(task.named_parameters()), **dict(task.named_buffers())}
    return {name: now[name].detach() for name in copies}


def _is_copy(copy: Tensor, weight: Tensor) -> bool:
    # Vectors of zeros or ones equal each other by chance; matrices do not.
    return copy.ndim > 1 and copy.shape == weight.shape and torch.equal(copy, weight)


def _step(case: TaskCase, task: Task) -> None:
    """Score a batch, then move the weights by a lot, as an optimizer with a large step would."""
    with seeded(0):
        torch.autograd.backward(task.step(case.images(8), generator(0)).loss)
    draws = generator(0)
    with torch.no_grad():
        for weight in _trainable(task).values():
            weight.add_(torch.randn(weight.shape, generator=draws))


CHECKS = (copies_have_their_own_memory, copies_follow_after_step, after_step_leaves_weights_alone)
