"""Detect silent training failures and warn once about each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pretextkit._fingerprint import digest, plain_attributes
from pretextkit.data._sources import ImageSource
from pretextkit.errors import DivergenceError, TrainingWarning, warn
from pretextkit.training._history import StepValues

__all__ = ["Finding", "ShortcutMonitor", "TrainingMonitor", "WarnOnce", "detect_copied_generator", "diverged"]

ENOUGH_STEPS = 10
"""Steps after which a weight without gradient, or a rise of the loss, is reported.

Heads that take turns have had theirs, and one lucky batch no longer decides the loss.
"""

EARLY = range(15, 20)
"""Perfect accuracy this early means that the task has a shortcut: on real images, built-in tasks have hardly begun."""

ENOUGH_IMAGES = 64
"""Fewest images, over the early steps, whose perfect accuracy is no accident."""

RISEN = 3.0
"""Ratio of an epoch's loss to the first step's loss above which the loss diverges; built-in tasks begin near chance."""

COMPARED = 16
"""Fewest images by which two epochs are compared; no shuffle of images gives the same ones twice."""

REPEATS = 3
"""Epochs in a row that repeat the one before them, until a source that decides its order is known to repeat it.

A stream that shuffles four shards repeats an order by chance in one epoch of 24.
"""

GRADIENT_CAUSE = (
    "The loss was finite, but not its derivative: a square root or norm of 0, or a division by nearly 0, does that. "
    "Add a small constant to its argument."
)


SEE = {
    "attributes": "state-that-no-checkpoint-saves",
    "collapse": "features-that-have-collapsed",
    "frozen": "weights-that-do-not-train",
    "generator": "epochs-that-repeat-images",
    "order": "epochs-that-repeat-images",
    "rising": "a-loss-that-rises",
    "scale": "steps-that-half-precision-skips",
    "shortcut": "a-task-without-an-error",
    "unknown weights": "weights-that-do-not-train",
    "unreached": "weights-that-do-not-train",
    "zero": "weights-that-do-not-train",
}
"""Section on troubleshooting for each kind of failure."""


class Finding(NamedTuple):
    """A failure to warn about."""

    kind: str
    text: str
    category: type[Warning] = TrainingWarning


class WarnOnce:
    """Warns once about each kind of failure.

    Args:
        enabled: Whether it warns: rank 0 does, because all processes find the same failures.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.seen: set[str] = set()

    def __call__(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if self.enabled and finding.kind not in self.seen:
                self.seen.add(finding.kind)
                warn(finding.text, finding.category, see=SEE.get(finding.kind, ""))


class TrainingMonitor:
    """Looks for failures in the batches, steps and epochs of a run.

    Args:
        module: The module that trains.
        source: Its images.
        batch_size: Images in a step on this process.
        per_epoch: Steps in an epoch.
        scaled: Whether losses are scaled (fp16); the scaler then skips steps whose gradient is not finite.
        full_tensor: Gathers a number that is computed from sharded weights.
    """

    def __init__(
        self,
        module: nn.Module,
        source: ImageSource,
        batch_size: int,
        per_epoch: int,
        scaled: bool = False,
        full_tensor: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        self.module, self.source, self.batch_size, self.per_epoch = module, source, batch_size, per_epoch
        self.scaled, self.full_tensor = scaled, full_tensor
        self.steps = 0
        self.without_gradient = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.all_zero = True
        self.first_loss: float | None = None
        self.usual_loss = 0.0
        self.batch: Any = None
        self.order = _RepeatedOrder(source, batch_size, per_epoch)

    def on_batch(self, step: int, images: Tensor, batch: Any) -> list[Finding]:
        """Look at the images and the prepared batch of a step: does every epoch repeat the order of the images?"""
        self.batch = batch  # shows the cause, should the loss not be finite
        return self.order.on_batch(step, images)

    def gradient_norm(self) -> Tensor:
        """Sum the norms of all gradients, which stay on the device."""
        self.steps += 1
        if self.without_gradient:
            self.without_gradient = {name: value for name, value in self.without_gradient.items() if value.grad is None}
        norms = [torch.linalg.vector_norm(value.grad) for value in self.module.parameters() if value.grad is not None]
        return self.full_tensor(torch.stack(norms).sum()).float() if norms else torch.zeros(())

    def on_steps(self, steps: Iterable[StepValues]) -> None:
        """Look at the numbers of some steps; see :meth:`on_step`."""
        for step in steps:
            self.on_step(*step)

    def on_step(self, step: int, values: Mapping[str, float], gradient: float) -> None:
        """Look at the numbers of a step: are they finite?

        Raises:
            DivergenceError: The loss or a gradient is not finite.
        """
        if not math.isfinite(values["loss"]):
            raise diverged("loss", values["loss"], step + 1, self.loss_cause())
        if not (math.isfinite(gradient) or self.scaled):
            raise diverged(f"gradient{self._bad_gradients()}", gradient, step + 1, GRADIENT_CAUSE)
        self.all_zero = self.all_zero and gradient == 0
        if self.first_loss is None:
            self.first_loss = values["loss"]

    def on_epoch(self, epoch: float, loss: float, scale: float) -> list[Finding]:
        """Look at the numbers of an epoch: do all weights learn, and does the loss fall?

        Args:
            epoch: Number of epochs done.
            loss: Mean loss of the epoch.
            scale: Factor on the losses in fp16, else 1.
        """
        found = []
        if self.steps >= ENOUGH_STEPS and self.all_zero:
            text = (
                f"Every gradient was 0 in {self.steps} steps: nothing is learned. Dead units (every input of a ReLU "
                "below 0) or a constant loss do that: look at the loss, lower learning_rate, and initialize the "
                "weights again."
            )
            found.append(Finding("zero", text))
        elif self.steps >= ENOUGH_STEPS and self.without_gradient:
            text = (
                f"The loss does not depend on {_some(list(self.without_gradient))}: no gradient in {self.steps} steps. "
                "If a head or backbone should learn, something detaches it from the loss (detach, no_grad, or an "
                "unused output). If it follows other weights, such as a momentum copy, call requires_grad_(False) on "
                "it. Otherwise delete it."
            )
            found.append(Finding("unreached", text))
        first = max(self.first_loss or 0.0, self.usual_loss)
        if self.steps >= ENOUGH_STEPS and 0 < RISEN * first < loss:
            text = (
                f"The loss rises: it was {first:.3g} at first and is {loss:.3g} on average in epoch "
                f"{epoch:g}. Steps are too long: lower learning_rate, lengthen warmup, or set clip_norm=1.0."
            )
            found.append(Finding("rising", text))
        if scale < 1:
            text = (
                "In fp16, nearly every step is skipped because its gradient is infinite: the loss scale has fallen to "
                f"{scale:.2g}. Use precision='bf16' or 'fp32'."
            )
            found.append(Finding("scale", text))
        return found

    def on_save(self, identity: Mapping[str, object]) -> list[Finding]:
        """Look for attributes of the module that have changed and that no checkpoint holds."""
        now = plain_attributes(self.module, "task")
        changed = [name for name, value in now.items() if identity.get(name, value) != value]
        text = (
            f"{_some(changed)} changed in training, but no checkpoint holds it: a resumed run would differ. Keep it in "
            "a buffer: self.register_buffer('name', torch.tensor(0))."
        )
        return [Finding("attributes", text)] if changed else []

    def loss_cause(self) -> str:
        """Say whether the views or the model made the loss non-finite."""
        if all(value.isfinite().all() for value in _tensors(self.batch) if value.is_floating_point()):
            return "The views were finite: weights have grown too large, or the loss itself overflows or divides by 0."
        return "The views hold NaN or infinity, but the images do not: fix augment, or the views of the task."

    def _bad_gradients(self) -> str:
        graded = ((name, value.grad) for name, value in self.module.named_parameters() if value.grad is not None)
        found = [name for name, gradient in graded if not self.full_tensor(gradient.isfinite().all())]
        return f" of {_some(found)}" if found else ""


class ShortcutMonitor:
    """Looks for a pretext task that is solved too early.

    Labels are another matter: a few labeled images are learned in as few steps, without any shortcut.
    """

    def __init__(self) -> None:
        self.early: list[float] = []

    def on_step(self, step: StepValues, batch_size: int) -> list[Finding]:
        """Look at the accuracy of a step on ``batch_size`` images."""
        if step.step not in EARLY or "accuracy" not in step.values:
            return []
        self.early.append(step.values["accuracy"])
        many = len(EARLY) * batch_size >= ENOUGH_IMAGES
        if not (len(self.early) == len(EARLY) and many and min(self.early) == 1):
            return []
        text = (
            f"Perfect accuracy this early means that the task has a shortcut: steps {EARLY[0] + 1} to {EARLY[-1] + 1} "
            "had no error. Unless the backbone was trained before, the views show the answer. Look for lines that "
            "continue across patch borders, black corners or resampling from rotation, chromatic aberration, or rows "
            "in a fixed order. Draw the views with pretextkit.plots.views, and run "
            "pretextkit.testing.check_pretext_task on the task."
        )
        return [Finding("shortcut", text)]


class _RepeatedOrder:
    """Looks for epochs that repeat the order of the images.

    An order that pretextkit draws differs at once in the first images, so equal ones mean that a dataset ignores the
    index. A source that decides the order may begin alike by chance, as a stream of a few shuffled shards does: images
    from the full epoch are compared, and several epochs must repeat them.
    """

    def __init__(self, source: ImageSource, batch_size: int, per_epoch: int) -> None:
        self.source, self.per_epoch = source, per_epoch
        full = per_epoch if source.decides_order else -(-COMPARED // batch_size)
        self.batches = min(full, per_epoch)
        each = -(-COMPARED // per_epoch) if source.decides_order else batch_size
        self.stride = max(1, batch_size // each)
        self.epoch: list[str] = []
        self.last: list[str] = []
        self.repeats = 0

    def on_batch(self, step: int, images: Tensor) -> list[Finding]:
        """Look at the images of a step."""
        if len(self.source) < 2 * COMPARED:  # a shuffle can give so few images twice
            return []
        if self.source.fixed_order:  # the source says so itself
            return [_same_order(self.source)] if step >= self.per_epoch else []
        position = step % self.per_epoch
        if position == 0:
            self.epoch = []
        if len(self.epoch) != position or position >= self.batches:
            return []  # the run resumed within an epoch, or has seen enough of the epoch
        self.epoch.append(digest([images[:: self.stride]]))
        if len(self.epoch) < self.batches:
            return []
        self.repeats = self.repeats + 1 if self.epoch == self.last else 0
        self.last = self.epoch
        enough = REPEATS if self.source.decides_order else 1
        return [_same_order(self.source)] if self.repeats >= enough else []


def detect_copied_generator(source: ImageSource) -> list[Finding]:
    """Look for a dataset that keeps its own generator: workers copy it, so augmentations repeat every epoch."""
    name = source.copied_generator
    text = (
        f"{name} draws from its own generator, and the workers of every epoch start with the same copy of it: its "
        "random transforms repeat in every epoch. Draw from the global generators of torch, Python or NumPy, which are "
        "seeded for each batch, or use workers=0."
    )
    return [] if name is None else [Finding("generator", text)]


def diverged(what: str, value: object, step: int, cause: str = "") -> DivergenceError:
    """Build the error of a run in which ``what`` is not finite."""
    return DivergenceError(
        f"a finite {what}",
        got=f"{value} at step {step}",
        fix="Training has stopped; a checkpoint, if there is one, holds the last good weights. "
        f"{cause}{' ' if cause else ''}Lower learning_rate, set clip_norm=1.0, or use precision='fp32'.",
        see="a-loss-that-rises",
    )


def _same_order(source: ImageSource) -> Finding:
    if not source.decides_order:
        text = "Every epoch begins with the same images: the dataset gives one image for every index. Check its "
        return Finding("order", f"{text}__getitem__.")
    shuffled = "Shuffle the shards, or the images within a buffer."
    fix = shuffled if source.splits_itself else "Pass DataLoader(..., shuffle=True)."
    text = f"Every epoch has the same images in the same order, so the same images always share a batch. {fix}"
    return Finding("order", text)


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    return [tensor for part in batch for tensor in _tensors(part)] if isinstance(batch, tuple | list) else []
