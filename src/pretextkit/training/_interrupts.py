"""Defer Ctrl-C and SIGTERM until a step is complete."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pretextkit.distributed._group import ProcessGroup

__all__ = ["Interrupt", "deferred_interrupts"]


CALLBACK_STOP = 1
"""Number of a stop by a callback; lower than that of each deferred signal, which wins."""


class Interrupt:
    """The signal received so far, if any, and whether a callback stops the run."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.by_callback = False

    @property
    def stops(self) -> bool:
        """Whether the run stops."""
        return self.by_callback or self.signal is not None

    def share(self, group: ProcessGroup) -> None:
        """Give a stop of one process to all: each stops after the same step, or some would wait forever."""
        number = group.all_reduce_max(self.signal or (CALLBACK_STOP if self.by_callback else 0))
        self.by_callback = self.by_callback or number == CALLBACK_STOP
        if number > CALLBACK_STOP:
            self.signal = signal.Signals(number)

    def raise_now(self) -> None:
        """Raise KeyboardInterrupt for Ctrl-C, or SystemExit with status 143 for SIGTERM."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def deferred_interrupts() -> Iterator[Interrupt]:
    """Defer the first Ctrl-C or SIGTERM; the second acts at once. Outside the main thread, nothing is deferred."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def defer(number: int, _frame: FrameType | None) -> None:
        interrupt.signal = signal.Signals(number)
        signal.signal(number, previous[interrupt.signal])

    try:
        for number in previous:
            signal.signal(number, defer)
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
