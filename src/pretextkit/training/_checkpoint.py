"""Files of checkpoints, written atomically, verified on reading, and loaded without executing code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from pretextkit._atomic import atomic_write
from pretextkit.errors import CheckpointError, warn
from pretextkit.training._extension import SavedRun

__all__ = ["load_checkpoint", "read_checkpoint", "require_writable", "save_checkpoint"]

FORMAT = 2
"""Since format 2, a checksum follows the archive of ``torch.save``; ``torch.load`` ignores it."""

NAME, PREVIOUS, DAMAGED = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.damaged.pt"

MARK = b"pretextkit sha256 "

TRAILER = len(MARK) + hashlib.sha256().digest_size


def save_checkpoint(folder: Path, state: Mapping[str, Any], identity: Mapping[str, Any], about: str = "") -> Path:
    """Write ``folder/checkpoint.pt``, and keep the previous checkpoint as ``checkpoint.previous.pt``.

    The file is complete on the disk before it takes its name: a crash leaves the old checkpoint or the new one.

    Args:
        folder: Folder, made if it does not exist.
        state: Tensors, numbers, strings, lists and dicts.
        identity: Identity of the run; only a run with an equal identity can resume.
        about: Description of the backbone, as in the header of a saved backbone; empty without one.

    Raises:
        OSError: The system could not write the file, for example to a full disk; existing checkpoints stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / NAME
    with atomic_write(target, keep=folder / PREVIOUS) as file:
        hashed = _HashedFile(file)
        try:
            content = {"format": FORMAT, "identity": dict(identity), "state": dict(state), "about": about}
            torch.save(content, cast(BinaryIO, hashed))
        except RuntimeError as error:  # torch hides the OSError when it closes its archive
            raise hashed.failure or error from None
        file.write(MARK + hashed.hash.digest())
    return target


def load_checkpoint(folder: Path) -> SavedRun | None:
    """Read the newest intact checkpoint of ``folder``; ``None`` if there is no checkpoint.

    Raises:
        CheckpointError: No checkpoint is intact, or the newest has a later format.
    """
    path, content, problems = _newest_intact(folder)
    if content is None:
        return None
    if problems:
        warn(f"The checkpoint {problems[0]} is damaged; training resumes from {path}.", see="a-damaged-checkpoint")
        os.replace(folder / NAME, folder / DAMAGED)  # else the next checkpoint would replace the intact one
    _require_known(path, content["format"])
    return SavedRun(path, content["identity"], dict(content["state"]), content.get("about", ""))


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest intact checkpoint of any run, without a change on the disk; ``None`` if there is no checkpoint.

    Returns:
        ``format``, ``identity``, ``state`` and ``about``.

    Raises:
        CheckpointError: No checkpoint is intact, or the newest has a later format.

    Example:
        >>> read_checkpoint(Path("no run")) is None
        True
    """
    path, content, problems = _newest_intact(folder)
    if content is not None:
        _require_known(path, content["format"])
    if problems and content is not None:
        warn(f"The checkpoint {problems[0]} is damaged; {path} is read.", see="a-damaged-checkpoint")
    return content


def _newest_intact(folder: Path) -> tuple[Path, dict[str, Any] | None, list[str]]:
    """Return the newest intact checkpoint of a folder with its path, and the damaged ones before it."""
    problems = []
    for path in (folder / NAME, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            content = _read_intact(path)
            _ = content["format"], content["identity"], content["state"]
        except Exception as error:  # a damaged file can raise any error: zip, pickle, struct, key
            problems.append(f"{path} ({type(error).__name__})")
        else:
            return path, content, problems
    if problems:
        raise CheckpointError(
            "an intact checkpoint",
            got=f"damaged files only: {', '.join(problems)}",
            fix="Restore a file from a copy, or remove the files to start again.",
        )
    return folder, None, []


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to. The folder is not made yet.

    Raises:
        CheckpointError: The folder is a file, or there is no permission to write.

    Example:
        >>> require_writable(Path("run"))
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise CheckpointError(
            f"a writable folder {folder}",
            got="no write permission" if existing.is_dir() else f"a file {existing}",
            fix="Name another folder.",
        )


class _HashedFile:
    """Hashes the data that is written to a file."""

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
    """The content does not match the checksum."""


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


def _require_known(path: Path, version: int) -> None:
    if version > FORMAT:
        raise CheckpointError(
            f"a checkpoint of format {FORMAT} or older in {path}", got=f"format {version}", fix="Update pretextkit."
        )
