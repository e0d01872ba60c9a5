"""Well-known image sets, read and downloaded by torchvision."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretextkit.batches import Labeled
from pretextkit.data._folder import DEFAULT_LIMIT
from pretextkit.data._image_conversion import channels_second, pil_tensor, resize_and_crop
from pretextkit.data._npz import as_uint8
from pretextkit.data._torchvision_catalog import CATALOG, DatasetSpec
from pretextkit.errors import DataError

__all__ = ["read_known"]

MEASURED = 256
"""Images whose sides tell the size of a set of files: each of them is decoded for it."""


def read_known(
    name: str, root: Path, size: int | None, download: bool
) -> tuple[Labeled, Labeled | None, tuple[str, ...]]:
    """Read the parts and class names of the set ``name``.

    Images that torchvision holds in an array come as they are. Those that are files are read one by one into one
    tensor of uint8, ``3 size size`` each as :class:`FolderImages` makes them.

    Returns:
        Train, test (None where torchvision has no such part), and class names.

    Raises:
        DataError: The files are not there and could not be downloaded (the message says where to put them), one
            cannot be decoded, there is no memory for so many pixels, or torchvision lacks the set or a package.
    """
    known = CATALOG[name]
    parts = [
        _build(name, known, options, root, download) for options in (known.train, known.test) if options is not None
    ]
    if hasattr(getattr(parts[0], "data", None), "shape"):
        splits = [_from_arrays(part) for part in parts]
    else:
        side = size or _median_side(name, parts[0])
        splits = [_from_files(name, part, known, side) for part in parts]
    splits = [Labeled(images, _from_zero(labels, known.first)) for images, labels in splits]
    top = max(int(split.labels.max()) for split in splits)
    names = _names(getattr(parts[0], known.names, None) or range(top + known.first + 1))[known.first :]
    return splits[0], splits[1] if len(splits) > 1 else None, names


def _build(name: str, known: DatasetSpec, options: dict[str, Any], root: Path, download: bool) -> Any:
    import torchvision

    build = getattr(torchvision.datasets, known.class_name, None)
    if build is None:
        raise DataError(
            f"a torchvision that has {known.class_name}", got=torchvision.__version__, fix="Update torchvision."
        )
    # Some classes refuse to download what is there already, so that looking comes first.
    attempts = [{"download": False}, {"download": True}] if known.downloads else [{}]
    for attempt in attempts[: 1 + download]:
        try:
            return build(root, **options, **attempt)
        except (ImportError, OSError, RuntimeError, EOFError, ValueError) as error:  # noqa: PERF203 - two turns at most
            cause = error if isinstance(error, ImportError) else error.__context__
            if (
                isinstance(cause, ImportError) and cause.name != "gdown"
            ):  # what gdown downloads can be put there by hand
                raise _missing_package(name, cause) from error
            failure = error
    reason = str(failure).strip().splitlines()[-1] if str(failure).strip() else type(failure).__name__
    got = f"{type(failure).__name__}: {reason}" if download else "none, and download=False"
    hint = " (download=True unpacks archives in place)" if known.downloads else ""
    raise DataError(
        f"the files of {name} in {root / known.folder}",
        got=got,
        fix=f"Put {', '.join(known.files)} there and call again{hint}.",
    ) from failure


def _from_arrays(part: Any) -> Labeled:
    """Give the images ``n c h w`` and labels of a torchvision set, from its arrays and not image by image."""
    images = channels_second(torch.as_tensor(part.data))
    labels = torch.as_tensor(part.targets if hasattr(part, "targets") else part.labels).long()
    # QMNIST tells more of a digit than its class, which comes first.
    return Labeled(as_uint8(images).contiguous(), labels if labels.ndim == 1 else labels[:, 0].clone())


def _from_files(name: str, part: Any, known: DatasetSpec, size: int) -> Labeled:
    count = len(part)
    try:
        images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    except RuntimeError as error:
        raise DataError(
            f"memory for {count:,} images of 3x{size}x{size}",
            got=f"less than their {count * 3 * size**2 / 1e9:,.0f} GB",
            fix="Choose a smaller size, or pass torchvision's own data set to pretrain, which reads as it goes.",
        ) from error
    labels = torch.empty(count, dtype=torch.int64)
    order: Iterable[int] = range(count)
    if known.listing:
        listing = getattr(part, known.listing)
        order = sorted(order, key=listing.__getitem__)
    for row, index in enumerate(order):
        image, label = _item(name, part, index)
        images[row] = resize_and_crop(image[None], size)[0]
        labels[row] = -1 if label is None else int(label)
    return Labeled(images, labels)


def _median_side(name: str, part: Any) -> int:
    places = torch.linspace(0, len(part) - 1, min(MEASURED, len(part))).long().tolist()
    return min(DEFAULT_LIMIT, statistics.median_low(min(_item(name, part, index)[0].shape[1:]) for index in places))


def _item(name: str, part: Any, index: int) -> tuple[Tensor, Any]:
    try:
        image, label = part[index]
        return pil_tensor(image), label
    except ImportError as error:  # Caltech101 asks for SciPy only now
        raise _missing_package(name, error) from error
    except Exception as error:  # a damaged file makes decoders raise almost anything
        raise DataError(
            f"an image that can be decoded at place {index} of {name}",
            got=f"{type(error).__name__}: {error}",
            fix="Repair the file, or download the set anew.",
        ) from error


def _missing_package(name: str, error: ImportError) -> DataError:
    package = (error.name or str(error)).partition(".")[0]
    return DataError(
        f"the package {package}, with which torchvision reads {name}",
        got="none",
        fix=f"Install it: pip install {package}.",
    )


def _from_zero(labels: Tensor, first: int) -> Tensor:
    return torch.where(labels < 0, labels, labels - first)


def _names(classes: Iterable[Any]) -> tuple[str, ...]:
    # ImageNet has several names for a class.
    return tuple(", ".join(name) if isinstance(name, tuple) else str(name) for name in classes)
