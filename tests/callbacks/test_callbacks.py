"""Callbacks in pretraining, fine-tuning and comparisons."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.callbacks import Callback, EarlyStopping, KeepBest, Probe, RunStatus, StopTraining
from pretextkit.data._tensor_images import TensorImages
from pretextkit.errors import DataError, OptionError
from pretextkit.functional import PretrainResult, compare, freeze_and_finetune, knn_probe, linear_probe, pretrain
from pretextkit.testing import TinyBackbone, toy_images
from tests.helpers import WithDropoutAndNorm

IMAGES = toy_images(16, size=16, generator=Generator().manual_seed(0))
LABELS = torch.arange(16) % 2
OTHERS = toy_images(16, size=16, generator=Generator().manual_seed(1))
Task = pk.PretextTask[Any, Any]


def make() -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return pk.tasks.Rotation(WithDropoutAndNorm())


def run(task: Task, *callbacks: Any, images: Any = IMAGES, **options: Any) -> PretrainResult:
    if "steps" not in options:
        options.setdefault("epochs", 3)
    defaults: dict[str, Any] = {"batch_size": 4, "device": "cpu", "precision": "fp32", "progress": False}
    return pretrain(task, images, callbacks=list(callbacks), **defaults | options)


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


class Record(Callback):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.seen: list[RunStatus] = []

    def on_start(self, status: RunStatus) -> None:
        self._add("start", status)

    def on_step(self, status: RunStatus) -> None:
        self._add("step", status)

    def on_epoch(self, status: RunStatus) -> None:
        self._add("epoch", status)

    def on_end(self, status: RunStatus) -> None:
        self._add("end", status)

    def _add(self, name: str, status: RunStatus) -> None:
        self.calls.append(name)
        self.seen.append(status)


class StopAt(Callback):
    def __init__(self, step: int, text: str = "enough") -> None:
        self.step, self.text = step, text

    def on_step(self, status: RunStatus) -> None:
        if status.step == self.step:
            raise StopTraining(self.text) if self.text else StopTraining


class StopAtEpoch(Callback):
    def on_epoch(self, status: RunStatus) -> None:
        raise StopTraining


def test_hooks_are_called_in_order_with_module_step_and_row(tmp_path: Path) -> None:
    task, record = make(), Record()
    result = run(task, record, epochs=2, checkpoint=tmp_path)
    assert record.calls == ["start", *["step"] * 4, "epoch", *["step"] * 4, "epoch", "end"]
    assert all(status.module is task and status.steps == 8 and status.folder == tmp_path for status in record.seen)
    assert [status.step for status in record.seen] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 8]
    steps = [status for name, status in zip(record.calls, record.seen, strict=True) if name == "step"]
    epochs = [status for name, status in zip(record.calls, record.seen, strict=True) if name == "epoch"]
    assert [status.epoch for status in steps] == [step / 4 for step in range(1, 9)]
    assert [dict(status.row) for status in epochs] == [dict(row) for row in result.history.rows]
    assert [len(status.history.rows) for status in epochs] == [1, 2]
    first = [status.row["loss"] for status in steps[:4]]  # the loss of an epoch is the mean of its steps
    assert epochs[0].row["loss"] == pytest.approx(sum(first) / 4)
    assert steps[-1].row["learning_rate"] == result.history.last["learning_rate"]


def test_status_is_a_copy_that_cannot_change_the_history() -> None:
    class Spoil(Callback):
        def on_epoch(self, status: RunStatus) -> None:
            status.row["loss"] = 99.0  # type: ignore[index]

    assert 99.0 not in run(make(), Spoil()).history.column("loss")


def test_function_of_a_row_is_called_after_each_epoch_and_may_stop() -> None:
    rows: list[Any] = []

    def stop(row: Any) -> dict[str, float]:
        if row["epoch"] == 2:
            raise StopTraining("two epochs")
        return {"ignored": 1.0}

    result = run(make(), rows.append, stop)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert (result.steps, result.stopped) == (8, "two epochs")
    assert "ignored" not in result.history.last


@pytest.mark.parametrize("step", [1, 4, 6, 12])
def test_stop_returns_the_weights_of_its_step_and_saves_them(tmp_path: Path, step: int) -> None:
    stopped, full, resumed = make(), make(), make()
    copies: list[Task] = []

    class Copy(Callback):
        def on_step(self, status: RunStatus) -> None:
            if status.step == step:
                copies.append(copy.deepcopy(status.module))  # type: ignore[arg-type]

    run(full, Copy())
    result = run(stopped, StopAt(step), checkpoint=tmp_path)
    assert equal(stopped, copies[0])
    assert (result.steps, result.stopped, len(result.history.rows)) == (step, "enough", step // 4)
    again = run(resumed, checkpoint=tmp_path)
    assert (again.resumed_at, again.stopped, again.steps) == (step, None, 12)
    assert equal(resumed, full)


def test_stop_without_a_text_names_the_callback() -> None:
    assert run(make(), StopAt(2, "")).stopped == "StopAt stopped the training"
    assert run(make(), StopAtEpoch()).stopped == "StopAtEpoch stopped the training"


def test_stop_before_the_first_step_trains_nothing() -> None:
    class Never(Callback):
        def on_start(self, status: RunStatus) -> None:
            raise StopTraining("never")

    task, before = make(), make()
    result = run(task, Never())
    assert (result.steps, result.stopped, result.history.rows) == (0, "never", ())
    assert equal(task, before)
    assert "0 steps" in str(result)


def test_other_callbacks_run_before_a_stop_takes_effect() -> None:
    record = Record()
    run(make(), StopAtEpoch(), record)
    assert record.calls == ["start", *["step"] * 4, "epoch", "end"]


def test_numbers_of_on_epoch_join_the_history_and_the_files(tmp_path: Path) -> None:
    class Measure(Callback):
        def on_epoch(self, status: RunStatus) -> dict[str, float]:
            return {"double": 2 * status.step}

    seen: list[Any] = []
    result = run(make(), Measure(), seen.append, checkpoint=tmp_path)
    assert result.history.column("double") == [8, 16, 24]
    assert seen[0]["double"] == 8  # later callbacks see it
    assert (tmp_path / "history.csv").read_text().splitlines()[0].endswith("double")
    assert run(make(), checkpoint=tmp_path).history.column("double") == [8, 16, 24]


@pytest.mark.parametrize(
    ("returned", "text"),
    [(3, "numbers by name"), ({"loss": 1.0}, "'loss', which the row has"), ({"x": "y"}, "a number as 'x'")],
)
def test_other_values_from_on_epoch_are_refused(returned: Any, text: str) -> None:
    class Wrong(Callback):
        def on_epoch(self, status: RunStatus) -> Any:
            return returned

    with pytest.raises(OptionError, match=text):
        run(make(), Wrong())


class Disturb(Callback):
    """Everything that a callback may do by accident."""

    def on_step(self, status: RunStatus) -> None:
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
        status.module.eval()
        torch.set_grad_enabled(False)

    def on_epoch(self, status: RunStatus) -> None:
        torch.manual_seed(3)
        linear_probe(status.module.backbone, (IMAGES, LABELS), (OTHERS, LABELS))  # type: ignore[arg-type]


class Noisy(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A dataset with transforms from all global generators."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.rand(()) + random.random() + np.random.rand()  # noqa: NPY002
        return (IMAGES[index] * noise / 3).clamp(0, 1), int(LABELS[index])


@pytest.mark.parametrize("images", [IMAGES, Noisy()], ids=["tensor", "dataset"])
def test_training_with_and_without_callbacks_is_bit_identical(images: Any) -> None:
    plain, disturbed, probed = make(), make(), make()
    run(plain, images=images)
    run(disturbed, Disturb(), images=images)
    result = run(probed, Probe((IMAGES, LABELS), every=2, probe=linear_probe), images=images)
    assert equal(plain, disturbed)
    assert equal(plain, probed)
    assert result.history.column("probe_accuracy")[1] > 0


def test_probe_measures_every_n_epochs_and_after_the_last() -> None:
    result = run(make(), Probe((IMAGES, LABELS), (OTHERS, LABELS), every=2), epochs=5)
    accuracies = result.history.column("probe_accuracy")
    assert [value == value for value in accuracies] == [False, True, False, True, True]
    assert result.history.last["probe_accuracy"] == accuracies[-1]


class Script(Callback):
    """A column with given values."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def on_epoch(self, status: RunStatus) -> dict[str, float]:
        return {"score": self.values[len(status.history.rows) - 1]}


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "best", "epochs"),
    [
        ((1, 2, 3, 4, 5, 6), "highest", 6),
        ((3, 2, 2.5, 1, 1, 1), "highest", 3),  # equal values are not better
        ((1, 2, 3, 0, 1, 1), "highest", 5),
        ((3, 4, 5, 6, 7, 8), "lowest", 3),
        ((3, NAN, NAN, 4, 5, 1), "lowest", 5),  # epochs that are not measured do not count
        ((NAN, NAN, NAN, NAN, NAN, NAN), "lowest", 6),
    ],
)
def test_early_stopping_waits_for_measured_epochs(values: Any, best: Any, epochs: int) -> None:
    result = run(make(), Script(*values), EarlyStopping("score", best=best, patience=2), epochs=6)
    assert len(result.history.rows) == epochs
    assert (result.stopped is None) == (epochs == 6)


def test_early_stopped_run_does_no_step_when_repeated(tmp_path: Path) -> None:
    callbacks = [Script(3, 2, 1, 0, 0, 0), EarlyStopping("score", best="highest", patience=2)]
    task = make()
    first = run(task, *callbacks, epochs=6, checkpoint=tmp_path)
    again = make()
    second = run(again, *callbacks, epochs=6, checkpoint=tmp_path)
    assert first.stopped == second.stopped == "score is not better than in epoch 1 for 2 epochs"
    assert (second.resumed_at, second.steps) == (12, 12)
    assert equal(task, again)


def test_early_stopping_of_an_extended_run_counts_its_own_epochs(tmp_path: Path) -> None:
    scores = Script(9, 9, 1, 2, 3, 4)
    run(make(), scores, epochs=2, checkpoint=tmp_path)
    result = run(make(), scores, EarlyStopping("score", best="highest", patience=2), epochs=6, checkpoint=tmp_path)
    assert (result.stopped, result.steps) == (None, 24)


def test_unknown_column_is_refused_in_the_first_epoch() -> None:
    for callback in (EarlyStopping("recall", best="lowest"), KeepBest("recall", best="lowest")):
        with pytest.raises(OptionError, match=r"a column 'recall' in the history, but got epoch, step, loss, accuracy"):
            run(make(), callback)


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(("values", "epoch"), [((1, 3, 2), 2), ((3, 3, 2), 1), ((NAN, 1, 2), 3)])
def test_keep_best_returns_the_weights_of_the_best_epoch(tmp_path: Path, saved: bool, values: Any, epoch: int) -> None:
    task, twin, keep = make(), make(), KeepBest("score", best="highest")
    folder = tmp_path / "run" if saved else None
    run(task, Script(*values), keep, checkpoint=folder)
    run(twin, StopAt(4 * epoch))
    assert keep.step == 4 * epoch
    assert equal(task, twin)
    if folder is not None:
        again = make()
        run(again, KeepBest("score", best="highest"), checkpoint=folder)  # the finished run, in another process
        assert equal(again, twin)


def test_run_with_keep_best_resumes_from_the_last_weights(tmp_path: Path) -> None:
    full, parts = make(), make()
    scores = (2, 1, 0)
    run(full)
    run(parts, Script(*scores), KeepBest("score", best="highest"), StopAt(9), checkpoint=tmp_path)
    run(parts, Script(*scores), checkpoint=tmp_path)
    assert equal(full, parts)


def test_keep_best_of_an_earlier_run_in_the_folder_is_not_read(tmp_path: Path) -> None:
    run(make(), Script(9, 9, 9), KeepBest("score", best="highest"), checkpoint=tmp_path)
    for path in tmp_path.glob("checkpoint*"):
        path.unlink()
    task, twin = make(), make()
    run(task, Script(1, 2, 3), KeepBest("score", best="highest"), checkpoint=tmp_path)
    run(twin)
    assert equal(task, twin)


@pytest.mark.parametrize("callback", [KeepBest, EarlyStopping])
def test_direction_of_best_is_checked(callback: Any) -> None:
    with pytest.raises(OptionError, match="'lowest' or 'highest'"):
        callback("loss", best="max")


def test_foreign_callbacks_are_refused_with_the_fix() -> None:
    class Foreign:
        def on_epoch(self, status: RunStatus) -> None: ...

    with pytest.raises(OptionError, match=r"Derive it: class Foreign\(pretextkit.callbacks.Callback\)"):
        run(make(), Foreign())
    with pytest.raises(OptionError, match=r"the class StopAtEpoch\. Make an object: callbacks=\[StopAtEpoch"):
        run(make(), StopAtEpoch)
    with pytest.raises(OptionError, match="a sequence of functions"):
        pretrain(make(), IMAGES, callbacks=StopAtEpoch())  # type: ignore[arg-type]


def test_finetuning_calls_callbacks_with_its_classifier_and_stops() -> None:
    record = Record()
    options: dict[str, Any] = {"epochs": 5, "batch_size": 4, "device": "cpu", "progress": False}
    data = (IMAGES, LABELS)
    result = freeze_and_finetune(TinyBackbone(), "linear", data, data, callbacks=[record, StopAt(7)], **options)
    assert record.calls == ["start", *["step"] * 4, "epoch", *["step"] * 3, "end"]
    module: Any = record.seen[0].module
    assert all(status.module is module for status in record.seen)
    assert equal(module.backbone, result.classifier.backbone)
    assert equal(module.head, result.classifier.head)
    assert (result.stopped, result.settings.steps) == ("enough", 7)
    assert result.accuracy is not None


def test_keep_best_returns_the_best_weights_of_a_finetuning() -> None:
    options: dict[str, Any] = {"epochs": 3, "batch_size": 4, "device": "cpu", "progress": False}
    torch.manual_seed(0)
    backbones = [TinyBackbone()]
    backbones.append(copy.deepcopy(backbones[0]))
    kept = freeze_and_finetune(
        backbones[0], "linear", (IMAGES, LABELS),
        callbacks=[Script(1, 3, 2), KeepBest("score", best="highest")], **options,
    )  # fmt: skip
    twin = freeze_and_finetune(backbones[1], "linear", (IMAGES, LABELS), callbacks=[StopAt(8)], **options)
    assert equal(kept.classifier, twin.classifier)


def test_finetuning_of_the_head_alone_calls_callbacks() -> None:
    rows: list[Any] = []
    options: dict[str, Any] = {"epochs": 2, "batch_size": 4, "device": "cpu", "progress": False, "trainable": "none"}
    freeze_and_finetune(TinyBackbone(), "linear", (IMAGES, LABELS), callbacks=[rows.append], **options)
    assert [row["epoch"] for row in rows] == [1, 2]


DATA = (TensorImages(IMAGES, LABELS), TensorImages(OTHERS, LABELS))
COMPARISON: dict[str, Any] = {
    "epochs": 4, "batch_size": 8, "label_fractions": [], "device": "cpu", "progress": False, "seeds": (0, 1)
}  # fmt: skip


def test_compare_builds_callbacks_for_each_training_and_counts_done_steps() -> None:
    asked: list[tuple[str, int]] = []

    def callbacks(method: str, seed: int) -> list[Any]:
        asked.append((method, seed))
        return [StopAt(3)]

    result = compare(["rotation"], TinyBackbone, *DATA, callbacks=callbacks, **COMPARISON)
    assert asked == [("supervised", 0), ("rotation", 0), ("supervised", 1), ("rotation", 1)]
    assert [(run.method, run.steps, run.images) for run in result.runs if run.seed == 0] == [
        ("random init", 0, 0), ("supervised", 3, 24), ("rotation", 3, 24)
    ]  # fmt: skip
    assert "callbacks" in result.settings


def test_compare_does_not_extend_the_pretraining_of_another_budget(tmp_path: Path) -> None:
    options = COMPARISON | {"seeds": (0,), "checkpoints": tmp_path}
    compare(["rotation"], TinyBackbone, *DATA, **options | {"epochs": 1})
    with pytest.raises(pk.errors.CheckpointError, match="total: 2 there, 8 here"):
        compare(["rotation"], TinyBackbone, *DATA, **options)


@pytest.mark.parametrize(("size", "refused"), [(1, False), (2, True)])
def test_keep_best_refuses_more_than_one_process(size: int, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a callback that was built before the group."""
    keep = KeepBest("loss", best="lowest")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: size)
    status: Any = SimpleNamespace(folder=None, step=0)
    for call in (lambda: keep.on_start(status), lambda: KeepBest("loss", best="lowest")):
        if refused:
            with pytest.raises(OptionError, match="KeepBest in one process, but got a group of 2 processes"):
                call()
        else:
            call()


@pytest.mark.parametrize(
    ("train", "error", "text"),
    [
        (IMAGES, DataError, "Expected labels for train, but got none"),
        ("no-such-folder", DataError, "no-such-folder"),
        ((IMAGES, torch.full((16,), -1)), DataError, "labels that are all -1"),
    ],
)
def test_probe_finds_mistakes_before_the_first_step(train: Any, error: type[Exception], text: str) -> None:
    record = Record()
    with pytest.raises(error, match=text):
        run(make(), record, Probe(train, every=2))
    assert "step" not in record.calls


def test_probe_reads_a_folder_at_the_size_of_the_training(tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30 + number), (9, 200, number * 60)).save(folder / f"{number}.png")
    (tmp_path / "cat" / "damaged.png").write_bytes(b"no image")
    seen: list[Any] = []

    def probe(backbone: Any, train: Any, val: Any) -> Any:
        seen.append(next(train.in_order(4)).images.shape)
        return knn_probe(backbone, train, val)

    result = run(make(), Probe(tmp_path, size=16, on_error="skip", probe=probe))
    assert set(seen) == {(4, 3, 16, 16)}
    assert 0 <= result.history.last["probe_accuracy"] <= 1
