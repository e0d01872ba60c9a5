"""Random tensors of any shape, dtype, values and layout, and the outcomes that a function may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from hypothesis import strategies as st
from torch import Generator, Tensor

from pretextkit.errors import PretextkitError

__all__ = ["DTYPES", "LAYOUTS", "VALUES", "answer", "any_tensors", "images", "laid_out", "matrices", "seeds"]

T = TypeVar("T")

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int64,
    torch.int32,
    torch.bool,
    torch.complex64,
)
VALUES = ("unit", "signed", "zeros", "ones", "large", "huge", "nan", "inf")
LAYOUTS = ("contiguous", "transposed", "channels last", "every second", "expanded", "with an offset", "with gradient")

seeds = st.integers(0, 2**63 - 1)


def answer(function: Callable[..., T], *args: Any, **options: Any) -> T | None:
    """Return the result of a function, or None if it raises a PretextkitError; other exceptions propagate."""
    try:
        return function(*args, **options)
    except PretextkitError as error:
        text = str(error)
        assert len(text) > 20, text
        assert text.endswith("."), text
        return None


def filled(shape: tuple[int, ...], values: str, dtype: torch.dtype, seed: int) -> Tensor:
    generator = Generator().manual_seed(seed)
    content = torch.rand(shape, generator=generator, dtype=torch.float64)
    if values in ("zeros", "ones"):
        content = torch.full(shape, float(values == "ones"), dtype=torch.float64)
    elif values != "unit" and content.numel():
        content = {"signed": 4, "large": 510, "huge": 2e38}.get(values, 1) * (
            content - (0.5 if values != "large" else 0)
        )
        if values in ("nan", "inf"):
            content.view(-1)[int(torch.randint(content.numel(), (), generator=generator))] = float(values)
    if not dtype.is_floating_point and not dtype.is_complex:
        content = content.nan_to_num(0, 100, 0).clamp(-(2**31), 2**31 - 1)
        content = (content * 255 if values in ("unit", "ones") else content).round()
        content = content.clamp(0, 255) if dtype in (torch.uint8, torch.bool) else content
    return content.to(dtype)


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """Return a tensor of equal values with another memory layout."""
    if layout == "transposed" and tensor.ndim > 1:
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "channels last" and tensor.ndim == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "every second" and tensor.ndim > 0:
        return torch.stack([tensor, torch.zeros_like(tensor)], tensor.ndim).flatten(-2)[..., ::2]
    if layout == "expanded" and tensor.ndim > 0 and len(tensor) > 1:
        return tensor[:1].expand_as(tensor)
    if layout == "with an offset" and tensor.ndim > 0:
        return torch.cat([tensor, tensor])[len(tensor) :]
    if layout == "with gradient" and tensor.is_floating_point():
        return tensor.clone().requires_grad_()
    return tensor


@st.composite
def any_tensors(draw: st.DrawFn, largest: int = 9) -> Tensor:
    """Draw tensors of any shape, also empty ones, and of any dtype, values and layout."""
    shape = tuple(draw(st.lists(st.integers(0, largest), max_size=5)))
    tensor = filled(shape, draw(st.sampled_from(VALUES)), draw(st.sampled_from(DTYPES)), draw(seeds))
    return laid_out(tensor, draw(st.sampled_from(LAYOUTS)))


@st.composite
def images(draw: st.DrawFn, smallest: int = 1, largest: int = 12, square: bool = False) -> Tensor:
    """Draw valid images: ``b c h w``, float in [0, 1], of any layout."""
    side = st.integers(smallest, largest)
    height = draw(side)
    shape = (draw(st.integers(0, 5)), draw(st.sampled_from((1, 3))), height, height if square else draw(side))
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    tensor = filled(shape, draw(st.sampled_from(("unit", "zeros", "ones"))), dtype, draw(seeds))
    return laid_out(tensor, draw(st.sampled_from(LAYOUTS)))


@st.composite
def matrices(draw: st.DrawFn, least: int = 1, values: tuple[str, ...] = ("unit", "signed", "large", "zeros")) -> Tensor:
    """Draw valid features: ``n d``, float, of any layout."""
    shape = (draw(st.integers(least, 12)), draw(st.integers(1, 8)))
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    return laid_out(filled(shape, draw(st.sampled_from(values)), dtype, draw(seeds)), draw(st.sampled_from(LAYOUTS)))
