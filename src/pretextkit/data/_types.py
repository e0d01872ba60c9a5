"""Types of the arguments that hold images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image as PilImage

    from pretextkit.data._sources import ImageSource

__all__ = ["BatchReadable", "ImagesLike", "LabeledLike", "OnError", "Size"]

OnError: TypeAlias = Literal["raise", "skip"]
"""What happens with image files that cannot be decoded."""

Size: TypeAlias = int | tuple[int, int]
"""Size of images in pixels: the side of a square, or height and width."""


class BatchReadable(Protocol):
    """A map-style dataset that is not a torch ``Dataset``, for example one of Hugging Face ``datasets``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __getitems__(self, indices: Any, /) -> Any: ...


_Readable: TypeAlias = "Dataset[Any] | BatchReadable | DataLoader[Any] | ImageSource | str | Path"

LabeledLike: TypeAlias = "tuple[Any, Any] | list[Any] | _Readable"
"""Images with labels: a pair (images, labels), a list, dataset or loader of pairs, an ImageSource with labels, a path.

A path is a folder with one sub-folder per class, or an ``.npz`` file with labels.
"""

ImagesLike: TypeAlias = "Tensor | numpy.ndarray[Any, Any] | PilImage | LabeledLike"
"""Images: a tensor ``n c h w``, an array ``n h w c``, ``n h w`` or ``n c h w``, a list of images of one size, a single
PIL image, or anything with labels beside them."""
