"""Which kind of images a value is: files, a dataset, a pair of images and labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from typing_extensions import TypeIs

from pretextkit.data._dataset_images import DatasetImages
from pretextkit.data._file_options import describes_files, is_pattern
from pretextkit.data._items import is_list_of_items
from pretextkit.data._listed import is_list_of_images
from pretextkit.data._stream import StreamImages

__all__ = ["is_dataset", "is_folder_with_labels", "is_many_files", "is_of_files", "is_pair"]


def is_of_files(images: Any) -> bool:
    """Whether images are a path or a list of paths, perhaps in a pair with labels."""
    if isinstance(images, tuple | list) and len(images) == 2 and not isinstance(images[1], str | Path):
        images = images[0]
    elif is_folder_with_labels(images):
        return True
    if isinstance(images, list | tuple):
        return bool(images) and all(isinstance(each, str | Path) for each in images)
    return isinstance(images, str | Path) and Path(images).suffix != ".npz"


def is_many_files(images: Any) -> bool:
    """Whether a path is a folder or a pattern."""
    return isinstance(images, str | Path) and images != "" and (Path(images).is_dir() or is_pattern(images))


def is_folder_with_labels(images: Any) -> bool:
    """Whether a pair is a folder and a CSV file, a mapping or a function that describe its files."""
    if not isinstance(images, tuple | list) or len(images) != 2 or not is_many_files(images[0]):
        return False
    return images[1] is not None and describes_files(images[1])


def is_pair(images: Any) -> TypeIs[tuple[Any, Any] | list[Any]]:
    """Whether images stand beside labels."""
    return isinstance(images, tuple | list) and len(images) == 2 and not is_list_of_items(images)


def is_dataset(images: Any) -> bool:
    """Whether images are a dataset of items, perhaps in a pair with labels; no folder, which has a size of its own."""
    from PIL.Image import Image

    from pretextkit.data._folder import FolderImages

    if is_pair(images):
        images = images[0]
    if is_list_of_items(images) or (is_list_of_images(images) and not all(isinstance(i, str | Path) for i in images)):
        return True
    if isinstance(images, tuple | list | Mapping | str | FolderImages):
        return False
    if isinstance(images, Image | DatasetImages | StreamImages):
        return not isinstance(getattr(images, "dataset", None), FolderImages)
    has_items = hasattr(images, "__getitem__") and not hasattr(images, "__array__")
    return isinstance(images, Dataset) or has_items
