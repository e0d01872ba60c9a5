"""Building blocks of the comparisons: races of two sides, checks of equality, and measurements in child processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Row = dict[str, Any]
"""Result of a comparison."""

MIB = 1 << 20
MIN_SECONDS = 0.2
"""A shorter run is repeated until it takes this long; otherwise the clock and the scheduler dominate.

Each side has its own number of repeats: a peer that is 100 times slower need not run 100 times.
"""


class Unequal(AssertionError):
    """The two sides compute different results; a comparison of their times is meaningless."""


@dataclass(frozen=True)
class Effort:
    """Amount of measurement: full, or just enough to check that everything runs."""

    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        """Return one of two sizes."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Comparison:
    """One row of the report.

    Args:
        operation: The operation of pretextkit.
        peer: The peer, or the limit.
        measure: Function that checks, measures and returns a row.
        bound: Target of the row's ``figure``; None if the row has no target, such as a curve.
        figure: ``"ratio"``, the peer's time divided by ours, at least ``bound``; or another figure of the row, at most
            ``bound``.
    """

    operation: str
    peer: str
    measure: Callable[[Effort], Row]
    bound: float | None
    figure: Literal["ratio", "extra seconds", "extra MiB", "percent of the time"] = "ratio"

    @property
    def name(self) -> str:
        """Name of the row and of its file."""
        return f"{self.operation}; {self.peer}"

    def met(self, row: Row) -> bool | None:
        """Return whether a row reaches its target; None without a target."""
        if self.bound is None:
            return None
        return bool(row["ratio"] >= self.bound if self.figure == "ratio" else row[self.figure] <= self.bound)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of one run and its seconds."""
    begun = time.perf_counter()
    found = run()
    return found, time.perf_counter() - begun


def seconds(run: Callable[[], Any], repeats: int = 1) -> float:
    """Return the mean seconds of some runs."""
    return timed(lambda: [run() for _ in range(repeats)])[1] / repeats


def race(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    effort: Effort,
    rounds: int = 7,
    check: Callable[[Any, Any], Row] | None = None,
) -> Row:
    """Run both sides alternately; a ratio above 1 means that ours is faster.

    Every second round begins with the other side, because the second side finds the caches of the first.

    Args:
        ours: Our side.
        theirs: The peer's side.
        effort: Full measurement, or one round.
        rounds: Number of runs of each side.
        check: Compares the results of an untimed first run and raises if they differ; returns facts for the row.
    """
    rounds = effort.of(rounds, 1)
    (found, our_first), (expected, their_first) = timed(ours), timed(theirs)
    checked = check(found, expected) if check is not None else {}
    our_repeats, their_repeats = (
        1 if effort.quick or first >= MIN_SECONDS else max(1, round(MIN_SECONDS / seconds(side)))
        for side, first in ((ours, our_first), (theirs, their_first))
    )
    sides = ((theirs, their_repeats), (ours, our_repeats))
    pairs = []
    for number in range(rounds):
        step = -1 if number % 2 else 1
        times = [seconds(*side) for side in sides[::step]]
        pairs.append(times[::step])
    ratios = sorted(slow / fast for slow, fast in pairs)
    return {
        **checked,
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
        "our_seconds": statistics.median(fast for _, fast in pairs),
        "their_seconds": statistics.median(slow for slow, _ in pairs),
        "rounds": rounds,
        "our_repeats": our_repeats,
        "their_repeats": their_repeats,
    }


def require_close(what: str, ours: float, theirs: float, tolerance: float) -> float:
    """Raise if two figures that should agree differ by more than ``tolerance``; return their distance."""
    distance = abs(ours - theirs)
    if not distance <= tolerance:
        raise Unequal(f"{what}: ours is {ours:.6g}, theirs {theirs:.6g}; they differ by more than {tolerance:g}")
    return distance


def same_accuracy(ours: float, theirs: float) -> Row:
    """Raise if the accuracies differ by more than 0.2 points."""
    require_close("accuracy", ours, theirs, 0.002)
    return {"our_accuracy": ours, "their_accuracy": theirs}


def no_lower_accuracy(ours: float, theirs: float) -> Row:
    """Raise if our accuracy is lower than theirs."""
    if ours < theirs:
        raise Unequal(f"accuracy: ours is {ours:.4f}, below theirs of {theirs:.4f}")
    return {"our_accuracy": ours, "their_accuracy": theirs}


def in_child(function: Callable[..., Row], *arguments: Any) -> Row:
    """Call a function of one of these modules in a new process with fresh memory."""
    call = f"import json; from {function.__module__} import {function.__name__} as run; "
    code = f"{call}print(json.dumps(run(*{json.dumps(arguments)})))"
    folder = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{function.__name__}{arguments} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def status_mib(key: str) -> float:
    """Read one line of /proc/self/status (Linux only), in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def extra_mib(run: Callable[[], object]) -> float:
    """Return the peak of the resident memory of a run above its start, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak resident set size (proc(5))
    before = status_mib("VmRSS")
    run()
    return status_mib("VmHWM") - before


def extra_own_mib(run: Callable[[], object]) -> float:
    """Return the peak of the anonymous memory of a run above its start in MiB, sampled every 5 ms.

    Anonymous memory excludes cached pages of memory-mapped files.
    """
    ended = threading.Event()
    before = status_mib("RssAnon")
    samples = [before]

    def sample() -> None:
        while not ended.wait(0.005):
            samples.append(status_mib("RssAnon"))

    watch = threading.Thread(target=sample)
    watch.start()
    try:
        run()
    finally:
        ended.set()
        watch.join()
    return max(samples) - before


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Return the median of each point over the rounds."""
    return [statistics.median(values) for values in zip(*rounds, strict=True)]
