"""Choice of the device, the precision and the autocast context."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch

from pretextkit._modules import check_model, module_device, module_dtype, refuse_meta
from pretextkit.errors import DataError, OptionError, unknown_name

__all__ = ["Precision", "autocast_for", "forward_context", "resolve_device", "resolve_precision"]

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_OWN: dict[torch.dtype, Literal["bf16", "fp16", "fp64"]] = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float64: "fp64",
}


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


def resolve_precision(
    precision: Precision, device: torch.device, weights: torch.dtype = torch.float32
) -> Literal["fp32", "bf16", "fp16", "fp64"]:
    """Choose bf16 if the device supports it, fp16 on older NVIDIA GPUs, else fp32; or check a named precision.

    Models whose weights are not float32 are computed in the dtype of their weights.

    Args:
        precision: Name of the precision, or ``"auto"``.
        device: Device of the model.
        weights: Dtype of the model's weights.

    Raises:
        UnknownNameError: There is no precision of that name.
        OptionError: The precision is fp16, but the device is no GPU; or the weights have another precision than float32
            and the one that is named.
        DataError: The dtype of the weights is none of float16, bfloat16, float32 and float64.

    Example:
        >>> resolve_precision("fp32", torch.device("cpu"))
        'fp32'
        >>> resolve_precision("auto", torch.device("cpu"), torch.float64)
        'fp64'
    """
    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, list(get_args(Precision)))
    if weights != torch.float32:
        return _precision_of(weights, precision)
    if precision == "fp16" and device.type != "cuda":
        raise OptionError("fp16 on a CUDA device", got=f"device {device}", fix="Use 'bf16', 'fp32' or 'auto'.")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def _precision_of(weights: torch.dtype, precision: Precision) -> Literal["bf16", "fp16", "fp64"]:
    """Return the precision of weights that are not float32, and check that no other one is requested."""
    if weights not in _OWN:
        raise DataError(
            "weights of dtype float16, bfloat16, float32 or float64", got=str(weights), fix="Convert with .float()."
        )
    own = _OWN[weights]
    if precision not in ("auto", own):
        raise OptionError(
            f"precision='auto' for weights of dtype {weights}, in which the model is computed",
            got=repr(precision),
            fix="Leave precision out, or convert the weights with .float().",
        )
    return own


def forward_context(model: Any, precision: Precision) -> tuple[torch.device, torch.autocast]:
    """Return the device of a model's forward pass without training, and its autocast context.

    Models whose weights are not float32 run without autocast, in the dtype of their weights.

    Args:
        model: Module or function.
        precision: Name of the precision, or ``"auto"``.

    Raises:
        UnknownNameError: There is no precision of that name.
        OptionError: ``model`` is a name, a class or no function, or the precision does not fit the device or weights.
        DataError: The weights have no values.

    Example:
        >>> forward_context(torch.nn.Linear(2, 2), "fp32")[0]
        device(type='cpu')
    """
    check_model(model)
    refuse_meta(model)
    device, weights = module_device(model), module_dtype(model)
    found = resolve_precision(precision, device, weights)
    return device, autocast_for(device, found if weights == torch.float32 else "fp32")


def autocast_for(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of a resolved precision; it is disabled for ``"fp32"`` and ``"fp64"``.

    Example:
        >>> with autocast_for(torch.device("cpu"), "bf16"):
        ...     torch.nn.Linear(2, 2)(torch.rand(1, 2)).dtype
        torch.bfloat16
    """
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision not in ("fp32", "fp64"))


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware; False if this torch cannot tell."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
