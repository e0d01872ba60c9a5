from __future__ import annotations

import errno
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from pretextkit.contracts import TaskOutput
from pretextkit.data._tensor_images import TensorImages
from pretextkit.errors import CheckpointError, DivergenceError
from pretextkit.training import parameter_groups, warmup_cosine
from pretextkit.training._history import History
from pretextkit.training._loop import TrainingRun, train
from pretextkit.training._objectives import Objective
from pretextkit.training._settings import Settings, make_plan

IMAGES = TensorImages(torch.rand(12, 1, 2, 2, generator=Generator().manual_seed(0)), torch.arange(12) % 2)


class Toy(Objective):
    """Logistic regression that records its batches and draws."""

    def __init__(self, after: Callable[[int], None] = lambda step: None) -> None:
        self.linear = nn.Linear(4, 2)
        self.module = nn.Sequential(nn.Flatten(), self.linear)
        with torch.no_grad():
            self.linear.weight.copy_(torch.arange(8.0).view(2, 4) / 10)
            self.linear.bias.zero_()
        self.after = after
        self.steps = 0
        self.batches: list[Tensor] = []
        self.draws: list[float] = []
        self.dtypes: set[torch.dtype] = set()
        self.modes: set[bool] = set()
        self.loss_scale = 1.0

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{**group, "scale": 0.5 if "trust" in group else 1.0} for group in parameter_groups(self.module)]

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        assert not torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert images.dtype == torch.float32
        self.batches.append(images)
        self.draws.append(torch.rand((), generator=generator).item())
        return images, labels

    def loss(self, batch: Any) -> TaskOutput:
        images, labels = batch
        outputs = self.module(images)
        self.modes.add(self.module.training)
        self.dtypes.add(outputs.dtype)
        loss = nn.functional.cross_entropy(outputs.float(), labels) * self.loss_scale
        return TaskOutput(loss, {"noise": torch.rand(())})

    def after_step(self) -> None:
        self.steps += 1
        self.after(self.steps)


def run(objective: Toy, **options: Any) -> TrainingRun:
    rest = {name: options.pop(name) for name in ("checkpoint", "callbacks", "checkpoint_seconds") if name in options}
    settings = Settings(**{"epochs": 3, "batch_size": 4, "device": "cpu", "precision": "fp32", **options})
    return train(objective, IMAGES, settings, make_plan(settings, IMAGES), title="Toy", progress=False, **rest)


class Crash(Exception):
    pass


def crash_at(step: int) -> Callable[[int], None]:
    def after(done: int) -> None:
        if done == step:
            raise Crash

    return after


def spy_on_rates(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    rates: list[list[float]] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    return rates


def test_learning_rates_follow_schedule_and_group_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = spy_on_rates(monkeypatch)
    run(Toy(), optimizer="sgd", learning_rate=0.3, warmup=0.25)
    factors = [warmup_cosine(step, 9, 3) for step in range(9)]
    assert rates == [pytest.approx([0.3 * f, 0.15 * f]) for f in factors]


def test_sgd_matches_naive_sgd_on_the_same_batches() -> None:
    objective, twin = Toy(), Toy()
    run(objective, optimizer="sgd", learning_rate=0.5, weight_decay=0.1, epochs=2, warmup=0.0)
    weight, bias = twin.linear.weight, twin.linear.bias
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    lookup = {tuple(image.flatten().tolist()): i for i, image in enumerate(IMAGES.images)}
    for step, images in enumerate(objective.batches):
        labels = torch.tensor([lookup[tuple(image.flatten().tolist())] % 2 for image in images])
        loss = nn.functional.cross_entropy(twin.module(images), labels)
        gradients = torch.autograd.grad(loss, [weight, bias])
        rate = 0.5 * 0.5 * (1 + math.cos(math.pi * step / 6))
        with torch.no_grad():
            for i, (value, gradient) in enumerate(zip((weight, bias), gradients, strict=True)):
                velocity[i] = 0.9 * velocity[i] + gradient + (0.1 * value if i == 0 else 0.0)
                value -= rate * (1.0 if i == 0 else 0.5) * velocity[i]
    torch.testing.assert_close(objective.module.state_dict(), twin.module.state_dict())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulated_parts_match_the_full_batch(optimizer: Any) -> None:
    full, parts = Toy(), Toy()
    expected = run(full, optimizer=optimizer, clip_norm=0.05).history
    found = run(parts, optimizer=optimizer, clip_norm=0.05, accumulate=2).history
    torch.testing.assert_close(parts.module.state_dict(), full.module.state_dict())
    assert found.column("loss") == pytest.approx(expected.column("loss"), rel=1e-6)
    assert parts.steps == full.steps == 9
    assert [len(batch) for batch in parts.batches] == [2] * 18
    halves = zip(parts.batches[::2], parts.batches[1::2], strict=True)
    assert all(torch.equal(torch.cat(both), batch) for both, batch in zip(halves, full.batches, strict=True))
    assert len(set(parts.draws)) == 18
    assert not torch.allclose(full.module.state_dict()["1.weight"], Toy().module.state_dict()["1.weight"])


def test_each_part_seeds_its_layers() -> None:
    draws: list[float] = []

    class Drawing(Toy):
        def loss(self, batch: Any) -> TaskOutput:
            output = super().loss(batch)
            draws.append(output.metrics["noise"].item())
            return output

    history = run(Drawing(), accumulate=2, epochs=1).history
    assert len(set(draws)) == 6
    assert history.last["noise"] == pytest.approx(sum(draws) / 6)


def test_random_numbers_depend_on_seed_and_step_only() -> None:
    one, two, other = Toy(), Toy(), Toy()
    history = run(one).history
    assert run(two).history.column("noise") == history.column("noise")
    assert one.draws == two.draws
    assert len(set(one.draws)) == 9
    assert run(other, seed=1).history.column("noise") != history.column("noise")
    assert other.draws != one.draws


def test_history_records_epochs_and_steps() -> None:
    seen: list[Any] = []
    result = run(Toy(), epochs=None, steps=8, callbacks=[seen.append, lambda row: seen.append(row["step"])])
    assert result.history.column("epoch") == pytest.approx([1, 2, 8 / 3])
    assert result.history.column("step") == [3, 6, 8]
    assert seen == [each for row in result.history.rows for each in (row, row["step"])]
    assert set(result.history.last) == {"epoch", "step", "loss", "noise", "learning_rate", "seconds"}
    assert (result.steps, result.resumed_at, result.precision, str(result.device)) == (8, 0, "fp32", "cpu")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_sets_the_dtype_of_the_network(precision: str, dtype: torch.dtype) -> None:
    objective = Toy()
    result = run(objective, precision=precision)
    assert objective.dtypes == {dtype}
    assert result.precision == precision
    assert {weight.dtype for weight in objective.module.parameters()} == {torch.float32}
    assert objective.modes == {True}


@pytest.mark.parametrize("clip_norm", [0.01, 100.0])
def test_clip_norm_bounds_the_gradient(monkeypatch: pytest.MonkeyPatch, clip_norm: float) -> None:
    norms: list[list[float]] = [[], []]
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        gradients = [weight.grad for group in self.param_groups for weight in group["params"]]
        norms[-1].append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    for clip in (None, clip_norm):
        norms.append([])
        run(Toy(), optimizer="sgd", learning_rate=0.0, clip_norm=clip)
    free, clipped = norms[-2:]
    assert min(free) > 0.01  # or nothing would be clipped
    assert clipped == pytest.approx([min(norm, clip_norm) for norm in free], rel=1e-4)


def test_run_resumes_from_last_checkpoint_after_a_crash(tmp_path: Path) -> None:
    full = Toy()
    expected = run(full)
    stopped = Toy(after=crash_at(6))
    with pytest.raises(Crash):
        run(stopped, checkpoint=tmp_path, checkpoint_seconds=-1.0)
    resumed = Toy()
    result = run(resumed, checkpoint=tmp_path)
    assert result.resumed_at == 5
    assert resumed.steps == 4
    assert all(torch.equal(a, b) for a, b in zip(resumed.batches, full.batches[5:], strict=True))
    for name, value in full.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name])
    for row, other in zip(expected.history.rows, result.history.rows, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}


def test_nothing_is_written_between_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        run(Toy(after=crash_at(6)), checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_finished_run_is_not_repeated(tmp_path: Path) -> None:
    done = Toy()
    first = run(done, checkpoint=tmp_path)
    again = Toy()
    before = (tmp_path / "checkpoint.pt").read_bytes()
    result = run(again, checkpoint=tmp_path)
    assert (again.steps, result.resumed_at, result.images_per_second) == (0, 9, 0.0)
    assert result.history == first.history
    assert torch.equal(again.linear.weight, done.linear.weight)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_other_runs_checkpoint_is_refused_without_changes(tmp_path: Path) -> None:
    run(Toy(), checkpoint=tmp_path)
    objective = Toy()
    before = {name: value.clone() for name, value in objective.module.state_dict().items()}
    options: list[tuple[dict[str, Any], str]] = [
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"epochs": 2}, "epochs=3 or more for the run in .*, but got epochs=2"),
        ({"learning_rate": 0.5}, "learning_rate: 0.001 there, 0.5 here"),
        ({"precision": "bf16"}, "precision: 'fp32' there, 'bf16' here"),
    ]
    for option, text in options:
        with pytest.raises(CheckpointError, match=text):
            run(objective, checkpoint=tmp_path, **option)
    assert all(torch.equal(value, before[name]) for name, value in objective.module.state_dict().items())
    objective.module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(CheckpointError, match=r"weight 1.weight: \(2, 4\) there, \(3, 4\) here; weight 1.bias: \(2,\)"):
        run(objective, checkpoint=tmp_path)
    assert objective.steps == 0


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    objective = Toy()

    def after(done: int) -> None:
        objective.loss_scale = math.nan if done == 4 else 1.0

    objective.after = after
    with pytest.raises(DivergenceError, match="Expected a finite loss, but got nan at step 5"):
        run(objective, checkpoint=tmp_path, checkpoint_seconds=-1.0)
    good = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]
    assert good["step"] == 4
    assert all(value.isfinite().all() for value in good["module"].values())
    resumed = Toy()
    assert run(resumed, checkpoint=tmp_path).resumed_at == 4
    assert resumed.steps == 5


def test_infinite_weights_are_never_saved(tmp_path: Path) -> None:
    objective = Toy()

    def after(done: int) -> None:
        if done == 9:  # the last: no later loss could tell
            nn.init.constant_(objective.linear.weight[0, :1], math.inf)

    objective.after = after
    with pytest.raises(DivergenceError, match=r"Expected a finite weight '1.weight', but got nan or inf at step 9"):
        run(objective, checkpoint=tmp_path, checkpoint_seconds=-1.0)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["step"] == 8


def test_infinite_weights_are_never_returned() -> None:
    objective = Toy()

    def after(done: int) -> None:
        if done == 9:
            nn.init.constant_(objective.linear.weight[0, :1], math.nan)

    objective.after = after
    with pytest.raises(DivergenceError, match=r"Expected a finite weight '1.weight', but got nan or inf at step 9"):
        run(objective)


def test_history_csv_lies_beside_the_checkpoint(tmp_path: Path) -> None:
    run(Toy(), checkpoint=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "history.csv", "settings.json"]
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,step,loss,noise,learning_rate,seconds"
    assert [line.split(",")[:2] for line in lines[1:]] == [["1.0", "3"], ["2.0", "6"], ["3.0", "9"]]


def test_global_generator_is_restored_also_after_a_crash() -> None:
    healthy, crashing = Toy(), Toy(after=crash_at(2))
    state = torch.get_rng_state()
    run(healthy)
    with pytest.raises(Crash):
        run(crashing)
    assert torch.equal(torch.get_rng_state(), state)


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_gives_a_warning_and_training_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Toy()
    run(full)
    objective = Toy()

    def after(done: int) -> None:
        if done == 3:
            monkeypatch.setattr(torch, "save", full_disk)
        if done == 5:
            monkeypatch.undo()

    objective.after = after
    with pytest.warns(UserWarning, match="could not be written") as caught:
        run(objective, checkpoint=tmp_path, checkpoint_seconds=-1.0)
    first, second = (str(each.message) for each in caught)
    assert first == (
        f"The checkpoint at step 3 could not be written to {tmp_path}: [Errno 28] No space left on device. The "
        "previous checkpoint stays, training continues, and the next try comes after 0 s. Free some space. "
        "See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#a-checkpoint-that-cannot-be-written."
    )
    assert "at step 4" in second
    assert torch.equal(objective.linear.weight, full.linear.weight)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["step"] == 9


@pytest.mark.parametrize("stop", [5, 9])  # by Ctrl-C, and at the end
def test_full_disk_at_last_checkpoint_raises_and_keeps_previous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    def after(done: int) -> None:
        if done == stop:
            monkeypatch.setattr(torch, "save", full_disk)
            if stop < 9:
                os.kill(os.getpid(), signal.SIGINT)

    objective = Toy(after)
    with pytest.raises(CheckpointError) as caught:
        run(objective, checkpoint=tmp_path, checkpoint_seconds=-1.0)
    assert caught.value.text == (
        f"Expected a writable folder {tmp_path}, but got OSError: [Errno 28] No space left on device. Free some space "
        "and repeat the call: it resumes from the previous checkpoint, if there is one. The weights of this process, "
        f"after step {stop}, are still in its memory."
    )
    monkeypatch.undo()
    resumed, full = Toy(), Toy()
    assert run(resumed, checkpoint=tmp_path).resumed_at == stop - 1
    run(full)
    assert torch.equal(resumed.linear.weight, full.linear.weight)


def test_checkpoint_folder_that_is_a_file_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    objective = Toy()
    with pytest.raises(CheckpointError, match="Name another folder"):
        run(objective, checkpoint=tmp_path / "run")
    assert objective.steps == 0


def test_history_is_complete_if_killed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that finds a finished checkpoint trains and writes nothing."""
    run(Toy(), checkpoint=tmp_path / "full")
    saved = History.save_csv

    def killed(self: History, path: Any) -> None:
        saved(self, path)
        if len(self.rows) == 3:
            raise Crash

    monkeypatch.setattr(History, "save_csv", killed)
    with pytest.raises(Crash):
        run(Toy(), checkpoint=tmp_path / "run", checkpoint_seconds=-1.0)
    monkeypatch.undo()
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]["step"] == 8
    run(Toy(), checkpoint=tmp_path / "run")
    full, here = (
        [line.rsplit(",", 1)[0] for line in (tmp_path / name / "history.csv").read_text().splitlines()]
        for name in ("full", "run")
    )
    assert here == full
