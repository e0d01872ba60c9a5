"""Resumable rows and the JSON report of every experiment.

``Rows`` stores each finished measurement in its own file, so a repeated command continues where it stopped.
``write_report`` writes the JSON that ``scripts/tables.py`` turns into tables.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

import pretextkit as pk

__all__ = ["Rows", "environment", "write_report"]


class Rows:
    """Finished measurements in a folder, one JSON file each.

    Several processes can share a folder: a file appears under its name only when it is complete.

    Args:
        folder: Is created if it does not exist.
        settings: The options that all rows must have in common. A row with other settings stops the program.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(dict(settings or {})))  # as read from JSON: lists instead of tuples
        folder.mkdir(parents=True, exist_ok=True)

    def measure(self, name: str, function: Callable[[], Any]) -> Any:
        """Return the stored row ``name``, or call ``function`` and store its result, which must be valid JSON."""
        path = self.folder / f"{quote(name, safe=' ,;+=')}.json"
        if not path.exists():
            print(f"{name} ...", flush=True)
            content = json.dumps({"name": name, "settings": self.settings, "row": function()}, indent=1)
            partial = path.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(content + "\n", "utf-8")
            partial.replace(path)
        return self._read(path)[1]

    def take_over(self, report: Path) -> None:
        """Store the rows of a report, of this machine or another, that are not here yet."""
        stored = json.loads(report.read_text("utf-8"))
        self._check(report, stored["settings"])
        for name, row in stored["rows"].items():
            self.measure(name, partial(deepcopy, row))

    def all(self) -> dict[str, Any]:
        """Return all stored rows by name, also those of other processes and earlier commands."""
        return dict(self._read(path) for path in sorted(self.folder.glob("*.json")))

    def _read(self, path: Path) -> tuple[str, Any]:
        stored = json.loads(path.read_text("utf-8"))
        self._check(path, stored["settings"])
        return stored["name"], stored["row"]

    def _check(self, path: Path, settings: Any) -> None:
        if settings != self.settings:
            raise SystemExit(f"{path} has the settings {settings}, not {self.settings}. Give another --out.")


def environment() -> dict[str, Any]:
    """Return the versions, the machine and the number of threads."""
    return {
        "pretextkit": pk.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def write_report(path: Path, data: object, **content: Any) -> None:
    """Write the JSON report of an experiment.

    Args:
        path: The file; its folder is created.
        data: The images, described by ``str``.
        content: The rest of the report; ``tables`` as ``scripts/tables.py`` describes them.
    """
    report = {"command": shlex.join(["python", *sys.argv]), "data": str(data), **content, "environment": environment()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
