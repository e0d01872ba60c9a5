"""A folder of image files as a data set of equal-sized RGB images."""

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
from pretextkit.errors import DataError, OptionError

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

__all__ = ["EXTENSIONS", "FolderImages", "opened"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
"""The files looked for, in small or capital letters."""

ORIENTATION = 0x0112
"""The Exif tag of how the camera was held."""

DEFAULT_LIMIT = 224
MAX_PIXELS = 100_000_000
OR_SKIP = 'Repair or remove it, or leave such files out with on_error="skip".'


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Read the images below a folder, each as ``3 size size`` uint8 with a label.

    Sub-folders directly under ``root`` are classes, numbered in alphabetical order, and images may lie any number of
    folders deeper. A folder that holds images directly has no classes: all labels are -1. Hidden files and folders are
    passed over. Images come in the order of their paths, and of an animation or a document only the first picture.

    Gray images become RGB, deep ones keep their range, transparent pixels show white, and the camera's orientation
    (Exif) is applied. Then the shorter side is scaled to ``size`` and the middle cut out.

    With a ``size``, construction only lists the files. Without, it reads every header, and with ``on_error="skip"`` it
    decodes every file once, so that the length is final: as long as one epoch of reading.

    Args:
        root: The folder.
        size: Side of the images; by default, the median shorter side of the files, at most 224.
        on_error: ``"raise"`` on a file that cannot be decoded, or ``"skip"`` it and list it in :attr:`skipped`.
        max_pixels: Files with more pixels are not decoded: a small file can claim a picture that fills the memory.

    Raises:
        DataError: There is no such folder, no image in it, or (``on_error="raise"``) a file cannot be decoded: at
            construction where its header is read and tells, else when the image is read.

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
        opens = size is None or on_error == "skip"  # else there is nothing to look for in a million headers
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
        """The files of the images, in their order."""
        self.skipped = tuple(skipped)
        """Files left out, and why."""
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
        """Names of the classes; the place of a name is its label."""
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
            turned = image.getexif().get(ORIENTATION, 1) != 1  # else Pillow would copy most images for nothing
            return pil_tensor(ImageOps.exif_transpose(image) if turned else image)


def check_on_error(on_error: str) -> None:
    """Refuse anything but the two things that can be done about a damaged file."""
    if on_error not in ("raise", "skip"):
        raise OptionError('on_error "raise" or "skip"', got=repr(on_error), fix="Choose one of them.")


@contextmanager
def opened(path: Path, max_pixels: int, *, fix: str = OR_SKIP) -> Iterator[PilImage]:
    """Open an image, its pixels still undecoded; any error names the file, and ``fix`` as the cure."""
    from PIL import Image, UnidentifiedImageError

    try:
        with path.open("rb") as file:  # by their names, Pillow 13 reads some TIFF files wrongly that are to be turned
            with warnings.catch_warnings():
                # Pillow's own limit warns at 89 million pixels; max_pixels stands in for it.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(file)
            if image.width * image.height > max_pixels:
                raise DataError(f"{image.width} x {image.height} pixels, above max_pixels={max_pixels}")
            yield image
    except Exception as error:  # a damaged file makes decoders raise almost anything
        reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        if isinstance(error, UnidentifiedImageError):
            reason = "an empty file" if path.stat().st_size == 0 else "no kind of image that Pillow knows"
        raise DataError(
            f"an image file that can be decoded at {path}",
            got=reason,
            fix=fix,
        ) from error


def _find(root: Path) -> list[Path]:
    """List the image files below ``root``, sorted; linked folders are entered, each once."""
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
