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
from pretextkit.data._image_conversion import channels_second
from pretextkit.errors import DataError, ShapeError

__all__ = ["NpzSplits", "as_uint8", "read_arrays", "read_npz"]

KEYS = ("train_images", "train_labels", "test_images", "test_labels", "class_names")


class NpzSplits(NamedTuple):
    """What an ``.npz`` file holds."""

    train: Labeled
    test: Labeled | None
    class_names: tuple[str, ...]


def read_npz(path: Path) -> NpzSplits:
    """Read the splits of one file.

    Args:
        path: A file as ``numpy.savez`` writes it, with an array ``train_images`` and, where there are such,
            ``train_labels``, ``test_images``, ``test_labels`` and ``class_names``. Images are ``n h w c``, ``n h w`` or
            ``n c h w``, uint8 or float in [0, 1]; without labels, all are -1.

    Raises:
        DataError: The file is not such a file, or has no ``train_images``.
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
    test = _split(arrays, "test", path) if "test_images" in arrays else None
    return NpzSplits(_split(arrays, "train", path), test, names)


def read_arrays(path: Path, keys: Iterable[str]) -> tuple[dict[str, Any], str]:
    """Read those arrays of a file that are named in ``keys``, and list what it holds, for messages.

    Raises:
        DataError: The file is not one that ``numpy.savez`` writes, or damaged.
    """
    import numpy

    try:
        # Opened here, since numpy leaves a damaged file open.
        with path.open("rb") as file:
            archive = numpy.load(file, allow_pickle=False)  # objects would be unpickled, which runs code from the file
            if not isinstance(archive, Mapping):
                raise TypeError("one array, not several by name")
            arrays = {key: archive[key] for key in keys if key in archive}
            found = ", ".join(archive) or "no array"
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"an .npz file of plain arrays at {path}", got=f"{type(error).__name__}: {error}", fix="Write it anew."
        ) from error
    return arrays, found


def as_uint8(images: Tensor) -> Tensor:
    """Turn float images in [0, 1] to uint8."""
    return images if images.dtype == torch.uint8 else (images * 255).round().clamp(0, 255).to(torch.uint8)


def _split(arrays: dict[str, Any], split: str, path: Path) -> Labeled:
    labels = arrays.get(f"{split}_labels")
    try:
        images = channels_second(tensor_from_array(arrays[f"{split}_images"]))
        check_images(images)
        checked = torch.full((len(images),), -1) if labels is None else check_labels(labels, len(images))
    except (DataError, ShapeError) as error:
        raise type(error)(f"{error.expected} ({split} of {path})", got=error.got, fix=error.fix) from error
    return Labeled(as_uint8(images).contiguous(), checked)
