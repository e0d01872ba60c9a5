"""Advice for refused images: code that is right for the refused value.

The text of an error names the variable by the role of the argument (``images``). Tests take the code from the message,
evaluate it on the refused value, and compare the result with the right one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy

__all__ = [
    "array_fix",
    "channels_fix",
    "dtype_fix",
    "images_fix",
    "is_channels_first",
    "is_channels_last",
    "item_fix",
    "network_fix",
    "path_fix",
    "range_fix",
    "shape_fix",
    "sizes_fix",
    "tensor_fix",
]

WHITES = (255, 1023, 4095, 16383, 65535)
"""Values of white in images of 8, 10, 12, 14 and 16 bits."""

FEW_CHANNELS = 4
"""Most channels that are surely no side of an image: gray, gray with alpha, RGB, RGBA."""

DARK = 128
"""Images whose highest value is below this may be no bytes: digits of 17 levels, masks, or a 7-bit format."""


def dtype_fix(images: Tensor) -> str:
    """Advise how to convert images of another dtype to uint8, or to floats in [0, 1].

    Example:
        >>> dtype_fix(torch.tensor([0, 255]))
        'Divide by the value of white: images.float() / 255 if it is 255. pretextkit.data.as_source(..., ...'
        >>> dtype_fix(torch.tensor([0, 3000], dtype=torch.int16))
        'Divide by the value of white: images.float() / 4095 if it is 4095. pretextkit.data.as_source(..., ...'
    """
    if images.dtype == torch.bool:
        return "Convert with images.float()."
    if images.is_complex():
        return "Pass real images: magnitudes or parts, scaled to [0, 1]."
    if images.is_floating_point():  # float8
        return "Convert with images.float()."
    if images.numel() == 0 or images.is_meta:
        return "Convert to uint8 (0 to 255), or to floats in [0, 1]."
    # torch has no minimum of uint16 to uint64.
    low, high = (int(value) for value in torch.aminmax(images.detach().long()))
    if low < 0:
        return (
            "Scale them to [0, 1], with the same numbers for train and test: "
            f"(images.float() - {low}) / {high - low}.".replace("- -", "+ ")
        )
    if high < DARK:
        high = max(high, 1)
        return (
            f"Divide by the value of white: images.float() / 255 if they were bytes, images.float() / {high} if {high} "
            "is the highest value of the format."
        )
    white = _white(high)
    return (
        f"Divide by the value of white: images.float() / {white} if it is {white}. "
        f"pretextkit.data.as_source(..., white={white}) divides while reading."
    )


def range_fix(low: float, high: float) -> str:
    """Advise how to bring float images with values from ``low`` to ``high`` into [0, 1].

    Example:
        >>> range_fix(0, 255)
        'Divide by 255: images / 255.'
    """
    if low > -0.25 and high < 1.25:
        return "Clamp what a transform overshot (images.clamp(0, 1)), or undo a normalization."
    if low < -10 or (low < -0.25 and high > 10):  # beyond standardized images
        return (
            "State the lowest and the highest value, the same for train and test: "
            f"(images - {low:g}) / {high - low:g}, or pretextkit.data.as_source(..., black={low:g}, white={high:g})."
        ).replace("- -", "+ ")
    if low < -0.25:
        return "Undo their normalization (images * std + mean): a backbone normalizes by itself."
    if high < DARK:
        return (
            "Divide by the value of white: images / 255 if they were bytes, "
            f"images / {high:g} if {high:g} is the highest value of the format."
        )
    white = _white(high)
    if white == 255:
        return "Divide by 255: images / 255."
    return f"Divide by the highest value of the format: images / {white}."


def shape_fix(shape: tuple[int, ...]) -> str:
    """Advise how to bring images of another shape to ``b c h w``.

    Example:
        >>> shape_fix((2, 8, 9, 3))
        'Put channels second: images.permute(0, 3, 1, 2).'
    """
    if len(shape) == 4:
        return _channel_fix(shape)
    if len(shape) == 5 and shape[1] in (1, 3):
        return "Pass the slices of a volume b c d h w as images: images.movedim(2, 1).flatten(0, 1)."
    if len(shape) == 5:
        return "Pass the frames of a video b t c h w as images: images.flatten(0, 1)."
    if len(shape) == 3 and shape[2] in (1, 3) and shape[0] not in (1, 3):
        return "Put channels second: images.permute(2, 0, 1)[None] for one image h w c."
    if len(shape) == 3 and shape[0] in (1, 3):
        return "Add the missing axis: images[None] for one image c h w, images[:, None] for gray images n h w."
    if len(shape) == 3:
        return "Add the missing axis: images[:, None] for gray images n h w."
    if len(shape) == 2:
        fix = "Add the missing axes: images[None, None] for one gray image h w"
        side = math.isqrt(shape[1])
        flattened = f", images.reshape(-1, 1, {side}, {side}) for flattened gray images"
        return f"{fix}{flattened if side > 1 and side * side == shape[1] else ''}."
    return "Pass images with channels second."


def is_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether images of three axes are surely ``h w c``, and not ``c h w``: few channels, or a square before more.

    Example:
        >>> is_channels_last((32, 40, 3)), is_channels_last((64, 64, 13)), is_channels_last((13, 64, 64))
        (True, True, False)
    """
    first, second, last = shape
    if first in (1, 3):
        return False
    return last < min(first, second) and (last <= FEW_CHANNELS or first == second)


def is_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether images of three axes are surely ``c h w``, and not ``h w c``.

    Example:
        >>> is_channels_first((3, 32, 40)), is_channels_first((13, 64, 64)), is_channels_first((64, 64, 13))
        (True, True, False)
    """
    first, second, last = shape
    if last in (1, 3):
        return False
    return (first <= FEW_CHANNELS and first < min(second, last)) or second == last != first


def channels_fix(channels: int) -> str:
    """Advise how to bring images ``b c h w`` of another number of channels to 1 or 3.

    Example:
        >>> channels_fix(2)
        'If they are gray with an alpha channel, drop it: images[:, :1]. Otherwise select one of the two: ...'
    """
    if channels == 2:
        return (
            "If they are gray with an alpha channel, drop it: images[:, :1]. "
            "Otherwise select one of the two: images[:, 1:]."
        )
    if channels == 4:
        return (
            "If they are RGBA, drop the alpha channel: images[:, :3]. If they are bands, select three, for example "
            "images[:, [2, 1, 0]]."
        )
    return "Select one band, for example images[:, :1], or three, for example images[:, [0, 1, 2]]."


def network_fix(shape: tuple[int, ...], channels: int) -> str:
    """Advise what to do with images of ``shape``, ``b c h w``, that a network of ``channels`` channels does not take.

    Example:
        >>> network_fix((2, 3, 8, 8), 13)
        "Build a network for them, such as pretextkit.backbones['small-cnn'](in_channels=3), or pass all 13 channels."
    """
    given = shape[1]
    if shape[3] == channels and given > channels:
        return "Put channels second: images.permute(0, 3, 1, 2)."
    build = f"Build a network for them, such as pretextkit.backbones['small-cnn'](in_channels={given})"
    if channels in (1, 3) and given in (2, 4):
        return f"{channels_fix(given)} {build.replace('Build', 'Or build', 1)}."
    if channels in (1, 3):
        return f"{build}. {channels_fix(given).replace('Select', 'Or select', 1)}"
    return f"{build}, or pass all {channels} channels."


def _channel_fix(shape: tuple[int, ...]) -> str:
    if shape[3] == 4:
        return (
            "Put channels second: images.permute(0, 3, 1, 2). If they are RGBA, also drop the alpha channel: "
            "images[..., :3].permute(0, 3, 1, 2)."
        )
    return "Put channels second: images.permute(0, 3, 1, 2)."


def tensor_fix(images: Any) -> str:
    """Advise how to get a tensor from a value where only a tensor of images is taken.

    Example:
        >>> tensor_fix("photos")
        "Read them into a tensor: pretextkit.data.as_source('photos').in_memory().images."
    """
    if isinstance(images, str | Path):
        return f"Read them into a tensor: pretextkit.data.as_source({str(images)!r}).in_memory().images."
    if hasattr(images, "in_memory"):
        return "Read it into a tensor: images.in_memory().images."
    if isinstance(images, tuple) and len(images) == 2 and getattr(images[1], "ndim", 2) < 2:
        return "Pass the images of the pair: images[0]."
    listed = isinstance(images, tuple | list | Mapping) or hasattr(images, "dtype")
    if not listed and (hasattr(images, "__getitem__") or hasattr(images, "__iter__")):
        return "Read them into a tensor: pretextkit.data.as_source(images).in_memory().images."
    return images_fix(images)


def images_fix(images: Any) -> str:
    """Advise what to pass instead of a value that is no set of images.

    Example:
        >>> images_fix([torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)])
        'Stack single images: torch.stack(images).'
    """
    import numpy

    if isinstance(images, Mapping) and images and all(hasattr(part, "__getitems__") for part in images.values()):
        return f"Pass one of its parts: images[{next(iter(images))!r}]."
    if isinstance(images, Mapping):
        return "Pass the images of the mapping themselves, or a pair (images, labels)."
    if isinstance(images, numpy.ndarray):
        return "Convert with torch.as_tensor(images)."
    if isinstance(images, tuple | list) and len(images):
        for kind, stack in ((Tensor, "torch.stack(images)"), (numpy.ndarray, "numpy.stack(images)")):
            if all(isinstance(image, kind) for image in images):
                one_size = len({tuple(image.shape) for image in images}) == 1
                many = getattr(images[0], "ndim", 0) == 4
                join = stack.replace("stack", "cat" if kind is Tensor else "concatenate") if many else stack
                what = "batches" if many else "single images"
                return f"Stack {what}: {join}." if one_size else f"Resize the images to one size, then: {join}."
        if all(isinstance(path, str | Path) for path in images):
            return "Pass the folder of these files, or a Dataset that opens them."
    if callable(getattr(images, "__iter__", None)) and not hasattr(images, "__len__"):
        return "Wrap it in an IterableDataset, and pass pretextkit.data.StreamImages(dataset, length=...)."
    return "Pass a tensor of images n c h w, or a Dataset that returns single images."


def item_fix(image: Any) -> str:
    """Advise how a dataset should convert a tensor or array of another shape.

    Example:
        >>> item_fix(torch.zeros(8, 9, 3))
        'Put channels first in the dataset: image.permute(2, 0, 1).'
    """
    is_tensor, shape = isinstance(image, Tensor), tuple(image.shape)
    if len(shape) == 4 and shape[0] == 1:
        return "Return single images from the dataset: image[0]."
    if len(shape) == 2 and is_tensor:
        return "Add the channel in the dataset: image[None]."
    if len(shape) == 3 and is_tensor:
        return "Put channels first in the dataset: image.permute(2, 0, 1)."
    if len(shape) == 3:
        return "Put channels last in the dataset: image.transpose(1, 2, 0)."
    return "Return one image for each item of the dataset."


def sizes_fix(shapes: Iterable[tuple[int, ...]]) -> str:
    """Advise how to bring images ``c h w`` of several shapes to one.

    Example:
        >>> sizes_fix([(1, 8, 8), (3, 8, 8)])
        'Give all images three channels in the dataset: image.expand(3, -1, -1).'
    """
    shapes = list(shapes)
    if len({shape[1:] for shape in shapes}) == 1 and {shape[0] for shape in shapes} <= {1, 3}:
        return "Give all images three channels in the dataset: image.expand(3, -1, -1)."
    if len({shape[0] for shape in shapes}) > 1:
        return f"Give all images the same channels in the dataset, for example the first: image[:{min(shapes)[0]}]."
    return (
        "Resize them: pretextkit.data.as_source(dataset, size=...) for a dataset or a list, "
        "pretextkit.data.FolderImages(root, size=...) for a folder."
    )


def array_fix(array: numpy.ndarray[Any, Any]) -> str:
    """Advise how to convert an array whose dtype torch does not have.

    Example:
        >>> import numpy
        >>> array_fix(numpy.zeros(2, numpy.longdouble))
        'Convert with array.astype("float32").'
    """
    if array.dtype.kind == "f":
        return 'Convert with array.astype("float32").'
    if array.dtype.kind == "O" and array.size and all(hasattr(each, "shape") for each in array.flat):
        if len({each.shape for each in array.flat}) == 1:
            return "Stack its images: numpy.stack(list(array))."
        return "Resize its images to one size, then stack them: numpy.stack(list(array))."
    if array.dtype.kind == "O":
        return "Pass an array whose dtype is a number."
    return "Pass numbers."


def path_fix(path: Path) -> str:
    """Advise what to pass instead of a path that is neither a folder nor an ``.npz`` file.

    Example:
        >>> path_fix(Path("nowhere/photos"))
        'Check the path.'
    """
    if not path.exists():
        return "Check the path."
    if path.suffix.lower() in (".csv", ".tsv"):
        return f"Pass the folder of the images, with pretextkit.data.FolderImages(folder, labels={str(path)!r})."
    if path.suffix == ".npy":
        return "Pass its array: numpy.load(path)."
    if path.suffix in (".pt", ".pth"):
        return "Pass its tensor: torch.load(path)."
    return "Put image files in a folder and pass the folder."


def _white(high: float) -> int:
    return next((white for white in WHITES if high <= white), int(high))
