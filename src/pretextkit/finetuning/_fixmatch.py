"""FixMatch: a classifier from labeled and unlabeled images together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pretextkit._seeding import derived_seed, seeded
from pretextkit._validation import check_callable, check_float, check_int
from pretextkit.data import ImagesLike, LabeledLike, as_source
from pretextkit.data._as_source import read_files
from pretextkit.data._sources import ImageSource
from pretextkit.data._tensor_images import TensorImages
from pretextkit.data._types import OnError, Size
from pretextkit.errors import DataError, OptionError, ShapeError, TrainingWarning, warn
from pretextkit.evaluation._labels import labeled_images
from pretextkit.finetuning._data import FinetuneData, read_data
from pretextkit.finetuning._finetune import FinetuneResult, finetune_result
from pretextkit.finetuning._fixmatch_objective import FixMatchObjective, FixMatchRules
from pretextkit.finetuning._head_start import start_head
from pretextkit.finetuning._layers import HeadLayers
from pretextkit.finetuning._normalization import measure_normalizations
from pretextkit.finetuning._recipe import AugmentationChoice, FinetuneSettings, Recipe, default_learning_rate
from pretextkit.finetuning._trained_modules import Trainable, restored
from pretextkit.finetuning._training import Trained
from pretextkit.finetuning._work import check_fit, prepare_work
from pretextkit.inference._classifier import described_layers
from pretextkit.training._callbacks import CallbackLike, check_callbacks
from pretextkit.training._hardware import Precision
from pretextkit.training._history import History
from pretextkit.training._loop import train
from pretextkit.training._optim import OptimizerName
from pretextkit.training._settings import Settings, make_plan
from pretextkit.views import Augmentation, LightAugmentation, StrongAugmentation

__all__ = ["fixmatch"]

RATIO = 3
"""Unlabeled images for each labeled image in a step; 7 in the paper, which trains without pretraining."""

PASSES, FEWEST_STEPS, MOST_STEPS = 50, 2000, 20_000
"""Passes over the unlabeled images by default, and the bounds of their steps."""

WEAK = LightAugmentation(crop_scale=(0.75, 1.0), jitter=0.0)
STRONG = StrongAugmentation()

FEW_SURE, ENOUGH_STEPS = 0.05, 500
"""Share of sure images that is too low after as many steps."""


def fixmatch(
    backbone: nn.Module,
    head: nn.Module | str,
    labeled: LabeledLike,
    unlabeled: ImagesLike | None = None,
    test: LabeledLike | None = None,
    *,
    trainable: Trainable = "all",
    layers: HeadLayers = "auto",
    steps: int | None = None,
    views: int | None = None,
    batch_size: int = 64,
    unlabeled_batch_size: int | None = None,
    threshold: float = 0.95,
    unlabeled_weight: float = 1.0,
    momentum: float = 0.999,
    augment: AugmentationChoice = "auto",
    weak: Augmentation = WEAK,
    strong: Augmentation = STRONG,
    optimizer: OptimizerName = "adamw",
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    checkpoint: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    callbacks: Sequence[CallbackLike] = (),
    workers: int = 0,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> FinetuneResult:
    """Train a backbone and a head on labeled and unlabeled images by FixMatch, in place.

    Where the prediction for a weak view of an unlabeled image is sure, the strong view of the same image learns it as
    its label (Sohn et al. 2020, arXiv 2001.07685). It begins from the backbone as it is, best a pretrained one, and
    from a head that is set to its features, as in :func:`freeze_and_finetune`. Labeled images and both views go through
    the network together, because BatchNorm must see them all. The result is the average of the weights over the
    last steps, which is also what backbone and head hold afterwards.

    The history tells whether FixMatch works: ``sure`` is the share of the unlabeled images with a sure prediction, and
    ``sure NAME`` the number of them in a step that are predicted as a class. A class that takes over is a failure that
    no loss shows.

    Args:
        backbone: Module from images ``b c h w`` in [0, 1] to features ``b d``, maps or tokens.
        head: Module from features ``b d`` to logits ``b k``, or the name of a registered head, such as ``"linear"``.
        labeled: Images with labels, as for :func:`freeze_and_finetune`. They are read once and stay in memory. Images
            labeled -1 are left out, unless ``unlabeled`` is None.
        unlabeled: Images as for :func:`~pretextkit.functional.pretrain`; labels are ignored. By default all images of
            ``labeled``, of which those without a label are labeled -1.
        test: Held-out images with labels; scored once, after the last step.
        trainable: Trained part of the backbone, as for :func:`freeze_and_finetune`.
        layers: Layers that the head reads, as for :func:`freeze_and_finetune`.
        steps: Optimizer steps; pass at most one of ``steps`` and ``views``. By default 50 passes over the unlabeled
            images, but at least 2,000 and at most 20,000 steps.
        views: Budget of images that go through the network, each view counted.
        batch_size: Labeled images in a step; repeated if there are fewer.
        unlabeled_batch_size: Unlabeled images in a step, each in two views; by default 3 for each labeled image, or
            all if there are fewer.
        threshold: Probability from which a prediction is sure.
        unlabeled_weight: Weight of the loss of the unlabeled images.
        momentum: Largest share of the old average that is kept in each step; it is smaller in the first steps.
        augment: Augmentation of the labeled images, as for :func:`freeze_and_finetune`.
        weak: Augmentation of unlabeled images whose prediction is used; crops by default.
        strong: Augmentation of unlabeled images that learn; crops, colors and a hidden square by default.
        optimizer: ``"adamw"``, ``"sgd"`` or ``"lars"``, as for :func:`~pretextkit.functional.pretrain`.
        learning_rate: Highest learning rate; by default 0.003 for AdamW where BatchNorm trains, also of a pretrained
            backbone, and 0.001 elsewhere.
        weight_decay: Weight decay of matrices and filters; by default as for :func:`~pretextkit.functional.pretrain`.
        clip_norm: Maximum norm of the gradient; no clipping by default.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``, as for :func:`~pretextkit.functional.pretrain`.
        device: ``"auto"`` is a GPU if there is one.
        checkpoint: Folder to which the run is saved every 30 seconds and at the end. An equal call resumes from it,
            with the result of an uninterrupted run.
        seed: Seed of the order of images, the augmentation, random layers and the weights of a head given by name.
        progress: Show a progress bar.
        callbacks: Callbacks of steps and epochs, as for :func:`~pretextkit.functional.pretrain`.
        workers: Processes that read a ``Dataset`` or folder.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        The classifier of averaged weights, its accuracy, the settings and the history.

    Raises:
        DataError: No labels, one class only, no unlabeled images, labels that are not 0…k-1, or more classes than the
            head has outputs.
        ShapeError: Labeled and unlabeled images differ in size, or the backbone or the head returns something else.
        UnknownNameError: The backbone has no submodule of that name, or there is no head of that name.
        OptionError: An option is out of range, or both ``steps`` and ``views`` are given.
        DivergenceError: The loss or a weight became NaN or infinite.
        CheckpointError: ``checkpoint`` belongs to another run, holds damaged files only, or is not writable.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> images, labels = torch.rand(16, 3, 32, 32), torch.tensor([0, 1] + 14 * [-1])
        >>> options = {"steps": 1, "batch_size": 2, "device": "cpu", "progress": False}
        >>> result = fixmatch(SmallCNN(), "linear", (images, labels), **options)
        >>> result.classifier(images).shape, 0 <= result.history.last["sure"] <= 1
        (torch.Size([16, 2]), True)
    """
    rules = _rules(weak, strong, batch_size, threshold, unlabeled_weight, momentum)
    callbacks = check_callbacks(callbacks)
    labeled, unlabeled, test = read_files([labeled, unlabeled, test], size, on_error, workers=workers)
    data, source = _read(labeled, unlabeled, test, seed, workers)
    given = Settings(
        steps=steps,
        batch_size=_unlabeled_batch_size(unlabeled_batch_size, rules.batch_size, len(source)),
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        precision=precision,
        device=device,
        seed=seed,
    )
    settings = _with_steps(given, views, rules.batch_size, len(source))
    labeled_settings = replace(settings, batch_size=rules.batch_size)
    recipe = Recipe(trainable, layers, augment)
    work = prepare_work(backbone, head, data, labeled_settings, recipe, progress)
    if learning_rate is None and optimizer == "adamw":
        rate = default_learning_rate(work.trained, from_random=True)  # all images train it, not the labeled ones alone
        work = replace(
            work, settings=replace(work.settings, learning_rate=rate), plan=replace(work.plan, learning_rate=rate)
        )
        settings = replace(settings, learning_rate=rate)
    plan = make_plan(settings, source)
    assert isinstance(data.source, TensorImages)
    start = time.monotonic()
    with restored(backbone, work.classifier):
        check_fit(work)
        measure_normalizations(replace(work, data=replace(data, source=source)))
        work, begun = start_head(work, on_features=True)
        names = data.classes.shown_names
        objective = FixMatchObjective(work.objective(), data.source.images, data.labels, names, rules)
        run = train(
            objective, source, settings, plan, title="FixMatch", checkpoint=checkpoint, progress=progress,
            callbacks=callbacks,
        )  # fmt: skip
        objective.averaged.finish()
    work.classifier.eval()
    _warn_of_unsure(run.history, run.steps, rules.threshold)
    described = FinetuneSettings(
        trained=f"{_trained(trainable)} by FixMatch with {len(source)} unlabeled images",
        steps=run.steps,
        batch_size=rules.batch_size + 2 * plan.batch_size,
        optimizer=settings.optimizer,
        learning_rate=plan.learning_rate,
        augmentation=objective.augmentation(),
        head_start=begun.described,
        layers=described_layers(work.classifier.layers),
    )
    return finetune_result(work, Trained(described, run.history, run.stopped), time.monotonic() - start, "fixmatch")


def _rules(
    weak: Any, strong: Any, batch_size: Any, threshold: Any, unlabeled_weight: Any, momentum: Any
) -> FixMatchRules:
    """Check the options of FixMatch.

    Raises:
        OptionError: One is of another kind or out of range.
    """
    for name, view in (("weak", weak), ("strong", strong)):
        check_callable(name, view, "images", "generator")
    return FixMatchRules(
        weak,
        strong,
        check_int("batch_size", batch_size, of=fixmatch),
        check_float("threshold", threshold, "(0, 1]", of=fixmatch),
        check_float("unlabeled_weight", unlabeled_weight, "[0, inf)", of=fixmatch),
        check_float("momentum", momentum, "[0, 1)", of=fixmatch),
    )


def _read(
    labeled: LabeledLike, unlabeled: ImagesLike | None, test: LabeledLike | None, seed: int, workers: int
) -> tuple[FinetuneData, ImageSource]:
    """Read the labeled images into memory, and open the unlabeled images.

    Raises:
        DataError: There are no labels, one class, or no unlabeled images.
        ShapeError: The sizes of the images differ.
    """
    everything = as_source(labeled, workers=workers)
    with seeded(derived_seed(seed, "labels")):  # random transforms draw from the global generator
        images, _ = labeled_images(everything, "labeled", workers)
    if unlabeled is None and len(images) == len(everything):
        fix = "Pass unlabeled=images, or label the images without a class -1. Without any, use freeze_and_finetune."
        raise DataError("unlabeled images", got=f"a label for each of {len(everything)} images", fix=fix)
    source = everything.without_labels() if unlabeled is None else as_source(unlabeled, labels=False, workers=workers)
    with seeded(derived_seed(seed, "try")):
        first = next(iter(source.batches([torch.tensor([0])]))).images
    if first.shape[2:] != images.images.shape[2:]:
        sides = ["x".join(map(str, each.shape[2:])) for each in (images.images, first)]
        fix = "Read both with one size, for example FolderImages(folder, size=32)."
        raise ShapeError(f"unlabeled images of {sides[0]} pixels, as the labeled", got=f"{sides[1]}", fix=fix)
    return read_data(images, test, None, seed, workers), source


def _unlabeled_batch_size(given: Any, batch_size: int, count: int) -> int:
    if given is None:
        return min(RATIO * batch_size, count)
    fix = "Leave it out for the default."
    size = check_int("unlabeled_batch_size", given, fix=fix)
    if size > count:
        raise OptionError(f"unlabeled_batch_size to be at most the {count} unlabeled images", got=size, fix=fix)
    return size


def _with_steps(settings: Settings, views: Any, batch_size: int, count: int) -> Settings:
    """Resolve the number of steps from the views or the number of unlabeled images."""
    assert settings.batch_size is not None
    each = batch_size + 2 * settings.batch_size
    if settings.steps is not None and views is not None:
        got = f"steps={settings.steps}, views={views}"
        raise OptionError("at most one of steps and views", got=got, fix="Leave one of them out, or both.")
    if views is not None:
        fix = f"A step has {each} views."
        return replace(settings, steps=check_int("views", views, at_least=each, fix=fix) // each)
    if settings.steps is not None:
        return settings
    passes = PASSES * (count // settings.batch_size)
    return replace(settings, steps=min(max(FEWEST_STEPS, passes), MOST_STEPS))


def _trained(trainable: Trainable) -> str:
    if isinstance(trainable, str):
        return {"all": "all weights", "none": "the head"}[trainable]
    return f"head and {', '.join(trainable)}"


def _warn_of_unsure(history: History, steps: int, threshold: float) -> None:
    """Warn if hardly any prediction is sure, or none of a class, at the end of a long run."""
    last = history.last
    if steps < ENOUGH_STEPS or not last:
        return
    missed = [name.removeprefix("sure ") for name, count in last.items() if name.startswith("sure ") and not count]
    text = ""
    if last["sure"] < FEW_SURE:
        text = (
            f"Only {last['sure']:.1%} of the unlabeled images have a prediction of {threshold:g} or more: FixMatch "
            "learns from the labels alone. Label more images, begin from a better backbone, or lower threshold."
        )
    elif missed:
        text = (
            f"No unlabeled image is predicted as {', '.join(map(repr, missed))} with {threshold:g} or more. If there "
            "are such images, label more of them."
        )
    if text:
        warn(text, TrainingWarning, see="fixmatch-that-learns-from-few-images")
