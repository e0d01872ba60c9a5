"""Pretraining of a backbone on images without labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from typing_extensions import TypedDict

from pretextkit._display import Displayed
from pretextkit._modules import unwrap
from pretextkit._recipes import backbone_header, remember_training, training_of
from pretextkit._starting_point import starts_note
from pretextkit._validation import check_callable
from pretextkit.contracts import PretextTask
from pretextkit.data import ImagesLike, as_source
from pretextkit.data._accepted_channels import with_accepted_channels
from pretextkit.data._image_format import ImageFormat
from pretextkit.data._sources import ImageSource
from pretextkit.data._types import OnError, Size
from pretextkit.distributed._group import current_group
from pretextkit.distributed._sharding import class_name
from pretextkit.errors import TrainingWarning, warn
from pretextkit.registries import pretext_tasks
from pretextkit.training._callbacks import CallbackLike, check_callbacks
from pretextkit.training._collapse import monitor_batch_size
from pretextkit.training._description import describe_run
from pretextkit.training._extension import Start
from pretextkit.training._hardware import Precision
from pretextkit.training._history import History
from pretextkit.training._loop import train
from pretextkit.training._objectives import TaskObjective, takes_images
from pretextkit.training._optim import OptimizerName
from pretextkit.training._settings import Plan, RunSettings, Settings, make_plan
from pretextkit.training._task_check import check_task
from pretextkit.views import Augmentation

__all__ = ["PretrainOptions", "PretrainResult", "pretrain"]


class PretrainOptions(TypedDict, total=False):
    """Options of :func:`~pretextkit.functional.pretrain` that a comparison may pass on."""

    optimizer: OptimizerName
    learning_rate: float | None
    weight_decay: float | None
    warmup: float
    clip_norm: float | None
    channels_last: bool
    compile: bool
    augment: Augmentation | None


@dataclass(frozen=True, repr=False)
class PretrainResult(Displayed):
    """Result of pretraining; the backbone itself is ``task.backbone``."""

    history: History
    """One row for each epoch."""
    settings: RunSettings
    """Settings of the run, with the values that stood for those that the call left out."""
    steps: int
    """Steps of the full run, or those until a callback stopped it."""
    resumed_at: int
    """Steps done by earlier calls."""
    seconds: float
    """Duration of this call."""
    images_per_second: float
    """Images read per second, not views; 0 if there was nothing left to do."""
    device: str
    """Device of the run."""
    precision: str
    """Precision of the run."""
    stopped: str | None = None
    """Reason for which a callback stopped the run; None for a full run."""

    def display_line(self) -> str:
        """Return the length of the run and its last loss."""
        loss = f", loss {self.history.last['loss']:.3f}" if self.history.rows else ""
        notes = f"{self._stop_note}{starts_note(self.settings.starts_from)}"
        return f"{self._steps} in {self.seconds:.1f} s, {self.device}{loss}{notes}"

    def display_table(self) -> list[list[str]]:
        """Return the newest rows of the history."""
        return self.history.table(10)

    def __str__(self) -> str:
        values = ", ".join(
            f"{name} {value:.3f}"
            for name, value in self.history.last.items()
            if name not in ("epoch", "step", "learning_rate", "seconds")
        )
        rate = f"{self.images_per_second:,.0f} images/s, " if self.images_per_second else ""  # 0: finished before
        return (
            f"{self.settings}: {self._steps} in {self.seconds:.1f} s ({rate}"
            f"{self.precision} on {self.device}), {values}{self._stop_note}"
        )

    @property
    def _steps(self) -> str:
        return f"{self.steps} step{'' if self.steps == 1 else 's'}"

    @property
    def _stop_note(self) -> str:
        return "" if self.stopped is None else f"; stopped: {self.stopped}"


def pretrain(
    task: PretextTask[Any, Any],
    images: ImagesLike,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    accumulate: int = 1,
    optimizer: OptimizerName = "adamw",
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    warmup: float = 0.05,
    clip_norm: float | None = None,
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    channels_last: bool = True,
    compile: bool = False,
    augment: Augmentation | None = None,
    workers: int = 0,
    size: Size | None = None,
    on_error: OnError = "raise",
    seed: int = 0,
    checkpoint: str | Path | None = None,
    extend: bool = True,
    init: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[CallbackLike] = (),
) -> PretrainResult:
    """Train a pretext task's backbone and head on images, in place.

    Settings that are left out follow from the number of images and from what the task recommends
    (:class:`~pretextkit.Recommended`). The result's ``settings`` hold the values, and ``settings.json`` beside a
    checkpoint does, too. The file and ``history.settings`` also name task, backbone, images, seed, device and versions,
    and the command line if there was one.

    The task moves to ``device`` and stays there, in its previous mode (training or evaluation). Random numbers of a
    step depend only on ``seed`` and the step's number: a run that was stopped, and resumed by the same call, ends with
    the same weights as an uninterrupted run. The caller sets the initial weights: seed them with ``torch.manual_seed``.
    An input normalization that is not measured yet is set from the images first.

    At the end of each epoch, the history records ``spread`` and ``rankme`` of the features of the last batch (a
    thirtieth of all images, between 32 and 256): see :func:`~pretextkit.losses.feature_spread` and
    :func:`~pretextkit.losses.rankme`. If they show that the features have collapsed, a
    :class:`~pretextkit.errors.CollapseWarning` names the cause. The check begins after BatchNorm has seen fifty
    batches, because its first running statistics are far off. Other silent failures, such as weights without a
    gradient, give a :class:`~pretextkit.errors.TrainingWarning`.

    If a process group of ``torch.distributed`` is initialized, every process makes the same call and computes its rows
    of each batch. The weights end as those of one process would, except for rounding and for the statistics of
    BatchNorm and the draws of dropout, which each process has for itself. Only rank 0 shows progress, runs callbacks
    and touches the disk. A task whose weights are sharded by torch's ``fully_shard`` stays sharded.

    Args:
        task: Pretext task to train.
        images: Tensor ``n c h w`` (uint8, or float in [0, 1]), numpy array, ``Dataset``, ``DataLoader`` or the path of
            a folder; labels are ignored.
        epochs: Passes over the images; pass at most one of ``epochs`` and ``steps``. By default as many as read the
            number of images that the task recommends, 200,000 in general and 1,000,000 for joint embedding, but from
            10 to 400.
        steps: Optimizer steps.
        batch_size: Images in a step, on all processes together; by default that of a ``DataLoader``, else a power of
            two that leaves 128 steps an epoch, within the bounds of the task, in general from 32 to 256. A last partial
            batch is left out; the next epoch has another order.
        accumulate: Parts in which each process computes its rows of a batch, one after the other, to save memory. A
            loss that compares images, such as NT-Xent, then compares the images of one part, and BatchNorm takes the
            statistics of one part.
        optimizer: ``"adamw"``, ``"sgd"`` (momentum 0.9) or ``"lars"``, for batches of thousands.
        learning_rate: Highest learning rate; by default that of the task for AdamW, in general 0.001, and proportional
            to the batch for the others.
        weight_decay: Weight decay of matrices and filters; BatchNorm and biases never decay. The default depends on
            the optimizer.
        warmup: Fraction of the steps in which the learning rate rises, before it falls to zero on a cosine.
        clip_norm: Maximum norm of the gradient; ``None`` does not clip.
        precision: ``"auto"`` is bf16 on hardware that supports it, fp16 with loss scaling on older NVIDIA GPUs, else
            fp32. Weights that are not float32 are computed in their own dtype; float16 weights do not train.
        device: ``"auto"`` is a GPU if there is one.
        channels_last: Store filters in the memory format in which convolutions are fastest, while they train.
        compile: Compile the task with ``torch.compile``, which pays off in long runs.
        augment: Function from a batch and a generator to the batch from which the task makes its views, before the
            ``augmentation`` that many tasks have of their own; pass ``augmentation=None`` to the task to replace it.
        workers: Processes that read a ``Dataset`` or folder.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.
        seed: Seed of the order of the images, the views and the layers' random numbers.
        checkpoint: Folder of a checkpoint, ``history.csv`` and ``settings.json``, written every half minute, on Ctrl-C
            or SIGTERM, and at the end. If the folder holds a checkpoint of the same call, training resumes from it.
        extend: Whether a call that gives more ``epochs`` or ``steps`` extends the finished run in ``checkpoint``: the
            learning rate rises again and falls on a new cosine over the added steps. False refuses the folder.
        init: Folder of a run whose weights, head included, a new run starts with: to train with other images, another
            batch size, learning rate or precision. A run that resumes does not read it.
        progress: Show a bar on a terminal or in a notebook (extra ``progress``), or a line every ten seconds.
        callbacks: Objects of :class:`~pretextkit.callbacks.Callback`, called after steps and epochs, and functions of
            the newest row of the history, called after each epoch. Each may stop the run by raising
            :class:`~pretextkit.callbacks.StopTraining`. Modes that it sets are put back; weights that it freezes are
            reported, and weights that it moves are refused.

    Returns:
        The history, the settings and the speed of the run.

    Raises:
        OptionError: ``task`` is no pretext task, or a callback is of another kind; an option is out of range or
            differs between the processes; the batch has one image and the task has BatchNorm; only some of the task's
            weights are sharded; or user code moved the weights.
        DataError: The images hold values that the task cannot use.
        ShapeError: The shape of the images does not suit the task, or the loss is no mean with gradient.
        DivergenceError: The loss, a gradient or a weight became NaN or infinite; the last good checkpoint stays.
        CheckpointError: ``checkpoint`` belongs to another run, holds damaged files only, or is not writable; or
            ``init`` holds no checkpoint, or that of another task.

    Example:
        >>> import pretextkit as pk
        >>> task = pk.tasks.Rotation(pk.models.SmallCNN())
        >>> result = pretrain(task, torch.rand(16, 3, 32, 32), epochs=2, batch_size=8, device="cpu", progress=False)
        >>> result.steps, [round(row["epoch"]) for row in result.history.rows]
        (4, [1, 2])
    """
    check_task(task)
    if augment is not None:
        check_callable("augment", augment, "images", "generator")
    callbacks = check_callbacks(callbacks)
    group, device = current_group(device)
    source = as_source(images, labels=False, workers=workers, size=size, on_error=on_error)
    settings = Settings(
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        accumulate=accumulate,
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup=warmup,
        clip_norm=clip_norm,
        precision=precision,
        device=device,
        channels_last=channels_last,
        compile=compile,
        seed=seed,
    )
    source = with_accepted_channels(source, lambda images: takes_images(task.backbone, images))
    plan = make_plan(settings, source, group, task)
    modes = {module: module.training for module in task.modules()}
    backbone = unwrap(task).backbone
    _warn_of_frozen(task, backbone)
    trained = _describe_training(task, source, settings, plan, training_of(backbone))
    try:
        run = train(
            TaskObjective(task, augment, monitor_batch_size(len(source))),
            source,
            settings,
            plan,
            title=class_name(task),
            checkpoint=checkpoint,
            progress=progress,
            callbacks=callbacks,
            start_from=Start(extend, init),
            group=group,
            about=json.dumps(backbone_header(backbone, trained)),
            described=describe_run(task, source, trained),
        )
    finally:
        for module, mode in modes.items():
            module.training = mode
    remember_training(backbone, {**trained, "steps": run.steps})
    return PretrainResult(
        history=run.history,
        settings=run.settings,
        steps=run.steps,
        resumed_at=run.resumed_at,
        seconds=run.seconds,
        images_per_second=run.images_per_second,
        device=str(run.device),
        precision=run.precision,
        stopped=run.stopped,
    )


def _warn_of_frozen(task: nn.Module, backbone: nn.Module) -> None:
    """Warn if the head trains and no weight of the backbone, such as one that was frozen for a probe."""
    weights, trains = list(backbone.parameters()), any(weight.requires_grad for weight in task.parameters())
    if weights and trains and not any(weight.requires_grad for weight in weights):
        warn(
            f"All {len(weights)} weights of the backbone are frozen: only the head of the task trains. "
            "Call backbone.requires_grad_(True) first.",
            TrainingWarning,
            see="weights-that-do-not-train",
        )


def _describe_training(
    task: nn.Module, source: ImageSource, settings: Settings, plan: Plan, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe the training of a backbone in plain data, for the files in which the backbone is saved."""
    wanted = None if source.decides_order else ImageFormat.of(source)  # a stream may give its first images once only
    return {
        "by": "pretrain",
        "task": pretext_tasks.name_of(type(unwrap(task))) or class_name(unwrap(task)),
        "images": len(source),
        "image format": None if wanted is None else asdict(wanted),
        "steps": plan.total,
        "batch size": plan.batch_size,
        "optimizer": settings.optimizer,
        "learning rate": plan.learning_rate,
        "seed": settings.seed,
        **({"before": dict(before)} if before else {}),
    }
