"""Conversion of tensors, arrays, datasets, loaders and paths to an ImageSource."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pretextkit._validation import check_images, check_int, tensor_from_array
from pretextkit._validation._advice import images_fix, path_fix
from pretextkit.data._brightness import warn_of_dark_images
from pretextkit.data._image_conversion import Fit, channels_second, check_fit
from pretextkit.data._listed import ListedImages, WithLabels, is_list_of_images, named_labels
from pretextkit.data._sources import DatasetImages, ImageSource, LoaderImages, TensorImages
from pretextkit.data._stream import StreamImages
from pretextkit.data._types import ImagesLike
from pretextkit.errors import DataError, ShapeError

__all__ = ["as_source"]

KINDS = (
    "a tensor n c h w, an array n h w c, n h w or n c h w, a list of images, (images, labels), a Dataset, "
    "a DataLoader, a folder, an image file, an .npz file or an ImageSource"
)


def as_source(images: ImagesLike, labels: Any = None, *, workers: int = 0, fit: Fit | None = None) -> ImageSource:
    """Convert images to an :class:`ImageSource`, which reads them in batches.

    Args:
        images: A tensor ``n c h w``; an array ``n h w c``, ``n h w`` or ``n c h w``; a list of PIL images, paths of
            files, tensors ``c h w`` or arrays ``h w c``, all of one size; a ``Dataset``, map-style or iterable with a
            length; a ``DataLoader``; the path of a folder of images, of an image file, or of an ``.npz`` file; one PIL
            image; an :class:`ImageSource`, which is returned; or a pair (images, labels) of one of these. Of a folder
            or file with several splits, the training split is read.
        labels: ``n`` integers, -1 for unlabeled images, or ``n`` class names; not with a ``DataLoader`` or a stream.
            ``False`` ignores everything beside the images: labels, boxes, masks, texts. By default the labels of
            ``images`` are kept.
        workers: Number of processes that read a ``Dataset`` or folder; 0 reads in the calling process.
        fit: How the images of a folder become square, as for :class:`FolderImages`.

    Raises:
        ShapeError: The images have another shape.
        DataError: ``images`` has another type, or :func:`check_images` refuses them.
        OptionError: ``workers`` is not an integer >= 0, or ``fit`` has another value.

    Warns:
        DataWarning: The brightest pixel of a tensor or array is below a tenth of its range.

    Example:
        >>> import torch
        >>> len(as_source(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), [0, 1, 0, 1]))
        4
        >>> source = as_source((torch.rand(4, 3, 8, 8), torch.rand(4)), labels=False)
        >>> next(source.batches([torch.arange(2)])).labels is None
        True
        >>> as_source(torch.rand(3, 1, 8, 8), ["dog", "cat", "dog"]).class_names
        ('cat', 'dog')
    """
    check_fit(fit)
    if labels is False:
        if isinstance(images, tuple | list) and len(images) == 2 and getattr(images[1], "ndim", 0) < 3:
            # Two batches of images are not a pair; the check below rejects them.
            images = images if is_list_of_images(images) else images[0]
        return as_source(images, workers=workers, fit=fit).without_labels()
    workers = check_int("workers", workers, at_least=0, fix="0 reads in this process.")
    if is_list_of_images(images):
        return _labeled(DatasetImages(ListedImages(cast("list[Any]", images)), workers), labels)
    names = getattr(images, "class_names", None) if isinstance(images, tuple) else None
    if isinstance(images, tuple | list) and len(images) == 2 and labels is None:
        images, labels = images
        if isinstance(images, list) and is_list_of_images(images):
            return as_source(cast("Any", images), labels, workers=workers)
    if (tensor := _as_tensor(images, labels)) is not None:
        return _tensor_source(tensor, labels, names)
    return _labeled(_source(images, workers, fit), labels)


def _as_tensor(images: Any, labels: Any) -> Tensor | None:
    """Give a tensor or an array as a tensor with channels second; None for anything else."""
    import numpy

    if isinstance(images, Tensor):
        return images
    if not isinstance(images, numpy.ndarray):
        return None
    if images.ndim == 3 and images.shape[0] == 3 and labels is None:
        raise ShapeError(
            "images n h w c, n h w or n c h w",
            got=f"shape {images.shape}, which may be one image c h w",
            fix="Pass images[None] for one color image, or images[:, None] for three gray images.",
        )
    return channels_second(tensor_from_array(images))


def _tensor_source(images: Tensor, labels: Any, names: Sequence[str] | None = None) -> TensorImages:
    """Give the source of a tensor; texts among the labels bring the names of the classes."""
    check_images(images)
    numbers, found = (None, None) if labels is None else named_labels(labels, len(images), names)
    source = TensorImages(images, numbers, class_names=found or names)
    warn_of_dark_images(images)
    return source


def _labeled(source: ImageSource, labels: Any) -> ImageSource:
    """Give a source other labels, if there are any."""
    if labels is None:
        return source
    if isinstance(source, TensorImages):
        return _tensor_source(source.images, labels)
    if not isinstance(source, DatasetImages):
        raise DataError(
            "labels beside a tensor, an array, a list, a folder or a map-style Dataset",
            got=f"labels beside {type(source).__name__}, which decides the order of its images",
            fix="Let the dataset return pairs (image, label).",
        )
    return DatasetImages(WithLabels(source.dataset, labels), source.workers)


def _source(images: Any, workers: int, fit: Fit | None) -> ImageSource:
    """Give the source of what is neither a tensor nor an array nor a list of images."""
    from PIL.Image import Image

    if isinstance(images, IterableDataset):
        return StreamImages(images, workers=workers)
    if isinstance(images, ImageSource):
        return images
    if isinstance(images, DataLoader):
        return LoaderImages(images)
    if isinstance(images, str | Path) and images != "":  # Path("") is the current folder
        return _path_source(Path(images), workers, fit)
    if isinstance(images, Image):
        return DatasetImages(ListedImages([images]))
    listed = isinstance(images, tuple | list | dict | str)
    if isinstance(images, Dataset) or (hasattr(images, "__getitem__") and not listed):
        return DatasetImages(cast("Dataset[Any]", images), workers)
    raise DataError(f"images as {KINDS}", got=type(images).__name__, fix=images_fix(images))


def _path_source(path: Path, workers: int, fit: Fit | None) -> ImageSource:
    from pretextkit.data._file_listing import find_splits, image_suffixes
    from pretextkit.data._folder import FolderImages
    from pretextkit.data._npz import read_npz

    if path.is_file() and path.suffix == ".npz":
        splits = read_npz(path)
        return _tensor_source(splits.train.images, splits.train.labels, splits.class_names or None)
    if path.is_dir():
        parts = find_splits(path)
        if len(parts) > 1 and "train" not in parts:
            listed = " and ".join(part.name for part in parts.values())
            fix = f"Pass the folder to read, such as {str(next(iter(parts.values())))!r}."
            raise DataError(f"a training split in {path}", got=f"{listed} only", fix=fix)
        return DatasetImages(FolderImages(parts.get("train", path) if len(parts) > 1 else path, fit=fit), workers)
    if path.is_file() and path.suffix.lower() in image_suffixes():
        one = ListedImages([path])
        one[0]  # a damaged file is an error at once
        return DatasetImages(one)
    raise DataError(
        "the path of a folder of images, of an image file or of an .npz file",
        got=f"{str(path)!r}",
        fix=path_fix(path),
    )
