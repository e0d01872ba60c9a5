"""Failures that leave a run going as if nothing were wrong: looked for at every step, and told of once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler

from pretextkit.data._sources import DatasetImages, ImageSource, LoaderImages
from pretextkit.distributed._sharding import full_tensor
from pretextkit.errors import TrainingWarning
from pretextkit.training._identity import digest, fingerprint, plain_attributes
from pretextkit.training._recorder import diverged

__all__ = ["TrainingMonitor", "warn_of_copied_generator"]

ENOUGH_STEPS = 10
"""Steps after which a weight that never had a gradient is told of: a head that takes turns has had its own."""

EARLY = range(15, 20)
"""Steps in which no error at all tells of a shortcut; on real images, built-in tasks have hardly begun there."""
ENOUGH_IMAGES = 64

RISEN = 3.0
"""How far above that of the first step the loss of an epoch is when it diverges; built-in tasks begin near chance."""

COMPARED = 16
"""Images at the head of an epoch that no shuffle gives twice."""


GRADIENT_CAUSE = (
    "The loss was finite, but not its derivative: a square root or a norm of 0, or a division near 0 does that; add a "
    "small constant to its argument."
)


class TrainingMonitor:
    """Watches a run from its first step on, or from where it goes on.

    Args:
        module: What is trained.
        source: Its images.
        batch_size: Images in a step, of this process.
        per_epoch: Steps in an epoch.
        scaled: Whether losses are scaled, so that the scaler leaves out steps whose gradient is not finite.
        tells: Whether it warns: of several processes that see the same, one does. Errors are raised by all.
    """

    def __init__(
        self,
        module: nn.Module,
        source: ImageSource,
        batch_size: int,
        per_epoch: int,
        scaled: bool = False,
        tells: bool = True,
    ) -> None:
        self.module, self.source, self.batch_size, self.per_epoch = module, source, batch_size, per_epoch
        self.scaled, self.tells = scaled, tells
        self.steps = 0
        self.without_gradient = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.all_zero = True
        self.first_loss: float | None = None
        self.early: list[float] = []
        self.batch: Any = None
        self.head: list[Tensor] = []
        self.last_head = ""
        self.told: set[str] = set()

    def read(self, step: int, images: Tensor, batch: Any) -> None:
        """Look at what a step is made of."""
        self.batch = batch  # for the cause, should its loss not be finite
        if len(self.source) < 2 * COMPARED:  # a shuffle can give so few images twice
            return
        place = step % self.per_epoch
        if place == 0:
            self.head = []
        elif len(self.head) != place or place * self.batch_size >= COMPARED:
            return  # went on in the middle of an epoch, or has seen enough of it
        self.head.append(images[:COMPARED])
        if len(self.head) * self.batch_size < COMPARED:
            return
        found = digest(self.head)
        loader = self.source.loader if isinstance(self.source, LoaderImages) else None
        if found == self.last_head or (self.last_head and loader and isinstance(loader.sampler, SequentialSampler)):
            self.tell(
                "order",
                "Every epoch begins with the same images in the same order"
                + (
                    ", so that the same ones always share a batch. Pass DataLoader(..., shuffle=True)."
                    if loader
                    else ": the data set gives the same whatever its index. Look at its __getitem__."
                ),
            )
        self.last_head = found

    def gradient(self) -> Tensor:
        """Sum the lengths of all gradients, which stay where the backward pass left them."""
        self.steps += 1
        if self.without_gradient:
            self.without_gradient = {name: value for name, value in self.without_gradient.items() if value.grad is None}
        lengths = [torch.linalg.vector_norm(value.grad) for value in self.module.parameters() if value.grad is not None]
        return full_tensor(torch.stack(lengths).sum()).float() if lengths else torch.zeros(())

    def measured(self, step: int, values: Mapping[str, float], gradient: float) -> None:
        """Look at what came of a step.

        Raises:
            DivergenceError: Its loss or gradient is not finite.
        """
        if not math.isfinite(values["loss"]):
            raise diverged("loss", values["loss"], step + 1, self.cause())
        if not (math.isfinite(gradient) or self.scaled):
            raise diverged(f"gradient{self.bad_gradients()}", gradient, step + 1, GRADIENT_CAUSE)
        self.all_zero = self.all_zero and gradient == 0
        if step == 0:
            self.first_loss = values["loss"]
        if step in EARLY and "accuracy" in values:
            self.early.append(values["accuracy"])
            many = len(EARLY) * self.batch_size >= ENOUGH_IMAGES
            if len(self.early) == len(EARLY) and many and min(self.early) == 1:
                self.tell(
                    "shortcut",
                    f"The task is solved: steps {EARLY[0] + 1} to {EARLY[-1] + 1} had no error, sooner than anything "
                    "is learned about images. Unless the backbone was trained before, the views show the answer: look "
                    "for lines that go on across the border of patches, black corners or resampling that rotation "
                    "leaves, the lens's color fringes, or an order of the rows. Draw them with "
                    "pretextkit.plots.views, and run pretextkit.testing.check_pretext_task on the task.",
                )

    def closed_epoch(self, epoch: float, loss: float, scale: float) -> None:
        """Look at what came of an epoch; ``scale`` is the one of fp16's losses, 1 for others."""
        if self.steps >= ENOUGH_STEPS and self.all_zero:
            self.tell(
                "zero",
                f"No weight has had a gradient other than 0 in {self.steps} steps: nothing is learned. Units that have "
                "died (every input of a ReLU below 0) or a loss that is constant do that: look at the loss, lower "
                "learning_rate, and initialize the weights anew.",
            )
        elif self.steps >= ENOUGH_STEPS and self.without_gradient:
            self.tell(
                "unreached",
                f"The loss does not depend on {_some(list(self.without_gradient))}: no gradient in {self.steps} steps. "
                "If a head or backbone is meant to learn, something detaches it from the loss (detach, no_grad, or an "
                "output that is not used); if it follows others, such as a momentum copy, call requires_grad_(False) "
                "on it; else delete it.",
            )
        if self.first_loss is not None and 0 < RISEN * self.first_loss < loss:
            self.tell(
                "rising",
                f"The loss rises: it was {self.first_loss:.3g} at the first step and is {loss:.3g} on average in epoch "
                f"{epoch:g}. Steps this long leave every minimum: lower learning_rate, lengthen warmup, or set "
                "clip_norm=1.0.",
            )
        if scale < 1:
            self.tell(
                "scale",
                f"In fp16 nearly every step is left out, as its gradient is infinite: the loss scale has fallen to "
                f"{scale:.2g}. Use precision='bf16' or 'fp32'.",
            )

    def cause(self) -> str:
        """Say, of a loss that is not finite, what it is not owed to."""
        if all(value.isfinite().all() for value in _tensors(self.batch) if value.is_floating_point()):
            return (
                "The views were finite: weights have grown too large, or the loss overflows or divides by 0 by itself."
            )
        return "The views hold NaN or infinity, and the images do not: mend augment, or the task's views."

    def bad_gradients(self) -> str:
        """Name weights whose gradient is not finite."""
        graded = ((name, value.grad) for name, value in self.module.named_parameters() if value.grad is not None)
        found = [name for name, gradient in graded if not full_tensor(gradient.isfinite().all())]
        return f" of {_some(found)}" if found else ""

    def attributes(self, before: Mapping[str, object]) -> None:
        """Look for what a module keeps where no checkpoint finds it."""
        now = plain_attributes(self.module, "task")
        changed = [name for name, value in now.items() if before.get(name, value) != value]
        if changed:
            self.tell(
                "attributes",
                f"{_some(changed)} changed in training, and no checkpoint holds it, so that a run that is stopped does "
                "not go on as it would have. Keep it in a tensor: self.register_buffer('name', torch.tensor(0)).",
            )

    def tell(self, what: str, text: str) -> None:
        """Warn, once for each kind of failure."""
        if self.tells and what not in self.told:
            self.told.add(what)
            warnings.warn(text, TrainingWarning, stacklevel=2)


def warn_of_copied_generator(source: ImageSource) -> None:
    """Warn of a data set that draws from a generator of its own, of which each epoch's workers get the same copy.

    Such random transforms are the same in every epoch. Read in this process they differ from one reading to the next,
    and read by workers they do not.
    """
    if not isinstance(source, DatasetImages) or source.workers == 0:
        return
    here = copy(source)
    here.workers = 0
    if fingerprint(here) is None and fingerprint(source) is not None:
        warnings.warn(
            f"{type(source.dataset).__name__} draws from a generator of its own, and every epoch's workers begin with "
            "the same copy of it: what it draws repeats from epoch to epoch. Draw from the global generators of torch, "
            "Python or NumPy, which are seeded anew for each batch, or use workers=0.",
            TrainingWarning,
            stacklevel=3,
        )


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    return [tensor for part in batch for tensor in _tensors(part)] if isinstance(batch, tuple | list) else []
