"""Images with a class per pixel, from an ``.npz`` file or a folder in the layout of Pascal VOC."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pretextkit._validation import check_masks, tensor_from_array
from pretextkit.data._decoding import MAX_PIXELS, opened
from pretextkit.data._folder import DEFAULT_LIMIT
from pretextkit.data._image_conversion import channels_second, pil_tensor
from pretextkit.data._image_size import check_size, height_width
from pretextkit.data._npz import as_uint8, read_arrays
from pretextkit.data._resizing import Fit, check_fit, covering_sides, padded_box, resize
from pretextkit.data._types import Size
from pretextkit.errors import DataError

__all__ = ["SegmentationData", "Segmented", "as_segmented", "load_segmentation"]

VOC_IGNORE = 255
VOC_FIX = "Repair the file, or remove its name from the lists in ImageSets/Segmentation."
VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class Segmented(NamedTuple):
    """Images and masks, which give each pixel a class."""

    images: Tensor
    """``n c h w``, uint8 or float in [0, 1]."""
    masks: Tensor
    """``n h w``, integers."""


class _NamedSegmented(Segmented):
    """Images and masks that carry the names of their classes, to match two datasets by name."""

    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True, repr=False, eq=False)
class SegmentationData:
    """Segmented images in memory, in two or three parts."""

    name: str
    train: Segmented
    validation: Segmented | None
    """Part for the choice of hyperparameters, or None."""
    test: Segmented
    class_names: tuple[str, ...]
    """Class names; the index of a name is its class."""
    ignore_index: int
    """Mask value of pixels without a class."""

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            if (given := getattr(self, part)) is not None:
                named = _NamedSegmented(*given)
                named.class_names = self.class_names or None
                object.__setattr__(self, part, named)  # the dataclass is frozen

    def __repr__(self) -> str:
        counts = f"{len(self.train.images)} train, {len(self.validation.images) if self.validation else 0} validation"
        shape = "x".join(map(str, self.train.images.shape[1:]))
        classes = f"{len(self.class_names)} classes, {self.ignore_index} ignored"
        return f"SegmentationData({self.name}: {counts} and {len(self.test.images)} test images of {shape}, {classes})"


def load_segmentation(path: str | Path, *, size: Size | None = None, fit: Fit = "crop") -> SegmentationData:
    """Read segmented images into memory.

    Args:
        path: One of

            - an ``.npz`` file with ``train_images`` and ``test_images`` (as for :func:`load`), ``train_masks`` and
              ``test_masks`` (``n h w``) and optionally ``val_images``, ``val_masks``, ``class_names`` and
              ``ignore_index`` (default 255);
            - a folder in the layout of Pascal VOC: ``JPEGImages``, ``SegmentationClass`` (PNG files whose palette
              indices, or gray levels, are classes; 255 is ignored) and ``ImageSets/Segmentation`` with ``train.txt``
              and ``val.txt``. ``val`` becomes the test part, because the test part of VOC has no public masks.
        size: Side of the images in pixels, or a pair (height, width). By default the images of an ``.npz`` file keep
            their size, and those of a folder become squares of the median shorter side, at most 224.
        fit: How an image gets another shape, as for :class:`FolderImages`: ``"crop"``, ``"pad"`` (padded pixels are
            ignored) or ``"stretch"``. Masks are scaled by the nearest pixel.

    Raises:
        DataError: A file is missing or has other content.
        ShapeError: A mask and its image differ in size.
        OptionError: ``size`` is no such size, or ``fit`` has another value.

    Example:
        >>> import tempfile, numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "streets.npz"
        >>> part = {"images": np.zeros((5, 6, 8, 3), np.uint8), "masks": np.ones((5, 6, 8), np.uint8)}
        >>> np.savez(path, **{f"{name}_{key}": value for name in ("train", "test") for key, value in part.items()})
        >>> load_segmentation(path)
        SegmentationData(streets: 5 train, 0 validation and 5 test images of 3x6x8, 2 classes, 255 ignored)
    """
    if size is not None:
        size = check_size(
            size,
            fix="Leave size out for the size of the images, or the median of a folder.",
        )
    check_fit(fit)
    path = Path(path)
    if path.is_dir():
        return _from_voc(path, size, fit)
    return _from_npz(path, size, fit)


def as_segmented(data: Any, what: str) -> Segmented:
    """Convert a pair (images, masks) of tensors or arrays to tensors, and check them.

    Args:
        data: Images ``n c h w``, or an array ``n h w c`` or ``n h w``; masks ``n h w``.
        what: Name of the pair in messages, for example "train".

    Raises:
        DataError: ``data`` is not a pair, or the masks are not integers.
        ShapeError: The masks do not match the images in number or size.

    Example:
        >>> as_segmented((torch.rand(2, 3, 8, 9), torch.zeros(2, 8, 9, dtype=torch.uint8)), "train").masks.shape
        torch.Size([2, 8, 9])
    """
    import numpy

    if not (isinstance(data, tuple | list) and len(data) == 2):
        raise DataError(
            f"a pair (images, masks) for {what}",
            got=type(data).__name__,
            fix="Pass a pair of tensors, or one part, such as load_segmentation(path).train.",
        )
    images, masks = (tensor_from_array(part) if isinstance(part, numpy.ndarray) else part for part in data)
    if isinstance(data[0], numpy.ndarray):
        images = channels_second(images)
    check_masks(images, masks, what)
    return Segmented(images, masks)


def _from_npz(path: Path, size: Size | None, fit: Fit) -> SegmentationData:
    keys = [f"{part}_{kind}" for part in ("train", "val", "test") for kind in ("images", "masks")]
    arrays, found = read_arrays(path, [*keys, "class_names", "ignore_index"])
    missing = [key for key in keys if key not in arrays and not key.startswith("val")]
    if missing:
        raise DataError(
            f"an array {missing[0]} in {path}",
            got=found,
            fix="Save with numpy.savez(path, train_images=..., train_masks=..., test_images=..., test_masks=...).",
        )

    ignore_index = int(arrays.get("ignore_index", VOC_IGNORE))

    def part(name: str) -> Segmented:
        images, masks = as_segmented((arrays[f"{name}_images"], arrays[f"{name}_masks"]), f"{name} of {path}")
        both = Segmented(as_uint8(images).contiguous(), masks)
        return both if size is None else _one_size(both, size, fit, ignore_index)

    train, test = part("train"), part("test")
    validation = part("val") if "val_images" in arrays and "val_masks" in arrays else None
    names = tuple(str(name) for name in arrays.get("class_names", ()))
    if 0 <= ignore_index == len(names) - 1:
        names = names[:-1]  # the last name belongs to the ignored value
    return SegmentationData(
        path.stem, train, validation, test, names or _numbers(train.masks, ignore_index), ignore_index
    )


def _from_voc(path: Path, size: Size | None, fit: Fit) -> SegmentationData:
    lists = {part: path / "ImageSets" / "Segmentation" / f"{part}.txt" for part in ("train", "val")}
    absent = [str(file) for file in lists.values() if not file.is_file()]
    if absent:
        raise DataError(
            f"a folder in the layout of Pascal VOC at {path}",
            got=f"none of {absent[0]}",
            fix="Pass the folder that holds JPEGImages, SegmentationClass and ImageSets.",
        )
    names = {part: file.read_text().split() for part, file in lists.items()}
    if not all(names.values()):
        raise DataError(f"names of images in the lists of {path}", got="an empty list", fix="Name images in both.")
    everyone = [*names["train"], *names["val"]]
    size = size or min(DEFAULT_LIMIT, statistics.median_low(_shorter_side(path, name) for name in everyone))
    train, test = (_voc_part(path, names[part], size, fit) for part in ("train", "val"))
    numbers = _numbers(train.masks, VOC_IGNORE)
    classes = VOC_CLASSES if "VOC" in path.resolve().name and len(numbers) <= len(VOC_CLASSES) else numbers
    return SegmentationData(path.resolve().name, train, None, test, classes, VOC_IGNORE)


def _shorter_side(path: Path, name: str) -> int:
    with opened(path / "JPEGImages" / f"{name}.jpg", MAX_PIXELS, fix=VOC_FIX) as picture:
        return min(picture.size)


def _voc_part(path: Path, names: list[str], size: Size, fit: Fit) -> Segmented:
    import numpy

    images = torch.empty(len(names), 3, *height_width(size), dtype=torch.uint8)
    masks = torch.empty(len(names), *height_width(size), dtype=torch.uint8)
    for row, name in enumerate(names):
        with opened(path / "JPEGImages" / f"{name}.jpg", MAX_PIXELS, fix=VOC_FIX) as picture:
            image = pil_tensor(picture)
        with opened(path / "SegmentationClass" / f"{name}.png", MAX_PIXELS, fix=VOC_FIX) as picture:
            mask = torch.from_numpy(numpy.array(picture))  # palette indices, not colors
        if mask.ndim != 2:
            raise DataError(
                f"a mask of palette indices or gray levels for {name} in {path}",
                got="a color image",
                fix="Save classes, not their colors.",
            )
        pair = as_segmented((image[None], mask[None]), f"{name} of {path}")
        images[row], masks[row] = (part[0] for part in _one_size(pair, size, fit, VOC_IGNORE))
    return Segmented(images, masks)


def _one_size(data: Segmented, size: Size, fit: Fit, ignore_index: int) -> Segmented:
    """Resize images and masks; masks are scaled by the nearest pixel, and padded with ``ignore_index``."""
    images = torch.cat([resize(chunk, size, fit) for chunk in torch.split(data.images, 256)])
    height, width = data.masks.shape[1:]
    rows, columns = height_width(size)
    if fit == "stretch":
        target, top, left = [rows, columns], 0, 0
    elif fit == "pad":
        target, (top, left) = padded_box(height, width, size)
    else:
        target = covering_sides(height, width, size)
        top, left = (target[0] - rows) // 2, (target[1] - columns) // 2
    scaled = torch.cat(
        [
            interpolate(chunk[:, None].float(), target, mode="nearest-exact")[:, 0]
            for chunk in torch.split(data.masks, 256)
        ]
    ).to(data.masks.dtype)
    if fit == "pad":
        masks = scaled.new_full((len(scaled), rows, columns), ignore_index)
        masks[:, top : top + target[0], left : left + target[1]] = scaled
        return Segmented(images, masks)
    return Segmented(images, scaled[:, top : top + rows, left : left + columns])


def _numbers(masks: Tensor, ignore_index: int) -> tuple[str, ...]:
    labeled = masks[masks != ignore_index]
    return tuple(map(str, range(int(labeled.max()) + 1))) if len(labeled) else ()
