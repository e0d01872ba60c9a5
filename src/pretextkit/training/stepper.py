"""One step of the optimiser: forward, backward, and the weights moved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pretextkit.contracts import TaskOutput, as_float
from pretextkit.errors import ShapeError
from pretextkit.training.optim import build_optimizer, warmup_cosine
from pretextkit.training.seeds import derived_generator, seed_layers
from pretextkit.training.settings import Plan, Settings
from pretextkit.training.trainee import Trainee

__all__ = ["Stepper"]

AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """Trains a trainee batch by batch, in a precision, on a schedule."""

    def __init__(self, trainee: Trainee, settings: Settings, plan: Plan, device: torch.device, precision: str) -> None:
        self.trainee, self.settings, self.plan = trainee, settings, plan
        self.device, self.precision = device, precision
        self.optimizer = build_optimizer(
            settings.optimizer, trainee.parameter_groups(), plan.learning_rate, settings.weight_decay
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def learning_rate(self, step: int) -> float:
        """Give the rate at ``step``."""
        return self.plan.learning_rate * warmup_cosine(step, self.plan.total, self.plan.warmup)

    def prepare(self, step: int, images: Tensor, labels: Tensor | None) -> Any:
        """Bring a batch to the device and make what the trainee scores, from the seed and the step's number alone."""
        images = as_float(images.to(self.device, non_blocking=True))
        if labels is not None:
            labels = labels.to(self.device, non_blocking=True)
        with torch.no_grad():
            return self.trainee.prepare(images, labels, derived_generator(self.settings.seed, "views", step))

    def move(self, step: int, batch: Any) -> TaskOutput:
        """Score a batch and move the weights."""
        seed_layers(self.device, self.settings.seed, step)
        with torch.autocast(self.device.type, AUTOCAST[self.precision], enabled=self.precision != "fp32"):
            output = self.trainee.score(batch)
        if output.loss.shape != () or not output.loss.requires_grad:
            raise ShapeError(
                "a loss of shape () that depends on the weights",
                got=f"shape {tuple(output.loss.shape)}, "
                + ("with" if output.loss.requires_grad else "without")
                + " gradient",
                fix="Take the mean over the batch, and detach nothing between the weights and the loss.",
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step) * group.get("scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(output.loss))
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.trainee.module.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.trainee.after_step()
        return output

    def state_dict(self) -> dict[str, Any]:
        """Give all that the next step depends on."""
        return {
            "module": self.trainee.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was taken."""
        self.trainee.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
