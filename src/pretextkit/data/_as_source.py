"""Conversion of tensors, arrays, datasets, loaders and paths to an ImageSource."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pretextkit._validation import check_int, tensor_from_array
from pretextkit.data._image_conversion import channels_second
from pretextkit.data._sources import DatasetImages, ImageSource, LoaderImages, TensorImages
from pretextkit.data._stream import StreamImages
from pretextkit.data._types import ImagesLike
from pretextkit.errors import DataError

__all__ = ["as_source"]

KINDS = (
    "a tensor n c h w, an array n h w c, n h w or n c h w, (images, labels), a Dataset, a DataLoader, a folder, "
    "an .npz file or an ImageSource"
)


def as_source(images: ImagesLike, labels: Any = None, *, workers: int = 0) -> ImageSource:
    """Convert images to an :class:`ImageSource`, which reads them in batches.

    Args:
        images: A tensor ``n c h w``; an array ``n h w c``, ``n h w`` or ``n c h w``; a pair (images, labels) of these;
            a ``Dataset``, map-style or iterable with a length; a ``DataLoader``; the path of a folder of images or of
            an ``.npz`` file, whose training split is read; or an :class:`ImageSource`, which is returned.
        labels: ``n`` integers, -1 for unlabeled images; only with a tensor or array. ``False`` ignores everything
            beside the images: labels, boxes, masks, texts. By default the labels of ``images`` are kept.
        workers: Number of processes that read a ``Dataset`` or folder; 0 reads in the calling process.

    Raises:
        ShapeError: The images have another shape.
        DataError: ``images`` has another type, or :func:`check_images` refuses them.
        OptionError: ``workers`` is not an integer >= 0.

    Example:
        >>> import torch
        >>> len(as_source(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), [0, 1, 0, 1]))
        4
        >>> source = as_source((torch.rand(4, 3, 8, 8), torch.rand(4)), labels=False)
        >>> next(source.batches([torch.arange(2)])).labels is None
        True
    """
    import numpy

    if labels is False:
        if isinstance(images, tuple | list) and len(images) == 2 and getattr(images[1], "ndim", 0) < 3:
            images = images[0]  # two batches of images are not a pair; the check below rejects them
        return as_source(images, workers=workers).without_labels()
    workers = check_int("workers", workers, at_least=0, fix="0 reads in this process.")
    names = getattr(images, "class_names", None) if isinstance(images, tuple) else None
    if isinstance(images, tuple | list) and len(images) == 2 and labels is None:
        images, labels = images
    if isinstance(images, Tensor):
        return TensorImages(images, labels, class_names=names)
    if isinstance(images, numpy.ndarray):
        return TensorImages(channels_second(tensor_from_array(images)), labels, class_names=names)
    if labels is not None:
        raise DataError(
            "labels beside a tensor or an array only",
            got=f"labels beside {type(images).__name__}",
            fix="Let the dataset return pairs (image, label).",
        )
    if isinstance(images, IterableDataset):
        return StreamImages(images, workers=workers)
    if isinstance(images, ImageSource):
        return images
    if isinstance(images, DataLoader):
        return LoaderImages(images)
    if isinstance(images, str | Path) and images != "":  # Path("") is the current folder
        return _path_source(Path(images), workers)
    listed = isinstance(images, tuple | list | dict | str)
    if isinstance(images, Dataset) or (hasattr(images, "__getitem__") and not listed):
        return DatasetImages(cast("Dataset[Any]", images), workers)
    raise DataError(f"images as {KINDS}", got=type(images).__name__, fix="Stack single images with torch.stack.")


def _path_source(path: Path, workers: int) -> ImageSource:
    from pretextkit.data._folder import FolderImages
    from pretextkit.data._npz import read_npz

    if path.is_file() and path.suffix == ".npz":
        return TensorImages(*read_npz(path).train)
    if path.is_dir():
        split = path / "train" if (path / "train").is_dir() and (path / "test").is_dir() else path
        return DatasetImages(FolderImages(split), workers)
    raise DataError(
        "the path of a folder of images or of an .npz file",
        got=f"{str(path)!r}",
        fix="Check the path." if not path.exists() else "Put image files in a folder and pass the folder.",
    )
