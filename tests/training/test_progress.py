from __future__ import annotations

import importlib.util
import io
import sys
import time
from typing import Any

import pytest

from pretextkit.training._progress import BarProgress, LineProgress, Progress, progress_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_line_shows_step_values_speed_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    lines = LineProgress("Rotation", total=100, start=0, images_per_step=256)
    clock.now += 20
    lines.update(40, {"loss": 0.51249, "accuracy": 0.75})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "Rotation: step 40/100, loss 0.512, accuracy 0.750, 512 images/s, 20 s elapsed, 30 s left\n"
    )


def test_speed_of_a_resumed_run_ignores_earlier_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    lines = LineProgress("Rotation", total=100, start=90, images_per_step=10)
    capsys.readouterr()  # the line that the run resumes
    clock.now += 10
    lines.update(95, {"loss": 1.0})
    assert capsys.readouterr().err == "Rotation: step 95/100, loss 1.000, 5 images/s, 10 s elapsed, 10 s left\n"


def test_lines_come_every_ten_seconds_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    lines = LineProgress("Rotation", total=50, start=0, images_per_step=1)
    for step in range(1, 51):
        clock.now += 0.5
        lines.update(step, {})
    lines.close()
    lines.close()
    steps = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert steps == ["Rotation: step 20/50", "Rotation: step 40/50", "Rotation: step 50/50"]


def test_step_of_zero_seconds_does_not_divide_by_zero(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Clock(monkeypatch)
    lines = LineProgress("Rotation", total=2, start=1, images_per_step=1)
    lines.update(1, {})
    lines.close()
    assert "inf s left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "line"), [(100, "Rotation: already finished, step 100/100\n"), (40, "Rotation: resumes, step 40/100\n")]
)
def test_run_that_goes_on_says_where_it_stands(start: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    LineProgress("Rotation", total=100, start=start, images_per_step=256).close()
    assert capsys.readouterr().err == line


def test_close_without_a_step_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    LineProgress("Rotation", total=2, start=0, images_per_step=1).close()
    assert capsys.readouterr().err == ""


def test_terminal_shows_a_bar_with_values(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = progress_for(True, "Rotation", total=10, start=2, images_per_step=256)
    assert isinstance(bar, BarProgress)
    bar.update(6, {"loss": 0.51249, "accuracy": 0.75})
    assert (bar.bar.n, bar.bar.total, bar.bar.initial) == (6 * 256, 2560, 512)
    bar.bar.refresh()
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("Rotation:  60%")
    assert "1.54k/2.56k" in last
    assert "images/s" in last
    assert "<" in last  # time gone < time left
    assert last.rstrip().endswith(", loss 0.512, accuracy 0.750]")
    bar.update(10, {"loss": 0.5})
    bar.close()
    assert "100%" in terminal.getvalue().split("\r")[-1]


def test_terminal_without_tqdm_shows_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tqdm" else find(name))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(progress_for(True, "Rotation", 10, 0, 256), LineProgress)


def test_no_terminal_shows_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(progress_for(True, "Rotation", 10, 0, 256), LineProgress)


def test_progress_false_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    nothing: Any = progress_for(False, "Rotation", 10, 0, 256)
    assert isinstance(nothing, Progress)
    nothing.update(3, {"loss": 1.0})
    nothing.close()
    assert terminal.getvalue() == ""
