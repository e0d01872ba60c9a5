"""Checkpoints: written whole or not at all, read without running anything in them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pretextkit.errors import CheckpointError
from pretextkit.training.identity import differences

__all__ = ["load_checkpoint", "save_checkpoint"]

FORMAT = 1
NAME, PREVIOUS, DAMAGED = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.damaged.pt"


def save_checkpoint(folder: Path, state: Mapping[str, Any], identity: Mapping[str, Any]) -> Path:
    """Write ``folder/checkpoint.pt``, keeping the one before as ``checkpoint.previous.pt``.

    The file is complete on the disk before it takes the name, so that a crash leaves the old one or the new one.

    Args:
        folder: Made if it is not there.
        state: Tensors, numbers, strings, lists and dicts.
        identity: What a run must share to go on from here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / NAME, folder / (NAME + ".partial")
    with partial.open("wb") as file:
        torch.save({"format": FORMAT, "identity": dict(identity), "state": dict(state)}, file)
        file.flush()
        os.fsync(file.fileno())
    if target.exists():
        os.replace(target, folder / PREVIOUS)
    os.replace(partial, target)
    return target


def load_checkpoint(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the newest intact checkpoint of ``folder``, or None where there is none.

    Raises:
        CheckpointError: No checkpoint is intact, the newest is of a later format, or it belongs to another run.
    """
    found = [path for path in (folder / NAME, folder / PREVIOUS) if path.exists()]
    problems = []
    for path in found:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            version, saved, state = content["format"], content["identity"], content["state"]
        except Exception as error:  # a damaged file can fail in any way: zip, pickle, struct, key
            problems.append(f"{path} ({type(error).__name__})")
            continue
        if problems:
            warnings.warn(f"The checkpoint {problems[0]} is damaged; going on from {path}.", stacklevel=2)
            os.replace(folder / NAME, folder / DAMAGED)  # so that the next one does not push out the intact one
        _require_same(path, version, saved, identity)
        return dict(state)
    if problems:
        raise CheckpointError(
            "an intact checkpoint",
            got=f"only damaged ones: {', '.join(problems)}",
            fix="Restore them from a copy, or remove them to start again.",
        )
    return None


def _require_same(path: Path, version: int, saved: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    if version > FORMAT:
        raise CheckpointError(
            f"a checkpoint of format {FORMAT} or older in {path}", got=f"format {version}", fix="Update pretextkit."
        )
    if found := differences(saved, identity):
        raise CheckpointError(
            f"the checkpoint {path} to belong to this run",
            got=found,
            fix="Repeat the call that wrote it to go on, or name another folder to start a new run.",
        )
