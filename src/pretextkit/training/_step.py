"""One step of the optimizer: forward, backward, and the weights moved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pretextkit._color import as_float
from pretextkit._seeding import derived_generator, seed_layers
from pretextkit.contracts import TaskOutput
from pretextkit.distributed import collective_scope
from pretextkit.distributed._batch_slices import BatchSlice, SlicedRandom
from pretextkit.distributed._processes import ALONE, Processes
from pretextkit.distributed._sharding import broadcast_buffers, gather_state, is_sharded, shard_state
from pretextkit.errors import ShapeError
from pretextkit.training._objectives import Objective
from pretextkit.training._optim import build_optimizer, warmup_cosine
from pretextkit.training._settings import Plan, Settings

__all__ = ["TrainStep"]

AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainStep:
    """Trains a trainee batch by batch, in a precision, on a schedule.

    A step's batch is computed in parts: ``accumulate`` of them one after the other, on each of the processes.
    """

    def __init__(
        self,
        trainee: Objective,
        settings: Settings,
        plan: Plan,
        device: torch.device,
        precision: str,
        processes: Processes = ALONE,
    ) -> None:
        self.trainee, self.settings, self.plan = trainee, settings, plan
        self.device, self.precision, self.processes = device, precision, processes
        self.optimizer = build_optimizer(
            settings.optimizer, trainee.parameter_groups(), plan.learning_rate, settings.weight_decay
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.sharded = is_sharded(trainee.module)
        # Everyone begins with the weights of the first process, or has its part of them.
        self.shared = None if processes.alone or self.sharded else DistributedDataParallel(_Scored(trainee))

    def learning_rate(self, step: int) -> float:
        """Give the rate at ``step``."""
        return self.plan.learning_rate * warmup_cosine(step, self.plan.total, self.plan.warmup)

    def prepare(self, step: int, images: Tensor, labels: Tensor | None) -> list[Any]:
        """Bring a batch to the device and make what the trainee scores, from the seed and the step's number alone."""
        images = as_float(images.to(self.device, non_blocking=True))
        parts = self.settings.accumulate
        chunks: Sequence[Tensor | None] = [None] * parts
        if labels is not None:
            chunks = labels.to(self.device, non_blocking=True).chunk(parts)
        with torch.no_grad():
            return [
                self._prepare(step, part, *chunk)
                for part, chunk in enumerate(zip(images.chunk(parts), chunks, strict=True))
            ]

    def _prepare(self, step: int, part: int, images: Tensor, labels: Tensor | None) -> Any:
        generator = derived_generator(self.settings.seed, "views", step)
        share = self._share(part)
        draws: AbstractContextManager[Any] = nullcontext()
        if share.parts > 1:
            own = derived_generator(self.settings.seed, f"views of part {share.part}", step)
            draws = SlicedRandom(generator, own, share, len(images))
        with draws:
            return self.trainee.prepare(images, labels, generator)

    def _share(self, part: int) -> BatchSlice:
        rank, count = self.processes.place
        return BatchSlice(rank * self.settings.accumulate + part, count * self.settings.accumulate)

    def move(self, step: int, batches: Sequence[Any]) -> TaskOutput:
        """Score a batch, part by part, and move the weights."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.sharded:
            broadcast_buffers(self.trainee.module)
        outputs = []
        for part, batch in enumerate(batches):
            seed_layers(self.device, self.settings.seed, step, self._share(part).part)
            with self._gradients_of(last=part == len(batches) - 1):
                with torch.autocast(self.device.type, AUTOCAST[self.precision], enabled=self.precision != "fp32"):
                    output = self._score(batch)
                torch.autograd.backward(self.scaler.scale(output.loss / len(batches)))
            outputs.append(TaskOutput(output.loss.detach(), output.metrics))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step) * group.get("scale", 1.0)
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.trainee.module.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.trainee.after_step()
        return self.processes.mean(_mean(outputs))

    def _score(self, batch: Any) -> TaskOutput:
        with collective_scope(self.processes.place):
            output: TaskOutput = self.trainee.score(batch) if self.shared is None else self.shared(batch)
        if output.loss.shape != () or not output.loss.requires_grad:
            raise ShapeError(
                "a loss of shape () that depends on the weights",
                got=f"shape {tuple(output.loss.shape)}, "
                + ("with" if output.loss.requires_grad else "without")
                + " gradient",
                fix="Take the mean over the batch, and detach nothing between the weights and the loss.",
            )
        return output

    def _gradients_of(self, last: bool) -> AbstractContextManager[Any]:
        """Let the processes average their gradients with the last part only."""
        if self.sharded:
            sharded: Any = self.trainee.module
            sharded.set_requires_gradient_sync(last)
        return nullcontext() if self.shared is None or last else self.shared.no_sync()

    def state_dict(self) -> dict[str, Any]:
        """Give all that the next step depends on; of divided weights, all of them to the first process."""
        state = {
            "module": self.trainee.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        return gather_state(state, keep=self.processes.first) if self.sharded else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was taken."""
        module, optimizer = state["module"], state["optimizer"]
        if self.sharded:
            weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
            module = shard_state(module, self.trainee.module.state_dict())
            optimizer = {**optimizer, "state": shard_state(optimizer["state"], weights)}
        self.trainee.module.load_state_dict(module)
        self.optimizer.load_state_dict(optimizer)
        self.scaler.load_state_dict(state["scaler"])


class _Scored(nn.Module):
    """A trainee's module whose forward pass is the score, which is what DistributedDataParallel has to see."""

    def __init__(self, trainee: Objective) -> None:
        super().__init__()
        self.module, self.trainee = trainee.module, trainee

    def forward(self, batch: Any) -> TaskOutput:
        return self.trainee.score(batch)


def _mean(outputs: Sequence[TaskOutput]) -> TaskOutput:
    if len(outputs) == 1:
        return outputs[0]
    metrics = {name: torch.stack([each.metrics[name] for each in outputs]).mean() for name in outputs[0].metrics}
    return TaskOutput(torch.stack([each.loss for each in outputs]).mean(), metrics)
