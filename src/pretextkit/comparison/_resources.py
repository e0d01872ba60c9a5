"""How much memory something took at its highest."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["peak_memory", "reset_peak_memory"]

CLEAR_REFS = Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """Let :func:`peak_memory` start anew, where the system can: on GPUs, and on Linux.

    Example:
        >>> reset_peak_memory(torch.device("cpu"))
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # where it fails, the peak is that of the process since it began
        CLEAR_REFS.write_text("5")  # resets the highest resident set, and nothing else (proc(5))


def peak_memory(device: torch.device) -> int | None:
    """Tell the most bytes held at once: by tensors on a GPU, by the whole process elsewhere; None where none can tell.

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
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else 1024 * highest  # bytes there, KiB elsewhere
