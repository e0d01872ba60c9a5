"""What the training loop trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Generator, Tensor, nn

from pretextkit.contracts import TaskOutput

__all__ = ["Objective"]


class Objective(ABC):
    """What the loop trains: a module and how one batch scores it."""

    module: nn.Module

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the optimizer's groups; a group's ``scale`` multiplies its learning rate."""

    @abstractmethod
    def prepare(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        """Make what :meth:`score` takes, without gradient and in full precision."""

    @abstractmethod
    def score(self, batch: Any) -> TaskOutput:
        """Run the module and its loss."""

    def train_mode(self) -> None:
        """Put the module into the mode it trains in."""
        self.module.train()

    def identity(self) -> dict[str, Any]:
        """Say, beside what the module tells of itself, what a run must share with the one it goes on with."""
        return {}

    def epoch_metrics(self) -> dict[str, float]:
        """Measure what is worth measuring once an epoch."""
        return {}

    def after_step(self) -> None:  # noqa: B027 - most have nothing to move
        """Move what follows the weights."""
