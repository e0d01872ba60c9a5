"""Setup of a comparison: data, budget and options, validated once."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from pretextkit._fingerprint import digest, function_name
from pretextkit._validation import check_callable, check_float, check_int, check_sequence
from pretextkit.contracts import Recommended
from pretextkit.data import ImagesLike, LabeledLike, as_source
from pretextkit.data._sources import ImageSource
from pretextkit.data._splits import stratified_subset
from pretextkit.data._tensor_images import TensorImages
from pretextkit.errors import DataWarning, OptionError, unknown_name, warn
from pretextkit.evaluation._classes import Classes, find_classes, match_classes
from pretextkit.evaluation._labels import labeled_rows
from pretextkit.finetuning._finetune import FinetuneOptions
from pretextkit.finetuning._recipe import default_steps, divide_evenly
from pretextkit.training import PretrainOptions
from pretextkit.training._callbacks import CallbackLike
from pretextkit.training._hardware import Precision, resolve_device, resolve_precision

__all__ = ["ExperimentSetup"]

FEWEST_FINETUNING_STEPS = 50


@dataclass(frozen=True, eq=False)
class ExperimentSetup:
    """Data, budget and options that all methods of a comparison share; the arguments of :func:`compare`.

    Raises:
        OptionError: An option is out of range.
        UnknownNameError: An option of pretraining or fine-tuning does not exist.
        DataError: Labels are missing.
    """

    train: LabeledLike
    test: LabeledLike
    images: ImagesLike | None
    epochs: int | None
    views_per_image: float | None
    batch_size: int | None
    seeds: Sequence[int]
    label_fractions: Sequence[float]
    finetune_steps: int | None
    pretraining: PretrainOptions
    finetuning: FinetuneOptions
    precision: Precision
    device: str | torch.device
    callbacks: Callable[[str, int], Sequence[CallbackLike]] | None = None

    def __post_init__(self) -> None:
        self._check_options()
        self.test_set  # noqa: B018 - matches the classes of test and train, before hours of training

    @cached_property
    def train_images(self) -> TensorImages:
        """All images of train, in memory."""
        source = as_source(self.train)
        if source.draws_transforms():
            warn(
                "compare reads train once, so that every method sees the same images: the random transforms of the "
                "dataset are drawn once, not in every epoch. Pass them as augment: pretraining={'augment': ...}, "
                "finetuning={'augment': ...}.",
                DataWarning,
                see="random-transforms-in-a-comparison",
            )
        return source.in_memory()

    @cached_property
    def test_images(self) -> TensorImages:
        """All images of test, in memory."""
        return as_source(self.test).in_memory()

    @cached_property
    def train_set(self) -> TensorImages:
        """Labeled images of train."""
        return _labeled_part(self.train_images, "train")

    @cached_property
    def test_set(self) -> TensorImages:
        """Labeled images of test, with the class numbers of train."""
        part = _labeled_part(self.test_images, "test")
        labels = match_classes(_labels(part), part.class_names, self._found_classes)
        return TensorImages(part.images, labels, class_names=self._found_classes.names)

    @cached_property
    def classes(self) -> int:
        """Number of classes of train: one more than the highest label."""
        return self._found_classes.count

    @cached_property
    def _found_classes(self) -> Classes:
        return find_classes(_labels(self.train_set), self.train_set.class_names)

    @cached_property
    def source(self) -> ImageSource:
        """Images for pretraining."""
        return self.train_images.without_labels() if self.images is None else as_source(self.images, labels=False)

    @cached_property
    def label_counts(self) -> list[int]:
        """Numbers of labels for fine-tuning, ascending."""
        count, fewest = len(self.train_set), len(self._found_classes.present)
        return sorted({max(fewest, round(fraction * count)) for fraction in self.label_fractions})

    def labeled_subset(self, count: int, seed: int) -> TensorImages:
        """Draw ``count`` labeled images of train, stratified and equal for every method."""
        labels = _labels(self.train_set)
        rows = stratified_subset(labels, count, seed=seed)
        return TensorImages(self.train_set.images[rows], labels[rows], class_names=self._found_classes.names)

    def pretraining_batch(self, recommended: Recommended) -> int:
        """Return the batch of the call, or the one that a task recommends for the number of images."""
        count = len(self.source)
        return recommended.batch_size_for(count) if self.batch_size is None else min(self.batch_size, count)

    def pretraining_steps(self, views: float, batch_size: int) -> int:
        """Convert the budget to steps of a task that makes ``views`` views of each image."""
        per_epoch = len(self.source) // batch_size
        passes = self.epochs if self.epochs is not None else (self.views_per_image or 0) / views
        return max(1, round(passes * per_epoch))

    def supervised_batch(self) -> int:
        """Return the batch of the supervised method, which divides the labeled images evenly."""
        return divide_evenly(len(self.train_set), self.batch_size)

    def supervised_epochs(self) -> int:
        """Convert the budget to passes over the labeled images that read as many images as pretraining."""
        batch_size = self.supervised_batch()
        return max(1, round(self._images_to_read() / (len(self.train_set) // batch_size * batch_size)))

    def finetuning_batch(self, count: int) -> int:
        """Return the batch of a fine-tuning on ``count`` labels, which divides them evenly."""
        return divide_evenly(count, self.finetuning.get("batch_size"))

    def finetuning_steps(self, count: int) -> int:
        """Return the steps of a fine-tuning on ``count`` labels.

        By default, all fine-tunings of a run read at most as many images as the budget allows, so that little of a
        short comparison is fine-tuning; at least 50 steps, and at most those of :func:`freeze_and_finetune`.
        """
        if self.finetune_steps is not None:
            return self.finetune_steps
        batch_size = self.finetuning_batch(count)
        affordable = round(self._images_to_read() / len(self.label_counts) / batch_size)
        return min(max(FEWEST_FINETUNING_STEPS, affordable), default_steps(count, batch_size))

    def _images_to_read(self) -> float:
        passes = self.epochs if self.epochs is not None else self.views_per_image or 0
        return passes * len(self.source)

    def identity(self) -> dict[str, Any]:
        """Describe everything that results depend on, apart from method and seed."""
        return {
            **self._data_identity,
            "epochs": self.epochs,
            "views_per_image": self.views_per_image,
            "batch_size": self.batch_size,
            "label_counts": self.label_counts,
            "finetune_steps": self.finetune_steps,
            "pretraining": _describe(self.pretraining),
            "finetuning": _describe(self.finetuning),
            "precision": self.precision,
            **({} if self.callbacks is None else {"callbacks": function_name(self.callbacks)}),
        }

    def settings(self) -> dict[str, Any]:
        """Describe the comparison: identity, seeds, device and software."""
        return {
            **self.identity(),
            "seeds": self.seeds,
            "device": str(resolve_device(self.device)),
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        }

    @cached_property
    def _data_identity(self) -> dict[str, str]:
        every, train, test = self.train_images, self.train_set, self.test_set
        own = self.images is None
        return {
            "train": f"{len(every)} images {digest([every.images, train.images, _labels(train)])}",
            "test": f"{len(self.test_images)} images {digest([test.images, _labels(test)])}",
            "images": "those of train" if own else f"{len(self.source)} images {self.source.fingerprint()}",
        }

    def _check_options(self) -> None:
        if (self.epochs is None) == (self.views_per_image is None):
            raise OptionError(
                "a budget: either epochs or views_per_image",
                got=f"epochs={self.epochs}, views_per_image={self.views_per_image}",
                fix="epochs=10 reads each image ten times; views_per_image=40 makes 40 views of each image.",
            )
        if self.epochs is not None:
            self._set(epochs=check_int("epochs", self.epochs, fix="For example epochs=10."))
        if self.views_per_image is not None:
            fix = "For example views_per_image=40."
            self._set(views_per_image=check_float("views_per_image", self.views_per_image, "(0, inf)", fix=fix))
        self._set(
            **{
                name: check_int(name, value, fix="Leave it out for the default.")
                for name, value in (("batch_size", self.batch_size), ("finetune_steps", self.finetune_steps))
                if value is not None
            }
        )
        fix = "For example seeds=(0, 1, 2)."
        seeds = check_sequence("seeds", self.seeds, fix=fix)
        seeds = [check_int("seeds", seed, at_least=None, fix=fix) for seed in seeds]
        if len(set(seeds)) < len(seeds):
            raise OptionError("distinct seeds", got=seeds, fix=fix)
        fix = "The default is (0.01, 0.1, 1.0)."
        fractions = check_sequence("label_fractions", self.label_fractions, at_least=0, fix=fix)
        fractions = [check_float("label_fractions", each, "(0, 1]", fix=fix) for each in fractions]
        self._set(seeds=seeds, label_fractions=fractions)
        for options, kind, what in (
            (self.pretraining, PretrainOptions, "pretraining"),
            (self.finetuning, FinetuneOptions, "finetuning"),
        ):
            for name in options:
                if name not in kind.__annotations__:
                    raise unknown_name(f"option in {what}", name, kind.__annotations__)
        resolve_precision(self.precision, resolve_device(self.device))
        if self.callbacks is not None:
            check_callable("callbacks", self.callbacks, "method", "seed")

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen


def _labeled_part(images: TensorImages, what: str) -> TensorImages:
    rows = labeled_rows(images.labels, what)
    return images if len(rows) == len(images) else _rows(images, rows)


def _rows(images: TensorImages, rows: torch.Tensor) -> TensorImages:
    return TensorImages(images.images[rows], _labels(images)[rows], class_names=images.class_names)


def _labels(images: TensorImages) -> torch.Tensor:
    assert images.labels is not None
    labels: torch.Tensor = images.labels
    return labels


def _describe(options: Mapping[str, object]) -> dict[str, str]:
    """Describe options by text that is equal in every process: functions by their names."""
    return {
        name: getattr(value, "__qualname__", type(value).__qualname__) if callable(value) else repr(value)
        for name, value in sorted(options.items())
    }
