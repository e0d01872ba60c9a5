"""Training on several processes (gloo, on the CPU) matches training on one process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torch import Tensor

import pretextkit as pk
from pretextkit.errors import OptionError
from pretextkit.functional import pretrain
from pretextkit.tasks import Rotation, TwoViewTask
from pretextkit.testing import TinyBackbone

from . import runs

pytestmark = pytest.mark.xdist_group("serial")

COUNTS = [2, pytest.param(4, marks=pytest.mark.slow)]
needs_fsdp = pytest.mark.skipif(not runs.SHARDS, reason="fully_shard is public since torch 2.6")


def finish(commands: list[list[str]], logs: list[Path], seconds: float) -> list[int | None]:
    """Run processes to their end; kill the rest once one fails, because its peers would wait for it forever."""
    with ExitStack() as files:
        started = [
            subprocess.Popen(command, stderr=files.enter_context(log.open("w")))
            for command, log in zip(commands, logs, strict=True)
        ]
        deadline = time.monotonic() + seconds
        try:
            while None in (codes := [process.poll() for process in started]):
                if any(codes) or time.monotonic() > deadline:
                    break
                time.sleep(0.05)
        finally:
            for process in started:
                process.kill()
                process.wait()
    return codes


# PyTorch 2.4 warns of what its own code does.
ALLOWED = ("You are using `torch.load`:FutureWarning", "Implicitly cleaning up:ResourceWarning")
STRICT = ("-W", "error", *(part for warning in ALLOWED for part in ("-W", f"ignore:{warning}")))


@pytest.fixture(scope="module", params=COUNTS)
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[runs.Outcome]:
    """Outcomes of each process."""
    count: int = request.param
    folder = tmp_path_factory.mktemp(f"of{count}")
    commands = [[sys.executable, *STRICT, runs.__file__, str(folder), str(rank), str(count)] for rank in range(count)]
    logs = [folder / f"{rank}.log" for rank in range(count)]
    codes = finish(commands, logs, seconds=600)
    errors = [log.read_text() for log in logs]
    assert codes == [0] * count, "\n".join(errors)
    assert errors[1:] == [""] * (count - 1)
    reasons = ": two steps", "; repeat the call to resume"
    by_callback, interrupted = (f"Stopped at step 2 of 5{reason}." for reason in reasons)
    assert sorted(errors[0].splitlines()) == sorted([by_callback, *[interrupted] * (1 + runs.SHARDS)])
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(count)]


def farthest(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((value.double() - other[name].double()).abs().max().item() for name, value in one.items())


def tolerance(name: str) -> float:
    """Choose the largest difference of weights.

    Division by deviations over eight images magnifies rounding, and so does that of AdamW by the size of the gradient,
    and that of SimCLR ("dataset" and "loader", too) by its temperature.
    """
    return 1e-5 if name in ("adamw", "barlow-twins", "vicreg", "simclr", "dataset", "loader") else 1e-6


@pytest.mark.parametrize("name", runs.RUNS)
def test_weights_and_buffers_match_one_process(name: str, outcomes: list[runs.Outcome]) -> None:
    alone = runs.RUNS[name]()
    start = runs.make(name).state_dict() if name in runs.NAMES else None
    if start is not None:
        assert farthest(start, alone["weights"]) > 1e-3  # the run has learned something
    for found in outcomes:
        assert farthest(alone["weights"], found[name]["weights"]) < tolerance(name)
        assert found[name]["rows"] == outcomes[0][name]["rows"]


TWO_VIEWS = [name for name in runs.NAMES if issubclass(pk.pretext_tasks[name], TwoViewTask)]
"""Tasks with metrics that compare images of a process: ``top1`` and ``uniformity``."""


@pytest.mark.parametrize("name", sorted({*runs.NAMES, "momentum and queue"} - {*TWO_VIEWS}))
def test_losses_and_metrics_match_the_full_batch(name: str, outcomes: list[runs.Outcome]) -> None:
    """Except decibels, whose mean is not that of the batch, and measures between images."""
    alone, row = runs.RUNS[name]()["rows"][-1], outcomes[0][name]["rows"][-1]
    assert alone.keys() == row.keys()
    for metric, value in alone.items():
        if not metric.startswith(("psnr", "spread", "rankme", "outputs_used", "prototypes_used", "top1")):
            assert row[metric] == pytest.approx(value, rel=1e-5, abs=1e-6), metric


@pytest.mark.parametrize("name", TWO_VIEWS)
def test_two_view_loss_matches_the_full_batch(name: str, outcomes: list[runs.Outcome]) -> None:
    alone, row = runs.RUNS[name]()["rows"][-1], outcomes[0][name]["rows"][-1]
    assert row["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    # a squared distance of close unit vectors, whose rounding errors are absolute
    assert row["alignment"] == pytest.approx(alone["alignment"], rel=1e-5, abs=1e-7)


def test_planted_local_gradient_slices_are_detected(outcomes: list[runs.Outcome]) -> None:
    """The first loss is the same, but the weights differ."""
    alone = runs.RUNS["simclr"]()["weights"]
    assert farthest(alone, outcomes[0]["local slice"]["weights"]) > 1e-3


@pytest.mark.parametrize("kind", ["seen", "streamed"])
def test_every_image_is_seen_once_per_epoch(kind: str, outcomes: list[runs.Outcome]) -> None:
    def rows(images: Tensor) -> list[int]:
        return [int((runs.IMAGES - image).abs().amax((1, 2, 3)).argmin()) for image in images]

    for epoch in range(2):
        halves = [found[kind].chunk(2)[epoch] for found in outcomes]
        assert sorted(rows(torch.cat(halves))) == list(range(len(runs.IMAGES)))


def test_processes_start_with_the_weights_of_rank_0(outcomes: list[runs.Outcome]) -> None:
    for found in outcomes:
        assert farthest(found["own weights"]["weights"], outcomes[0]["rotation"]["weights"]) == 0


def test_only_rank_0_runs_callbacks(outcomes: list[runs.Outcome]) -> None:
    assert [found["callbacks"] for found in outcomes] == [2] + [0] * (len(outcomes) - 1)


def test_callback_of_rank_0_stops_all_and_the_run_grows(outcomes: list[runs.Outcome]) -> None:
    for found in outcomes:
        run = found["stopped and extended"]
        assert (run["stopped"], run["resumed_at"], run["extends"]) == (2, [2, 5, 0], 5)
        assert farthest(run["weights"], found["simclr"]["weights"]) < 1e-6
        for name in ("longer", "started"):
            assert farthest(run[name], outcomes[0]["stopped and extended"][name]) == 0


def test_signal_to_one_stops_all_and_all_resume(outcomes: list[runs.Outcome]) -> None:
    for found in outcomes:
        again = found["resumed"]
        assert (again["status"], again["steps"], again["resumed_at"], again["own folder"]) == (143, 2, 2, False)
        # Not 0: four processes do not always sum in the same order.
        assert farthest(again["weights"], found["simclr"]["weights"]) < 1e-6
        for row, full in zip(again["rows"], found["simclr"]["rows"], strict=True):
            assert row == pytest.approx(full, rel=1e-4)


def test_unsuitable_runs_are_refused_by_all_processes(outcomes: list[runs.Outcome]) -> None:
    count = len(outcomes)
    for found in outcomes:
        seed, batch, norm, stream, keep = found["refusals"]
        assert seed == (
            "Expected the same call on every process, but got differences between process 0 (there) and process 1 "
            "(here): seed: 0 there, 1 here. Pass the same arguments to all processes: each takes its own rows of every "
            "batch."
        )
        assert batch == (
            f"Expected a batch_size divisible by processes x accumulate = {count} x 1 = {count}, but got "
            f"{2 * count - 1}. Use batch_size={count}: it counts the images of all processes."
        )
        assert norm == (
            "Expected SyncBatchNorm on GPUs, the only devices on which torch supports it, but got device cpu. Keep "
            "BatchNorm, which then uses the images of each process, or use GroupNorm."
        )
        assert stream == (
            "Expected another part of the stream for each process, but got the same images. Let the dataset iterate "
            "over pretextkit.data.shards_for_this_worker(all_shards), or, if it is a WebDataset, split by node and by "
            "worker."
        )
        assert keep == (
            f"Expected KeepBest in one process, but got a group of {count} processes. Save the weights in a callback "
            "of your own, and load them after the run."
        )


@needs_fsdp
@pytest.mark.parametrize("name", runs.RUNS)
def test_sharded_weights_match_one_process(name: str, outcomes: list[runs.Outcome]) -> None:
    alone = runs.RUNS[name]()
    for found in outcomes:
        sharded = found["sharded"][name]
        assert farthest(alone["weights"], sharded["weights"]) < tolerance(name)
        for row, full in zip(sharded["rows"], found[name]["rows"], strict=True):
            assert row == pytest.approx(full, rel=1e-4, abs=1e-5)


@needs_fsdp
def test_sharded_batch_norm_matches_data_parallel(outcomes: list[runs.Outcome]) -> None:
    """Every step begins with the running statistics of rank 0, and ends with those of each process."""
    assert farthest(outcomes[0]["batch norm"]["weights"], outcomes[1]["batch norm"]["weights"]) > 1e-3
    for found in outcomes:
        assert farthest(found["batch norm"]["weights"], found["sharded"]["batch norm"]["weights"]) < 1e-10


@needs_fsdp
@pytest.mark.parametrize("kind", ["sharded", "full"])
def test_sharded_checkpoint_resumes_sharded_and_unsharded(kind: str, outcomes: list[runs.Outcome]) -> None:
    for found in outcomes:
        again = found["sharded"]["resumed"][kind]
        assert again["resumed_at"] == 2
        assert farthest(again["weights"], found["adamw"]["weights"]) < tolerance("adamw")


@needs_fsdp
def test_sharded_errors_are_raised_by_all_processes(outcomes: list[runs.Outcome]) -> None:
    for found in outcomes:
        diverged, partly = found["sharded"]["refusals"]
        assert diverged.startswith(
            "Expected a finite weight 'backbone.layers.0.0.weight', but got nan or inf at step 1."
        )
        assert partly == (
            "Expected a task whose weights are all sharded, but got weights that are not sharded, or a task without "
            "its own fully_shard. Call fully_shard(task) last, after fully_shard on its blocks."
        )


def test_finish_kills_the_peers_of_a_failed_process(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", "import time; time.sleep(60)"], [sys.executable, "-c", "raise SystemExit(3)"]]
    begun = time.monotonic()
    assert finish(commands, [tmp_path / "0", tmp_path / "1"], seconds=30) == [None, 3]
    assert time.monotonic() - begun < 20


def test_torchrun_without_process_group_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    task = Rotation(TinyBackbone())
    with pytest.raises(OptionError) as caught:
        pretrain(task, runs.IMAGES, steps=1, progress=False)
    assert caught.value.text == (
        "Expected an initialized process group, because torchrun started 2 processes, but got none. "
        "Call torch.distributed.init_process_group() first."
    )


FAILING = """
import sys, torch
import pretextkit as pk
from pretextkit.errors import OptionError
from pretextkit.functional import pretrain
from pretextkit.tasks import Rotation, TwoViewTask
from pretextkit.testing import TinyBackbone
torch.distributed.init_process_group("gloo")
task = Rotation(TinyBackbone())
if torch.distributed.get_rank() == 1:
    def fail():
        raise RuntimeError("planted")
    task.after_step = fail
pretrain(task, torch.ones(8, 3, 16, 16) / 2, steps=1000, batch_size=4, device="cpu", progress=False)
print("went on")
"""


@pytest.mark.slow
def test_failure_of_one_process_ends_all(tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 1
    assert "RuntimeError: planted" in ended.stderr
    assert "went on" not in ended.stdout
