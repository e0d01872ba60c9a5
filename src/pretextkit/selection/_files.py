"""From a folder of images to the table that a person fills in, and on from a table with labels."""

from __future__ import annotations

from pathlib import Path

import torch

from pretextkit.data import FolderImages
from pretextkit.data._types import OnError, Size
from pretextkit.errors import DataError
from pretextkit.evaluation._features import Model
from pretextkit.selection._methods import SelectionMethod
from pretextkit.selection._select import select_to_label
from pretextkit.selection._selection import Selection

__all__ = ["select_files"]


def select_files(
    folder: str | Path,
    backbone: Model,
    n: int,
    csv: str | Path,
    *,
    labels: str | Path | None = None,
    method: str | SelectionMethod = "typiclust",
    size: Size | None = None,
    on_error: OnError = "raise",
    seed: int = 0,
) -> Selection:
    """Choose images of a folder to label, and write the table of their files that a person fills in.

    Args:
        folder: Folder of images. Its sub-folders are no classes here.
        backbone: Module or function from images to features.
        n: Number of images to choose.
        csv: File to write, with the columns ``file`` and ``label``.
        labels: Table of labels from earlier rounds: these images are not chosen again, and what they show is known.
        method: As for :func:`~pretextkit.functional.select_to_label`.
        size: Side of the images, or a pair (height, width), as for :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.
        seed: Seed of the draws.

    Returns:
        The choice.

    Raises:
        DataError: The folder or ``labels`` cannot be read, ``csv`` has labels already or is the file of ``labels``, or
            there are fewer than ``n`` different images without labels.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from pretextkit.models import SmallCNN
        >>> root = Path(tempfile.mkdtemp())
        >>> for i in range(4):
        ...     Image.new("L", (40, 30), 60 * i + 9).save(root / f"{i}.png")
        >>> _ = select_files(root, torch.nn.Flatten(), 1, root / "to_label.csv", method="k-center", size=8)
        >>> (root / "to_label.csv").read_text().splitlines()[0]
        'file,label'
    """
    if labels is not None and Path(labels).absolute() == Path(csv).absolute():
        fix = "Write each round to a table of its own; FolderImages reads their rows in one table together."
        raise DataError("another file for the new table", got=f"the table of labels, {labels}", fix=fix)
    images = FolderImages(folder, labels=False if labels is None else labels, size=size, on_error=on_error, cache=False)
    chosen = select_to_label(
        images, n, backbone=backbone, method=method, labeled=torch.tensor(images.labels) >= 0, seed=seed
    )
    chosen.to_csv(csv)
    return chosen
