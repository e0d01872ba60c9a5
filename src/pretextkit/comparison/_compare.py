"""Comparison of pretext tasks: one backbone, one budget and one evaluation protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pretextkit._color import as_float
from pretextkit.comparison._methods import TaskFactory, build_methods
from pretextkit.comparison._result import Comparison
from pretextkit.comparison._runner import RunFiles, run_all
from pretextkit.comparison._setup import ExperimentSetup
from pretextkit.contracts import Backbone
from pretextkit.data import ImagesLike, LabeledLike
from pretextkit.data._as_source import read_files
from pretextkit.data._types import OnError, Size
from pretextkit.evaluation._shared_images import image_marks, is_same_data, warn_of_training_images
from pretextkit.finetuning._finetune import FinetuneOptions
from pretextkit.training import PretrainOptions
from pretextkit.training._callbacks import CallbackLike
from pretextkit.training._hardware import Precision

__all__ = ["compare"]


def compare(
    tasks: Iterable[str] | Mapping[str, TaskFactory],
    backbone: str | Callable[[], Backbone],
    train: LabeledLike,
    test: LabeledLike,
    *,
    epochs: int | None = None,
    views_per_image: float | None = None,
    images: ImagesLike | None = None,
    batch_size: int | None = None,
    seeds: Sequence[int] = (0,),
    label_fractions: Sequence[float] = (0.01, 0.1, 1.0),
    finetune_steps: int | None = None,
    pretraining: PretrainOptions | None = None,
    finetuning: FinetuneOptions | None = None,
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    save: str | Path | None = None,
    checkpoints: str | Path | None = None,
    progress: bool = True,
    callbacks: Callable[[str, int], Sequence[CallbackLike]] | None = None,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> Comparison:
    """Pretrain a backbone with each task on one budget, and evaluate it beside a random and a supervised backbone.

    For each seed, all methods start from the same weights and are fine-tuned on the same labels. Each trained backbone
    is evaluated by :func:`linear_probe`, :func:`knn_probe` and :func:`freeze_and_finetune` with their defaults: layers
    and penalty of the linear probe are chosen on train, and fine-tuning begins from a linear probe. The settings of
    every training are in ``ComparisonRun.settings``.

    The budget counts images or views, because both are equal on every machine; seconds are only reported. With equal
    ``epochs`` every task reads equally many images, and a step of rotation costs four views of each, a step of SimCLR
    two. With equal ``views_per_image`` every task sends equally many pixels through the backbone, which determines the
    cost of a convolution. The supervised method makes one view of each image, and reads as many images as the budget
    allows.

    Args:
        tasks: Names of registered tasks, or method names with factories:
            ``{"cold": lambda b: SimCLR(b, temperature=0.1)}``.
        backbone: Name of a registered backbone, or a factory such as its class.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``, read once into memory; labels 0…k-1. Images labeled
            -1 are only used for pretraining.
        test: Test images with labels, in the same forms as ``train``; all accuracies are measured on them.
        epochs: Budget as passes over the images. Pass either this or ``views_per_image``.
        views_per_image: Budget as views of each image.
        images: Images for pretraining, to measure transfer to ``train`` and ``test``; the images of ``train`` by
            default.
        batch_size: Images per step of pretraining and of the supervised method; by default each task's own for the
            number of images, and that of :func:`freeze_and_finetune`.
        seeds: Seeds; every method runs once for each.
        label_fractions: Fractions of the labels of train for fine-tuning, stratified; ``()`` for no fine-tuning.
        finetune_steps: Steps of each fine-tuning. By default as for :func:`freeze_and_finetune`, but at most so many
            that all fine-tunings of a run together read as many images as the budget, and at least 50.
        pretraining: Further options of :func:`pretrain`, such as ``optimizer`` and ``learning_rate``.
        finetuning: Further options of :func:`freeze_and_finetune`, such as ``augment`` and ``layer_decay``. They also
            apply to the supervised method.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``, as for :func:`pretrain`.
        device: ``"auto"`` is a GPU if there is one.
        save: Folder for ``comparison.json`` and finished runs. The same call resumes from it, and may add methods and
            seeds.
        checkpoints: Folder of the pretraining checkpoints; ``save``/checkpoints by default. Comparisons with equal
            pretraining can share it and pretrain once.
        progress: Show one progress bar for all runs.
        callbacks: Function from the name of a method and a seed to the callbacks of that training, as for
            :func:`pretrain`. Random initialization and the fine-tunings have none.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        All runs, printable as a table.

    Raises:
        OptionError: An option is out of range.
        UnknownNameError: A task, backbone or option does not exist.
        DataError: Labels are missing, or too few.
        CheckpointError: ``save`` holds runs of another call; the message shows the difference.
        DataWarning: More than a quarter of the test images are training images.
        DivergenceError: A loss became NaN or infinite; ``save`` keeps the runs that were finished before.

    Example:
        >>> from pretextkit.testing import TinyBackbone, toy_images
        >>> images = toy_images(40, generator=torch.Generator().manual_seed(0))
        >>> data, test = [(part, torch.arange(40) % 2) for part in (images, images.flip(3))]
        >>> options = {"epochs": 1, "batch_size": 20, "label_fractions": [0.5], "finetune_steps": 1}
        >>> result = compare(["rotation"], TinyBackbone, data, test, **options, device="cpu", progress=False)
        >>> [(run.method, run.images, run.views_seen) for run in result.runs]
        [('random init', 0, 0.0), ('supervised', 40, 40.0), ('rotation', 40, 160.0)]
    """
    same = is_same_data(train, test)
    train, test, images = read_files([train, test, images], size, on_error)
    setup = ExperimentSetup(
        train=train,
        test=test,
        images=images,
        epochs=epochs,
        views_per_image=views_per_image,
        batch_size=batch_size,
        seeds=seeds,
        label_fractions=label_fractions,
        finetune_steps=finetune_steps,
        pretraining=pretraining or {},
        finetuning=finetuning or {},
        precision=precision,
        device=device,
        callbacks=callbacks,
    )
    methods = build_methods(tasks, backbone, setup)
    marks = (_marks(setup.train_set.images), _marks(setup.test_set.images))
    warn_of_training_images(*marks, same=same, fix="Pass other labeled images as test.")
    runs = run_all(methods, setup, RunFiles(save, checkpoints), progress=progress)
    result = Comparison(runs, {"backbone": methods[0].backbone_name(), **setup.settings()})
    if save is not None:
        result.save(Path(save) / "comparison.json")
    return result


def _marks(images: Tensor) -> Tensor:
    return torch.cat([image_marks(as_float(part)) for part in torch.split(images, 256)])
