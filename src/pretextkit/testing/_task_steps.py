"""Checks of ``PretextTask.forward``: loss, metrics, gradient, and saving."""

from __future__ import annotations

import copy
import io
import pickle

import torch
from torch import Tensor

from pretextkit.contracts import TaskOutput
from pretextkit.testing._cases import Task, TaskCase, generator, global_seed, map_tensors, same, score
from pretextkit.testing._runner import require

__all__ = ["CHECKS"]


def factory_makes_new_tasks(case: TaskCase) -> None:
    """Two calls of the factory share no parameter."""
    first, second = case.task(), case.task()
    shared = {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    require(not shared, "Two tasks share parameters; build backbone and task inside the factory.")


def loss_is_a_finite_scalar(case: TaskCase) -> None:
    """The loss is a finite float scalar ``()`` with gradient."""
    output = _step(case, case.task())
    require(isinstance(output, TaskOutput), f"forward returns a {type(output).__name__}, not a TaskOutput.")
    loss = output.loss
    require(loss.shape == (), f"The loss has shape {tuple(loss.shape)}; reduce it to a mean.")
    require(loss.is_floating_point() and bool(loss.isfinite()), f"The loss is {loss}.")
    require(loss.requires_grad, "The loss has no gradient; remove the detach() or no_grad() between backbone and loss.")


def loss_is_a_mean(case: TaskCase) -> None:
    """The loss does not grow with the batch size, because learning rates depend on its scale."""
    task = case.task()
    small = sum(float(score(task, case.batch(task, n=8, seed=seed)).loss) for seed in range(8)) / 8
    large = float(score(task, case.batch(task, n=64)).loss)
    require(
        abs(large) < 3 * abs(small) + 1,
        f"The loss is {small:.3g} for 8 images and {large:.3g} for 64; take the mean over rows, not the sum.",
    )


def metrics_are_detached_scalars(case: TaskCase) -> None:
    """Every metric is a finite scalar ``()`` without gradient."""
    for name, metric in _step(case, case.task()).metrics.items():
        require(isinstance(name, str), f"The name of the metric {name!r} is not a string.")
        require(isinstance(metric, Tensor), f"The metric {name!r} is a {type(metric).__name__}, not a tensor.")
        require(metric.shape == (), f"The metric {name!r} has shape {tuple(metric.shape)}.")
        require(not metric.requires_grad, f"The metric {name!r} has a gradient; detach it.")
        require(bool(metric.isfinite()), f"The metric {name!r} is {metric}.")


def forward_leaves_batch_unchanged(case: TaskCase) -> None:
    """Scoring a batch does not change the batch."""
    task = case.task()
    batch = case.batch(task)
    before = map_tensors(torch.clone, batch)
    with global_seed(0):
        task(batch)
    require(same(before, batch), "forward changed the batch in place; clone tensors before writing.")


def backbone_gets_gradient(case: TaskCase) -> None:
    """The backbone has a gradient."""
    gradients = _gradients(case)
    reached = sum(value for name, value in gradients.items() if name.startswith("backbone."))
    require(reached > 0, "No gradient reaches the backbone; remove the detach() or no_grad() after the backbone.")


def every_parameter_gets_gradient(case: TaskCase) -> None:
    """Every trainable parameter has a finite, nonzero gradient within three steps."""
    gradients = _gradients(case)
    idle = [name for name, value in gradients.items() if value == 0]
    require(not idle, f"No gradient reaches {_some(idle)}; use or delete them, or set requires_grad=False.")
    broken = [name for name, value in gradients.items() if not torch.tensor(value).isfinite()]
    require(not broken, f"The gradient of {_some(broken)} holds NaN or inf.")


def state_dict_round_trip(case: TaskCase) -> None:
    """A new task with the same state dict, saved as plain tensors, gives the same loss on the same batch."""
    task = _stepped(case)
    file = io.BytesIO()
    torch.save(task.state_dict(), file)
    file.seek(0)
    other = case.task(seed=1)
    other.load_state_dict(torch.load(file, weights_only=True))
    _require_same_loss(
        case, task, other, "after load_state_dict; register all state of the loss as parameters or buffers"
    )


def pickle_round_trip(case: TaskCase) -> None:
    """A pickled task gives the same loss on the same batch."""
    task = _stepped(case)
    _require_same_loss(case, task, pickle.loads(pickle.dumps(task)), "after pickling")


def deepcopy_is_independent(case: TaskCase) -> None:
    """A deep copy gives the same loss, and training the copy does not change the original."""
    task = _stepped(case)
    other = copy.deepcopy(task)
    _require_same_loss(case, task, other, "after copy.deepcopy")
    task.zero_grad()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    for _ in case.train(other, steps=1):
        pass
    moved = [name for name, value in task.state_dict().items() if not same(value, before[name])]
    moved += [name for name, parameter in task.named_parameters() if parameter.grad is not None]
    require(not moved, f"Training a deep copy changed {_some(moved)} of the original.")


def _step(case: TaskCase, task: Task) -> TaskOutput:
    with global_seed(0):
        return task.step(case.images(8), generator(0))


def _stepped(case: TaskCase) -> Task:
    task = case.task()
    for _ in case.train(task, steps=2):
        pass
    return task


def _gradients(case: TaskCase) -> dict[str, float]:
    # Three steps: in the first, a layer with zero weights blocks the gradient of earlier layers.
    task = case.task()
    total = {name: 0.0 for name, parameter in task.named_parameters() if parameter.requires_grad}
    for _ in case.train(task, steps=3):
        for name, parameter in task.named_parameters():
            if name in total and parameter.grad is not None:
                total[name] += float(parameter.grad.abs().sum())
    return total


def _require_same_loss(case: TaskCase, task: Task, other: Task, when: str) -> None:
    batch = case.batch(task, seed=5)
    ours, theirs = score(task, batch).loss, score(other, batch).loss
    require(same(ours, theirs, tolerance=1e-5), f"The loss is {float(ours):.6g} before and {float(theirs):.6g} {when}.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


CHECKS = (
    factory_makes_new_tasks,
    loss_is_a_finite_scalar,
    loss_is_a_mean,
    metrics_are_detached_scalars,
    forward_leaves_batch_unchanged,
    backbone_gets_gradient,
    every_parameter_gets_gradient,
    state_dict_round_trip,
    pickle_round_trip,
    deepcopy_is_independent,
)
