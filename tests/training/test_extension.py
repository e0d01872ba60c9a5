"""Runs that become longer, and runs that start with the weights of another run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.errors import CheckpointError, TrainingWarning
from pretextkit.functional import PretrainResult, pretrain
from pretextkit.testing import toy_images
from pretextkit.training import warmup_cosine
from tests.helpers import WithDropoutAndNorm

IMAGES = toy_images(18, size=16, generator=Generator().manual_seed(0))  # 4 steps an epoch, 2 images left over
Task = pk.PretextTask[Any, Any]


def make(seed: int = 0) -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return pk.tasks.Rotation(WithDropoutAndNorm())


def run(task: Task, folder: Path | None = None, images: Tensor = IMAGES, **options: Any) -> PretrainResult:
    defaults: dict[str, Any] = {
        "batch_size": 4,
        "device": "cpu",
        "precision": "fp32",
        "progress": False,
        "warmup": 0.25,
    }
    if "steps" not in options:
        options.setdefault("epochs", 2)
    return pretrain(task, images, checkpoint=folder, **defaults | options)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def rates_of(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    return rates


def stop_at(step: int) -> pk.callbacks.Callback:
    class StopAt(pk.callbacks.Callback):
        def on_step(self, status: pk.callbacks.RunStatus) -> None:
            if status.step == step:
                raise pk.callbacks.StopTraining(f"step {step}")

    return StopAt()


def test_longer_call_trains_the_added_steps_on_a_new_cosine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(make(), tmp_path)
    rates = rates_of(monkeypatch)
    result = run(make(), tmp_path, epochs=5)
    assert rates == pytest.approx([1e-3 * warmup_cosine(step, 12, 3) for step in range(12)])
    assert (result.resumed_at, result.steps) == (8, 20)
    assert (result.settings.extends, result.settings.warmup, result.settings.epochs) == (8, 3, 5)
    assert "5 epochs (8 of 20 steps in a finished run)" in str(result)
    assert [row["epoch"] for row in result.history.rows] == [1, 2, 3, 4, 5]
    assert '"extends": 8' in (tmp_path / "settings.json").read_text()


def test_extended_run_goes_on_from_the_weights_of_the_finished_run(tmp_path: Path) -> None:
    task = make()
    run(task, tmp_path)
    before = weights(task)
    seen: list[dict[str, Tensor]] = []

    class Look(pk.callbacks.Callback):
        def on_start(self, status: pk.callbacks.RunStatus) -> None:
            seen.append(weights(status.module))

    run(make(1), tmp_path, epochs=3, callbacks=[Look()])
    assert all(torch.equal(seen[0][name], value) for name, value in before.items())


@pytest.mark.parametrize("stop", [9, 12, 15, 19])
def test_extended_run_resumes_bit_by_bit(tmp_path: Path, stop: int) -> None:
    full, parts = make(), make()
    run(full, tmp_path / "full")
    run(full, tmp_path / "full", epochs=5)
    run(parts, tmp_path / "parts")
    run(parts, tmp_path / "parts", epochs=5, callbacks=[stop_at(stop)])
    again = make(seed=7)  # another process has other weights
    result = run(again, tmp_path / "parts", epochs=5)
    assert result.resumed_at == stop
    assert all(torch.equal(value, full.state_dict()[name]) for name, value in again.state_dict().items())
    rows = [{**row, "seconds": 0.0} for row in result.history.rows]
    assert rows == [{**row, "seconds": 0.0} for row in run(make(), tmp_path / "full", epochs=5).history.rows]


def test_finished_extension_is_found_and_extended_again(tmp_path: Path) -> None:
    run(make(), tmp_path)
    run(make(), tmp_path, epochs=3)
    assert run(make(), tmp_path, epochs=3).resumed_at == 12
    again = run(make(), tmp_path, epochs=4)
    assert (again.resumed_at, again.steps, again.settings.extends) == (12, 16, 12)
    assert len(again.history.rows) == 4


def test_extension_in_steps_closes_a_row_at_its_end(tmp_path: Path) -> None:
    run(make(), tmp_path, steps=6)
    result = run(make(), tmp_path, steps=11)
    assert [row["epoch"] for row in result.history.rows] == [1, 1.5, 2, 2.75]
    assert (result.settings.extends, result.settings.warmup) == (6, math.ceil(0.25 * 5))


def test_epochs_may_follow_a_run_of_steps(tmp_path: Path) -> None:
    run(make(), tmp_path, steps=6)
    assert run(make(), tmp_path, epochs=3).steps == 12


def test_unfinished_run_is_not_extended_and_the_fix_works(tmp_path: Path) -> None:
    run(make(), tmp_path, callbacks=[stop_at(3)])
    with pytest.raises(CheckpointError, match=r"epochs=2 for the run in .* at step 3 of 8, but got epochs=5\. Repeat"):
        run(make(), tmp_path, epochs=5)
    run(make(), tmp_path)
    assert run(make(), tmp_path, epochs=5).steps == 20


def test_shorter_run_is_refused_with_a_way_out(tmp_path: Path) -> None:
    run(make(), tmp_path)
    with pytest.raises(CheckpointError, match=r"epochs=2 or more .* but got epochs=1\. Pass another folder"):
        run(make(), tmp_path, epochs=1)


def test_extension_with_another_warmup_of_the_added_part_is_another_run(tmp_path: Path) -> None:
    run(make(), tmp_path)
    run(make(), tmp_path, epochs=5, callbacks=[stop_at(10)])
    with pytest.raises(CheckpointError, match="warmup: 3 there, 6 here"):
        run(make(), tmp_path, epochs=5, warmup=0.5)


def test_default_number_of_epochs_extends_no_run(tmp_path: Path) -> None:
    run(make(), tmp_path)
    with pytest.raises(CheckpointError, match="epochs: 2 there, 400 here"):
        run(make(), tmp_path, epochs=None)


def test_extend_false_refuses_the_folder(tmp_path: Path) -> None:
    run(make(), tmp_path)
    with pytest.raises(CheckpointError, match="epochs: 2 there, 3 here"):
        run(make(), tmp_path, epochs=3, extend=False)
    assert run(make(), tmp_path, extend=False).resumed_at == 8


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_size": 6}, "batch_size: 4 there, 6 here"),
        ({"learning_rate": 1e-4}, "learning_rate: 0.001 there, 0.0001 here"),
        ({"precision": "bf16"}, "precision: 'fp32' there, 'bf16' here"),
        ({"images": torch.cat([IMAGES, IMAGES[:6]])}, "images: 18 there, 24 here"),
    ],
)
def test_other_changes_are_named_and_init_is_the_way_out(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    first = make()
    run(first, tmp_path / "run")
    with pytest.raises(CheckpointError, match=text) as caught:
        run(make(), tmp_path / "run", epochs=3, **change)
    init = tmp_path / "run"
    assert caught.value.fix.endswith(f"With init={str(init)!r}, the new run starts with the weights of this run.")
    started: list[dict[str, Tensor]] = []

    class Look(pk.callbacks.Callback):
        def on_start(self, status: pk.callbacks.RunStatus) -> None:
            started.append(weights(status.module))

    result = run(make(5), tmp_path / "new", epochs=1, init=str(init), callbacks=[Look()], **change)
    assert (result.resumed_at, result.settings.extends) == (0, 0)
    assert all(torch.equal(started[0][name], value) for name, value in first.state_dict().items())


def test_resumed_run_does_not_read_init(tmp_path: Path) -> None:
    run(make(), tmp_path / "run")
    full, parts = make(), make()
    run(full, init=tmp_path / "run", epochs=2)
    run(parts, tmp_path / "new", init=tmp_path / "run", callbacks=[stop_at(5)])
    again = make(3)
    run(again, tmp_path / "new", init=tmp_path / "missing")
    assert all(torch.equal(value, full.state_dict()[name]) for name, value in again.state_dict().items())


def test_init_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a checkpoint in init='.*none', but got none\. Pass the folder"):
        run(make(), init=tmp_path / "none")


def test_init_of_another_task_is_refused_and_leaves_the_weights(tmp_path: Path) -> None:
    run(make(), tmp_path)
    task: Task = pk.pretext_tasks["simclr"](WithDropoutAndNorm())
    before = weights(task)
    with pytest.raises(CheckpointError, match=r"weights of the shapes of those in .* Build the task"):
        run(task, init=tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())


class Scripted(pk.PretextTask[Any, Any]):
    """A task whose loss is as high as its step says: 1, but nearly 0 at one step, and 9 from another on."""

    steps: Tensor

    def __init__(self, low_at: int, rising_from: int = 1_000) -> None:
        super().__init__(WithDropoutAndNorm())
        self.script = (low_at, rising_from)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def views(self, images: Tensor, generator: Generator) -> Any:
        return images

    def forward(self, batch: Any) -> pk.TaskOutput:
        low_at, rising_from = self.script
        scale = 0.001 if int(self.steps) == low_at else 9.0 if int(self.steps) >= rising_from else 1.0
        return pk.TaskOutput((1 + 1e-6 * self.backbone(batch).square().mean()) * scale, {})

    def after_step(self) -> None:
        self.steps += 1


def test_loss_of_a_new_warmup_is_no_rise(tmp_path: Path) -> None:
    run(Scripted(low_at=8), tmp_path)
    run(Scripted(low_at=8), tmp_path, epochs=6)  # 16 more steps, and warnings are errors


@pytest.mark.parametrize("first", [{"epochs": 6, "callbacks": [stop_at(4)]}, {}], ids=["resumed", "extended"])
def test_rise_after_another_call_is_reported(first: dict[str, Any], tmp_path: Path) -> None:
    """The reference is the first epoch of the run, which an earlier call has done."""
    run(Scripted(low_at=4, rising_from=20), tmp_path, **first)
    with pytest.warns(TrainingWarning, match=r"The loss rises: it was 1 at first and is 9 on average in epoch 6\."):
        run(Scripted(low_at=4, rising_from=20), tmp_path, epochs=6)
