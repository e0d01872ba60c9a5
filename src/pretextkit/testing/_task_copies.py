"""Checks of momentum copies, which ``PretextTask.after_step`` updates."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit.testing._cases import Task, TaskCase, generator, global_seed, same
from pretextkit.testing._runner import require

__all__ = ["CHECKS"]


def copies_share_no_memory(case: TaskCase) -> None:
    """Frozen copies share no memory with trainable parameters, and no parameter has two names."""
    task = case.task()
    trainable = {p.untyped_storage().data_ptr(): name for name, p in _trainable(task).items()}
    for name, copy in _copies(task).items():
        original = trainable.get(copy.untyped_storage().data_ptr())
        require(original is None, f"{name} shares memory with {original}; use copy.deepcopy.")
    names: dict[int, str] = {}
    for name, parameter in task.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        require(first == name, f"{name} is a second name of {first}; for a momentum copy, use copy.deepcopy.")


def copies_follow_after_step(case: TaskCase) -> None:
    """``after_step`` moves every frozen copy towards its weights."""
    task = case.task()
    copies = _copies(task)
    weights = _trainable(task)
    pairs = {name: [w for w, weight in weights.items() if _is_copy(copy, weight)] for name, copy in copies.items()}
    _step(case, task)
    before = {name: copy.clone() for name, copy in _named(task, copies).items()}
    task.after_step()
    for name, copy in _named(task, copies).items():
        require(not same(copy, before[name]), f"after_step does not update {name}, a frozen copy.")
        if len(pairs[name]) == 1:
            weight = weights[pairs[name][0]].detach()
            closer = (copy - weight).norm() < (before[name] - weight).norm()
            require(bool(closer), f"after_step moves {name} away from its weights, {pairs[name][0]}.")


def after_step_leaves_weights_unchanged(case: TaskCase) -> None:
    """``after_step`` changes no trainable parameter."""
    task = case.task()
    _step(case, task)
    before = {name: weight.detach().clone() for name, weight in _trainable(task).items()}
    task.after_step()
    for name, weight in _trainable(task).items():
        require(
            same(weight, before[name]), f"after_step changed {name}, a trainable parameter; update only frozen copies."
        )


def _trainable(task: Task) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in task.named_parameters() if parameter.requires_grad}


def _copies(task: Task) -> dict[str, Tensor]:
    """Find frozen parameters, and buffers that equal a trainable parameter."""
    frozen = {name: p.detach() for name, p in task.named_parameters() if not p.requires_grad}
    weights = _trainable(task).values()
    return frozen | {n: b for n, b in task.named_buffers() if any(_is_copy(b, weight) for weight in weights)}


def _named(task: Task, copies: dict[str, Tensor]) -> dict[str, Tensor]:
    """Look the copies up again, because ``after_step`` may replace the tensors."""
    now: dict[str, Tensor] = {**dict(task.named_parameters()), **dict(task.named_buffers())}
    return {name: now[name].detach() for name in copies}


def _is_copy(copy: Tensor, weight: Tensor) -> bool:
    # Vectors of zeros or ones are often equal by chance; matrices are not.
    return copy.ndim > 1 and copy.shape == weight.shape and torch.equal(copy, weight)


def _step(case: TaskCase, task: Task) -> None:
    """Score a batch, then change the weights as one large optimizer step does."""
    with global_seed(0):
        torch.autograd.backward(task.step(case.images(8), generator(0)).loss)
    draws = generator(0)
    with torch.no_grad():
        for weight in _trainable(task).values():
            weight.add_(torch.randn(weight.shape, generator=draws))


CHECKS = (copies_share_no_memory, copies_follow_after_step, after_step_leaves_weights_unchanged)
