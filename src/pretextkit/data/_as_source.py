"""Conversion of tensors, arrays, datasets, loaders and paths to an ImageSource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pretextkit._validation import check_int, tensor_from_array
from pretextkit._validation._image_advice import images_fix, path_fix
from pretextkit.data._brightness import warn_of_dark_images
from pretextkit.data._dataset_images import DatasetImages
from pretextkit.data._file_options import describes_files, is_pattern, refuse_file_options
from pretextkit.data._file_reader import FileReader
from pretextkit.data._image_conversion import channels_second
from pretextkit.data._image_size import check_size
from pretextkit.data._items import is_list_of_items, label_texts
from pretextkit.data._kinds import is_dataset, is_folder_with_labels, is_many_files, is_of_files, is_pair
from pretextkit.data._listed import ListedImages, WithLabels, is_list_of_images, named_labels
from pretextkit.data._loader_images import LoaderImages
from pretextkit.data._resizing import Fit, check_fit
from pretextkit.data._sources import ImageSource
from pretextkit.data._stream import StreamImages
from pretextkit.data._tensor_images import TensorImages
from pretextkit.data._types import ImagesLike, OnError, Size
from pretextkit.data._value_range import value_range
from pretextkit.errors import DataError, OptionError, ShapeError

__all__ = ["as_source", "read_files"]

KINDS = (
    "a tensor n c h w, an array n h w c, n h w or n c h w, a list of images, (images, labels), a Dataset, "
    "a DataLoader, a folder, a pattern of paths, an image file, an .npz file or an ImageSource"
)


def as_source(
    images: ImagesLike,
    labels: Any = None,
    *,
    workers: int = 0,
    fit: Fit | None = None,
    size: Size | None = None,
    on_error: OnError = "raise",
    white: float | None = None,
    black: float = 0.0,
) -> ImageSource:
    """Convert images to an :class:`ImageSource`, which reads them in batches.

    Args:
        images: A tensor ``n c h w``; an array ``n h w c``, ``n h w`` or ``n c h w``; a list of PIL images, paths of
            files, tensors ``c h w`` or arrays ``h w c``, all of one size; a ``Dataset``, map-style or iterable with a
            length; a ``DataLoader``; the path of a folder of images, of an image file, or of an ``.npz`` file, or a
            pattern of paths; one PIL image; an :class:`ImageSource`, which is returned; or a pair (images, labels) of
            one of these. Of a folder or file with several splits, the training split is read. Items of a dataset may be
            dictionaries with keys such as ``image`` and ``label``, which :func:`select_keys` chooses; a list of such
            dictionaries, or of pairs (image, label), is a dataset. The orientation of the camera (Exif) is applied to
            PIL images, as to files.
        labels: ``n`` integers, -1 for unlabeled images, or ``n`` class names; not with a ``DataLoader`` or a stream.
            Beside the path of a folder, also what :class:`FolderImages` takes. ``False`` ignores everything beside the
            images: labels, boxes, masks, texts. By default the labels of ``images`` are kept.
        workers: Number of processes that read a ``Dataset`` or folder; 0 reads in the calling process.
        fit: How the images of a folder become square, as for :class:`FolderImages`.
        size: Side of the images of files and datasets, or a pair (height, width), as for :class:`FolderImages`.
        on_error: What happens with files that cannot be decoded, as for :class:`FolderImages`.
        white: Value of white of images that are neither bytes nor floats in [0, 1], such as 4095 for 12 bits; the
            images become floats, and values beyond black and white are clipped. None leaves them as they are.
        black: Value of black beside ``white``.

    Raises:
        ShapeError: The images have another shape.
        DataError: ``images`` has another type, or :func:`check_images` refuses them.
        OptionError: ``workers`` is not an integer >= 0, ``fit`` has another value, ``images`` are no paths beside
            ``on_error``, or neither paths nor a dataset beside ``size``. ``white`` is not above ``black``, or stands
            beside an :class:`ImageSource`.

    Warns:
        DataWarning: The brightest pixel of a tensor or array is below a tenth of its range, or many of its values lie
            beyond black and white.

    Example:
        >>> import torch
        >>> len(as_source(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), [0, 1, 0, 1]))
        4
        >>> source = as_source((torch.rand(4, 3, 8, 8), torch.rand(4)), labels=False)
        >>> next(source.batches([torch.arange(2)])).labels is None
        True
        >>> as_source(torch.rand(3, 1, 8, 8), ["dog", "cat", "dog"]).class_names
        ('cat', 'dog')
        >>> deep = torch.full((2, 1, 8, 8), 4095, dtype=torch.uint16)
        >>> next(as_source(deep, white=4095).in_order(2)).images.max()
        tensor(1.)
    """
    check_fit(fit)
    value_range(white, black)
    options: dict[str, Any] = {"fit": fit, "size": size, "on_error": on_error, "white": white, "black": black}
    if labels is False:
        if is_pair(images) and getattr(images[1], "ndim", 0) < 3:
            # Two batches of images are not a pair; the check below rejects them.
            images = images[0] if is_folder_with_labels(images) or not is_list_of_images(images) else images
        return as_source(images, workers=workers, **options).without_labels()
    workers = check_int("workers", workers, at_least=0, fix="0 reads in this process.")
    if labels is None and is_folder_with_labels(images):
        images, labels = cast("tuple[Any, Any]", images)
    if is_many_files(images) and describes_files(labels):
        return _files_source(cast("str", images), workers, labels, options)
    if is_list_of_images(images):
        return _list_source(cast("list[Any]", images), labels, workers, options)
    if is_list_of_items(images):
        return _labeled(_dataset_source(images, workers, options), labels)
    names = getattr(images, "class_names", None) if isinstance(images, tuple) else None
    if isinstance(images, tuple | list) and len(images) == 2 and labels is None:
        images, labels = images
        if isinstance(images, list) and is_list_of_images(images):
            return _list_source(images, labels, workers, options)
        if is_list_of_items(images):
            return _labeled(_dataset_source(images, workers, options), labels)
    if not isinstance(images, str | Path | Mapping):
        refuse_file_options(images, None if is_dataset(images) else size, on_error)
    if (tensor := _as_tensor(images, labels)) is not None:
        return _tensor_source(tensor, labels, names, values_of(options))
    return _labeled(_source(images, workers, options), labels)


def read_files(
    many: Sequence[Any], size: Size | None, on_error: OnError, fit: Fit | None = None, *, workers: int = 0
) -> list[Any]:
    """Give files and datasets as sources with these options; everything else as it is.

    Functions with ``size`` and ``on_error`` call it first.

    Raises:
        OptionError: ``size`` or ``on_error`` is given, and nothing consists of files or is a dataset.

    Example:
        >>> read_files([1, None], None, "raise")
        [1, None]
    """
    asked = size is not None or on_error != "raise"
    of_files = [is_of_files(each) or (size is not None and is_dataset(each)) for each in many]
    if not any(of_files):
        refuse_file_options(many[0], size, on_error)
    wanted = [asked or (fit is not None and isinstance(each, str | Path)) for each in many]
    return [
        as_source(each, size=size, on_error=on_error, fit=fit, workers=workers) if found and needed else each
        for each, found, needed in zip(many, of_files, wanted, strict=True)
    ]


def _files_source(images: str | Path, workers: int, labels: Any, options: dict[str, Any]) -> DatasetImages:
    """Give the source of a folder or a pattern with the labels that :class:`FolderImages` takes."""
    from pretextkit.data._folder import FolderImages

    root = images if is_pattern(images) else _training_split(Path(images))
    return DatasetImages(FolderImages(root, labels=labels, **options), workers)


def _list_source(images: list[Any], labels: Any, workers: int, options: dict[str, Any]) -> ImageSource:
    """Give the source of a list of images; paths are read like a folder if there are options for them."""
    from pretextkit.data._folder import FolderImages

    refuse_file_options(images, None, options["on_error"])
    values = values_of(options)
    asked = options["size"] is not None or options["on_error"] != "raise" or options["fit"] is not None
    if asked and all(isinstance(image, str | Path) for image in images):
        given: Any = False if labels is None else labels
        return DatasetImages(FolderImages(images, labels=given, **options), workers)
    source = DatasetImages(ListedImages(images, FileReader(values=value_range(**values))), workers)
    return _labeled(_resized(source, options), labels)


def values_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Select the options of the range of values."""
    return {name: options[name] for name in ("white", "black")}


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


def _tensor_source(
    images: Tensor, labels: Any, names: Sequence[str] | None = None, values: Mapping[str, Any] | None = None
) -> TensorImages:
    """Give the source of a tensor; texts among the labels bring the names of the classes."""
    has_range = values is not None and values["white"] is not None
    source = TensorImages(images, **(values or {}))
    if not has_range:
        warn_of_dark_images(images)
    return _named(source, labels, names)


def _named(source: TensorImages, labels: Any, names: Sequence[str] | None) -> TensorImages:
    """Give the images of a source other labels, which may be texts."""
    numbers, found = (None, None) if labels is None else named_labels(labels, len(source), names)
    return source._with_labels(numbers, found or names)


def _labeled(source: ImageSource, labels: Any) -> ImageSource:
    """Give a source other labels, if there are any."""
    if labels is None:
        return source
    if isinstance(source, TensorImages):
        return _named(source, labels, None)
    if not isinstance(source, DatasetImages):
        raise DataError(
            "labels beside a tensor, an array, a list, a folder or a map-style Dataset",
            got=f"labels beside {type(source).__name__}, which decides the order of its images",
            fix="Let the dataset return pairs (image, label).",
        )
    return source._with_dataset(WithLabels(source.dataset, labels))


def _source(images: Any, workers: int, options: dict[str, Any]) -> ImageSource:
    """Give the source of what is neither a tensor nor an array nor a list of images."""
    from PIL.Image import Image

    from pretextkit.data._folder import FolderImages

    values = values_of(options)
    if isinstance(images, IterableDataset):
        return _resized(StreamImages(images, workers=workers, **values), options)
    if isinstance(images, ImageSource | FolderImages) and values["white"] is not None:
        fix = f"Give white to {type(images).__name__} itself."
        raise OptionError("white where a source is made", got=f"a {type(images).__name__}", fix=fix)
    if isinstance(images, ImageSource):
        return _resized(images, options) if isinstance(images, DatasetImages | StreamImages) else images
    if isinstance(images, DataLoader):
        return LoaderImages(images, **values)
    if isinstance(images, str | Path) and images != "":  # Path("") is the current folder
        return _path_source(Path(images), workers, options)
    if isinstance(images, Image):
        return _list_source([images], None, 0, options)
    listed = isinstance(images, tuple | list | dict | str)
    if isinstance(images, Dataset) or (hasattr(images, "__getitem__") and not listed):
        return _dataset_source(images, workers, options)
    if listed and not images:
        fix = "Check where the images come from."
        raise DataError("at least one image", got=f"an empty {type(images).__name__}", fix=fix)
    raise DataError(f"images as {KINDS}", got=type(images).__name__, fix=images_fix(images))


def _dataset_source(dataset: Any, workers: int, options: dict[str, Any]) -> DatasetImages:
    """Give the source of a map-style dataset; labels that are texts become numbers."""
    texts = label_texts(dataset)
    items = dataset if texts is None else WithLabels(dataset, texts)
    source = DatasetImages(cast("Dataset[Any]", items), workers, **values_of(options))
    return cast(DatasetImages, _resized(source, options))


def _resized(source: DatasetImages | StreamImages, options: dict[str, Any]) -> DatasetImages | StreamImages:
    """Give the images of a dataset the size that is asked for."""
    if options["size"] is None:
        return source
    size = check_size(options["size"], fix="Leave size out to take the images as they are.")
    return source.resized(size, options["fit"] or "crop")


def _path_source(path: Path, workers: int, options: dict[str, Any]) -> ImageSource:
    from pretextkit.data._file_listing import image_suffixes
    from pretextkit.data._npz import read_npz

    if path.is_file() and path.suffix == ".npz":
        refuse_file_options(path, options["size"], options["on_error"])
        splits = read_npz(path, value_range(**values_of(options)))
        return _tensor_source(splits.train.images, splits.train.labels, splits.class_names or None)
    if is_many_files(path):
        return _files_source(path, workers, None, options)
    if path.is_file() and path.suffix.lower() in image_suffixes():
        if options["size"] is not None:
            return _list_source([path], None, 0, options)
        one = ListedImages([path], FileReader(values=value_range(**values_of(options))))
        one[0]  # a damaged file is an error at once
        return DatasetImages(one)
    raise DataError(
        "the path of a folder of images, of an image file or of an .npz file",
        got=f"{str(path)!r}",
        fix=path_fix(path),
    )


def _training_split(path: Path) -> Path:
    """Give the training split of a folder with several splits, or the folder."""
    from pretextkit.data._split_folders import find_splits

    parts = find_splits(path)
    if len(parts) > 1 and "train" not in parts:
        listed = " and ".join(part.name for part in parts.values())
        fix = f"Pass the folder to read, such as {str(next(iter(parts.values())))!r}."
        raise DataError(f"a training split in {path}", got=f"{listed} only", fix=fix)
    return parts.get("train", path) if len(parts) > 1 else path
