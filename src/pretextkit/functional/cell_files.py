"""Finished cells on disk, so that an interrupted comparison goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pretextkit.errors import CheckpointError
from pretextkit.functional.comparison import ComparisonCell, write_json
from pretextkit.training.identity import differences

__all__ = ["CellFiles"]


class CellFiles:
    """A file for each finished cell, and a folder for each pretraining.

    Args:
        folder: Where the cells are kept, below ``cells``; None keeps nothing.
        checkpoints: Where pretraining runs are kept, below ``folder``/runs by default.
    """

    def __init__(self, folder: Path | None, checkpoints: Path | None) -> None:
        self.folder = folder
        self.runs = folder / "runs" if checkpoints is None and folder is not None else checkpoints

    def checkpoint(self, row: str, seed: int) -> Path | None:
        """Name the folder of a cell's pretraining."""
        return None if self.runs is None else self.runs / _file_name(row, seed)

    def read(self, identity: Mapping[str, Any]) -> ComparisonCell | None:
        """Read the cell of this identity, or None where it is not finished.

        Raises:
            CheckpointError: The file is damaged, or its cell is another call's.
        """
        path = self._path(identity)
        if path is None or not path.exists():
            return None
        try:
            content = json.loads(path.read_text("utf-8"))
            saved, cell = content["identity"], ComparisonCell.from_dict(content["cell"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"a finished cell in {path}", got=f"{type(error).__name__}: {error}", fix="Remove it to measure anew."
            ) from error
        if found := differences(saved, identity):
            raise CheckpointError(
                f"the cell {path} to belong to this comparison",
                got=found,
                fix="Repeat the call that wrote it to go on, or name another folder to start a new comparison.",
            )
        return cell

    def write(self, identity: Mapping[str, Any], cell: ComparisonCell) -> None:
        """Keep a finished cell."""
        if (path := self._path(identity)) is not None:
            write_json(path, {"identity": dict(identity), "cell": cell.to_dict()})

    def _path(self, identity: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / "cells" / f"{_file_name(identity['row'], identity['seed'])}.json"


def _file_name(row: str, seed: int) -> str:
    return f"{quote(row, safe=' ,=()')}-{seed}".replace(" ", "_")
