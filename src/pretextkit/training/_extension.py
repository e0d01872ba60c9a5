"""What a call makes of the checkpoint that it finds: resume it, extend its finished run, or refuse it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pretextkit._fingerprint import differences
from pretextkit.errors import CheckpointError
from pretextkit.training._settings import Plan

__all__ = ["SavedRun", "Start", "resolve_extension"]

SCHEDULE = ("epochs", "steps", "total", "warmup", "extends")
"""Parts of an identity that an extended run has of its own."""


class Start(NamedTuple):
    """What a run may take over from another run."""

    extend: bool = True
    """Whether to extend a finished run of fewer steps."""
    init: str | Path | None = None
    """Folder of a run whose weights a new run starts with."""


class SavedRun(NamedTuple):
    """Content of a checkpoint."""

    path: Path
    identity: dict[str, Any]
    state: dict[str, Any]
    about: str = ""
    """Description of the backbone; empty without one."""


def resolve_extension(saved: SavedRun, identity: Mapping[str, Any], plan: Plan, warmup: float, extend: bool) -> int:
    """Return the steps of the finished run that a call extends: 0 if the checkpoint belongs to a run of its own.

    Args:
        saved: Checkpoint of the folder.
        identity: Identity of the call, as of a new run.
        plan: Plan of the call, as of a new run.
        warmup: Fraction of the steps in which the learning rate rises.
        extend: Whether to extend a finished run.

    Raises:
        CheckpointError: The checkpoint belongs to another run, which this call cannot extend.
    """
    there, here = (_without_schedule(each) for each in (saved.identity, identity))
    if found := differences(there, here):
        raise _belongs_elsewhere(saved.path, found, same_weights=_weight_shapes(there) == _weight_shapes(here))
    before, asked, done = saved.identity.get("total", 0), identity.get("total", 0), saved.state["step"]
    if extend and asked > before == done:
        return int(before)
    if extend and asked != before:
        raise _other_length(saved, identity)
    extends: int = saved.identity.get("extends", 0)
    expected = {"extends": 0, **identity}
    if extends:
        expected |= {"extends": extends, "warmup": plan.extending(extends, warmup).warmup}
    if found := differences({"extends": 0, **saved.identity}, expected):
        raise _belongs_elsewhere(saved.path, found, same_weights=True)
    return extends


def _other_length(saved: SavedRun, identity: Mapping[str, Any]) -> CheckpointError:
    """Build the error for a run that cannot become as long as a call asks."""
    folder, done = saved.path.parent, saved.state["step"]
    both_in_epochs = None not in (saved.identity["epochs"], identity["epochs"])
    name, key = ("epochs", "epochs") if both_in_epochs else ("steps", "total")
    length, got = f"{name}={saved.identity[key]}", f"{name}={identity[key]}"
    if identity["total"] < saved.identity["total"]:
        fix = "Pass another folder to start a new run."
        return CheckpointError(f"{length} or more for the run in {folder}", got=got, fix=fix)
    return CheckpointError(
        f"{length} for the run in {folder}, which stands at step {done} of {saved.identity['total']}",
        got=got,
        fix="Repeat the call that wrote the checkpoint to finish its run; after that, this call extends it.",
    )


def _without_schedule(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name not in SCHEDULE}


def _weight_shapes(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name == "task" or name.startswith("weight ")}


def _belongs_elsewhere(path: Path, found: str, same_weights: bool) -> CheckpointError:
    fix = "Repeat the call that wrote the checkpoint to resume it, or pass another folder to start a new run"
    fix += (
        f". With init={str(path.parent)!r}, the new run starts with the weights of this run." if same_weights else "."
    )
    expected = f"the checkpoint {path} to belong to this run"
    return CheckpointError(expected, got=found, fix=fix, see="a-checkpoint-of-another-run")
