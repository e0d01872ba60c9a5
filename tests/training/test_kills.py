"""Runs killed at random moments, and by an exception at every disk access of a checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from pretextkit._atomic import atomic_write
from pretextkit.training import _checkpoint as checkpoint
from pretextkit.training import _history as history

from .killed_runs import pretrain

pytestmark = pytest.mark.xdist_group("serial")


class Crash(BaseException):
    """No ``except Exception`` catches it, like a kill."""


class Disk:
    """Records the disk accesses of a run, and ends the run at one of them, in the middle of a write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fatal: int = -1) -> None:
        self.done: list[str] = []
        self.fatal = fatal
        replace, fsync = os.replace, os.fsync

        def reach(what: str) -> bool:
            self.done.append(what)
            return len(self.done) - 1 == self.fatal

        def noted_replace(source: Path, target: Path) -> None:
            if reach(f"replace {target.name}"):
                raise Crash
            replace(source, target)

        def noted_fsync(descriptor: int) -> None:
            if reach("fsync"):
                raise Crash
            fsync(descriptor)

        class Noted:
            def __init__(self, file: BinaryIO, name: str) -> None:
                self.file, self.name, self.flush = file, name, file.flush

            def write(self, data: bytes) -> int:
                if reach(f"write {self.name}"):
                    self.file.write(bytes(data)[: len(data) // 2])
                    raise Crash
                return self.file.write(data)

        @contextmanager
        def noted(path: Path, keep: Path | None = None) -> Iterator[Any]:
            with atomic_write(path, keep) as file:
                yield Noted(file, path.name)

        monkeypatch.setattr(os, "replace", noted_replace)
        monkeypatch.setattr(os, "fsync", noted_fsync)
        monkeypatch.setattr(checkpoint, "atomic_write", noted)
        monkeypatch.setattr(history, "atomic_write", noted)


@pytest.fixture
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_run_killed_at_any_disk_access_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All disk accesses of the fifth checkpoint, except the inner writes of the archive."""
    with torch.random.fork_rng(devices=[]):
        with monkeypatch.context() as patched:
            disk = Disk(patched)
            weights, rows = pretrain(tmp_path / "full", 0)
        saves = [i for i, what in enumerate(disk.done) if what == "write history.csv"]
        assert len(saves) == 12
        fifth = range(saves[4], saves[5])
        writes = [i for i in fifth if disk.done[i] == "write checkpoint.pt"]
        places = [i for i in fifth if i not in writes[1:-1] or i == writes[len(writes) // 2]]
        names = [disk.done[i].split(".")[0] for i in places]
        assert names == [
            *("write history", "fsync", "replace history", "fsync"),
            *("write checkpoint", "write checkpoint", "write checkpoint", "fsync"),
            *("replace checkpoint", "replace checkpoint", "fsync"),
        ]
        for place in places:
            folder = tmp_path / str(place)
            with monkeypatch.context() as patched:
                Disk(patched, fatal=place)
                with pytest.raises(Crash):
                    pretrain(folder, 0)
            resumed, resumed_rows = pretrain(folder, 0)
            assert resumed_rows == rows
            for name, value in weights.items():
                assert torch.equal(value, resumed[name]), f"{name}, killed at {disk.done[place]}"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each run is a forked process")
def test_run_killed_at_random_moments_resumes_exactly(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("killed_runs.py")), str(tmp_path), "25"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a process with threads cannot be forked safely
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["kills"] >= 25
    assert report["before the first checkpoint"] < report["kills"]  # some runs resumed
