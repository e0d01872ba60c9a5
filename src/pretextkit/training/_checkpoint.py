"""Checkpoints: written whole or not at all, verified, and read without running anything in them."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from pretextkit._atomic import atomic_write
from pretextkit.errors import CheckpointError
from pretextkit.training._identity import differences

__all__ = ["load_checkpoint", "require_writable", "save_checkpoint"]

FORMAT = 2
"""Since 2, a checksum follows the archive that ``torch.save`` writes, and which ``torch.load`` reads all the same."""

NAME, PREVIOUS, DAMAGED = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.damaged.pt"
MARK = b"pretextkit sha256 "
TRAILER = len(MARK) + hashlib.sha256().digest_size


def save_checkpoint(folder: Path, state: Mapping[str, Any], identity: Mapping[str, Any]) -> Path:
    """Write ``folder/checkpoint.pt``, keeping the one before as ``checkpoint.previous.pt``.

    The file is complete on the disk before it takes the name, so that a crash leaves the old one or the new one.

    Args:
        folder: Made if it is not there.
        state: Tensors, numbers, strings, lists and dicts.
        identity: What a run must share to go on from here.

    Raises:
        OSError: The system could not write it (the disk is full, say); what was there stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / NAME
    with atomic_write(target, keep=folder / PREVIOUS) as file:
        hashed = _HashedFile(file)
        try:
            torch.save({"format": FORMAT, "identity": dict(identity), "state": dict(state)}, cast(BinaryIO, hashed))
        except RuntimeError as error:  # closing its archive, torch hides why it could not be written
            raise hashed.failure or error from None
        file.write(MARK + hashed.hash.digest())
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
            content = _read_intact(path)
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


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, or made; make nothing yet.

    Raises:
        CheckpointError: It is a file, or the system says that it may not be written to.

    Example:
        >>> require_writable(Path("run"))
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise CheckpointError(
            f"a folder {folder} that can be written to",
            got="no write permission" if there.is_dir() else f"a file {there}",
            fix="Name another folder.",
        )


class _HashedFile:
    """Passes what is written on, and its hash along the way."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            count = self.file.write(data)
        except OSError as error:
            self.failure = error
            raise
        self.hash.update(data)
        return count

    def flush(self) -> None:
        self.file.flush()


class _ChecksumError(Exception):
    """The content is not what was written."""


def _read_intact(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        left = max(0, path.stat().st_size - TRAILER)
        content = hashlib.sha256()
        while left and (chunk := file.read(min(left, 1 << 20))):
            content.update(chunk)
            left -= len(chunk)
        trailer = file.read()
    marked = trailer.startswith(MARK)
    if marked and trailer != MARK + content.digest():
        raise _ChecksumError
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if loaded["format"] == FORMAT and not marked:
        raise _ChecksumError
    return loaded


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
