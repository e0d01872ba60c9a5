"""Peak memory of a computation."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["peak_memory", "reset_peak_memory"]

CLEAR_REFS = Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak of :func:`peak_memory`; possible on GPUs and on Linux.

    Example:
        >>> reset_peak_memory(torch.device("cpu"))
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # without a reset, the peak is that since the start of the process
        CLEAR_REFS.write_text("5")  # resets only the peak resident set size, see proc(5)


def peak_memory(device: torch.device) -> int | None:
    """Return the peak memory in bytes: of tensors on a GPU, of the process elsewhere; None if unavailable.

    Example:
        >>> peak_memory(torch.device("cpu")) > 1_000_000
        True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes on macOS, KiB elsewhere
