"""Types of what functions read images from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    import numpy

    from pretextkit.data._sources import ImageSource

__all__ = ["BatchReadable", "ImagesLike", "LabeledLike"]


class BatchReadable(Protocol):
    """A map-style data set that is no torch ``Dataset``, such as one of Hugging Face."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __getitems__(self, indices: Any, /) -> Any: ...


LabeledLike: TypeAlias = (
    "tuple[Tensor | numpy.ndarray[Any, Any], Any] | Dataset[Any] | BatchReadable | DataLoader[Any] | ImageSource"
    " | str | Path"
)
"""Images with labels: a pair (images, labels), a data set or loader of such pairs, a source, or a path."""

ImagesLike: TypeAlias = "Tensor | numpy.ndarray[Any, Any] | LabeledLike"
"""Images from whatever holds them; labels beside them are allowed."""
