"""A folder of image files as a dataset of RGB images of one size."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor
from torch.utils.data import Dataset

from pretextkit._validation import check_int
from pretextkit.data._brightness import DARK
from pretextkit.data._file_listing import (
    count_suffixes,
    find_splits,
    list_images,
    warn_of_lost_files,
    warn_of_splits_in_classes,
)
from pretextkit.data._image_conversion import (
    Fit,
    brightest_pixel,
    check_fit,
    lost_area,
    map_to_pixels,
    pil_tensor,
    resize,
)
from pretextkit.errors import DataError, DataWarning, OptionError, ShapeError, reason

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

__all__ = ["FolderImages", "opened"]

ORIENTATION = 0x0112
"""Exif tag of the camera orientation."""

DEFAULT_LIMIT = 224
MAX_PIXELS = 100_000_000

SAMPLE = 16
"""Files whose headers are read if a size is given."""

SEARCHED = 64
"""Files searched for a bright pixel, before a set is called dark."""

OBLONG = 1 / 3
"""Share of the area that the center crop may remove without a warning: photos of sides 3:2 are ordinary."""

DIVIDE = (
    "If their highest value is {top}, let a Dataset of your own return floats: "
    "torch.from_numpy(numpy.array(PIL.Image.open(path)) / {top}).float()[None]."
)
OR_SKIP = (
    'Repair or remove it, or leave such files out with on_error="skip". '
    'To functions without this option, pass pretextkit.data.FolderImages(root, on_error="skip").'
)


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Read the images below a folder, each as ``3 size size`` uint8 with a label.

    The sub-folders of ``root`` are classes, numbered in alphabetical order; images may lie deeper in a class folder. A
    class keeps its number if none of its files can be read. If ``root`` contains images directly, there are no classes:
    all labels are -1. A lone split folder, such as ``train``, is read as if it were ``root``; several are an error that
    names them. Images are sorted by path; only the first frame of an animation is read.

    Every suffix that Pillow reads is read. Other files are listed in :attr:`skipped`, and a :class:`DataWarning` is
    given if they are many or if a class has no image. Hidden files and folders are ignored.

    Gray images become RGB, 16-bit images are scaled to 8 bit, transparent pixels become white, and the orientation of
    the camera (Exif) is applied. Then each image is made square as ``fit`` says.

    With a ``size``, construction lists the files and looks at a few of them. Without one, it reads every header. With
    ``on_error="skip"``, it decodes every file once, which takes as long as one epoch of reading, because the length
    must be final.

    Args:
        root: Path of the folder.
        size: Side of the images in pixels; by default the median shorter side of the files, at most 224.
        on_error: ``"raise"`` an error for a file that cannot be decoded, or ``"skip"`` the file and list it in
            :attr:`skipped`.
        max_pixels: Largest number of pixels that is decoded, because a small file can declare an image that fills the
            memory.
        fit: ``"crop"`` scales the shorter side to ``size`` and crops the center; ``"pad"`` keeps the full image, scales
            its longer side and repeats the pixels of the border; ``"stretch"`` scales each side by itself. By default
            crop, with a :class:`DataWarning` if that removes more than a third of the images.

    Raises:
        DataError: The folder does not exist, has no images or several splits, or (with ``on_error="raise"``) a file
            cannot be decoded. A damaged header is found at construction if headers are read, other damage when the
            image is read.
        OptionError: ``size``, ``max_pixels``, ``on_error`` or ``fit`` has another value.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (root / name).mkdir()
        ...     Image.new("L", (40, 30), 99).save(root / name / "1.png")
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
        fit: Fit | None = None,
    ) -> None:
        check_on_error(on_error)
        check_fit(fit)
        if size is not None:
            size = check_int("size", size, fix="Leave size out to take the files' median.")
        self.max_pixels = check_int("max_pixels", max_pixels, of=FolderImages)
        self.root = _lone_split(Path(root))
        self.fit: Fit = fit or "crop"
        """How images are made square."""
        listing = list_images(self.root)
        shapes, damaged = self._read_shapes(listing.paths, size, on_error)
        lost = {path for path, _ in damaged}
        kept = [(path, part) for path, part in zip(listing.paths, listing.parts(), strict=True) if path not in lost]
        self.paths = tuple(path for path, _ in kept)
        """Files of the images, sorted."""
        self.skipped = (*damaged, *listing.passed_over)
        """Files that are not read with their reasons; damaged files come first, then files of other kinds."""
        if not kept:
            raise DataError(
                f"an image in {self.root} that can be decoded",
                got=f"{len(damaged)} that cannot",
                fix=f"The first, {damaged[0][0].name}: {damaged[0][1]}.",
            )
        self.size = size or min(DEFAULT_LIMIT, statistics.median_low(map(min, shapes)))
        """Side of the images."""
        self.classes = listing.classes
        """Class names; the index of a name is its label."""
        numbers = {name: label for label, name in enumerate(self.classes)}
        self.labels = tuple(numbers.get(part, -1) for _, part in kept)
        """Label of each image."""
        self._damaged = len(damaged)
        warn_of_lost_files(listing, {part for _, part in kept}, len(kept), sorted(lost))
        warn_of_splits_in_classes(listing)
        if fit is None:
            self._warn_of_crop(shapes)
        self._warn_of_darkness()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = resize(self._decode(self.paths[index])[None], self.size, self.fit)[0]
        return image.expand(3, -1, -1), self.labels[index]

    def __repr__(self) -> str:
        kind = f"{len(self)} images of 3x{self.size}x{self.size}"
        others = [path for path, _ in self.skipped[self._damaged :] if path.is_file()]
        passed_over = f", not read: {count_suffixes(others)}" if others else ""
        return f"FolderImages({self.root}: {kind}, {len(self.classes)} classes, {self._damaged} skipped{passed_over})"

    def to_file_pixels(self, values: Tensor, index: int) -> Tensor:
        """Resize a map of an image, for example of its anomaly scores, to the pixels of its file.

        Args:
            values: ``h w``: a number for each pixel of image ``index``.
            index: Index of the image.

        Returns:
            ``height width`` of the file in the orientation of the camera, float32; NaN for pixels that the center crop
            removed.

        Raises:
            ShapeError: The map has another shape.

        Example:
            >>> import tempfile
            >>> from PIL import Image
            >>> root = Path(tempfile.mkdtemp())
            >>> Image.new("L", (40, 20), 99).save(root / "1.png")
            >>> FolderImages(root, size=8, fit="pad").to_file_pixels(torch.rand(8, 8), 0).shape
            torch.Size([20, 40])
        """
        if values.ndim != 2 or values.shape[0] != values.shape[1]:
            fix = "Pass the map of one image, such as result.maps[index]."
            raise ShapeError("a square map h w", got=f"shape {tuple(values.shape)}", fix=fix)
        height, width = self._decoded_shape(self.paths[index])
        return map_to_pixels(values, height, width, self.size, self.fit)

    def _read_shapes(
        self, paths: list[Path], size: int | None, on_error: str
    ) -> tuple[list[tuple[int, int]], list[tuple[Path, str]]]:
        """Read heights and widths, of a few files if the size is given; and list the files that cannot be decoded."""
        shapes: list[tuple[int, int]] = []
        damaged: list[tuple[Path, str]] = []
        sampled = size is not None and on_error == "raise"
        for path in _spread(paths, SAMPLE) if sampled else paths:
            try:
                shapes.append(self._decoded_shape(path) if on_error == "skip" else self._shape(path))
            except DataError as error:  # noqa: PERF203 - the file to blame is the point
                if on_error == "raise" and not sampled:
                    raise
                damaged.append((path, str(error.got)))
        return shapes, [] if sampled else damaged

    def _warn_of_crop(self, shapes: list[tuple[int, int]]) -> None:
        losses = [lost_area(*shape) for shape in shapes]
        if losses and statistics.median(losses) > OBLONG + 0.01:
            warnings.warn(
                f"The center crop removes {statistics.median(losses):.0%} of a typical image in {self.root}. Choose "
                'fit="pad" or fit="stretch" in FolderImages or load to keep full images, or fit="crop" to crop them.',
                DataWarning,
                stacklevel=3,
            )

    def _warn_of_darkness(self) -> None:
        """Warn if the brightest pixel of many files is below a tenth of the range; decodes one file if it is not."""
        brightest, depth = 0, 255
        sample = _spread(self.paths, SEARCHED)
        for path in sample:
            try:
                with opened(path, self.max_pixels) as image:
                    value, white = brightest_pixel(image)
            except DataError:  # found again, with a clear message, when the image is read
                continue
            brightest, depth = max(brightest, value), max(depth, white)
            if brightest >= DARK * depth:
                return
        if brightest:
            what = f"the brightest pixel of {len(sample)} images in {self.root}"
            if depth == 255:
                cause = "If floats in [0, 1] were cast to bytes, write the files again, scaled by 255."
            else:
                top = 2 ** brightest.bit_length() - 1
                cause = f"16-bit files that use fewer bits keep few gray levels. {DIVIDE.format(top=top)}"
            text = f"{what[0].upper()}{what[1:]} is {brightest}, below a tenth of the range 0 to {depth}. {cause}"
            warnings.warn(text, DataWarning, stacklevel=3)

    def _decoded_shape(self, path: Path) -> tuple[int, int]:
        height, width = self._decode(path).shape[1:]
        return height, width

    def _shape(self, path: Path) -> tuple[int, int]:
        with opened(path, self.max_pixels) as image:
            return image.height, image.width  # as stored: the orientation of a PNG file follows its pixels

    def _decode(self, path: Path) -> Tensor:
        from PIL import ImageOps

        with opened(path, self.max_pixels) as image:
            turned = image.getexif().get(ORIENTATION, 1) != 1  # otherwise Pillow would copy the image
            return pil_tensor(ImageOps.exif_transpose(image) if turned else image)


def _lone_split(root: Path) -> Path:
    """Give the folder of a lone split in ``root``, or ``root`` if it has no splits."""
    splits = find_splits(root)
    if len(splits) > 1:
        listed = ", ".join(path.name for path in splits.values())
        first = splits.get("train", next(iter(splits.values())))
        raise DataError(
            f"one set of images in {root}",
            got=f"the splits {listed}",
            fix=f"Read one with FolderImages({str(first)!r}), or all with pretextkit.data.load({str(root)!r}).",
        )
    return next(iter(splits.values()), root)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Choose up to ``count`` files, evenly spread."""
    step = max(1, math.ceil(len(paths) / count))
    return list(paths[::step])


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
        if isinstance(error, DataError) and error.got is not ...:  # the image is intact, but of another kind
            raise DataError(f"{error.expected} at {path}", got=error.got, fix=error.fix) from None
        got = reason(error)
        if isinstance(error, UnidentifiedImageError):
            got = "an empty file" if path.stat().st_size == 0 else "no kind of image that Pillow knows"
        raise DataError(
            f"an image file that can be decoded at {path}",
            got=got,
            fix=fix,
        ) from error
