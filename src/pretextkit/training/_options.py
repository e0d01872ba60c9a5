"""Options of pretraining that other functions pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from pretextkit.training._optim import OptimizerName

if TYPE_CHECKING:
    from pretextkit.evaluation._classifier import Augmentation

__all__ = ["PretrainOptions"]


class PretrainOptions(TypedDict, total=False):
    """Options of :func:`~pretextkit.functional.pretrain` that do not depend on the budget or the data."""

    optimizer: OptimizerName
    learning_rate: float | None
    weight_decay: float | None
    warmup: float
    clip_norm: float | None
    channels_last: bool
    compile: bool
    augment: Augmentation | None
