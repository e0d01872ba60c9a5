"""The choice of the images to label first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit._seeding import derived_generator
from pretextkit._validation import check_int
from pretextkit.data import ImagesLike
from pretextkit.data._as_source import read_files
from pretextkit.data._types import OnError, Size
from pretextkit.errors import DataError, OptionError, unknown_name
from pretextkit.evaluation._features import ExtractOptions, Layers, Model
from pretextkit.evaluation._neighbors import unit_features
from pretextkit.selection._duplicates import distinct_rows
from pretextkit.selection._methods import SelectionMethod, choose_k_center, choose_k_means_plus_plus, choose_random
from pretextkit.selection._probcover import ProbCover
from pretextkit.selection._selection import Selection
from pretextkit.selection._typiclust import TypiClust
from pretextkit.training._hardware import Precision

__all__ = ["METHODS", "select_to_label"]

METHODS: Mapping[str, SelectionMethod] = {
    "typiclust": TypiClust(),
    "probcover": ProbCover(),
    "k-center": choose_k_center,
    "k-means++": choose_k_means_plus_plus,
    "random": choose_random,
}
"""Methods of selection by name."""


def select_to_label(
    images: ImagesLike,
    n: int,
    *,
    backbone: Model | None = None,
    method: str | SelectionMethod = "typiclust",
    labeled: Any = None,
    seed: int = 0,
    layers: Layers = "last",
    pool: int = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
    memory: float = math.inf,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> Selection:
    """Choose the images to label first, in the order in which to label them.

    The first ``m`` of ``n`` images are the choice of ``m`` images: labeling may stop anywhere, and a larger ``n`` adds
    images at the end. Near-duplicates are left out first; of each group, one image may be chosen. The features are
    scaled to unit length. Everything is computed in blocks, and equal calls give equal choices.

    With few labels, typical images (``"typiclust"``, ``"probcover"``) are better than random ones if the features tell
    the classes apart. ``"k-center"`` and ``"k-means++"`` prefer images that are unlike all others; ``"random"`` is the
    reference.

    Args:
        images: Features ``n d``, or images as for :func:`~pretextkit.functional.pretrain` with a ``backbone``; labels
            are ignored.
        n: Number of images to choose.
        backbone: Module or function from images to features; None for features.
        method: ``"typiclust"``, ``"probcover"``, ``"k-center"``, ``"k-means++"``, ``"random"``, or a method with its
            options, such as ``ProbCover(radius=0.5)``.
        labeled: Images that have labels already: their numbers, or a mask of bools, such as ``labels >= 0``. They are
            not chosen, and what they show is known.
        seed: Seed of the draws.
        layers: One layer, as for :func:`~pretextkit.functional.extract_features`.
        pool: Side of the grid over which maps are averaged.
        batch_size: Images per forward pass.
        precision: Precision of the forward passes.
        memory: Memory budget of the features in bytes, as for :func:`~pretextkit.functional.extract_features`.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        The numbers and files of the images, in order.

    Raises:
        DataError: There are too few different images without labels, features are NaN or infinite, ``labeled`` names no
            images, or images come without a backbone.
        UnknownNameError: There is no method of that name.
        OptionError: ``n`` is below 1, or there are several layers.

    Example:
        >>> features = torch.tensor([[9.0, 0.0], [9.0, 1.0], [0.0, 9.0], [1.0, 9.0], [9.0, 0.0]])
        >>> chosen = select_to_label(features, 2, method="k-center", labeled=[0])
        >>> print(chosen)
        2 of 5 images (k-center; 1 labeled, 1 near-duplicate left out)
        >>> chosen.indices
        tensor([2, 1])
    """
    n = check_int("n", n, fix="It is the number of images to label.")
    seed = check_int("seed", seed, at_least=None, of=select_to_label)
    choose, name = _method(method)
    if backbone is None and getattr(images, "ndim", 0) != 2:
        raise DataError(
            "features n d, or images with a backbone",
            got="images without a backbone",
            fix="Pass backbone=backbone, such as one that pretrain has trained on the images.",
        )
    options: ExtractOptions = {"layers": layers, "pool": pool, "batch_size": batch_size, "precision": precision}
    (images,) = read_files([images], size, on_error)
    features, files = unit_features(nn.Identity() if backbone is None else backbone, images, memory, options)
    known = _labeled_rows(labeled, len(features))
    kept = distinct_rows(features, known)
    among = int(torch.isin(kept, known).sum())  # labeled rows come first
    if len(kept) - among < n:
        raise DataError(
            f"at most {len(kept) - among} images to choose: so many of {len(features)} are without a label and no "
            "near-duplicate of another",
            got=f"n={n}",
            fix="Lower n, or add images.",
        )
    choice = choose(features[kept], torch.arange(among), n, derived_generator(seed, "selection"))
    return Selection(
        indices=kept[choice.rows],
        scores=choice.scores,
        score=choice.score,
        method=name,
        files=files,
        labeled=len(known),
        duplicates=len(features) - len(kept),
    )


def _method(method: Any) -> tuple[SelectionMethod, str]:
    """Find a method and its name."""
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown_name("method of selection", method, METHODS)
        return METHODS[method], method
    if isinstance(method, type) or not callable(method):
        fix = (
            f"Use one of {', '.join(map(repr, METHODS))}, or a method with its options, such as ProbCover(radius=0.5)."
        )
        raise OptionError("method to be a name or a function", got=repr(method), fix=fix)
    return method, str(getattr(method, "__name__", method))


def _labeled_rows(labeled: Any, count: int) -> Tensor:
    """Read numbers of images, or a mask, as row numbers without repetition.

    Raises:
        DataError: They are something else, or a number is out of range.
    """
    if labeled is None:
        return torch.empty(0, dtype=torch.int64)
    values = torch.as_tensor(labeled)
    if values.dtype == torch.bool and values.shape == (count,):
        return values.nonzero()[:, 0]
    fix = "Pass the numbers of the labeled images, or a mask such as torch.as_tensor(labels) >= 0."
    if values.dtype == torch.bool or (values.is_floating_point() and values.numel()) or values.ndim != 1:
        got = f"{values.dtype} of shape {tuple(values.shape)}"
        raise DataError(f"labeled to be numbers of images, or a mask of {count} bools", got=got, fix=fix)
    rows: Tensor = torch.unique(values.long())
    if len(rows) and not 0 <= int(rows[0]) <= int(rows[-1]) < count:
        wrong = int(rows[0]) if rows[0] < 0 else int(rows[-1])
        raise DataError(f"numbers of labeled images from 0 to {count - 1}", got=wrong, fix=fix)
    return rows
