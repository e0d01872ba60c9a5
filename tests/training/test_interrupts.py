from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pretextkit.training._interrupts import Interrupt, deferred_interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _ctrl_c_raises() -> Iterator[None]:
    """Undo a shell's choice to ignore Ctrl-C in background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_is_deferred_and_handlers_restored(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with deferred_interrupts() as interrupt:
        assert interrupt.signal is None
        os.kill(os.getpid(), number)
        held: object = interrupt.signal
        assert held == number
        assert signal.getsignal(number) == before[SIGNALS.index(number)]  # the second signal acts
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_second_ctrl_c_acts_at_once() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    reached = False
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012 - the place where it raises is the point
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
        os.kill(os.getpid(), signal.SIGINT)
        reached = False
    assert reached
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_second_signal_reaches_the_callers_handler() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        with deferred_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
            assert got == []
            os.kill(os.getpid(), signal.SIGTERM)
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_restored_after_an_error() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(ZeroDivisionError), deferred_interrupts():
        raise ZeroDivisionError
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_raise_now_ends_as_the_signal_would() -> None:
    interrupt = Interrupt()
    interrupt.raise_now()
    interrupt.signal = signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        interrupt.raise_now()
    interrupt.signal = signal.SIGTERM
    with pytest.raises(SystemExit) as caught:
        interrupt.raise_now()
    assert caught.value.code == 143


def test_other_threads_defer_nothing() -> None:
    found: list[object] = []

    def work() -> None:
        before = [signal.getsignal(each) for each in SIGNALS]
        with deferred_interrupts() as interrupt:
            found.append([signal.getsignal(each) for each in SIGNALS] == before)
        found.append(interrupt.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True, None]
