"""The training loop that pretraining and fine-tuning share.

A map of this folder, in the order in which a run passes through it::

    _pretrain    the public call: images in, a backbone out
    _settings    options of a run, and the plan that follows from them and the data
    _objectives  what trains: a pretext task; fine-tuning has its own
    _loop        this file: what a run is made of
    _steps       all steps of a run, and what happens between them
    _sampler     the images of every step
    _step        one step: views, forward pass, backward pass, optimizer (_optim), precision (_hardware)
    _watch       what looks at the run: history, monitors and callbacks
    _history     losses and metrics of the run; _progress shows them, and _description says what was run
    _callbacks   calls user code, which may stop the run
    _user_code   puts back or reports what callbacks and other user code change
    _monitors    silent failures to warn about; _collapse is one of them
    _checkpoint  saving and resuming; _identity says which run may resume, _extension which run grows;
                 _interrupts defers Ctrl-C
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn  # noqa: F401 - in the example

from pretextkit._modules import refuse_meta, refuse_traced_training
from pretextkit._starting_point import starting_point
from pretextkit.data._sources import ImageSource
from pretextkit.distributed._batch_slices import BatchSlice
from pretextkit.distributed._group import ALONE, ProcessGroup
from pretextkit.distributed._strategy import Strategy, choose_strategy
from pretextkit.training._callbacks import CallbackLike, RunCallbacks, check_callbacks
from pretextkit.training._description import describe_device
from pretextkit.training._extension import Start
from pretextkit.training._hardware import resolve_device
from pretextkit.training._history import History, Recorder
from pretextkit.training._identity import run_identity
from pretextkit.training._interrupts import deferred_interrupts
from pretextkit.training._monitors import TrainingMonitor, WarnOnce, detect_copied_generator
from pretextkit.training._objectives import Objective
from pretextkit.training._progress import progress_for
from pretextkit.training._run_checkpoints import RunCheckpoints, check_finite_weights
from pretextkit.training._sampler import BatchSampler, sample_images, unmeasured_normalizations
from pretextkit.training._settings import Plan, RunSettings, Settings, run_settings
from pretextkit.training._step import TrainStep
from pretextkit.training._steps import RunSteps
from pretextkit.training._user_code import check_trained_dtype
from pretextkit.training._watch import RunWatch

__all__ = ["TrainingRun", "train"]


@dataclass(frozen=True)
class TrainingRun:
    """Result of one call of the loop."""

    history: History
    settings: RunSettings
    steps: int
    """Steps of the full run, or those until a callback stopped it."""
    resumed_at: int
    """Steps done by earlier calls."""
    seconds: float
    """Duration of this call."""
    images: int
    """Images read by this call, on all processes together."""
    device: torch.device
    precision: str
    stopped: str | None = None
    """Reason for which a callback stopped the run."""

    @property
    def images_per_second(self) -> float:
        """Images read per second; 0 if there was nothing left to do."""
        return self.images / self.seconds if self.images else 0.0


def train(
    objective: Objective,
    source: ImageSource,
    settings: Settings,
    plan: Plan,
    *,
    title: str,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[CallbackLike] = (),
    checkpoint_seconds: float = 30.0,
    start_from: Start = Start(),  # noqa: B008 - an immutable tuple
    group: ProcessGroup = ALONE,
    about: str = "",
    described: Mapping[str, str | float | None] | None = None,
) -> TrainingRun:
    """Train an objective in place, or resume from the checkpoint of an equal call.

    Args:
        objective: What trains.
        source: Images, and labels if the objective needs them.
        settings: Options of the run.
        plan: Numbers of the run, from :func:`~pretextkit.training._settings.make_plan`.
        title: Title of the progress display.
        checkpoint: Folder to which the run is saved every ``checkpoint_seconds``, on Ctrl-C or SIGTERM, and at the end.
        progress: Whether to show progress.
        callbacks: Callbacks, and functions of the history's newest row.
        checkpoint_seconds: Seconds between two checkpoints.
        start_from: What to take over from another run.
        group: Processes that train together; each makes this call. Only rank 0 shows progress, runs callbacks and
            touches the disk.
        about: Description of the backbone for its checkpoints; empty without one.
        described: What was run, for the settings of the history; None adds only device and precision.

    Raises:
        OptionError: The settings differ between the processes, a callback is of another kind, or user code moved
            the weights.
        DivergenceError: The loss, a gradient or a weight is not finite.
        CheckpointError: ``checkpoint`` belongs to another run, holds damaged files only, or is not writable.

    Example:
        >>> from pretextkit.contracts import TaskOutput
        >>> from pretextkit.data._tensor_images import TensorImages
        >>> from pretextkit.training._settings import make_plan
        >>> class Brightness(Objective):
        ...     def __init__(self):
        ...         self.module = nn.Linear(1, 1)
        ...     def parameter_groups(self):
        ...         return [{"params": list(self.module.parameters())}]
        ...     def prepare_batch(self, images, labels, generator):
        ...         return images.mean((1, 2, 3)).unsqueeze(1)
        ...     def loss(self, batch):
        ...         return TaskOutput((self.module(batch) - batch).square().mean(), {})
        >>> source, settings = TensorImages(torch.rand(8, 3, 2, 2)), Settings(epochs=2, batch_size=4)
        >>> plan = make_plan(settings, source)
        >>> train(Brightness(), source, settings, plan, title="example", progress=False).steps
        4
    """
    callbacks = check_callbacks(callbacks)
    device, precision, strategy = _set_up(objective, settings, group)
    module, warn_once = objective.module, WarnOnce(group.is_first)
    warn_once(detect_copied_generator(source) if group.is_first else [])
    identity: dict[str, Any] = {}
    if checkpoint is not None or not group.is_alone:
        identity = run_identity(module, source, settings, plan, precision) | objective.identity()
    group.check_same_run(identity)

    checkpoints = RunCheckpoints(checkpoint, checkpoint_seconds, identity, strategy, start_from, about)
    plan = checkpoints.resume_plan(plan, settings)
    train_step = TrainStep(objective, settings, plan, device, precision, strategy)
    start, recorded = checkpoints.resume(train_step)
    resolved = run_settings(settings, plan, objective.augmentation(), starting_point(module), objective.chance_accuracy)
    place = {"device": describe_device(device), "precision": precision}
    recorder = Recorder(**recorded, settings={**(described or {}), **place, **asdict(resolved)})
    monitor = _monitor(objective, source, plan, precision, strategy, recorder)
    normalizations = unmeasured_normalizations(module)
    sample = sample_images(source, settings.seed) if normalizations else torch.empty(0)
    bar = progress_for(progress and group.is_first, title, plan.total, start, plan.batch_size)
    sampler = BatchSampler(source, plan.batch_size, plan.per_epoch, settings.seed, BatchSlice(*group.rank))
    user_code = RunCallbacks(callbacks if group.is_first else [], plan, train_step.state, recorder, checkpoints.folder)
    watch = RunWatch(objective, train_step, recorder, monitor, user_code, warn_once)

    forked = [device] if device.type == "cuda" else []
    with deferred_interrupts() as interrupt, torch.random.fork_rng(devices=forked), closing(bar):
        steps = RunSteps(sampler, train_step, watch, checkpoints, bar, interrupt, normalizations, sample)
        done = steps.run(start)
        group.barrier()  # waits for the last checkpoint
        watch.on_end(done)
    check_finite_weights(strategy, done)  # the last step changed them, and no loss was computed since
    if settings.channels_last:
        strategy.to_contiguous()
    images_read = (done - start) * plan.batch_size
    seconds, stopped = recorder.seconds_here, user_code.stopped
    return TrainingRun(recorder.history, resolved, done, start, seconds, images_read, device, precision, stopped)


def _monitor(
    objective: Objective, source: ImageSource, plan: Plan, precision: str, strategy: Strategy, recorder: Recorder
) -> TrainingMonitor:
    """Build the monitor of the run; a loss that rises is measured from the first epoch, also after a resume."""
    own, scaled = plan.batch_size // strategy.group.world_size, precision == "fp16"
    monitor = TrainingMonitor(objective.module, source, own, plan.per_epoch, scaled, strategy.full_tensor)
    monitor.usual_loss = objective.usual_loss
    monitor.first_loss = recorder.rows[0]["loss"] if recorder.rows else None
    return monitor


def _set_up(objective: Objective, settings: Settings, group: ProcessGroup) -> tuple[torch.device, str, Strategy]:
    """Move the module to its device, and choose the precision and the strategy."""
    device = resolve_device(settings.device)
    refuse_meta(objective.module)
    refuse_traced_training(objective.module)
    precision = objective.precision(settings.precision, device)
    check_trained_dtype(objective.module)
    module = objective.module.to(device)
    strategy = choose_strategy(module, group)
    if settings.channels_last:
        strategy.to_channels_last()
    if settings.compile:
        module.compile()
    objective.train_mode()
    return device, precision, strategy
