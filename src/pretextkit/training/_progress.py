"""Progress of long work: a bar on a terminal or in a notebook, lines elsewhere."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["BarProgress", "LineProgress", "Progress", "progress_for"]


class Progress:
    """A progress display that shows nothing; subclasses show steps and values."""

    def update(self, done: int, values: Mapping[str, float]) -> None:
        """Show that ``done`` steps are done, and the latest values."""

    def close(self) -> None:
        """Finish the display."""


class BarProgress(Progress):
    """A tqdm bar with loss, metrics, speed and time left (extra ``progress``)."""

    def __init__(self, title: str, total: int, start: int, images_per_step: int) -> None:
        from tqdm.auto import tqdm

        self.images = images_per_step
        self.bar: Any = tqdm(
            desc=title, total=total * images_per_step, initial=start * images_per_step, unit=" images", unit_scale=True
        )

    def update(self, done: int, values: Mapping[str, float]) -> None:
        """Move the bar."""
        self.bar.set_postfix_str(_values(values), refresh=False)
        self.bar.update(done * self.images - self.bar.n)

    def close(self) -> None:
        """Leave the finished bar on the screen."""
        self.bar.close()


class LineProgress(Progress):
    """A line on standard error every ten seconds, and one at the end; a resumed run begins with one."""

    def __init__(self, title: str, total: int, start: int, images_per_step: int, every: float = 10.0) -> None:
        self.title, self.total, self.start, self.images, self.every = title, total, start, images_per_step, every
        self.begun = self.shown = time.monotonic()
        self.last: tuple[int, Mapping[str, float]] | None = None
        if start:
            state = "already finished" if start == total else "resumes"
            print(f"{title}: {state}, step {start}/{total}", file=sys.stderr, flush=True)

    def update(self, done: int, values: Mapping[str, float]) -> None:
        """Print a line if the last line is old enough."""
        self.last = (done, values)
        if time.monotonic() - self.shown >= self.every:
            self._print()

    def close(self) -> None:
        """Print the last values, if they are not printed yet."""
        if self.last is not None:
            self._print()

    def _print(self) -> None:
        assert self.last is not None
        done, values = self.last
        self.shown = time.monotonic()
        seconds = self.shown - self.begun
        rate = (done - self.start) / max(seconds, 1e-9)
        left = (self.total - done) / rate if rate else float("inf")
        print(
            f"{self.title}: step {done}/{self.total}, {_values(values)}, {rate * self.images:,.0f} images/s, "
            f"{seconds:.0f} s elapsed, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
        self.last = None


def progress_for(show: bool, title: str, total: int, start: int, images_per_step: int) -> Progress:
    """Choose a bar on a terminal or in a notebook with tqdm, else lines; or nothing if ``show`` is false.

    Example:
        >>> progress_for(False, "rotation", 100, 0, 256).update(1, {"loss": 0.5})
    """
    if not show:
        return Progress()
    if _shows_bars() and importlib.util.find_spec("tqdm") is not None:
        return BarProgress(title, total, start, images_per_step)
    return LineProgress(title, total, start, images_per_step)


def _shows_bars() -> bool:
    """Return whether there is a terminal, or a notebook with the widgets of its bar."""
    if (ipython := sys.modules.get("IPython")) is not None:
        shell = ipython.get_ipython()
        if shell is not None and "IPKernelApp" in shell.config:
            return importlib.util.find_spec("ipywidgets") is not None
    return sys.stderr.isatty()


def _values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())
