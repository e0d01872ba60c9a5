"""The processes of one run under torch.distributed: who they are, and what they agree on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from pretextkit.contracts import TaskOutput
from pretextkit.data._stream import SPLIT_ADVICE
from pretextkit.distributed import Rank
from pretextkit.errors import DataError, OptionError
from pretextkit.training._identity import differences, digest

__all__ = ["ALONE", "Processes", "processes_here"]

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes that train together; every method is a no-op where there is one.

    Each method is a meeting: all processes must call it, in one order.

    Args:
        place: This process's among them.
        device: Where the tensors lie that they send each other.
    """

    place: Rank
    device: torch.device

    @property
    def alone(self) -> bool:
        """Tell whether there is one process only."""
        return self.place.world_size == 1

    @property
    def first(self) -> bool:
        """Tell whether this is the process that shows and writes."""
        return self.place.rank == 0

    def from_first(self, make: Callable[[], T]) -> T:
        """Give everyone what the first process makes, or raise everywhere what it raised.

        Example:
            >>> ALONE.from_first(lambda: 3)
            3
        """
        if self.alone:
            return make()
        made: list[Any] = [None, None]
        if self.first:
            try:
                made[0] = make()
            except Exception as error:
                made[1] = error
        torch.distributed.broadcast_object_list(made, device=self.device)
        if made[1] is not None:
            raise made[1]
        result: T = made[0]
        return result

    def require_same(self, run: Mapping[str, Any]) -> None:
        """Refuse processes that would train different runs: an own seed would draw the same images twice.

        Raises:
            OptionError: This one's options, images or weights are not those of the first.
        """
        if self.alone:
            return
        every: list[Any] = [None] * self.place.world_size
        torch.distributed.all_gather_object(every, dict(run))
        for rank, other in enumerate(every):
            if found := differences(every[0], other):
                raise OptionError(
                    "the same call on every process",
                    got=f"differences between process 0 (there) and process {rank} (here): {found}",
                    fix="Each takes its own share of the images by itself: pass the same to all of them.",
                )

    def require_different(self, images: Tensor) -> None:
        """Refuse streams of which two processes get the same part.

        Raises:
            DataError: Two began with the same images.
        """
        if self.alone:
            return
        every: list[Any] = [None] * self.place.world_size
        torch.distributed.all_gather_object(every, digest([images]))
        if len(set(every)) < len(every):
            raise DataError("another part of the stream for each process", got="the same images", fix=SPLIT_ADVICE)

    def mean(self, output: TaskOutput) -> TaskOutput:
        """Average a loss and its metrics, without gradient."""
        if self.alone:
            return output
        values = torch.stack([output.loss.detach().float(), *(value.float() for value in output.metrics.values())])
        torch.distributed.all_reduce(values)
        loss, *metrics = (values / self.place.world_size).unbind()
        return TaskOutput(loss, dict(zip(output.metrics, metrics, strict=True)))

    def mean_of(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Average numbers by name.

        Example:
            >>> ALONE.mean_of({"spread": 0.5})
            {'spread': 0.5}
        """
        if self.alone or not numbers:
            return dict(numbers)
        values = torch.tensor(list(numbers.values()), dtype=torch.float32, device=self.device)
        torch.distributed.all_reduce(values)
        return dict(zip(numbers, (values / self.place.world_size).tolist(), strict=True))

    def highest(self, number: int) -> int:
        """Give the highest of everyone's numbers.

        Example:
            >>> ALONE.highest(3)
            3
        """
        if self.alone:
            return number
        value = torch.tensor(number, device=self.device)
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
        return int(value)

    def wait(self) -> None:
        """Let everyone come to this point before anyone goes on."""
        self.highest(0)


ALONE = Processes(Rank(0, 1), torch.device("cpu"))


def processes_here(device: str | torch.device = "auto") -> tuple[Processes, str | torch.device]:
    """Find the process group, if one is initialized, and this process's own device.

    Args:
        device: As the caller asked; ``"auto"`` becomes the GPU that torchrun counts as this process's, or the CPU.

    Raises:
        OptionError: torchrun started several processes, and none was told of the others: each would train alone.

    Example:
        >>> processes_here("cpu") == (ALONE, "cpu")
        True
    """
    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    count = torch.distributed.get_world_size() if group else 1
    if not group and "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise OptionError(
            f"a process group, as torchrun started {os.environ['WORLD_SIZE']} processes",
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
        torch.cuda.set_device(own)  # NCCL sends objects from the current one
    return Processes(Rank(torch.distributed.get_rank(), count), own), device
