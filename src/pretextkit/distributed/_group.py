"""The process group of one run: the rank of this process, and what all processes agree on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from pretextkit._fingerprint import differences, digest
from pretextkit.contracts import TaskOutput
from pretextkit.data._stream import SPLIT_ADVICE
from pretextkit.distributed._gather import Rank
from pretextkit.errors import DataError, OptionError

__all__ = ["ALONE", "ProcessGroup", "current_group"]

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together. With one process, every method is a no-op.

    Every method is a collective operation: all processes must call it, in the same order.

    Args:
        rank: The rank of this process and the number of processes.
        device: Device of the tensors that the processes exchange.
    """

    rank: Rank
    device: torch.device

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.rank.world_size

    @property
    def is_alone(self) -> bool:
        """Whether there is one process only."""
        return self.world_size == 1

    @property
    def is_first(self) -> bool:
        """Whether this process has rank 0, which shows progress and writes files."""
        return self.rank.rank == 0

    def broadcast_object(self, make: Callable[[], T]) -> T:
        """Call ``make`` on rank 0 and return its result, or raise its error, on every process.

        Example:
            >>> ALONE.broadcast_object(lambda: 3)
            3
        """
        if self.is_alone:
            return make()
        made: list[Any] = [None, None]
        if self.is_first:
            try:
                made[0] = make()
            except Exception as error:
                made[1] = error
        torch.distributed.broadcast_object_list(made, device=self.device)
        if made[1] is not None:
            raise made[1]
        result: T = made[0]
        return result

    def check_same_run(self, identity: Mapping[str, Any]) -> None:
        """Refuse processes that would train different runs. With its own seed, a process would repeat images.

        Raises:
            OptionError: The options, images or weights of this process differ from those of rank 0.
        """
        if self.is_alone:
            return
        identities: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(identities, dict(identity))
        for rank, other in enumerate(identities):
            if found := differences(identities[0], other):
                raise OptionError(
                    "the same call on every process",
                    got=f"differences between process 0 (there) and process {rank} (here): {found}",
                    fix="Pass the same arguments to all processes: each takes its own rows of every batch.",
                )

    def check_different_images(self, images: Tensor) -> None:
        """Refuse streams that give two processes the same part.

        Raises:
            DataError: Two processes read the same first images.
        """
        if self.is_alone:
            return
        digests: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(digests, digest([images]))
        if len(set(digests)) < len(digests):
            raise DataError("another part of the stream for each process", got="the same images", fix=SPLIT_ADVICE)

    def mean_output(self, output: TaskOutput) -> TaskOutput:
        """Average a loss and its metrics over the processes, without gradient."""
        if self.is_alone:
            return output
        values = torch.stack([output.loss.detach().float(), *(value.float() for value in output.metrics.values())])
        torch.distributed.all_reduce(values)
        loss, *metrics = (values / self.world_size).unbind()
        return TaskOutput(loss, dict(zip(output.metrics, metrics, strict=True)))

    def mean_values(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Average numbers over the processes, name by name.

        Example:
            >>> ALONE.mean_values({"spread": 0.5})
            {'spread': 0.5}
        """
        if self.is_alone or not numbers:
            return dict(numbers)
        values = torch.tensor(list(numbers.values()), dtype=torch.float32, device=self.device)
        torch.distributed.all_reduce(values)
        return dict(zip(numbers, (values / self.world_size).tolist(), strict=True))

    def all_reduce_max(self, number: int) -> int:
        """Return the largest of the numbers of all processes.

        Example:
            >>> ALONE.all_reduce_max(3)
            3
        """
        if self.is_alone:
            return number
        value = torch.tensor(number, device=self.device)
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
        return int(value)

    def barrier(self) -> None:
        """Wait until every process has reached this point."""
        self.all_reduce_max(0)


ALONE = ProcessGroup(Rank(0, 1), torch.device("cpu"))


def current_group(device: str | torch.device = "auto") -> tuple[ProcessGroup, str | torch.device]:
    """Find the initialized process group, if any, and the device of this process.

    Args:
        device: The caller's choice. With several processes, ``"auto"`` is the GPU of torchrun's local rank, or the CPU.

    Raises:
        OptionError: torchrun started several processes, but no group is initialized: each would train alone.

    Example:
        >>> current_group("cpu") == (ALONE, "cpu")
        True
    """
    initialized = torch.distributed.is_available() and torch.distributed.is_initialized()
    count = torch.distributed.get_world_size() if initialized else 1
    if not initialized and "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise OptionError(
            f"an initialized process group, because torchrun started {os.environ['WORLD_SIZE']} processes",
            got="none",
            fix="Call torch.distributed.init_process_group() first.",
        )
    if count == 1:
        return ALONE, device
    if device == "auto":
        local = os.environ.get("LOCAL_RANK", "0")
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    own: torch.device = torch.device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)  # NCCL sends objects from the current device
    return ProcessGroup(Rank(torch.distributed.get_rank(), count), own), device
