"""Lists of images, and labels beside a dataset, as datasets."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from pretextkit._validation import check_labels
from pretextkit.data._class_names import named_classes, number_texts, texts_of
from pretextkit.data._file_reader import FileReader
from pretextkit.data._image_conversion import stored_tensor
from pretextkit.data._items import image_only
from pretextkit.errors import DataError, ShapeError

__all__ = ["ListedImages", "WithLabels", "is_image", "is_list_of_images", "named_labels"]


class ListedImages(Dataset[Any]):
    """Images in a list: paths of files, PIL images, tensors ``c h w``, arrays ``h w c`` or ``h w``.

    Args:
        items: The images.
        reader: Reader of the files, whose range also holds for the other images; None reads ordinary files by Pillow.

    Example:
        >>> from PIL import Image
        >>> len(ListedImages([Image.new("RGB", (8, 8))]))
        1
    """

    def __init__(self, items: Sequence[Any], reader: FileReader | None = None) -> None:
        self.items = list(items)
        self.reader = reader or FileReader()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        if isinstance(item, str | Path):
            return self.reader.full(Path(item), fix="Repair it, or remove it from the list.")
        return item if self.reader.values is None else self.reader.values.to_unit(stored_tensor(item))


class WithLabels(Dataset[Any]):
    """A dataset with other labels.

    Args:
        dataset: Items are images, tuples that begin with an image, or dictionaries.
        labels: ``n`` integers or texts.

    Example:
        >>> from PIL import Image
        >>> data = WithLabels(ListedImages([Image.new("L", (8, 8))] * 2), ["dog", "cat"])
        >>> data.classes, data[0][1]
        (('cat', 'dog'), 1)
    """

    def __init__(self, dataset: Any, labels: Any) -> None:
        names = named_classes(dataset)
        self.dataset = dataset
        numbers, self.classes = named_labels(labels, len(dataset) if isinstance(dataset, Sized) else None, names)
        self.labels = numbers.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, _ = image_only(self.dataset[index])
        return image, self.labels[index]


def named_labels(
    labels: Any, count: int | None, names: Sequence[str] | None = None
) -> tuple[Tensor, tuple[str, ...] | None]:
    """Check labels of a full set and number texts; ``names`` are used if every text is among them.

    Returns:
        Labels ``n``, int64; and class names, None if the labels are numbers.

    Raises:
        ShapeError: There is not one label for each image.
    """
    texts = texts_of(labels)
    if texts is None:
        if isinstance(labels, list | tuple):
            labels = [-1 if label is None else label for label in labels]
        return check_labels(labels, count), None
    if count is not None and len(texts) != count:
        fix = "Pass one label for each image."
        raise ShapeError("as many labels as images", got=f"{len(texts)} labels for {count} images", fix=fix)
    known = names if names and set(texts) <= {*names, ""} else None
    return number_texts(texts, known)


def is_image(item: Any) -> bool:
    """Whether an item is one image: a PIL image, a path, or an array of three axes."""
    from PIL.Image import Image

    return isinstance(item, Image | str | Path) or getattr(item, "ndim", 0) == 3


def _is_surely_image(item: Any, items: Any) -> bool:
    """Whether an item of two is an image: no array, or an array with 1 or 3 channels in a list.

    Two arrays of other channels may also be a pair of gray images ``n h w`` and masks.
    """
    shape = getattr(item, "shape", None)
    return shape is None or (isinstance(items, list) and shape[0 if isinstance(item, Tensor) else -1] in (1, 3))


def is_list_of_images(items: Any) -> bool:
    """Whether ``items`` is a list or tuple of images; paths must be files.

    Raises:
        DataError: A path in a list of paths is not an image file.
    """
    if not isinstance(items, list | tuple) or not items or not all(map(is_image, items)):
        return False
    if len(items) == 2 and not all(_is_surely_image(item, items) for item in items):
        return False  # perhaps a pair of gray images n h w and masks
    for item in items:
        if isinstance(item, str | Path) and not Path(item).is_file():
            raise DataError(
                "paths of image files in a list", got=repr(str(item)), fix="Check the path; pass one folder."
            )
    return True
