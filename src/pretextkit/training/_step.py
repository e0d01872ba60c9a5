"""One training step: views, forward pass, backward pass, optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._seeding import derived_generator, seed_layers
from pretextkit._validation import described
from pretextkit.contracts import TaskOutput
from pretextkit.distributed import collective_scope
from pretextkit.distributed._batch_slices import BatchSlice, SlicedRandom
from pretextkit.distributed._strategy import Strategy, choose_strategy
from pretextkit.errors import ShapeError
from pretextkit.training._hardware import autocast_for
from pretextkit.training._objectives import Objective
from pretextkit.training._optim import build_optimizer, warmup_cosine
from pretextkit.training._settings import Plan, Settings
from pretextkit.training._user_code import TrainedState

__all__ = ["TrainStep"]


class TrainStep:
    """Trains an objective batch by batch, in a precision, on a schedule.

    A step computes its batch in parts: ``accumulate`` parts one after the other, on each of the processes.

    Args:
        objective: What trains.
        settings: Options of the run.
        plan: Numbers of the run.
        device: Device of the module.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        strategy: How the processes share the work; by default there is one process.
    """

    def __init__(
        self,
        objective: Objective,
        settings: Settings,
        plan: Plan,
        device: torch.device,
        precision: str,
        strategy: Strategy | None = None,
    ) -> None:
        self.objective, self.settings, self.plan = objective, settings, plan
        self.device, self.precision = device, precision
        self.strategy = choose_strategy(objective.module) if strategy is None else strategy
        self.optimizer = build_optimizer(
            settings.optimizer, objective.parameter_groups(), plan.learning_rate, plan.weight_decay
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.state = TrainedState(objective.module)
        self.loss = self.strategy.wrap(objective.loss)  # gives every process the weights of rank 0

    def learning_rate(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        plan = self.plan
        return plan.learning_rate * warmup_cosine(step - plan.extends, plan.total - plan.extends, plan.warmup)

    def prepare(self, step: int, images: Tensor, labels: Tensor | None) -> list[Any]:
        """Move a batch to the device and prepare its parts. Random numbers depend on the seed and the step only."""
        images = as_float(images.to(self.device, non_blocking=True))
        parts = self.settings.accumulate
        chunks: Sequence[Tensor | None] = [None] * parts
        if labels is not None:
            chunks = labels.to(self.device, non_blocking=True).chunk(parts)
        with torch.no_grad():
            return [
                self._prepare_part(step, part, *chunk)
                for part, chunk in enumerate(zip(images.chunk(parts), chunks, strict=True))
            ]

    def _prepare_part(self, step: int, part: int, images: Tensor, labels: Tensor | None) -> Any:
        generator = derived_generator(self.settings.seed, "views", step)
        batch_slice = self._slice(part)
        draws: AbstractContextManager[Any] = nullcontext()
        if batch_slice.parts > 1:
            own = derived_generator(self.settings.seed, f"views of part {batch_slice.part}", step)
            draws = SlicedRandom(generator, own, batch_slice, len(images))
        with draws:
            return self.objective.prepare_batch(images, labels, generator)

    def _slice(self, part: int) -> BatchSlice:
        rank, count = self.strategy.group.rank
        return BatchSlice(rank * self.settings.accumulate + part, count * self.settings.accumulate)

    def step(self, step: int, batches: Sequence[Any]) -> TaskOutput:
        """Compute the loss of a batch, part by part, and update the weights."""
        self.optimizer.zero_grad(set_to_none=True)
        self.strategy.begin_step()
        self.state.check_place()
        outputs = []
        for part, batch in enumerate(batches):
            self.state.restore_modes()  # user code may have changed them: augment, views, a callback, the last forward
            seed_layers(self.device, self.settings.seed, step, self._slice(part).part)
            with self.strategy.gradient_sync(last=part == len(batches) - 1):
                with autocast_for(self.device, self.precision):
                    output = self._loss(batch)
                torch.autograd.backward(self.scaler.scale(output.loss / len(batches)))
            outputs.append(TaskOutput(output.loss.detach(), output.metrics))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step) * group.get("scale", 1.0)
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.objective.module.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.objective.after_step()
        self.state.after_step()
        return self.strategy.group.mean_output(_mean(outputs))

    def _loss(self, batch: Any) -> TaskOutput:
        with collective_scope(self.strategy.group.rank):
            output = self.loss(batch)
        _check_output(output)
        if output.loss.shape != () or not output.loss.requires_grad:
            gradient = "with" if output.loss.requires_grad else "without"
            raise ShapeError(
                "a loss of shape () that depends on the weights",
                got=f"shape {tuple(output.loss.shape)}, {gradient} gradient",
                fix="Take the mean over the batch, and detach nothing between the weights and the loss.",
            )
        return output

    def state_dict(self) -> dict[str, Any]:
        """Return the state on which the next step depends. Sharded weights are gathered on rank 0."""
        return self.strategy.gather_state(
            {
                "module": self.objective.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            }
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of :meth:`state_dict`."""
        self.strategy.load_module(state["module"])
        self.strategy.load_optimizer(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def _check_output(output: Any) -> None:
    """Refuse what is no ``TaskOutput`` of scalar tensors, before its parts are used."""
    fix = "Return TaskOutput(loss, {'name': metric.detach()}) from the task's forward."
    if not isinstance(output, TaskOutput):
        raise ShapeError("a TaskOutput from the task's forward", got=type(output).__name__, fix=fix)
    if not isinstance(output.loss, Tensor) or output.loss.is_complex():
        got = type(output.loss).__name__ if not isinstance(output.loss, Tensor) else str(output.loss.dtype)
        raise ShapeError("a real tensor as the loss in TaskOutput", got=got, fix=fix)
    if not isinstance(output.metrics, Mapping):
        raise ShapeError("a mapping as the metrics in TaskOutput", got=type(output.metrics).__name__, fix=fix)
    for name, metric in output.metrics.items():
        if not isinstance(metric, Tensor) or metric.shape != ():
            raise ShapeError(f"the metric {name!r} as a tensor of shape ()", got=described(metric), fix=fix)


def _mean(outputs: Sequence[TaskOutput]) -> TaskOutput:
    if len(outputs) == 1:
        return outputs[0]
    metrics = {name: torch.stack([each.metrics[name] for each in outputs]).mean() for name in outputs[0].metrics}
    return TaskOutput(torch.stack([each.loss for each in outputs]).mean(), metrics)
