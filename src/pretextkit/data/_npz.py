"""Image sets in one ``.npz`` file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretextkit._validation import check_images, check_labels, tensor_from_array
from pretextkit.batches import Labeled
from pretextkit.data._class_names import number_texts, texts_of
from pretextkit.data._image_conversion import channels_second
from pretextkit.data._value_range import ValueRange, check_stored_images
from pretextkit.errors import DataError, ShapeError, reason

__all__ = ["NpzSplits", "as_uint8", "read_arrays", "read_npz"]

SPLITS = ("train", "val", "test")
KEYS = (*(f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")), "class_names")


class NpzSplits(NamedTuple):
    """Parts and class names in an ``.npz`` file."""

    train: Labeled
    validation: Labeled | None
    test: Labeled | None
    class_names: tuple[str, ...]


def read_npz(path: Path, values: ValueRange | None = None) -> NpzSplits:
    """Read the training, validation and test parts of an ``.npz`` file.

    Args:
        path: File written by ``numpy.savez`` with an array ``train_images`` and optionally ``train_labels``,
            ``val_images``, ``val_labels``, ``test_images``, ``test_labels`` and ``class_names``. Images are
            ``n h w c``, ``n h w`` or ``n c h w``, uint8 or float in [0, 1]. Labels are integers ``n`` or ``n 1``, or
            texts, which are numbered for all parts together; missing labels are read as -1.
        values: Black and white of images of any real numbers, which become floats; None for bytes, and for floats in
            [0, 1], which become bytes.

    Raises:
        DataError: The file cannot be read, or has no ``train_images``.
        ShapeError: An array has another shape.
    """
    arrays, found = read_arrays(path, KEYS)
    if "train_images" not in arrays:
        raise DataError(
            f"an array train_images in {path}",
            got=found,
            fix="Save with numpy.savez(path, train_images=..., train_labels=..., test_images=...).",
        )
    names = tuple(str(name) for name in arrays.get("class_names", ()))
    names = _number_texts(arrays, names)
    validation, test = (
        _split(arrays, split, path, values) if f"{split}_images" in arrays else None for split in ("val", "test")
    )
    return NpzSplits(_split(arrays, "train", path, values), validation, test, names)


def read_arrays(path: Path, keys: Iterable[str]) -> tuple[dict[str, Any], str]:
    """Read the arrays named in ``keys`` that a file contains, and list its arrays for messages.

    Raises:
        DataError: The file is damaged, or not written by ``numpy.savez``.
    """
    import numpy

    try:
        # Opened here, because numpy leaves a damaged file open.
        with path.open("rb") as file:
            archive = numpy.load(file, allow_pickle=False)  # unpickling objects would run code from the file
            if not isinstance(archive, Mapping):
                raise TypeError("one array, not several by name")
            arrays = {key: archive[key] for key in keys if key in archive}
            found = ", ".join(archive) or "no array"
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"an .npz file of plain arrays at {path}",
            got=reason(error),
            fix="Write it with numpy.savez, from arrays of numbers.",
        ) from error
    return arrays, found


def as_uint8(images: Tensor) -> Tensor:
    """Convert float images in [0, 1] to uint8."""
    return images if images.dtype == torch.uint8 else (images * 255).round().clamp(0, 255).to(torch.uint8)


def _number_texts(arrays: dict[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Replace labels that are texts by numbers, the same in each part, and return the class names."""
    texts = {key: texts_of(arrays[key]) for key in arrays if key.endswith("_labels")}
    found = {text for each in texts.values() for text in each or ()} - {""}
    if found:
        names = names or tuple(sorted(found))
        for key, each in texts.items():
            if each is not None:
                arrays[key] = number_texts(each, names)[0]
    return names


def _split(arrays: dict[str, Any], split: str, path: Path, values: ValueRange | None) -> Labeled:
    labels = arrays.get(f"{split}_labels")
    try:
        images = channels_second(tensor_from_array(arrays[f"{split}_images"]))
        if values is not None:
            check_stored_images(images, values)
            images = torch.cat([values.to_unit(chunk) for chunk in torch.split(images, 256)])
        check_images(images)
        checked = torch.full((len(images),), -1) if labels is None else check_labels(labels, len(images))
    except (DataError, ShapeError) as error:
        raise type(error)(f"{error.expected} ({split} of {path})", got=error.got, fix=error.fix) from error
    return Labeled((as_uint8(images) if values is None else images).contiguous(), checked)
