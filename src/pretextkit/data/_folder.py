"""A folder of image files as a dataset of RGB images of one size."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from torch import Tensor
from torch.utils.data import Dataset

from pretextkit._validation import check_int
from pretextkit.data._cached_images import CachedImages, block_length
from pretextkit.data._decoding import MAX_PIXELS
from pretextkit.data._file_cache import open_cache
from pretextkit.data._file_labels import LabelsOfFiles, label_files
from pretextkit.data._file_listing import Listing, count_suffixes, warn_of_lost_files
from pretextkit.data._file_options import check_on_error, check_opening, checked_suffixes, is_pattern
from pretextkit.data._file_reader import FileReader, Opener
from pretextkit.data._files import find_images
from pretextkit.data._folder_brightness import spread, warn_of_darkness
from pretextkit.data._image_size import check_size, height_width, size_text
from pretextkit.data._memory_cache import MemoryCache, memory_limit
from pretextkit.data._resizing import Fit, check_fit, lost_area, map_to_pixels
from pretextkit.data._split_folders import warn_of_splits_in_classes
from pretextkit.data._types import Size
from pretextkit.data._value_range import value_range
from pretextkit.errors import DataError, DataWarning, ShapeError, warn

__all__ = ["DEFAULT_LIMIT", "FolderImages"]

DEFAULT_LIMIT = 224

SAMPLE = 16
"""Files whose headers are read if a size is given."""

OBLONG = 1 / 3
"""Share of the area that the center crop may remove without a warning: photos of sides 3:2 are ordinary."""


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Read image files as ``3 h w`` uint8 of one size with labels; with other options, as more channels or floats.

    Images may lie at any depth, and are sorted by path. Every suffix that Pillow reads is read, in upper or lower case.
    Other files are listed in :attr:`skipped`, and a :class:`DataWarning` is given if they are many or if a class folder
    has no image. Hidden files and those of the operating system (``.DS_Store``, ``Thumbs.db``, ``__MACOSX``) are
    ignored. A link to a file is read like the file; a linked folder is read once. Of an animation or a file of several
    pages the first is read.

    Gray images become RGB, 16-bit images are scaled to 8 bit, transparent pixels become white, and the orientation of
    the camera (Exif) is applied. Then each image gets the size as ``fit`` says. JPEG files at least three times as
    large as needed are decoded at a half, a quarter or an eighth of their size, but never below 1.5 x ``size``, and
    only where rounding the sides moves no edge by more than a twentieth of a pixel of the result. Pixels of photos then
    differ from those of a full decoding by less than one level of 255 on average.

    Deep files whose values do not reach 65,535 lose most of their levels in 8 bits: with ``white``, images are floats,
    and keep them. Files that Pillow does not read, and files of more channels than RGB, are read by ``open``: its
    images keep their channels.

    With a ``size``, construction lists the files and looks at a few of them. Without one, it reads every header, and
    with ``open`` every file. With
    ``on_error="skip"``, it decodes every file once, which takes as long as one epoch of reading, because the length
    must be final.

    Args:
        root: Path of a folder; a pattern such as ``"photos/**/*.jpg"``, in which ``**`` stands for folders of any
            depth; or a list of paths of files, which keeps its order. A lone split in a folder, such as ``train``, is
            read as if it were ``root``; several are an error that names them.
        labels: Where the labels come from; -1 where there is none.

            - None: the folders directly in a folder ``root`` are classes if all images lie in them; otherwise, and for
              patterns and lists, there are no labels.
            - ``"folders"``: the folders directly in ``root`` are classes, and images beside them have no label. For a
              pattern or a list, ``root`` is the folder that all files have in common.
            - the path of a CSV file, or a :class:`CsvLabels`, which names its columns;
            - a mapping from file names to classes. Names in it and in a CSV file may have a folder and a suffix or not.
              Names that fit no image are reported in a :class:`DataWarning`;
            - a function of the ``Path`` that returns a class;
            - beside a list of files, a list of classes;
            - False: there are no labels.

            A class is a name or a number. Names are numbered in alphabetical order (all digits: by number); numbers
            stay as they are. An empty name, -1 and None mean unlabeled. Cells of a CSV file are names, also ``"7"``.
        size: Size of the images in pixels: the side of squares, or a pair (height, width). By default squares of the
            median shorter side of the files, at most 224.
        on_error: ``"raise"`` an error for a file that cannot be decoded, or ``"skip"`` the file and list it in
            :attr:`skipped`.
        max_pixels: Largest number of pixels that is decoded, because a small file can declare an image that fills the
            memory.
        fit: ``"crop"`` scales the image until it covers the size, and crops the center; ``"pad"`` keeps the full image,
            scales it until it fits in, and repeats the pixels of the border; ``"stretch"`` scales each side by itself.
            By default crop, with a :class:`DataWarning` if that removes more than a third of the images.
        cache: Where decoded, resized images are kept, three bytes a pixel, so that each file is decoded once. True
            keeps them in memory, up to 2 GB or a quarter of the machine's: sets that would take more, and images of
            ``open`` and ``white``, are decoded at each reading, as with False. Workers share that memory if they are
            forked; spawned ones, as on Windows and macOS, decode at each reading. A folder keeps the images in one file
            for all processes and later programs. If one of the files, the size or ``fit`` changes, the file is built
            again; damaged parts are decoded again. It holds bytes, and is not to be had beside ``open`` and ``white``.
        open: Function from the ``Path`` of a file to an image, an array ``h w`` or ``h w c`` or a tensor ``c h w``, for
            files that Pillow does not read, such as DICOM, GeoTIFF and ``.npy``. It also works in worker processes if
            it can be pickled. None reads by Pillow.
        suffixes: Suffixes of the image files, such as ``(".npy",)``; by default those that Pillow reads, or with
            ``open`` all but those of notes, such as ``.txt`` and ``.json``.
        white: Value of white of files that are neither bytes nor floats in [0, 1], such as 4095 for 12 bits; images
            become floats, and values beyond black and white are clipped. None takes 65,535 for deep files.
        black: Value of black beside ``white``.

    Raises:
        DataError: The folder does not exist, has no images or several splits, the labels fit no image, or (with
            ``on_error="raise"``) a file cannot be decoded. A damaged header is found at construction if headers are
            read, other damage when the image is read. There is no space for the cache.
        OptionError: ``size``, ``max_pixels``, ``on_error``, ``fit``, ``open``, ``suffixes`` or ``white`` has another
            value, or a folder ``cache`` stands beside ``open`` or ``white``.

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
        >>> FolderImages(root, labels={"dog/1.png": "poodle"}).labels
        (-1, 0)
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        *,
        labels: LabelsOfFiles = None,
        size: Size | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        max_pixels: int = MAX_PIXELS,
        fit: Fit | None = None,
        cache: str | Path | bool = True,
        open: Opener | None = None,
        suffixes: Collection[str] | None = None,
        white: float | None = None,
        black: float = 0.0,
    ) -> None:
        check_on_error(on_error)
        check_fit(fit)
        check_opening(open, cache, white)
        if size is not None:
            size = check_size(size, fix="Leave size out to take the files' median.")
        self.max_pixels = check_int("max_pixels", max_pixels, of=FolderImages)
        self.reader = FileReader(self.max_pixels, open, value_range(white, black))
        """How files become tensors."""
        self.fit: Fit = fit or "crop"
        """How images get another shape."""
        listed = not isinstance(root, str | Path)
        listing = find_images(root, checked_suffixes(suffixes, open))
        self.root = listing.root
        if labels is None:
            labels = "folders" if listing.classes and not listed and not is_pattern(root) else False
        numbers, self.classes = label_files(labels, listing, listed)
        """Class names; the index of a name is its label. Empty if there are no labels or if they are numbers."""
        shapes, damaged = self._read_shapes(listing.paths, size, on_error)
        lost = {path for path, _ in damaged}
        rows = [row for row, path in enumerate(listing.paths) if path not in lost]
        self.paths = tuple(listing.paths[row] for row in rows)
        """Files of the images."""
        self.skipped = (*damaged, *listing.passed_over)
        """Files that are not read with their reasons; damaged files come first, then files of other kinds."""
        if not rows:
            raise DataError(
                f"an image in {self.root} that can be decoded",
                got=f"{len(damaged)} that cannot",
                fix=f"The first, {damaged[0][0].name}: {damaged[0][1]}.",
            )
        self.size: Size = size or min(DEFAULT_LIMIT, statistics.median_low(map(min, shapes)))
        """Side of the images; a pair (height, width) if they are not square."""
        self.labels = tuple(numbers[row] for row in rows)
        """Label of each image, -1 where unlabeled."""
        self._damaged = len(damaged)
        by_folder = isinstance(labels, str) and labels == "folders"
        if suffixes is not None:
            listing = listing._replace(passed_over=[])  # left out on purpose
        self._warn_of_files(listing, rows if by_folder else None, sorted(lost))
        if fit is None:
            self._warn_of_crop(shapes)
        self._is_dark = warn_of_darkness(self.reader, self.paths, self.root)
        self._cache = self._open_cache(cache, listed, root, on_error)
        self._cached = (self.paths, self.size, self.fit)  # a caller may change them; then images are decoded
        self._decodes_again = cache is True and self._cache is None and self.reader.reads_bytes

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self._cache is None or self._cached[0] is not self.paths or self._cached[1:] != (self.size, self.fit):
            return self._resized(index), self.labels[index]
        index = range(len(self))[index]
        image = self._cache.read(index)
        if image is None:
            image = self._resized(index)
            self._cache.write(index, image)
        return image, self.labels[index]

    def __repr__(self) -> str:
        channels = "3x" if self.reader.open is None else ""
        kind = f"{len(self)} images of {channels}{size_text(self.size)}"
        labeled = sum(label >= 0 for label in self.labels)
        some = f", {labeled} labeled" if 0 < labeled < len(self) else ""
        others = [path for path, _ in self.skipped[self._damaged :] if path.is_file()]
        passed_over = f", not read: {count_suffixes(others)}" if others else ""
        large = ", too large for memory: see cache" if self._decodes_again else ""
        counts = f"{kind}, {len(self.classes)} classes{some}, {self._damaged} skipped{passed_over}{large}"
        return f"FolderImages({self.root}: {counts})"

    def _resized(self, index: int) -> Tensor:
        image, _ = self.reader.resized(self.paths[index], self.size, self.fit)
        return image.expand(3, -1, -1) if self.reader.open is None else image

    def _open_cache(self, cache: str | Path | bool, listed: bool, root: object, on_error: str) -> CachedImages | None:
        if not isinstance(cache, bool):
            source = (
                [str(path.absolute()) for path in self.paths] if listed else [str(Path(str(root)).absolute()), on_error]
            )
            return open_cache(Path(cache), source, self.paths, self.size, [self.fit, self.max_pixels])
        if cache and self.reader.reads_bytes and block_length(len(self), self.size) <= memory_limit():
            with suppress(OSError):  # without memory, images are decoded again
                return MemoryCache(len(self), self.size)
        return None

    def _warn_of_files(self, listing: Listing, rows: list[int] | None, damaged: list[Path]) -> None:
        """Warn of folders and files that are not read; ``rows`` are those read, None if folders are no classes."""
        parts = listing.parts()
        read = None if rows is None else {parts[row] for row in rows}
        lost = [] if read is None else [name for name in listing.folders if name not in read]
        warn_of_lost_files(listing, lost, len(self.paths), damaged)
        if read is not None:
            warn_of_splits_in_classes(listing)

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
        rows, columns = height_width(self.size)
        if values.ndim != 2 or abs(values.shape[0] * columns - values.shape[1] * rows) >= max(rows, columns):
            fix = "Pass the map of one image, such as result.maps[index]."
            kind = "a square map h w" if rows == columns else f"a map h w of the proportions {rows}x{columns}"
            raise ShapeError(kind, got=f"shape {tuple(values.shape)}", fix=fix)
        height, width = self.reader.full(self.paths[index]).shape[1:]
        return map_to_pixels(values, height, width, self.size, self.fit)

    def _read_shapes(
        self, paths: list[Path], size: Size | None, on_error: str
    ) -> tuple[list[tuple[int, int]], list[tuple[Path, str]]]:
        """Read heights and widths, of a few files if the size is given; and list the files that cannot be decoded."""
        shapes: list[tuple[int, int]] = []
        damaged: list[tuple[Path, str]] = []
        sampled = size is not None and on_error == "raise"
        for path in spread(paths, SAMPLE) if sampled else paths:
            try:
                if on_error == "skip":
                    shapes.append(self.reader.resized(path, size or DEFAULT_LIMIT, self.fit)[1])
                else:
                    shapes.append(self.reader.shape(path))
            except DataError as error:  # noqa: PERF203 - the file to blame is the point
                if on_error == "raise" and not sampled:
                    raise
                damaged.append((path, str(error.got)))
        return shapes, [] if sampled else damaged

    def _warn_of_crop(self, shapes: list[tuple[int, int]]) -> None:
        losses = [lost_area(*shape, self.size) for shape in shapes]
        if losses and statistics.median(losses) > OBLONG + 0.01:
            warn(
                f"The center crop removes {statistics.median(losses):.0%} of a typical image in {self.root}. Choose "
                'fit="pad" or fit="stretch" in FolderImages or load to keep full images, or fit="crop" to crop them.',
                DataWarning,
                see="a-crop-that-removes-much",
            )
