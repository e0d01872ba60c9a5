from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from pretextkit.errors import CheckpointError
from pretextkit.training.checkpoint import load_checkpoint, save_checkpoint

RUN = {"task": "Rotation", "seed": 0, "learning_rate": 0.1, "steps": None}


def state(step: int) -> dict[str, Any]:
    return {"step": step, "module": {"weight": torch.full((50,), float(step))}, "rows": [{"loss": 0.5}]}


def step_in(folder: Path) -> int:
    loaded = load_checkpoint(folder, RUN)
    assert loaded is not None
    assert torch.equal(loaded["module"]["weight"], torch.full((50,), float(loaded["step"])))
    return int(loaded["step"])


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    assert save_checkpoint(folder, state(1), RUN) == folder / "checkpoint.pt"
    loaded = load_checkpoint(folder, RUN)
    assert loaded is not None
    assert loaded["rows"] == [{"loss": 0.5}]
    assert step_in(folder) == 1


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, RUN) is None
    assert load_checkpoint(tmp_path / "missing", RUN) is None
    assert not (tmp_path / "missing").exists()


def test_the_one_before_is_kept_and_no_partial_file_left(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, state(step), RUN)
    assert step_in(tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    (tmp_path / "checkpoint.pt").unlink()
    assert step_in(tmp_path) == 2


class Crash(BaseException):
    pass


@pytest.mark.parametrize("place", ["save", "fsync", "first replace", "second replace"])
def test_a_crash_anywhere_leaves_a_whole_checkpoint(
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
def test_a_truncated_file_falls_back_to_the_one_before_and_says_so(tmp_path: Path, share: float) -> None:
    newest, previous = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    save_checkpoint(tmp_path, state(1), RUN)
    save_checkpoint(tmp_path, state(2), RUN)
    cut(newest, share)
    with pytest.warns(UserWarning, match="damaged") as caught:
        assert step_in(tmp_path) == 1
    (message,) = (str(each.message) for each in caught)
    assert message.startswith(f"The checkpoint {newest} (")
    assert message.endswith(f") is damaged; going on from {previous}.")
    assert not newest.exists()  # set aside: the next save must not push the intact one out
    save_checkpoint(tmp_path, state(3), RUN)
    cut(newest)
    with pytest.warns(UserWarning, match="damaged"):
        assert step_in(tmp_path) == 1


def test_only_damaged_ones_is_an_error_that_names_them(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), RUN)
    save_checkpoint(tmp_path, state(2), RUN)
    newest, previous = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    cut(newest)
    cut(previous)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path, RUN)
    text = str(caught.value)
    assert text.startswith(f"Expected an intact checkpoint, but got only damaged ones: {newest} (")
    assert f"), {previous} (" in text
    assert text.endswith("). Restore them from a copy, or remove them to start again.")


@pytest.mark.parametrize("content", [{}, [], {"format": 1}, {"format": 1, "identity": {}}])
def test_a_file_of_something_else_counts_as_damaged(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="only damaged ones"):
        load_checkpoint(tmp_path, RUN)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 1}, "seed: 0 there, 1 here"),
        (
            {"learning_rate": 0.2, "task": "SimCLR"},
            "task: 'Rotation' there, 'SimCLR' here; learning_rate: 0.1 there, 0.2 here",
        ),
        ({"new": 3}, "new: None there, 3 here"),
    ],
)
def test_another_run_is_refused_with_the_differences(tmp_path: Path, change: dict[str, Any], difference: str) -> None:
    save_checkpoint(tmp_path, state(1), RUN)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path, {**RUN, **change})
    assert str(caught.value) == (
        f"Expected the checkpoint {tmp_path / 'checkpoint.pt'} to belong to this run, but got {difference}. "
        "Repeat the call that wrote it to go on, or name another folder to start a new run."
    )


def test_an_option_that_is_gone_is_a_difference_too(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), {**RUN, "old": 3})
    with pytest.raises(CheckpointError, match="old: 3 there, None here"):
        load_checkpoint(tmp_path, RUN)


def test_of_many_differences_the_first_are_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), {**RUN, **{f"weight {i}": (i,) for i in range(20)}})
    with pytest.raises(CheckpointError, match=r"weight 7: \(7,\) there, None here; and 12 more\. Repeat"):
        load_checkpoint(tmp_path, RUN)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 2, "identity": {}, "state": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path, RUN)
    assert str(caught.value) == (
        f"Expected a checkpoint of format 1 or older in {tmp_path / 'checkpoint.pt'}, but got format 2. "
        "Update pretextkit."
    )


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_nothing_in_a_checkpoint_is_run(tmp_path: Path, write: str) -> None:
    target = tmp_path / "target"
    content = {"format": 1, "identity": RUN, "state": {"step": Bomb(target)}}
    path = tmp_path / "checkpoint.pt"
    if write == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="only damaged ones"):
        load_checkpoint(tmp_path, RUN)
    assert not target.exists()
    torch.load(path, weights_only=False) if write == "torch" else pickle.loads(path.read_bytes())
    assert target.exists()  # it would have gone off


def test_loading_an_intact_one_warns_of_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1), RUN)
    cut(save_checkpoint(tmp_path, state(2), RUN).with_name("checkpoint.previous.pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step_in(tmp_path) == 2
