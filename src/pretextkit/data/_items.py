"""Items of datasets: images, tuples that begin with an image, and dictionaries."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from torch.utils.data import Dataset, IterableDataset

from pretextkit.errors import DataError, reason

__all__ = [
    "Split",
    "class_names_of_features",
    "image_and_label",
    "image_only",
    "is_list_of_items",
    "label_texts",
    "select_keys",
]

Split = Callable[[Any], tuple[Any, Any]]
"""Function from an item to an image (or a batch of images) and its label (or None)."""

IMAGE_KEYS = ("image", "img", "jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "tif", "tiff", "gif")
"""Keys of an image in a dictionary, in small letters; of ``left.jpg`` the last part counts."""

LABEL_KEYS = ("label", "labels", "cls", "class", "target")
"""Keys of a label in a dictionary."""

SELECT = "Name it with pretextkit.data.select_keys(dataset, {what}={key!r})."

D = TypeVar("D")


def image_and_label(item: Any) -> tuple[Any, Any]:
    """Split an item, an image, a tuple (image, label, ...) or a dictionary, into image and label.

    Example:
        >>> image_and_label({"image": 0, "label": 3}), image_and_label((0, 3, "text")), image_and_label(0)
        ((0, 3), (0, 3), (0, None))
    """
    if isinstance(item, Mapping):
        key = _label_key(item)
        return _image(item), None if key is None else _number(item[key])
    if isinstance(item, tuple | list):
        return item[0], _number(item[1]) if len(item) > 1 else None
    return item, None


def image_only(item: Any) -> tuple[Any, Any]:
    """Split an item into its image and None; the other parts of the item are not read."""
    if isinstance(item, Mapping):
        return _image(item), None
    return item[0] if isinstance(item, tuple | list) else item, None


def select_keys(dataset: D, *, image: str, label: str | None = None) -> D:
    """Choose the keys of image and label in a dataset whose items are dictionaries.

    Without it, the image has one of the keys ``image``, ``img``, ``jpg``, ``jpeg``, ``png``, ``webp`` and other
    suffixes, and the label ``label``, ``labels``, ``cls``, ``class`` or ``target``.

    Args:
        dataset: A map-style or iterable dataset, for example one of Hugging Face ``datasets`` or ``webdataset``.
        image: Key of the image.
        label: Key of the label; None for images without labels.

    Returns:
        A dataset of tuples (image, label), map-style or iterable like ``dataset``, with its class names.

    Raises:
        DataError: ``dataset`` can neither be indexed nor iterated. When an item is read: it has no such key.

    Example:
        >>> data = select_keys([{"photo": "a PIL image", "species": 3}], image="photo", label="species")
        >>> data[0]
        ('a PIL image', 3)
    """
    if isinstance(dataset, IterableDataset):
        return _SelectedStream(dataset, image, label)  # type: ignore[return-value]
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return _Selected(dataset, image, label)  # type: ignore[return-value]
    fix = "Pass the dataset that gives the dictionaries."
    raise DataError(
        "a dataset with __len__ and __getitem__, or an IterableDataset", got=type(dataset).__name__, fix=fix
    )


def class_names_of_features(features: Any, label: str | None = None) -> tuple[str, ...] | None:
    """Give the class names in the ``features`` of a Hugging Face dataset; None without names.

    Args:
        features: Mapping from key to a feature, which may have ``names``.
        label: Key of the label; by default found.
    """
    if not isinstance(features, Mapping):
        return None
    key = label or next((key for key in features if key in LABEL_KEYS), None)
    names = getattr(features.get(key), "names", None)
    return tuple(map(str, names)) if names else None


def is_list_of_items(items: Any) -> bool:
    """Whether ``items`` is a list of dictionaries, or of pairs of an image and its label.

    Example:
        >>> is_list_of_items([{"image": 0}, {"image": 1}]), is_list_of_items([0, 1])
        (True, False)
    """
    if not isinstance(items, list | tuple) or not items:
        return False
    return all(isinstance(each, Mapping) for each in items) or (isinstance(items, list) and all(map(_is_pair, items)))


def _is_pair(item: Any) -> bool:
    """Whether an item is a tuple of one image and a number, a text or None."""
    from PIL.Image import Image

    if not isinstance(item, tuple) or len(item) != 2:
        return False
    image = isinstance(item[0], Image) or getattr(item[0], "ndim", 0) in (2, 3)
    return image and (item[1] is None or isinstance(item[1], int | str) or getattr(item[1], "ndim", 1) == 0)


def label_texts(dataset: Any) -> list[str] | None:
    """Give the labels of a dataset that holds them as texts, without opening its images; None for others.

    These are lists, and datasets of Hugging Face with a column of texts. Texts that are all numbers are numbers.

    Example:
        >>> label_texts([{"image": 0, "label": "cat"}, {"image": 1, "label": None}]), label_texts([(0, "3")])
        (['cat', ''], None)
    """
    texts = ["" if label is None else label for label in _stored_labels(dataset)]
    if not any(texts) or not all(isinstance(text, str) for text in texts) or _is_number(*filter(None, texts)):
        return None
    return list(map(str, texts))  # texts of numpy have a type of their own


def _stored_labels(dataset: Any) -> list[Any]:
    """List the labels of a dataset that holds them beside its images; empty for others."""
    inner, key = (dataset.inner, dataset.label) if isinstance(dataset, _Selected) else (dataset, None)
    if isinstance(dataset, _Selected) and key is None:
        return []
    try:
        if isinstance(inner, list | tuple):
            return [item.get(key or _label_key(item)) if isinstance(item, Mapping) else item[1] for item in inner]
        features = getattr(inner, "features", None)
        if not isinstance(features, Mapping):
            return []
        key = key or _label_key(features)
    except DataError:  # several labels: an error when they are read, if they are
        return []
    return list(inner[key]) if getattr(features.get(key), "dtype", None) in ("string", "large_string") else []


def _label_key(item: Mapping[Any, Any]) -> Any:
    return _key(item, LABEL_KEYS, "label")


def _is_number(*texts: str) -> bool:
    return all(text.strip().lstrip("-").isdecimal() for text in texts)


class _Selected(Dataset[tuple[Any, Any]]):
    """A map-style dataset of dictionaries as one of tuples."""

    def __init__(self, dataset: Any, image: str, label: str | None) -> None:
        self.inner, self.image, self.label = dataset, image, label
        self.classes = _classes(dataset, label)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return _selected(self.inner[index], self.image, self.label)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        many = getattr(self.inner, "__getitems__", None)
        items = many(indices) if many else [self.inner[index] for index in indices]
        return [_selected(item, self.image, self.label) for item in items]


class _SelectedStream(IterableDataset[tuple[Any, Any]]):
    """An iterable dataset of dictionaries as one of tuples."""

    def __init__(self, dataset: Any, image: str, label: str | None) -> None:
        self.inner, self.image, self.label = dataset, image, label
        self.classes = _classes(dataset, label)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return (_selected(item, self.image, self.label) for item in self.inner)


def _classes(dataset: Any, label: str | None) -> tuple[str, ...]:
    return (class_names_of_features(getattr(dataset, "features", None), label) if label else None) or ()


def _selected(item: Any, image: str, label: str | None) -> tuple[Any, Any]:
    if not isinstance(item, Mapping):
        raise DataError("items that are dictionaries", got=type(item).__name__, fix="Pass the dataset without keys.")
    for key in (image, label):
        if key is not None and key not in item:
            fix = "Correct the key in select_keys."
            raise DataError(f"the key {key!r} in each item", got=f"the keys {', '.join(map(str, item))}", fix=fix)
    return _decoded(item[image]), None if label is None else _number(item[label])


def _image(item: Mapping[Any, Any]) -> Any:
    key = _key(item, IMAGE_KEYS, "image")
    if key is None:
        fix = SELECT.format(what="image", key=next((key for key in item if not str(key).startswith("__")), "image"))
        raise DataError("an item with an image", got=f"the keys {', '.join(map(str, item))}", fix=fix)
    return _decoded(item[key])


def _key(item: Mapping[Any, Any], known: Sequence[str], what: str) -> Any:
    """Find the key of an image or a label; None if there is none."""
    found = [key for key in item if str(key).lower().rpartition(".")[2] in known]
    if len(found) > 1:
        fix = SELECT.format(what="image" if what == "image" else "image=..., label", key=found[0])
        raise DataError(f"one {what} in an item", got=f"the keys {', '.join(map(str, found))}", fix=fix)
    return found[0] if found else None


def _decoded(image: Any) -> Any:
    """Open the bytes of an image file, which ``webdataset`` gives without ``decode``."""
    from PIL import Image, ImageOps

    if not isinstance(image, bytes | bytearray):
        return image
    try:
        return ImageOps.exif_transpose(Image.open(io.BytesIO(image)))
    except Exception as error:  # decoders raise almost any type of error for damaged bytes
        fix = "Repair it, or remove it from the dataset."
        raise DataError("the bytes of an image file", got=reason(error), fix=fix) from error


def _number(label: Any) -> Any:
    """Give a number that is written as text as a number: a ``.cls`` file of ``webdataset`` without ``decode``."""
    text = label.decode(errors="replace") if isinstance(label, bytes) else label
    return int(text) if isinstance(text, str) and _is_number(text) else text
