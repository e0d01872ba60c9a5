"""The training loop that pretraining and fine-tuning share."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from pretextkit.contracts import InputNormalization, TaskOutput
from pretextkit.data.sources import ImageSource
from pretextkit.training.checkpoint import load_checkpoint, save_checkpoint
from pretextkit.training.hardware import resolve_device, resolve_precision
from pretextkit.training.history import History
from pretextkit.training.interrupts import held_interrupts
from pretextkit.training.optim import build_optimizer, warmup_cosine
from pretextkit.training.order import Order
from pretextkit.training.progress import progress_for
from pretextkit.training.recorder import Recorder, diverged
from pretextkit.training.seeds import derived_generator, derived_seed, seed_layers
from pretextkit.training.settings import Plan, Settings, make_plan

__all__ = ["Callback", "Trainee", "TrainingRun", "train"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

MEASURED_IMAGES = 4096
"""Images from which an unmeasured input normalisation is set."""


class Trainee(ABC):
    """What the loop trains: a module and how one batch scores it."""

    module: nn.Module

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the optimiser's groups; a group's ``scale`` multiplies its learning rate."""

    @abstractmethod
    def prepare(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        """Make what :meth:`score` takes, without gradient and in full precision."""

    @abstractmethod
    def score(self, batch: Any) -> TaskOutput:
        """Run the module and its loss."""

    def train_mode(self) -> None:
        """Put the module into the mode it trains in."""
        self.module.train()

    def after_step(self) -> None:  # noqa: B027 - most have nothing to move
        """Move what follows the weights."""


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
    trainee: Trainee,
    source: ImageSource,
    settings: Settings,
    *,
    title: str,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    checkpoint_seconds: float = 30.0,
) -> TrainingRun:
    """Train, or go on from the checkpoint that the same call left in the folder ``checkpoint``."""
    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    plan = make_plan(settings, source)
    total = plan.total
    order = Order(source, plan.batch_size, plan.per_epoch, settings.seed)
    module = trainee.module.to(device)
    if settings.channels_last:
        module.to(memory_format=torch.channels_last)
    if settings.compile:
        module.compile()
    trainee.train_mode()
    optimizer = build_optimizer(
        settings.optimizer, trainee.parameter_groups(), plan.learning_rate, settings.weight_decay
    )
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    recorder = Recorder()
    start = 0
    identity = _identity(trainee, source, settings, plan, precision)
    if checkpoint is not None and (state := load_checkpoint(Path(checkpoint), identity)) is not None:
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        recorder = Recorder(state["rows"], state["open"])
        start = state["step"]
    unmeasured = _unmeasured_normalizations(module)
    sample = _sample(source, settings.seed) if unmeasured else torch.empty(0)

    def save(done: int) -> None:
        if checkpoint is None:
            return
        recorder.flush()
        _require_finite_weights(module, done, total)
        state = {
            "module": module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "step": done,
            "rows": recorder.rows,
            "open": recorder.open,
        }
        save_checkpoint(Path(checkpoint), state, identity)
        History(tuple(recorder.rows)).save_csv(Path(checkpoint) / "history.csv")

    bar = progress_for(progress, title, total, start, plan.batch_size)
    begun = saved = time.monotonic()
    flush_every = 1 if device.type == "cpu" else 10  # reading a loss waits for the device
    devices = [device] if device.type == "cuda" else []
    with held_interrupts() as interrupt, torch.random.fork_rng(devices=devices):
        step = start
        try:
            for step, images, labels in order.batches(start, total):
                factor = warmup_cosine(step, total, plan.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = plan.learning_rate * factor * group.get("scale", 1.0)
                seed_layers(device, settings.seed, step)
                images = _to_float(images.to(device, non_blocking=True))
                with torch.no_grad():
                    batch = trainee.prepare(
                        images,
                        None if labels is None else labels.to(device, non_blocking=True),
                        derived_generator(settings.seed, "views", step),
                    )
                while unmeasured:  # only now, that images which the task refuses leave no trace
                    unmeasured.pop().measure(sample.to(device))
                with torch.autocast(
                    device.type, torch.float16 if precision == "fp16" else torch.bfloat16, precision != "fp32"
                ):
                    output = trainee.score(batch)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(scaler.scale(output.loss))
                if settings.clip_norm is not None:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
                scaler.step(optimizer)
                scaler.update()
                trainee.after_step()
                recorder.add(step, output)
                if (step + 1) % flush_every == 0 or step + 1 == total:
                    recorder.flush()
                    bar.update(step + 1, recorder.latest)
                if (step + 1) % plan.per_epoch == 0 or step + 1 == total:
                    recorder.close_epoch(
                        epoch=(step + 1) / plan.per_epoch,
                        step=step + 1,
                        learning_rate=plan.learning_rate * factor,
                        seconds=time.monotonic() - begun,
                    )
                    for callback in callbacks:
                        callback(recorder.rows[-1])
                if interrupt.signal is not None or time.monotonic() - saved > checkpoint_seconds:
                    save(step + 1)
                    saved = time.monotonic()
                if interrupt.signal is not None:
                    if checkpoint is not None:
                        print(f"Stopped at step {step + 1} of {total}; repeat the call to go on.", file=sys.stderr)
                    interrupt.raise_now()
            if start < total:
                save(total)
        finally:
            bar.close()
    seconds = time.monotonic() - begun
    done = total - start
    return TrainingRun(
        History(tuple(recorder.rows)),
        steps=total,
        resumed_at=start,
        seconds=seconds,
        images_per_second=done * plan.batch_size / seconds if done else 0.0,
        device=device,
        precision=precision,
    )


def _unmeasured_normalizations(module: nn.Module) -> list[InputNormalization]:
    return [m for m in module.modules() if isinstance(m, InputNormalization) and m.training and not m.measured]


def _sample(source: ImageSource, seed: int) -> Tensor:
    """Read the images from which input normalisations are measured."""
    order = torch.randperm(len(source), generator=derived_generator(seed, "normalization"))[:MEASURED_IMAGES]
    with torch.random.fork_rng(devices=[]):  # a loader draws from the global generator
        torch.default_generator.manual_seed(derived_seed(seed, "normalization"))
        return torch.cat([batch.images for batch in source.batches(torch.split(order, 256))])


def _to_float(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float() / 255


def _identity(trainee: Trainee, source: ImageSource, settings: Settings, plan: Plan, precision: str) -> dict[str, Any]:
    """Say what two runs must share for one to go on where the other stopped."""
    weights = sorted((name, tuple(value.shape)) for name, value in trainee.module.state_dict().items())
    options = {name: value for name, value in asdict(settings).items() if name not in ("device", "compile")}
    return {
        "task": type(trainee.module).__name__,
        "network": derived_seed(0, str(weights)),
        "images": len(source),
        **options,
        **asdict(plan),
        "precision": precision,
    }


def _require_finite_weights(module: nn.Module, done: int, total: int) -> None:
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise diverged(f"weight {name!r}", "nan or inf", done)
