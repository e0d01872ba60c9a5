"""A folder of image files as a dataset of RGB images of one size."""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor
from torch.utils.data import Dataset

from pretextkit._validation import check_int
from pretextkit.data._image_conversion import pil_tensor, resize_and_crop
from pretextkit.errors import DataError, OptionError, reason

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

__all__ = ["EXTENSIONS", "FolderImages", "opened"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
"""Suffixes of image files, in lower or upper case."""

ORIENTATION = 0x0112
"""Exif tag of the camera orientation."""

DEFAULT_LIMIT = 224
MAX_PIXELS = 100_000_000
OR_SKIP = (
    'Repair or remove it, or leave such files out with on_error="skip". '
    'To functions without this option, pass pretextkit.data.FolderImages(root, on_error="skip").'
)


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Read the images below a folder, each as ``3 size size`` uint8 with a label.

    The sub-folders of ``root`` are classes, numbered in alphabetical order; images may lie deeper in a class folder.
    If ``root`` contains images directly, there are no classes: all labels are -1. Hidden files and folders are ignored.
    Images are sorted by path; only the first frame of an animation is read.

    Gray images become RGB, 16-bit images are scaled to 8 bit, transparent pixels become white, and the orientation of
    the camera (Exif) is applied. Then the shorter side is scaled to ``size`` and the center cropped.

    With a ``size``, construction only lists the files. Without one, it reads every header. With ``on_error="skip"``, it
    decodes every file once, which takes as long as one epoch of reading, because the length must be final.

    Args:
        root: Path of the folder.
        size: Side of the images in pixels; by default the median shorter side of the files, at most 224.
        on_error: ``"raise"`` an error for a file that cannot be decoded, or ``"skip"`` the file and list it in
            :attr:`skipped`.
        max_pixels: Largest number of pixels that is decoded, because a small file can declare an image that fills the
            memory.

    Raises:
        DataError: The folder does not exist or has no images, or (with ``on_error="raise"``) a file cannot be decoded.
            A damaged header is found at construction if headers are read, other damage when the image is read.
        OptionError: ``size``, ``max_pixels`` or ``on_error`` has another value.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (root / name).mkdir()
        ...     Image.new("L", (40, 30)).save(root / name / "1.png")
        >>> images = FolderImages(root)
        >>> images.classes, images[1][0].shape, images[1][1]
        (('cat', 'dog'), torch.Size([3, 30, 30]), 1)
    """

    def __init__(
        self,
        root: str | Path,
        *,
        size: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_on_error(on_error)
        if size is not None:
            size = check_int("size", size, fix="Leave size out to take the files' median.")
        self.root = Path(root)
        self.max_pixels = check_int("max_pixels", max_pixels, of=FolderImages)
        listed = _find(self.root)
        opens = size is None or on_error == "skip"  # otherwise no header has to be read
        paths: list[Path] = [] if opens else listed
        sides: list[int] = []
        skipped: list[tuple[Path, str]] = []
        for path in listed if opens else ():
            try:
                sides.append(min(self._decode(path).shape[1:]) if on_error == "skip" else self._shorter_side(path))
                paths.append(path)
            except DataError as error:  # noqa: PERF203 - the file to blame is the point
                if on_error == "raise":
                    raise
                skipped.append((path, str(error.got)))
        self.paths = tuple(paths)
        """Files of the images, sorted."""
        self.skipped = tuple(skipped)
        """Files that were skipped, each with the reason."""
        if not paths:
            raise DataError(
                f"an image in {self.root} that can be decoded",
                got=f"{len(skipped)} that cannot",
                fix=f"The first, {skipped[0][0].name}: {skipped[0][1]}.",
            )
        self.size = size if size is not None else min(DEFAULT_LIMIT, statistics.median_low(sides))
        """Side of the images."""
        tops = [path.relative_to(self.root).parts for path in paths]
        self.classes = tuple(sorted({parts[0] for parts in tops if len(parts) > 1}))
        """Class names; the index of a name is its label."""
        numbers = {name: label for label, name in enumerate(self.classes)}
        self.labels = tuple(numbers.get(parts[0], -1) for parts in tops)
        """Label of each image."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = resize_and_crop(self._decode(self.paths[index])[None], self.size)[0]
        return image.expand(3, -1, -1), self.labels[index]

    def __repr__(self) -> str:
        kind = f"{len(self)} images of 3x{self.size}x{self.size}"
        return f"FolderImages({self.root}: {kind}, {len(self.classes)} classes, {len(self.skipped)} skipped)"

    def _shorter_side(self, path: Path) -> int:
        with opened(path, self.max_pixels) as image:
            return min(image.size)

    def _decode(self, path: Path) -> Tensor:
        from PIL import ImageOps

        with opened(path, self.max_pixels) as image:
            turned = image.getexif().get(ORIENTATION, 1) != 1  # otherwise Pillow would copy the image
            return pil_tensor(ImageOps.exif_transpose(image) if turned else image)


def check_on_error(on_error: str) -> None:
    """Check the option ``on_error``."""
    if on_error not in ("raise", "skip"):
        raise OptionError('on_error "raise" or "skip"', got=repr(on_error), fix="Choose one of them.")


@contextmanager
def opened(path: Path, max_pixels: int, *, fix: str = OR_SKIP) -> Iterator[PilImage]:
    """Open an image without decoding its pixels; errors name the file and end with ``fix``."""
    from PIL import Image, UnidentifiedImageError

    try:
        with path.open("rb") as file:  # opened by name, Pillow 13 decodes rotated TIFF files wrongly
            with warnings.catch_warnings():
                # max_pixels replaces the limit of Pillow, which warns at 89 million pixels.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(file)
            if image.width * image.height > max_pixels:
                raise DataError(f"{image.width} x {image.height} pixels, above max_pixels={max_pixels}")
            yield image
    except Exception as error:  # decoders raise almost any type of error for a damaged file
        got = reason(error)
        if isinstance(error, UnidentifiedImageError):
            got = "an empty file" if path.stat().st_size == 0 else "no kind of image that Pillow knows"
        raise DataError(
            f"an image file that can be decoded at {path}",
            got=got,
            fix=fix,
        ) from error


def _find(root: Path) -> list[Path]:
    """List the image files below ``root``, sorted; each linked folder is read once."""
    if not root.is_dir():
        raise DataError("a folder of images", got=repr(str(root)), fix="Check the path.")
    found: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            found += [Path(folder, name) for name in names if _is_image(name)]
    flat = [path for path in found if path.parent == root]
    if not found:
        raise DataError(f"images in {root}", got=f"no file ending in {', '.join(EXTENSIONS)}", fix="Check the path.")
    if flat and len(flat) < len(found):
        raise DataError(
            f"images directly in {root}, or in one folder for each class",
            got=f"both ({flat[0].name} beside {found[-1].relative_to(root).parts[0]})",
            fix="Move the images into class folders, or the folders elsewhere.",
        )
    return sorted(found)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)
