from __future__ import annotations

import errno
import os
import pickle
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from pretextkit._atomic import atomic_write
from pretextkit.errors import CheckpointError
from pretextkit.training._checkpoint import load_checkpoint, require_writable, save_checkpoint
from pretextkit.training._extension import resolve_extension
from pretextkit.training._settings import Plan

RUN = {"task": "Rotation", "seed": 0, "learning_rate": 0.1, "steps": None}


def state(step: int) -> dict[str, Any]:
    return {"step": step, "module": {"weight": torch.full((50,), float(step))}, "rows": [{"loss": 0.5}]}


def load(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The newest state of a run, if the folder holds the run of this identity."""
    saved = load_checkpoint(folder)
    if saved is None:
        return None
    assert resolve_extension(saved, identity, Plan(1, 0.1, 1, 0, 0), 0.05, extend=True) == 0
    return saved.state


def step_in(folder: Path) -> int:
    loaded = load(folder, RUN)
    assert loaded is not None
    assert torch.equal(loaded["module"]["weight"], torch.full((50,), float(loaded["step"])))
    return int(loaded["step"])


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def test_load_returns_the_saved_state(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    assert save_checkpoint(folder, state(1), RUN) == folder / "checkpoint.pt"
    loaded = load(folder, RUN)
    assert loaded is not None
    assert loaded["rows"] == [{"loss": 0.5}]
    assert step_in(folder) == 1


def test_load_returns_none_without_a_checkpoint(tmp_path: Path) -> None:
    assert load(tmp_path, RUN) is None
    assert load(tmp_path / "missing", RUN) is None
    assert not (tmp_path / "missing").exists()


def test_save_keeps_the_previous_and_no_partial_file(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, state(step), RUN)
    assert step_in(tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    (tmp_path / "checkpoint.pt").unlink()
    assert step_in(tmp_path) == 2


class Crash(BaseException):
    pass


class FullDisk:
    """A file on a disk with limited space."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self.file, self.room = file, room
        self.flush = file.flush

    def write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


@pytest.mark.parametrize("place", ["save", "fsync", "first replace", "second replace"])
def test_crash_while_saving_leaves_a_complete_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    save_checkpoint(tmp_path, state(1), RUN)
    save_checkpoint(tmp_path, state(2), RUN)
    replace, replaced = os.replace, []

    def half_written(content: Any, file: Any) -> None:
        file.write(b"half of a checkpoint")
        raise Crash

    def crash(*_: Any) -> None:
        raise Crash

    def replace_until(source: Any, target: Any) -> None:
        replaced.append(target)
        if len(replaced) == ("first replace", "second replace").index(place) + 1:
            raise Crash
        replace(source, target)

    if place == "save":
        monkeypatch.setattr(torch, "save", half_written)
    elif place == "fsync":
        monkeypatch.setattr(os, "fsync", crash)
    else:
        monkeypatch.setattr(os, "replace", replace_until)
    with pytest.raises(Crash):
        save_checkpoint(tmp_path, state(3), RUN)
    monkeypatch.undo()
    assert step_in(tmp_path) == 2
    save_checkpoint(tmp_path, state(4), RUN)
    assert step_in(tmp_path) == 4


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_truncated_file_falls_back_to_previous_with_warning(tmp_path: Path, share: float) -> None:
    newest, previous = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    save_checkpoint(tmp_path, state(1), RUN)
    save_checkpoint(tmp_path, state(2), RUN)
    cut(newest, share)
    with pytest.warns(UserWarning, match="damaged") as caught:
        assert step_in(tmp_path) == 1
    (message,) = (str(each.message) for each in caught)
    assert message.startswith(f"The checkpoint {newest} (")
    link = "See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#a-damaged-checkpoint."
    assert message.endswith(f") is damaged; training resumes from {previous}. {link}")
    assert not newest.exists()  # set aside: the next save must not replace the intact file
    save_checkpoint(tmp_path, state(3), RUN)
    cut(newest)
    with pytest.warns(UserWarning, match="damaged"):
        assert step_in(tmp_path) == 1


def test_load_raises_if_all_checkpoints_are_damaged(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), RUN)
    save_checkpoint(tmp_path, state(2), RUN)
    newest, previous = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    cut(newest)
    cut(previous)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path, RUN)
    text = caught.value.text
    assert text.startswith(f"Expected an intact checkpoint, but got damaged files only: {newest} (")
    assert f"), {previous} (" in text
    assert text.endswith("). Restore a file from a copy, or remove the files to start again.")


def test_flipped_byte_falls_back_to_previous_and_names_both(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), RUN)
    newest, previous = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    save_checkpoint(tmp_path, state(2), RUN)
    intact = newest.read_bytes()
    # Every byte of the checksum, and every seventh before it.
    places = sorted({*range(0, len(intact), 7), *range(len(intact) - 60, len(intact))})
    for place in places:
        newest.write_bytes(intact[:place] + bytes([intact[place] ^ (1 << place % 8)]) + intact[place + 1 :])
        with pytest.warns(UserWarning, match="damaged") as caught:
            assert step_in(tmp_path) == 1
        (message,) = (str(each.message) for each in caught)
        assert str(newest) in message
        assert str(previous) in message
    newest.write_bytes(intact)
    assert step_in(tmp_path) == 2


@pytest.mark.parametrize("cut_off", [1, 32, 40, 50])
def test_truncated_checksum_is_detected(tmp_path: Path, cut_off: int) -> None:
    save_checkpoint(tmp_path, state(1), RUN)
    save_checkpoint(tmp_path, state(2), RUN)
    newest = tmp_path / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:-cut_off])
    with pytest.warns(UserWarning, match=r"\(_ChecksumError\) is damaged"):
        assert step_in(tmp_path) == 1


def test_torch_load_reads_a_checkpoint(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, state(1), RUN)
    assert torch.load(path, weights_only=True)["state"]["step"] == 1


def test_load_reads_format_1_without_checksum(tmp_path: Path) -> None:
    torch.save({"format": 1, "identity": RUN, "state": state(7)}, tmp_path / "checkpoint.pt")
    assert step_in(tmp_path) == 7


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99, 0.999])
def test_full_disk_keeps_old_checkpoint_and_frees_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Torch's own error, raised while it closes its archive, would say ``unexpected pos``."""
    save_checkpoint(tmp_path, state(1), RUN)
    save_checkpoint(tmp_path, state(2), RUN)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    room = int(share * len(before["checkpoint.pt"]))

    @contextmanager
    def limited(path: Path, keep: Path | None = None) -> Iterator[Any]:
        with atomic_write(path, keep) as file:
            yield FullDisk(file, room)

    monkeypatch.setattr("pretextkit.training._checkpoint.atomic_write", limited)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(tmp_path, state(3), RUN)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert step_in(tmp_path) == 2


def test_save_syncs_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, synced = os.fsync, []

    def spy(descriptor: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    save_checkpoint(tmp_path, state(1), RUN)
    assert synced == ["file", "folder"]


def test_save_works_if_the_folder_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:  # as Windows does
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    save_checkpoint(tmp_path, state(1), RUN)
    assert step_in(tmp_path) == 1


def test_require_writable_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    for folder in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(CheckpointError) as caught:
            require_writable(folder)
        assert caught.value.text == (
            f"Expected a writable folder {folder}, but got a file {tmp_path / 'run'}. Name another folder."
        )
    require_writable(tmp_path / "new" / "deeper")
    assert not (tmp_path / "new").exists()


def test_require_writable_refuses_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(CheckpointError, match=r"run, but got no write permission\. Name another folder"):
        require_writable(tmp_path / "run")


@pytest.mark.parametrize("content", [{}, [], {"format": 1}, {"format": 1, "identity": {}}])
def test_load_treats_foreign_files_as_damaged(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="damaged files only"):
        load(tmp_path, RUN)


@pytest.mark.parametrize(
    ("change", "difference", "same_weights"),
    [
        ({"seed": 1}, "seed: 0 there, 1 here", True),
        (
            {"learning_rate": 0.2, "task": "SimCLR"},
            "task: 'Rotation' there, 'SimCLR' here; learning_rate: 0.1 there, 0.2 here",
            False,
        ),
        ({"new": 3}, "new: None there, 3 here", True),
        ({"weight bias": (3,)}, "weight bias: None there, (3,) here", False),
    ],
)
def test_load_refuses_another_run_and_names_differences(
    tmp_path: Path, change: dict[str, Any], difference: str, same_weights: bool
) -> None:
    save_checkpoint(tmp_path, state(1), RUN)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path, {**RUN, **change})
    way_out = f". With init={str(tmp_path)!r}, the new run starts with the weights of this run."
    assert str(caught.value) == (
        f"Expected the checkpoint {tmp_path / 'checkpoint.pt'} to belong to this run, but got {difference}. "
        "Repeat the call that wrote the checkpoint to resume it, or pass another folder to start a new run"
        + (way_out if same_weights else ".")
        + " See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#a-checkpoint-of-another-run."
    )


def test_load_reports_a_missing_option_as_difference(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), {**RUN, "old": 3})
    with pytest.raises(CheckpointError, match="old: 3 there, None here"):
        load(tmp_path, RUN)


def test_load_names_the_first_of_many_differences(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), {**RUN, **{f"weight {i}": (i,) for i in range(20)}})
    with pytest.raises(CheckpointError, match=r"weight 7: \(7,\) there, None here; and 12 more\. Repeat"):
        load(tmp_path, RUN)


def test_load_refuses_a_later_format(tmp_path: Path) -> None:
    torch.save({"format": 3, "identity": {}, "state": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path, RUN)
    assert caught.value.text == (
        f"Expected a checkpoint of format 2 or older in {tmp_path / 'checkpoint.pt'}, but got format 3. "
        "Update pretextkit."
    )


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_load_executes_no_code_of_a_checkpoint(tmp_path: Path, write: str) -> None:
    target = tmp_path / "target"
    content = {"format": 1, "identity": RUN, "state": {"step": Bomb(target)}}
    path = tmp_path / "checkpoint.pt"
    if write == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="damaged files only"):
        load(tmp_path, RUN)
    assert not target.exists()
    torch.load(path, weights_only=False) if write == "torch" else pickle.loads(path.read_bytes())
    assert target.exists()  # the planted code would have run


def test_load_of_intact_checkpoint_gives_no_warning(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), RUN)
    cut(save_checkpoint(tmp_path, state(2), RUN).with_name("checkpoint.previous.pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step_in(tmp_path) == 2
