"""All steps of a run, from the first of this call to the last or to a stop, and what happens between them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from torch import Tensor

from pretextkit.contracts import InputNormalization
from pretextkit.training._interrupts import Interrupt
from pretextkit.training._progress import Progress
from pretextkit.training._run_checkpoints import RunCheckpoints
from pretextkit.training._sampler import BatchSampler
from pretextkit.training._step import TrainStep
from pretextkit.training._watch import RunWatch

__all__ = ["RunSteps"]


@dataclass(frozen=True)
class RunSteps:
    """The steps of a run."""

    sampler: BatchSampler
    train_step: TrainStep
    watch: RunWatch
    checkpoints: RunCheckpoints
    bar: Progress
    interrupt: Interrupt
    normalizations: list[InputNormalization]
    """Those to measure in the first step; it empties the list."""
    sample: Tensor
    """Images from which to measure them."""

    def run(self, start: int) -> int:
        """Take the steps after ``start``, and return the number of steps done."""
        group, total = self.train_step.strategy.group, self.train_step.plan.total
        done = start
        self.watch.on_start(start)
        self.interrupt.by_callback = self.watch.stopped
        self.interrupt.share(group)
        for step, images, labels in self.sampler.batches(start, start if self.interrupt.stops else total):
            if step == start and self.sampler.source.splits_itself:
                group.check_different_images(images)
            batches = self.train_step.prepare(step, images, labels)
            self.watch.on_batch(step, images, batches)
            while self.normalizations:  # only now: images that the task refuses leave no trace
                self.normalizations.pop().measure(self.sample.to(self.train_step.device))
            self.watch.add(step, self.train_step.step(step, batches))
            done = step + 1
            if self._after(done):
                self._stop(done)
                break
        return done

    def _after(self, done: int) -> bool:
        """Read the numbers, call the callbacks and save, each when due; return whether to stop before the end."""
        watch, plan, group = self.watch, self.train_step.plan, self.train_step.strategy.group
        flush_every = 1 if self.train_step.device.type == "cpu" else 10  # reading a loss waits for the device
        synchronized = done % flush_every == 0 or done == plan.total  # on all processes
        ends_epoch = done % plan.per_epoch == 0 or done == plan.total
        if synchronized or ends_epoch or watch.callbacks.watch_steps:
            watch.on_step(done - 1)
        if ends_epoch:
            watch.on_epoch(done - 1)
        self.interrupt.by_callback = self.interrupt.by_callback or watch.stopped
        if synchronized:
            self.bar.update(done, watch.recorder.latest)
            self.interrupt.share(group)
        stop = self.interrupt.stops and (synchronized or group.is_alone)
        self._save(done, stop or done == plan.total, synchronized)
        return stop

    def _save(self, done: int, last: bool, synchronized: bool) -> None:
        """Save the run, if this is due."""
        if self.checkpoints.due(last, synchronized):
            self.watch.read_numbers()
            self.checkpoints.save(done, self.train_step, self.watch.recorder, last)
            self.watch.on_save(self.checkpoints)

    def _stop(self, done: int) -> None:
        """Say why the run stops, and raise a signal that was deferred."""
        if self.checkpoints.writes:
            stopped = self.watch.callbacks.stopped
            why = f": {stopped}." if stopped is not None else "; repeat the call to resume."
            print(f"Stopped at step {done} of {self.train_step.plan.total}{why}", file=sys.stderr)
        self.interrupt.raise_now()
