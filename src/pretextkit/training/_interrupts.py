"""Ctrl-C and SIGTERM, held back until a step is complete."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupt", "deferred_interrupts"]


class Interrupt:
    """Whether somebody asked to stop, and how."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def raise_now(self) -> None:
        """End as the signal would have: KeyboardInterrupt, or exit status 143 for SIGTERM."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def deferred_interrupts() -> Iterator[Interrupt]:
    """Hold the first Ctrl-C or SIGTERM back; the second acts at once. Only the main thread can; others hold nothing."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def hold(number: int, _frame: FrameType | None) -> None:
        interrupt.signal = signal.Signals(number)
        signal.signal(number, previous[interrupt.signal])

    try:
        for number in previous:
            signal.signal(number, hold)
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
