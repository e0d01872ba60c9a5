"""Draw for a slice of a batch the numbers that the full batch would draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["BatchSlice", "SlicedRandom"]

FACTORIES: tuple[Callable[..., Tensor], ...] = (torch.rand, torch.randn, torch.randint)


class BatchSlice(NamedTuple):
    """One of the equal parts of a batch."""

    part: int
    parts: int

    def rows(self, batch_size: int) -> slice:
        """Return the rows of this part in a batch of ``batch_size`` rows.

        Example:
            >>> BatchSlice(1, 4).rows(12)
            slice(3, 6, None)
        """
        size = batch_size // self.parts
        return slice(self.part * size, (self.part + 1) * size)


class SlicedRandom(TorchFunctionMode):
    """Context in which a slice of a batch draws its rows of the full batch's random numbers.

    The views of an image then do not depend on how many processes, or parts one after the other, make them. In a draw
    by ``torch.rand``, ``torch.randn`` or ``torch.randint`` with a row (or several consecutive rows) for each image,
    numbers are drawn for the full batch and the rows of this slice are kept. Numbers for the full batch cost little
    beside the pixels of a slice.

    All other draws from ``generator`` use the slice's own generator, so no two slices draw the same numbers, but they
    are not the numbers of the full batch. Such draws are: ``torch.randperm``; ``torch.normal``; methods in place, such
    as ``Tensor.uniform_`` and ``Tensor.normal_``; and sizes that are no multiple of the number of images. A task that
    must train alike on any number of processes draws its random numbers per image, by the three functions above.

    Args:
        generator: Freshly seeded generator of the full batch.
        own: Generator of this slice.
        batch_slice: The slice.
        images: Number of images in the slice.

    Example:
        >>> def draw(batch_slice, images):
        ...     generator, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(batch_slice.part)
        ...     with SlicedRandom(generator, own, batch_slice, images):
        ...         return torch.rand(images, generator=generator)
        >>> parts = [draw(BatchSlice(part, 2), 3) for part in range(2)]
        >>> torch.equal(torch.cat(parts), draw(BatchSlice(0, 1), 6))
        True
    """

    def __init__(self, generator: Generator, own: Generator, batch_slice: BatchSlice, images: int) -> None:
        super().__init__()
        self.generator, self.own, self.slice, self.images = generator, own, batch_slice, images

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not self.generator:
            return func(*args, **kwargs)
        if func in FACTORIES:
            bounds, size = _bounds_and_size(args, kwargs)
            if size and size[0] and size[0] % self.images == 0:
                rest = {name: value for name, value in kwargs.items() if name != "size"}
                full: Tensor = func(*bounds, size=(size[0] * self.slice.parts, *size[1:]), **rest)
                return full[self.slice.rows(len(full))]
        return func(*args, **{**kwargs, "generator": self.own})


def _bounds_and_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Split the positional arguments into bounds and the size, which may be one argument or several."""
    if "size" in kwargs:
        return args, tuple(kwargs["size"])
    if args and not isinstance(args[-1], int):
        return args[:-1], tuple(args[-1])
    return (), args
