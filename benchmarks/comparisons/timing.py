"""What every comparison is made of: two sides in turn, checks before any clock runs, and processes of their own."""

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
"""What a comparison measured."""

MIB = 1 << 20
LEAST_SECONDS = 0.2
"""A shorter run is repeated until it takes so long, or the clock and the scheduler would be measured.

Each side for itself: a peer a hundred times as slow need not run a hundred times.
"""


class Unequal(AssertionError):
    """The two sides do not compute the same, so that comparing their times says nothing."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: all, or just enough to see that everything runs."""

    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        """Choose a size."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Comparison:
    """One row of the report.

    Args:
        what: What a user waits for.
        beside: What it is compared with.
        measure: Checks, measures and gives a row.
        bound: What the row's ``figure`` has to reach, or None where a curve, or what two equal
            sides differ by, has to be looked at.
        figure: ``"ratio"``, the other side's time over ours, which has to be at least ``bound``; or the name of another
            figure of the row, which may be at most ``bound``.
    """

    what: str
    beside: str
    measure: Callable[[Effort], Row]
    bound: float | None
    figure: Literal["ratio", "extra seconds", "extra MiB", "percent of the time"] = "ratio"

    @property
    def name(self) -> str:
        """Name the row, and its file."""
        return f"{self.what}; {self.beside}"

    def met(self, row: Row) -> bool | None:
        """Tell whether a row reaches its bound."""
        if self.bound is None:
            return None
        return bool(row["ratio"] >= self.bound if self.figure == "ratio" else row[self.figure] <= self.bound)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Give what one run returns, and its seconds."""
    begun = time.perf_counter()
    found = run()
    return found, time.perf_counter() - begun


def seconds(run: Callable[[], Any], repeats: int = 1) -> float:
    """Time some runs, and give the mean."""
    return timed(lambda: [run() for _ in range(repeats)])[1] / repeats


def race(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    effort: Effort,
    rounds: int = 7,
    check: Callable[[Any, Any], Row] | None = None,
) -> Row:
    """Run both sides in turn; a ratio above 1 says that ours is faster.

    Every second round begins with the other side, so that neither always finds the caches of the other.

    Args:
        ours: One side.
        theirs: The other.
        effort: All rounds, or one.
        rounds: How often both run.
        check: Takes what both gave in a run before, which is not counted; raises if that is not the same.
    """
    rounds = effort.of(rounds, 1)
    (found, our_first), (expected, their_first) = timed(ours), timed(theirs)
    checked = check(found, expected) if check is not None else {}
    our_repeats, their_repeats = (
        1 if effort.quick or first >= LEAST_SECONDS else max(1, round(LEAST_SECONDS / seconds(side)))
        for side, first in ((ours, our_first), (theirs, their_first))
    )
    sides = ((theirs, their_repeats), (ours, our_repeats))
    pairs = []
    for number in range(rounds):
        way = -1 if number % 2 else 1
        times = [seconds(*side) for side in sides[::way]]
        pairs.append(times[::way])
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
    """Refuse two figures that should be one, and give their distance."""
    distance = abs(ours - theirs)
    if not distance <= tolerance:
        raise Unequal(f"{what}: ours is {ours:.6g}, theirs {theirs:.6g}, further apart than {tolerance:g}")
    return distance


def same_accuracy(ours: float, theirs: float) -> Row:
    """Refuse accuracies more than 0.2 points apart."""
    require_close("accuracy", ours, theirs, 0.002)
    return {"our_accuracy": ours, "their_accuracy": theirs}


def no_lower_accuracy(ours: float, theirs: float) -> Row:
    """Refuse an accuracy of ours that is lower than theirs."""
    if ours < theirs:
        raise Unequal(f"accuracy: ours is {ours:.4f}, below theirs of {theirs:.4f}")
    return {"our_accuracy": ours, "their_accuracy": theirs}


def in_child(function: Callable[..., Row], *arguments: Any) -> Row:
    """Call a function of one of these modules in a process of its own, whose memory nothing else has touched."""
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
    """Read one line of /proc/self/status, which Linux has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def extra_mib(run: Callable[[], object]) -> float:
    """Tell how much more memory than before a run took at its highest."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident set begins anew (proc(5))
    before = status_mib("VmRSS")
    run()
    return status_mib("VmHWM") - before


def extra_own_mib(run: Callable[[], object]) -> float:
    """Tell how much more memory of its own than before this process took at its highest, looking every 5 ms.

    Pages of a file that are in memory belong to the system's cache and not to the process.
    """
    ended = threading.Event()
    before = status_mib("RssAnon")
    seen = [before]

    def look() -> None:
        while not ended.wait(0.005):
            seen.append(status_mib("RssAnon"))

    watch = threading.Thread(target=look)
    watch.start()
    try:
        run()
    finally:
        ended.set()
        watch.join()
    return max(seen) - before


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Give the median of each point over the rounds."""
    return [statistics.median(values) for values in zip(*rounds, strict=True)]
