"""Drawing for a share of a batch what the whole batch would have drawn there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["BatchSlice", "SlicedRandom"]

FACTORIES: tuple[Callable[..., Tensor], ...] = (torch.rand, torch.randn, torch.randint)


class BatchSlice(NamedTuple):
    """A part of a batch that is cut into parts of one size."""

    part: int
    parts: int

    def rows(self, whole: int) -> slice:
        """Give this part's rows of ``whole`` rows.

        Example:
            >>> BatchSlice(1, 4).rows(12)
            slice(3, 6, None)
        """
        size = whole // self.parts
        return slice(self.part * size, (self.part + 1) * size)


class SlicedRandom(TorchFunctionMode):
    """Inside of it, what is drawn from a generator for a part of a batch is what the whole batch draws there.

    Views then do not depend on how many processes, or parts one after the other, make them. A draw with a row (or
    several, one after another) for each image is made for the whole batch, by ``torch.rand``, ``torch.randn`` or
    ``torch.randint``, and this part's rows are kept: numbers for the whole batch cost little beside pixels for a part.
    Any other draw comes from a generator of the part's own, so that no two parts ever draw the same.

    Args:
        generator: That of the whole batch, freshly seeded.
        own: The part's own generator.
        share: Which part.
        images: How many images the part has.

    Example:
        >>> def draw(share, images):
        ...     generator, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(share.part)
        ...     with SlicedRandom(generator, own, share, images):
        ...         return torch.rand(images, generator=generator)
        >>> parts = [draw(BatchSlice(part, 2), 3) for part in range(2)]
        >>> torch.equal(torch.cat(parts), draw(BatchSlice(0, 1), 6))
        True
    """

    def __init__(self, generator: Generator, own: Generator, share: BatchSlice, images: int) -> None:
        super().__init__()
        self.generator, self.own, self.share, self.images = generator, own, share, images

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
                whole: Tensor = func(*bounds, size=(size[0] * self.share.parts, *size[1:]), **rest)
                return whole[self.share.rows(len(whole))]
        return func(*args, **{**kwargs, "generator": self.own})


def _bounds_and_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Tell the size, which may be one argument or several, from what comes before it."""
    if "size" in kwargs:
        return args, tuple(kwargs["size"])
    if args and not isinstance(args[-1], int):
        return args[:-1], tuple(args[-1])
    return (), args
