"""The training loop that pretraining and fine-tuning share."""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pretextkit.data._sources import ImageSource
from pretextkit.data._stream import StreamImages
from pretextkit.distributed._batch_slices import BatchSlice
from pretextkit.distributed._processes import ALONE, Processes
from pretextkit.distributed._sharding import full_tensor, is_sharded
from pretextkit.errors import CheckpointError
from pretextkit.training._checkpoint import load_checkpoint, require_writable, save_checkpoint
from pretextkit.training._hardware import resolve_device, resolve_precision
from pretextkit.training._history import History
from pretextkit.training._identity import run_identity
from pretextkit.training._interrupts import deferred_interrupts
from pretextkit.training._monitors import TrainingMonitor, warn_of_copied_generator
from pretextkit.training._normalization import sample_images, unmeasured_normalizations
from pretextkit.training._objectives import Objective
from pretextkit.training._progress import progress_for
from pretextkit.training._recorder import Recorder, diverged
from pretextkit.training._sampler import BatchSampler
from pretextkit.training._settings import Settings, make_plan
from pretextkit.training._step import TrainStep

__all__ = ["Callback", "TrainingRun", "train"]


@dataclass(frozen=True)
class TrainingRun:
    """What one call of the loop did."""

    history: History
    steps: int
    resumed_at: int
    seconds: float
    images_per_second: float
    device: torch.device
    precision: str


Callback = Callable[[Mapping[str, float]], None]
"""Called with the history's newest row after every epoch."""


def train(
    trainee: Objective,
    source: ImageSource,
    settings: Settings,
    *,
    title: str,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    checkpoint_seconds: float = 30.0,
    processes: Processes = ALONE,
) -> TrainingRun:
    """Train, or go on from the checkpoint that the same call left in the folder ``checkpoint``.

    Args:
        trainee: What is trained, in place.
        source: Its images, and their labels if it needs any.
        settings: How.
        title: What progress is shown under.
        checkpoint: Folder that is written to every ``checkpoint_seconds``, on Ctrl-C or SIGTERM, and at the end.
        progress: Show how far it has come.
        callbacks: Called with the history's newest row after every epoch.
        checkpoint_seconds: Between two checkpoints.
        processes: Those that train together, each of which makes this call. The first shows progress, calls the
            callbacks, and reads and writes checkpoints.

    Raises:
        OptionError: A setting makes no sense, or differs between the processes.
        DivergenceError: The loss, a gradient or a weight is not finite.
        CheckpointError: ``checkpoint`` holds that of another run or only damaged ones, or cannot be written.

    Example:
        >>> from pretextkit.contracts import TaskOutput
        >>> from pretextkit.data._sources import TensorImages
        >>> class Brightness(Trainee):
        ...     def __init__(self):
        ...         self.module = nn.Linear(1, 1)
        ...     def parameter_groups(self):
        ...         return [{"params": list(self.module.parameters())}]
        ...     def prepare(self, images, labels, generator):
        ...         return images.mean((1, 2, 3)).unsqueeze(1)
        ...     def score(self, batch):
        ...         return TaskOutput((self.module(batch) - batch).square().mean(), {})
        >>> source = TensorImages(torch.rand(8, 3, 2, 2))
        >>> train(Brightness(), source, Settings(epochs=2, batch_size=4), title="example", progress=False).steps
        4
    """
    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    plan = make_plan(settings, source, processes.place.world_size)
    total = plan.total
    module = trainee.module.to(device)
    sharded = is_sharded(module)
    if settings.channels_last and not sharded:  # which must be contiguous
        module.to(memory_format=torch.channels_last)
    if settings.compile:
        module.compile()
    trainee.train_mode()
    if processes.first:
        warn_of_copied_generator(source)
    own = plan.batch_size // processes.place.world_size
    watch = TrainingMonitor(module, source, own, plan.per_epoch, scaled=precision == "fp16", tells=processes.first)
    recorder = Recorder(see=watch.measured)
    folder = None if checkpoint is None else Path(checkpoint)
    identity: dict[str, Any] = {}
    if folder is not None or not processes.alone:
        identity = run_identity(module, source, settings, plan, precision) | trainee.identity()
    processes.require_same(identity)
    stepper = TrainStep(trainee, settings, plan, device, precision, processes)
    start, seconds_before = 0, 0.0

    def load() -> dict[str, Any] | None:
        if folder is None:
            return None
        require_writable(folder)  # not after ten hours
        return load_checkpoint(folder, identity)

    if (state := processes.from_first(load)) is not None:
        stepper.load_state_dict(state)
        recorder = Recorder(state["rows"], state["open"], watch.measured)
        start, seconds_before = state["step"], state["seconds"]
    writes = folder is not None and processes.first
    all_gather = sharded and processes.highest(folder is not None) > 0
    unmeasured = unmeasured_normalizations(module)
    sample = sample_images(source, settings.seed) if unmeasured else torch.empty(0)
    bar = progress_for(progress and processes.first, title, total, start, plan.batch_size)
    begun = saved = time.monotonic()

    def save(done: int, last: bool) -> None:
        if not (writes or all_gather):
            return
        recorder.flush()
        _require_finite_weights(module, done)
        weights = stepper.state_dict()
        if folder is None or not writes:
            return
        watch.attributes(identity)
        seconds = seconds_before + time.monotonic() - begun
        state = {"step": done, "seconds": seconds, "rows": recorder.rows, "open": recorder.open}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The history first: where the checkpoint says that all is done, nobody would write it again.
            History(tuple(recorder.rows)).save_csv(folder / "history.csv")
            save_checkpoint(folder, weights | state, identity)
        except OSError as error:
            if last:
                raise CheckpointError(
                    f"a folder {folder} that can be written to",
                    got=str(error),
                    fix="Free some room and repeat the call: it goes on from the checkpoint before, if there is one. "
                    f"What this process trained, up to step {done}, is still in its memory.",
                ) from error
            warnings.warn(
                f"The checkpoint at step {done} could not be written to {folder}: {error}. The one before stays, "
                f"training goes on, and the next try comes after {max(0, checkpoint_seconds):g} s. Free some room.",
                stacklevel=3,
            )

    flush_every = 1 if device.type == "cpu" else 10  # reading a loss waits for the device
    devices = [device] if device.type == "cuda" else []
    order = BatchSampler(source, plan.batch_size, plan.per_epoch, settings.seed, BatchSlice(*processes.place))
    with deferred_interrupts() as interrupt, torch.random.fork_rng(devices=devices):
        try:
            for step, images, labels in order.batches(start, total):
                done = step + 1
                if step == start and isinstance(source, StreamImages):
                    processes.require_different(images)
                batches = stepper.prepare(step, images, labels)
                watch.read(step, images, batches)
                while unmeasured:  # only now, that images which the task refuses leave no trace
                    unmeasured.pop().measure(sample.to(device))
                recorder.add(step, stepper.move(step, batches), watch.gradient())
                waited = done % flush_every == 0 or done == total
                if waited:
                    recorder.flush()
                    bar.update(done, recorder.latest)
                if done % plan.per_epoch == 0 or done == total:
                    recorder.close_epoch(
                        epoch=done / plan.per_epoch,
                        step=done,
                        **processes.mean_of(trainee.epoch_metrics()),
                        learning_rate=stepper.learning_rate(step),
                        seconds=seconds_before + time.monotonic() - begun,
                    )
                    watch.closed_epoch(done / plan.per_epoch, recorder.rows[-1]["loss"], stepper.scaler.get_scale())
                    for callback in callbacks if processes.first else ():
                        callback(recorder.rows[-1])
                if waited and (number := processes.highest(interrupt.signal or 0)):
                    interrupt.signal = signal.Signals(number)  # all stop after one step, or some would wait for ever
                stop = interrupt.signal is not None and (waited or processes.alone)
                last = stop or done == total
                due = last or time.monotonic() - saved > checkpoint_seconds
                if all_gather:  # all take part, or some would wait for ever
                    due = waited and processes.highest(due) > 0
                if due:
                    save(done, last)
                    saved = time.monotonic()
                if stop:
                    if folder is not None and processes.first:
                        print(f"Stopped at step {done} of {total}; repeat the call to go on.", file=sys.stderr)
                    interrupt.raise_now()
        finally:
            bar.close()
    processes.wait()  # for the last checkpoint
    _require_finite_weights(module, total)  # the last step moved them, and no loss was computed since
    seconds = time.monotonic() - begun
    return TrainingRun(
        History(tuple(recorder.rows)),
        steps=total,
        resumed_at=start,
        seconds=seconds,
        images_per_second=(total - start) * plan.batch_size / seconds if start < total else 0.0,
        device=device,
        precision=precision,
    )


def _require_finite_weights(module: nn.Module, done: int) -> None:
    for name, value in module.named_parameters():
        if not full_tensor(value.isfinite().all()):
            raise diverged(f"weight {name!r}", "nan or inf", done)
