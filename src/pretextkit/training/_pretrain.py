"""Pretraining: images in, a backbone out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DistributedSampler

from pretextkit.contracts import PretextTask, TaskOutput
from pretextkit.data import ImageSource, LoaderImages, as_source
from pretextkit.distributed._processes import Processes, processes_here
from pretextkit.distributed._sharding import class_name, unsharded_weights
from pretextkit.errors import OptionError
from pretextkit.evaluation._classifier import Augmentation
from pretextkit.training._collapse import batch_norm_warmed_up, feature_quality, monitor_batch_size, warn_of_collapse
from pretextkit.training._hardware import Precision
from pretextkit.training._history import History
from pretextkit.training._loop import Callback, train
from pretextkit.training._objectives import Objective
from pretextkit.training._optim import OptimizerName, parameter_groups
from pretextkit.training._settings import Settings, check_batch_norm, make_plan

__all__ = ["PretrainResult", "pretrain"]


@dataclass(frozen=True)
class PretrainResult:
    """What pretraining did; the backbone itself is ``task.backbone``."""

    history: History
    """One row for each epoch."""
    steps: int
    """Steps of the whole run."""
    resumed_at: int
    """Steps that were done by earlier calls."""
    seconds: float
    """Of this call."""
    images_per_second: float
    """Images read, not views made; 0 when there was nothing left to do."""
    device: str
    """Where it ran."""
    precision: str
    """What it computed in."""

    def __str__(self) -> str:
        values = ", ".join(
            f"{name} {value:.3f}"
            for name, value in self.history.last.items()
            if name not in ("epoch", "step", "learning_rate", "seconds")
        )
        return (
            f"{self.steps} steps in {self.seconds:.1f} s ({self.images_per_second:,.0f} images/s, "
            f"{self.precision} on {self.device}): {values}"
        )


def pretrain(
    task: PretextTask[Any, Any],
    images: Any,
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
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> PretrainResult:
    """Train a pretext task's backbone and head on images, in place.

    The task moves to ``device`` and stays there, in the mode (training or evaluation) it was in. What a step draws
    depends on ``seed`` and the step's number alone, so that a run that was stopped and repeated with the same call ends
    as it would have without the stop. The initial weights are the caller's: seed them with ``torch.manual_seed``. An
    input normalization that has not been measured is set from the images first.

    At the end of each epoch, ``spread`` and ``rankme`` of the features of its last batch (a thirtieth of all images, of
    32 to 256) join the history: see :func:`~pretextkit.losses.feature_spread` and
    :func:`~pretextkit.losses.rankme`. Where they say that the features have collapsed, a
    :class:`~pretextkit.errors.CollapseWarning` names the cause; not before BatchNorm, whose running statistics are far
    off at first, has seen fifty batches. Other failures that would go unnoticed, such as weights that no gradient
    reaches, give a :class:`~pretextkit.errors.TrainingWarning`.

    Where a process group of ``torch.distributed`` is initialized, every process of it makes the same call and computes
    its share of each batch; the weights end as those of one process would, but for rounding and for what BatchNorm and
    dropout do on each process for itself. The first one shows, calls back, reads and writes. A task whose weights
    ``fully_shard`` of torch has divided among the processes trains so, and is left so.

    Args:
        task: What is trained.
        images: Tensor ``n c h w`` (uint8, or float in [0, 1]), numpy array, ``Dataset``, ``DataLoader`` or a folder's
            path; labels, if there are any, are not looked at.
        epochs: Passes over the images; either this or ``steps``.
        steps: Optimizer steps.
        batch_size: Images in a step, of all processes together; 256 by default, or what a ``DataLoader`` has. A last
            partial batch is left out, and comes in another epoch's order.
        accumulate: Parts that each process computes its share of a batch in, one after the other, so that it needs
            less memory. A loss that looks across the batch, such as NT-Xent, looks across a part of it then.
        optimizer: ``"adamw"``, ``"sgd"`` (momentum 0.9) or ``"lars"``, for batches of thousands.
        learning_rate: At its highest; by default 0.001 for AdamW, and in proportion to the batch for the others.
        weight_decay: Of matrices and filters; BatchNorm and biases never decay.
        warmup: Share of the steps in which the rate rises, before it falls to zero on a cosine.
        clip_norm: Longest gradient let through.
        precision: ``"auto"`` is bf16 where the machine computes in it, fp16 with loss scaling on older NVIDIA GPUs,
            else fp32.
        device: ``"auto"`` is a GPU if there is one.
        channels_last: Keep filters in the memory format that convolutions are fastest in.
        compile: Compile the task with ``torch.compile``, which pays on long runs.
        augment: Function from a batch and a generator to the batch that the task makes its views of. Thousands of
            images are soon known by heart: a task that draws little at random, such as rotation, then needs it.
        workers: Processes that read a ``Dataset`` or folder.
        seed: Of the order of the images, the views and the layers' own randomness.
        checkpoint: Folder of a checkpoint and ``history.csv``, written every half minute, on Ctrl-C or SIGTERM, and at
            the end. Where it holds a checkpoint of the same call, training goes on from there.
        progress: Show a bar on a terminal (extra ``progress``), or a line every ten seconds.
        callbacks: Called with the newest row of the history after each epoch.

    Returns:
        What was measured on the way.

    Raises:
        OptionError: An option is out of range, or differs between the processes, or the batch has one image and the
            task BatchNorm, or only some of the task's weights are divided among the processes.
        DataError: The images hold something the task cannot use.
        ShapeError: Their shape does not suit the task, or its loss is no mean with gradient.
        DivergenceError: The loss, a gradient or a weight became NaN or infinite; the last good checkpoint stays.
        CheckpointError: ``checkpoint`` holds that of another run or only damaged ones, or cannot be written.

    Example:
        >>> import pretextkit as pk
        >>> task = pk.tasks.Rotation(pk.models.SmallCNN())
        >>> result = pretrain(task, torch.rand(16, 3, 32, 32), epochs=2, batch_size=8, device="cpu", progress=False)
        >>> result.steps, [round(row["epoch"]) for row in result.history.rows]
        (4, [1, 2])
    """
    processes, device = processes_here(device)
    source = as_source(images, labels=False, workers=workers)
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
    plan = make_plan(settings, source, processes.place.world_size)
    check_batch_norm(plan.batch_size // (processes.place.world_size * accumulate), [task], "task")
    _check_synchronized(task, processes)
    _check_sampler(source)
    title = class_name(task)
    modes = {module: module.training for module in task.modules()}
    try:
        run = train(
            TaskObjective(task, augment, processes, monitor_batch_size(len(source))),
            source,
            settings,
            title=title,
            checkpoint=checkpoint,
            progress=progress,
            callbacks=callbacks,
            processes=processes,
        )
    finally:
        for module, mode in modes.items():
            module.training = mode
    return PretrainResult(
        history=run.history,
        steps=run.steps,
        resumed_at=run.resumed_at,
        seconds=run.seconds,
        images_per_second=run.images_per_second,
        device=str(run.device),
        precision=run.precision,
    )


def _check_synchronized(task: nn.Module, processes: Processes) -> None:
    layers = any(isinstance(module, nn.SyncBatchNorm) for module in task.modules())
    if layers and not processes.alone and processes.device.type != "cuda":
        raise OptionError(
            "SyncBatchNorm on GPUs, the only devices it works on in torch",
            got=f"device {processes.device}",
            fix="Keep BatchNorm, which then takes each process's own images, or use GroupNorm.",
        )


def _check_sampler(source: ImageSource) -> None:
    if isinstance(source, LoaderImages) and isinstance(source.loader.sampler, DistributedSampler):
        raise OptionError(
            "all images from the loader of each process, which keeps its own rows of every batch",
            got="a part, by DistributedSampler",
            fix="Pass the data set itself, and workers=...: each process then reads its share only.",
        )


class TaskObjective(Objective):
    """A pretext task, which makes its own targets."""

    def __init__(
        self, task: PretextTask[Any, Any], augment: Augmentation | None, processes: Processes, monitor_batch_size: int
    ) -> None:
        self.module: PretextTask[Any, Any] = task
        self.augment = augment
        self.collapsed = not processes.first  # one of them tells
        self.watched = monitor_batch_size

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.module)

    def prepare(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        self.latest = images
        return self.module.views(images if self.augment is None else self.augment(images, generator), generator)

    def score(self, batch: Any) -> TaskOutput:
        output: TaskOutput = self.module(batch)
        return output

    def identity(self) -> dict[str, Any]:
        return {"augment": None if self.augment is None else getattr(self.augment, "__qualname__", repr(self.augment))}

    def after_step(self) -> None:
        self.module.after_step()

    def epoch_metrics(self) -> dict[str, float]:
        images = self.latest[: self.watched]
        with unsharded_weights(self.module):
            features, quality = feature_quality(self.module.backbone, images)
        if not self.collapsed and batch_norm_warmed_up(self.module.backbone):
            self.collapsed = warn_of_collapse(images, features, quality["spread"], quality["rankme"])
        return quality
