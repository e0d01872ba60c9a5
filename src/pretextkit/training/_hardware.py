"""Which device and which precision to train with."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from pretextkit.errors import OptionError, unknown_name

__all__ = ["Precision", "resolve_device", "resolve_precision"]

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Choose a device: a GPU if there is one, else the CPU; or check the one named.

    Raises:
        OptionError: There is no such device here.

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
    """Choose bf16 where the device computes in it, fp16 on older NVIDIA GPUs, else fp32; or check the one named.

    Raises:
        UnknownNameError: There is no precision of that name.
        OptionError: fp16 was asked for on a device that cannot scale its losses.

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


def _cpu_has_bf16() -> bool:
    """Tell whether the processor multiplies bf16 itself; where torch cannot tell, it is taken not to."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
