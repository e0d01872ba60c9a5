"""Choice of the device, the precision and the autocast context."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from pretextkit.errors import OptionError, unknown_name

__all__ = ["Precision", "autocast_for", "resolve_device", "resolve_precision"]

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Choose a GPU if there is one, else the CPU; or check a named device.

    Raises:
        OptionError: This machine has no such device.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            "a device of this machine",
            got=repr(str(device)),
            fix=f"Use 'auto' or 'cpu'. PyTorch says: {str(error).splitlines()[0]}",
        ) from error
    return found


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """Choose bf16 if the device supports it, fp16 on older NVIDIA GPUs, else fp32; or check a named precision.

    Raises:
        UnknownNameError: There is no precision of that name.
        OptionError: The precision is fp16, but the device is no GPU.

    Example:
        >>> resolve_precision("fp32", torch.device("cpu"))
        'fp32'
    """
    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, list(get_args(Precision)))
    if precision == "fp16" and device.type != "cuda":
        raise OptionError("fp16 on a CUDA device", got=f"device {device}", fix="Use 'bf16', 'fp32' or 'auto'.")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def autocast_for(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of a resolved precision; it is disabled for ``"fp32"``.

    Example:
        >>> with autocast_for(torch.device("cpu"), "bf16"):
        ...     torch.nn.Linear(2, 2)(torch.rand(1, 2)).dtype
        torch.bfloat16
    """
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware; False if this torch cannot tell."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
