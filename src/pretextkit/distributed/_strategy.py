"""Strategies of training a module: on one process, data-parallel, or with sharded weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pretextkit.contracts import TaskOutput
from pretextkit.distributed._group import ALONE, ProcessGroup
from pretextkit.distributed._sharding import full_tensor, gather_state, is_sharded, shard_state

__all__ = ["DataParallel", "Sharded", "SingleProcess", "Strategy", "choose_strategy"]

Loss = Callable[[Any], TaskOutput]
"""From a prepared batch to the loss of the module."""


class Strategy:
    """How the processes of a group train one module; :func:`choose_strategy` builds one of its subclasses.

    The methods of this base class are those of one process.

    Args:
        module: The module that trains.
        group: The processes.
    """

    saves_together = False
    """Whether all processes must take part when the state is saved."""

    def __init__(self, module: nn.Module, group: ProcessGroup = ALONE) -> None:
        self.module, self.group = module, group

    def to_channels_last(self) -> None:
        """Store filters in the memory format in which convolutions are fastest."""
        self.module.to(memory_format=torch.channels_last)

    def to_contiguous(self) -> None:
        """Store filters as other programs expect them; safetensors refuses any other memory format."""
        self.module.to(memory_format=torch.contiguous_format)

    def wrap(self, loss: Loss) -> Loss:
        """Return the loss in the form in which its gradients are averaged over the processes."""
        return loss

    def begin_step(self) -> None:
        """Prepare the module for a step."""

    def gradient_sync(self, last: bool) -> AbstractContextManager[Any]:
        """Average gradients in the backward pass of the last part of a batch only."""
        return nullcontext()

    def full_tensor(self, tensor: Tensor) -> Tensor:
        """Gather a weight, a gradient, or a number computed from them."""
        return tensor

    def full_weights(self) -> AbstractContextManager[None]:
        """Keep full weights, so that parts of the module can be called directly."""
        return nullcontext()

    def gather_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Gather the state of the module and the optimizer on rank 0."""
        return state

    def load_module(self, state: dict[str, Any]) -> None:
        """Load the gathered state of the module."""
        self.module.load_state_dict(state)

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Load the gathered state of the optimizer."""
        optimizer.load_state_dict(state)


class SingleProcess(Strategy):
    """One process with all weights."""


class DataParallel(Strategy):
    """Several processes, each with all weights. They start with the weights and buffers of rank 0."""

    wrapped: DistributedDataParallel

    def wrap(self, loss: Loss) -> Loss:
        """Wrap the loss in ``DistributedDataParallel``."""
        self.wrapped = DistributedDataParallel(_LossModule(self.module, loss))
        return self.wrapped

    def gradient_sync(self, last: bool) -> AbstractContextManager[Any]:
        """Average gradients in the backward pass of the last part of a batch only."""
        return nullcontext() if last else self.wrapped.no_sync()


class Sharded(Strategy):
    """Several processes, each with a shard of the weights, by ``fully_shard`` (FSDP2)."""

    saves_together = True

    def __init__(self, module: nn.Module, group: ProcessGroup = ALONE) -> None:
        super().__init__(module, group)
        self._fsdp: Any = module

    def to_channels_last(self) -> None:
        """Keep the contiguous format, which FSDP needs."""

    def to_contiguous(self) -> None:
        """Keep the contiguous format."""

    def begin_step(self) -> None:
        """Broadcast the buffers of rank 0, as ``DistributedDataParallel`` does."""
        for buffer in self.module.buffers():
            torch.distributed.broadcast(buffer, 0)

    def gradient_sync(self, last: bool) -> AbstractContextManager[Any]:
        """Average gradients in the backward pass of the last part of a batch only."""
        self._fsdp.set_requires_gradient_sync(last)
        return nullcontext()

    def full_tensor(self, tensor: Tensor) -> Tensor:
        """Gather a weight, a gradient, or a number computed from them, on every process."""
        return full_tensor(tensor)

    @contextmanager
    def full_weights(self) -> Iterator[None]:
        """Gather the weights, and shard them again afterwards."""
        self._fsdp.unshard()
        try:
            yield
        finally:
            self._fsdp.reshard()

    def gather_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Gather the state of the module and the optimizer on rank 0."""
        gathered: dict[str, Any] = gather_state(state, keep=self.group.is_first)
        return gathered

    def load_module(self, state: dict[str, Any]) -> None:
        """Load the shards of this process."""
        self.module.load_state_dict(shard_state(state, self.module.state_dict()))

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Load the shards of this process."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        optimizer.load_state_dict({**state, "state": shard_state(state["state"], weights)})


def choose_strategy(module: nn.Module, group: ProcessGroup = ALONE) -> Strategy:
    """Choose the strategy that fits the module's weights and the number of processes.

    Raises:
        OptionError: Only some of the weights are sharded.

    Example:
        >>> type(choose_strategy(nn.Linear(2, 2))).__name__
        'SingleProcess'
    """
    if is_sharded(module):
        return Sharded(module, group)
    return SingleProcess(module, group) if group.is_alone else DataParallel(module, group)


class _LossModule(nn.Module):
    """A module whose forward pass is the loss, because ``DistributedDataParallel`` sees forward passes only."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Any) -> TaskOutput:
        return self.loss(batch)
