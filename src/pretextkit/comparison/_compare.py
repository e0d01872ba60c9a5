"""Pretext tasks side by side: the same backbone, images and budget, and the same measurements of each."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from pretextkit._validation import check_classes, check_classes_seen, check_float, check_int, check_sequence
from pretextkit.comparison._methods import ExperimentSetup, Method, Pretrained, RandomInit, Supervised, TaskFactory
from pretextkit.comparison._result import Comparison
from pretextkit.comparison._runner import Evaluation, RunFiles, run_all
from pretextkit.contracts import Backbone
from pretextkit.data import as_source
from pretextkit.data._sources import TensorImages
from pretextkit.errors import DataError, DuplicateNameError, OptionError, unknown_name
from pretextkit.evaluation._features import pool_sides
from pretextkit.registries import backbones, pretext_tasks
from pretextkit.training._hardware import Precision, resolve_device, resolve_precision
from pretextkit.training._identity import digest, fingerprint

__all__ = ["compare"]

RANDOM_INIT, SUPERVISED = "random init", "supervised"
NOTHING: Mapping[str, Any] = MappingProxyType({})
PRETRAINING = (
    *("optimizer", "learning_rate", "weight_decay", "warmup", "clip_norm"),
    *("channels_last", "compile", "augment"),
)
FINETUNING = (
    *("trainable", "head_epochs", "batch_size", "optimizer", "learning_rate", "weight_decay"),
    *("layer_decay", "augment", "clip_norm"),
)


def compare(
    tasks: Iterable[str] | Mapping[str, TaskFactory],
    backbone: str | Callable[[], Backbone],
    train: Any,
    test: Any,
    *,
    epochs: int | None = None,
    views_per_image: float | None = None,
    images: Any = None,
    batch_size: int = 256,
    seeds: Sequence[int] = (0,),
    label_fractions: Sequence[float] = (0.01, 0.1, 1.0),
    finetune_steps: int = 300,
    pool: int | Sequence[int] = 1,
    pretraining: Mapping[str, Any] = NOTHING,
    finetuning: Mapping[str, Any] = NOTHING,
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    save: str | Path | None = None,
    checkpoints: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Pretrain with each task on one budget and measure the backbones alike, beside a random and a supervised one.

    Under one seed all rows begin with the same weights, and fine-tune on the same few labels. A linear probe of every
    stage, a nearest-neighbor probe and fine-tuning measure each. Everything that is chosen (stage, penalty, pooling)
    is chosen on a split of train; fine-tuning chooses nothing.

    The budget counts images or views, for both are the same on every machine; seconds are not, and are reported beside.
    Equal ``epochs`` read equally many images, though a rotation step then costs four views of each and SimCLR's two.
    Equal ``views_per_image`` bring equally many pixels through the backbone, which is what a convolution's cost goes by. The
    supervised row, whose images are one view each, reads as many as either allows.

    Args:
        tasks: Names of registered tasks, or row names with factories: ``{"no color": lambda b: SimCLR(b, jitter=0)}``.
        backbone: Name of a registered backbone, or a factory such as its class.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``, read once into memory; labels 0…k-1, -1 being
            unlabeled: these images are pretrained on only.
        test: Likewise, all that accuracies are measured on.
        epochs: Budget as passes over the images; either this or ``views_per_image``.
        views_per_image: Budget as views of each image.
        images: What is pretrained on instead of train's images, to transfer from there to train and test.
        batch_size: Images in a step of pretraining, and of the supervised row.
        seeds: One run of every row for each.
        label_fractions: Parts of train's labels to fine-tune on, stratified; ``()`` for no fine-tuning.
        finetune_steps: Steps of each fine-tuning, rounded up to whole epochs.
        pool: Sides of the grid over which the linear probe averages maps, chosen among like stages.
        pretraining: Further options of :func:`pretrain`: optimizer, learning_rate, ….
        finetuning: Further options of :func:`freeze_and_finetune`, for the supervised row too: augment, layer_decay, ….
        precision: As for :func:`pretrain`.
        device: Likewise.
        save: Folder for ``comparison.json`` and for what is done so far: the same call goes on from there, and may
            have more rows and seeds.
        checkpoints: Folder of the pretraining runs, ``save``/checkpoints by default; comparisons that pretrain alike can
            share it, and pretrain once.
        progress: Show one bar over all.

    Returns:
        Every run, and a table to print.

    Raises:
        OptionError: An option is out of range.
        UnknownNameError: No such task, backbone or option.
        DataError: Labels are missing, or too few.
        CheckpointError: ``save`` holds runs of another call; the message shows the difference.
        DivergenceError: A loss became NaN or infinite; what was finished before stays in ``save``.

    Example:
        >>> from pretextkit.testing import TinyBackbone, toy_images
        >>> images = toy_images(40, generator=torch.Generator().manual_seed(0))
        >>> data = (images, torch.arange(40) % 2)
        >>> options = {"epochs": 1, "batch_size": 20, "label_fractions": [0.5], "finetune_steps": 1}
        >>> result = compare(["rotation"], TinyBackbone, data, data, **options, device="cpu", progress=False)
        >>> [(run.method, run.images, run.views_seen) for run in result.runs]
        [('random init', 0, 0.0), ('supervised', 40, 40.0), ('rotation', 40, 160.0)]
    """
    if (epochs is None) == (views_per_image is None):
        raise OptionError(
            "a budget: either epochs or views_per_image",
            got=f"epochs={epochs}, views_per_image={views_per_image}",
            fix="epochs=10 lets every task read each image ten times, views_per_image=40 lets it see 40 views of each.",
        )
    epochs = None if epochs is None else check_int("epochs", epochs, fix="For example epochs=10.")
    if views_per_image is not None:
        fix = "For example views_per_image=40."
        views_per_image = check_float("views_per_image", views_per_image, "(0, inf)", fix=fix)
    batch_size = check_int("batch_size", batch_size, of=compare)
    finetune_steps = check_int("finetune_steps", finetune_steps, of=compare)
    fix = "For example seeds=(0, 1, 2), each once."
    seeds = [check_int("seeds", seed, at_least=None, fix=fix) for seed in check_sequence("seeds", seeds, fix=fix)]
    if len(set(seeds)) < len(seeds):
        raise OptionError("seeds, each once", got=seeds, fix=fix)
    fractions = check_sequence("label_fractions", label_fractions, at_least=0, of=compare)
    fractions = [check_float("label_fractions", each, "(0, 1]", of=compare) for each in fractions]
    sides = pool_sides(pool)
    for options, allowed, what in ((pretraining, PRETRAINING, "pretraining"), (finetuning, FINETUNING, "finetuning")):
        for name in options:
            if name not in allowed:
                raise unknown_name(f"option in {what}", name, allowed)
    resolve_precision(precision, resolve_device(device))
    known, labeled = _in_memory(train, "train")
    held, queries = _in_memory(test, "test")
    assert labeled.labels is not None
    assert queries.labels is not None
    classes = check_classes(labeled.labels)
    check_classes_seen(queries.labels, classes)
    source = known.without_labels() if images is None else as_source(images, labels=False)
    schedule = ExperimentSetup(
        images=source,
        train=labeled,
        classes=classes,
        epochs=epochs,
        views_per_image=views_per_image,
        batch_size=min(batch_size, len(source)),
        precision=precision,
        device=device,
        pretraining=pretraining,
        finetuning=finetuning,
    )
    counts = sorted({max(classes, round(fraction * len(labeled))) for fraction in fractions})
    evaluation = Evaluation(schedule, queries, counts, finetune_steps, sides)
    identity = {
        "train": f"{len(known)} images {digest([known.images, labeled.images, labeled.labels])}",
        "test": f"{len(held)} images {digest([queries.images, queries.labels])}",
        "images": "those of train" if images is None else f"{len(source)} images {fingerprint(source)}",
        "epochs": epochs,
        "views_per_image": views_per_image,
        "batch_size": schedule.batch_size,
        "label_counts": counts,
        "finetune_steps": finetune_steps,
        "pool": sides if isinstance(pool, Iterable) else sides[0],
        "pretraining": _shown(pretraining),
        "finetuning": _shown(finetuning),
        "precision": precision,
    }
    ways = _ways(tasks, backbones[backbone] if isinstance(backbone, str) else backbone, schedule)
    files = RunFiles(None if save is None else Path(save), None if checkpoints is None else Path(checkpoints))
    runs = run_all(ways, seeds, evaluation, identity, files, progress)
    settings = {
        "backbone": type(ways[0].backbone(0)).__name__,
        **identity,
        "seeds": seeds,
        "device": str(resolve_device(device)),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    result = Comparison(runs, settings)
    if save is not None:
        result.save(Path(save) / "comparison.json")
    return result


def _ways(
    tasks: Iterable[str] | Mapping[str, TaskFactory], make: Callable[[], Backbone], schedule: ExperimentSetup
) -> list[Method]:
    if isinstance(tasks, str):
        raise OptionError("a list of tasks' names, or a mapping", got=repr(tasks), fix=f"Write [{tasks!r}].")
    names = list(tasks)
    if odd := [name for name in names if not isinstance(name, str)]:
        raise OptionError(
            "tasks by their names, or a mapping from names to factories",
            got=repr(odd[0]),
            fix='Name the row: {"rotation": Rotation}.',
        )
    factories = tasks if isinstance(tasks, Mapping) else {name: pretext_tasks[name] for name in names}
    taken = [RANDOM_INIT, SUPERVISED, *names]
    for name in names:
        if taken.count(name) > 1:
            raise DuplicateNameError("one row of each name", got=f"two of {name!r}", fix="Name the task otherwise.")
    for what, factory in (("backbone", make), *factories.items()):
        if isinstance(factory, nn.Module) or not callable(factory):
            raise OptionError(
                f"a factory for {what!r}, as every row and seed trains a new one",
                got=f"a {type(factory).__name__}",
                fix="Pass its class, or a function that builds it.",
            )
    first: list[Method] = [RandomInit(RANDOM_INIT, make, schedule), Supervised(SUPERVISED, make, schedule)]
    return first + [Pretrained(name, make, schedule, factory) for name, factory in factories.items()]


def _in_memory(data: Any, what: str) -> tuple[TensorImages, TensorImages]:
    """Read all images of ``data``, and those of them that are labeled."""
    source = as_source(data)
    if not isinstance(source, TensorImages):
        batches = list(source.in_order(256))
        labels = [batch.labels for batch in batches if batch.labels is not None]
        source = TensorImages(torch.cat([batch.images for batch in batches]), torch.cat(labels) if labels else None)
    if source.labels is None or not (source.labels >= 0).any():
        raise DataError(
            f"labels for {what}", got="none", fix="Pass a pair (images, labels), or a Dataset of (image, label)."
        )
    keep = source.labels >= 0
    return source, source if keep.all() else TensorImages(source.images[keep], source.labels[keep])


def _shown(options: Mapping[str, Any]) -> dict[str, str]:
    """Show options in a way that is the same in every process: functions by their names."""
    return {
        name: getattr(value, "__qualname__", type(value).__qualname__) if callable(value) else repr(value)
        for name, value in sorted(options.items())
    }
