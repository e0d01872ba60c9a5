"""Training of a classifier: first the head, then everything that trains."""

from __future__ import annotations

from typing import NamedTuple

from pretextkit._fingerprint import function_name
from pretextkit.finetuning._averaging import mix_weights, state_of
from pretextkit.finetuning._head_start import SOLVED, HeadStart, start_head
from pretextkit.finetuning._recipe import (
    FinetuneSettings,
)
from pretextkit.finetuning._work import FinetuneWork
from pretextkit.inference._classifier import described_layers
from pretextkit.training._history import History

__all__ = ["Trained", "train_classifier"]


class Trained(NamedTuple):
    """Outcome of a training."""

    settings: FinetuneSettings
    history: History
    stopped: str | None = None
    """Reason for which a callback stopped it."""


def train_classifier(work: FinetuneWork) -> tuple[FinetuneWork, Trained]:
    """Set the head to the features of the backbone, then train it with the trained modules.

    Where nothing else trains and the call gave no budget, a linear head keeps the solution of the linear probe.

    Returns:
        The work, with the layers and the head that were trained; and the outcome.
    """
    work, start = start_head(work, on_features=bool(work.trained))
    before = state_of(work.classifier) if work.average != 1 else None
    if work.trained or work.augment is not None or not start.fixed:
        run = work.train(work.objective(), work.data.source, work.plan, work.callbacks)
    elif start.described == SOLVED and not work.budget_given:
        return work, Trained(_describe(work, 0, start), History())
    else:
        assert start.features is not None
        run = work.train(work.head_objective(), start.features, work.plan, work.callbacks)
    if before is not None:
        mix_weights(work.classifier, before, state_of(work.classifier), work.average)
    return work, Trained(_describe(work, run.steps, start), run.history, run.stopped)


def _describe(work: FinetuneWork, steps: int, start: HeadStart) -> FinetuneSettings:
    """Collect the settings, with the values that stood for those that the call left out."""
    trainable = work.recipe.trainable
    trained = {"all": "all weights", "none": "the head"}
    return FinetuneSettings(
        trained=trained[trainable] if isinstance(trainable, str) else f"head and {', '.join(trainable)}",
        steps=steps,
        batch_size=work.plan.batch_size,
        optimizer=work.settings.optimizer,
        learning_rate=work.plan.learning_rate,
        augmentation=function_name(work.augment),
        head_start=start.described,
        layers=described_layers(work.classifier.layers),
        average=work.average,
    )
