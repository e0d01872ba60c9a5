"""Arithmetic of the benchmarks, with a simulated clock: nothing is timed here."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import pretextkit as pk
from pretextkit.testing import TinyBackbone
from tests.helpers import ROOT, load_script


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the scripts of benchmarks/ importable."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:  # other tests must not find a module named speed
        if str(ROOT / "benchmarks") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


class Clock:
    """A clock that advances only while a side runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def side(self, name: str, *seconds: float) -> Callable[[], str]:
        """Return a function whose runs take these seconds; further runs repeat the last value."""
        runs = list(seconds)

        def run() -> str:
            self.order.append(name)
            self.now += runs.pop(0) if len(runs) > 1 else runs[0]
            return name

        return run

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> Clock:
    from comparisons import timing

    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_race_alternates_sides_and_pairs_neighboring_runs(clock: Clock) -> None:
    from comparisons.timing import Effort, race

    row = race(clock.side("ours", 9, 1, 2, 4), clock.side("theirs", 9, 3, 4, 20), Effort(), rounds=3)
    assert (row["ratio"], row["lowest"], row["highest"]) == (3, 2, 5)
    assert (row["our_seconds"], row["their_seconds"], row["rounds"]) == (2, 4, 3)
    assert (row["our_repeats"], row["their_repeats"]) == (1, 1)
    assert clock.order == ["ours", "theirs", "theirs", "ours", "ours", "theirs", "theirs", "ours"]


def test_race_repeats_short_runs_of_each_side_separately(clock: Clock) -> None:
    from comparisons.timing import Effort, race

    row = race(clock.side("ours", 1 / 32), clock.side("theirs", 1 / 8), Effort(), rounds=1)
    assert (row["our_repeats"], row["their_repeats"]) == (6, 2)
    assert (row["ratio"], row["our_seconds"], row["their_seconds"]) == (4, 1 / 32, 1 / 8)
    assert race(clock.side("ours", 1 / 32), clock.side("theirs", 1 / 8), Effort(quick=True))["our_repeats"] == 1


def test_race_stops_if_results_differ(clock: Clock) -> None:
    from comparisons.timing import Effort, Unequal, no_lower_accuracy, race, same_accuracy

    def check(ours: str, theirs: str) -> dict[str, Any]:
        assert (ours, theirs) == ("ours", "theirs")
        return same_accuracy(0.9, 0.903)

    with pytest.raises(Unequal, match=r"accuracy: ours is 0\.9, theirs 0\.903; they differ by more than 0\.002"):
        race(clock.side("ours", 1), clock.side("theirs", 1), Effort(), check=check)
    assert clock.order == ["ours", "theirs"]
    assert same_accuracy(0.9, 0.9015) == {"our_accuracy": 0.9, "their_accuracy": 0.9015}
    with pytest.raises(Unequal, match=r"ours is 0\.9000, below theirs of 0\.9001"):
        no_lower_accuracy(0.9, 0.9001)


def test_require_close_rejects_nan(benchmarks: None) -> None:
    from comparisons.timing import Unequal, require_close

    with pytest.raises(Unequal):
        require_close("loss", float("nan"), 1.0, 0.1)


def test_met_needs_high_ratios_and_low_other_figures(benchmarks: None) -> None:
    from comparisons.timing import Comparison

    def nothing(effort: Any) -> dict[str, Any]:
        return {}

    fast = Comparison("step", "peer", nothing, 2.0)
    assert fast.met({"ratio": 2.0})
    assert not fast.met({"ratio": 1.9})
    small = Comparison("memory", "limit", nothing, 300.0, "extra MiB")
    assert small.met({"extra MiB": 300.0})
    assert not small.met({"extra MiB": 301.0})
    assert Comparison("curve", "nothing", nothing, None).met({}) is None


def test_finished_rows_have_separate_files(benchmarks: None, tmp_path: Path) -> None:
    from speed import COMPARISONS, FinishedRows

    finished = FinishedRows(tmp_path, {})
    assert len({finished.path(one) for one in COMPARISONS}) == len(COMPARISONS) > 20


def test_finished_rows_are_valid_for_one_environment(benchmarks: None, tmp_path: Path) -> None:
    from speed import COMPARISONS, FinishedRows

    FinishedRows(tmp_path, {"torch": "2.4"}).store(COMPARISONS[0], {"ratio": 2.0})
    assert FinishedRows(tmp_path, {"torch": "2.4"}).get(COMPARISONS[0]) == {"ratio": 2.0}
    assert FinishedRows(tmp_path, {"torch": "2.5"}).get(COMPARISONS[0]) is None
    assert FinishedRows(tmp_path, {"torch": "2.4"}).get(COMPARISONS[1]) is None
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


@pytest.fixture
def tables() -> ModuleType:
    return load_script("scripts/tables.py")


def test_tables_writes_the_report_to_the_page(
    benchmarks: None, tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import speed
    from comparisons.timing import Comparison

    def nothing(effort: Any) -> dict[str, Any]:
        return {}

    raced = Comparison("step", "peer", nothing, 2.0)
    curve = Comparison("memory", "limit", nothing, 300.0, "extra MiB")
    aimless = Comparison("peer", "itself", nothing, None)
    missing = Comparison("probe", "peer", nothing, 1.0)
    monkeypatch.setattr(speed, "COMPARISONS", [raced, curve, aimless, missing])
    finished = speed.FinishedRows(tmp_path / "rows", {"torch": "2.4", "processor": "Abacus"})
    times = {"our_seconds": 0.0123, "their_seconds": 2.5, "rounds": 7}
    finished.store(raced, {"ratio": 1.5, "lowest": 1.25, "highest": 1.75, **times})
    finished.store(aimless, {"ratio": 1.0, "lowest": 0.5, "highest": 1.5, **times})
    finished.store(curve, {"extra MiB": 250.0, "points": [{"batch": 4, "MiB": 60.0}, {"batch": 16, "MiB": 250.0}]})
    report = speed.report(finished, quick=False)
    assert report["missing"] == ["probe; peer"]
    figures = tmp_path / "docs" / "figures"
    figures.mkdir(parents=True)
    (tmp_path / "docs" / "explanation").mkdir()
    (tmp_path / "README.md").write_text("# Title\n")
    page = tmp_path / "docs/explanation/speed.md"
    page.write_text("# Speed\n<!-- report: speed -->\nold\n<!-- end -->\nafter\n")
    assert tables.main([], tmp_path) == 0
    assert page.read_text() == "# Speed\n<!-- report: speed -->\nNot measured yet.\n<!-- end -->\nafter\n"
    (figures / "speed.json").write_text(json.dumps(report))
    assert tables.main(["--check"], tmp_path) == 1
    assert tables.main([], tmp_path) == 0
    assert tables.main(["--check"], tmp_path) == 0
    assert page.read_text() == (
        "# Speed\n<!-- report: speed -->\n```bash\npython benchmarks/speed.py\n```\n\n"
        "torch: 2.4; processor: Abacus.\n\n"
        "**Comparisons**\n\n"
        "| operation; peer | ours | theirs | ratio or figure | lowest to highest | target | met | rounds |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| step; peer | 12.3 ms | 2.5 s | 1.50× | 1.25 to 1.75 | ≥ 2.00× | no | 7 |\n"
        "| memory; limit |  |  | 250 |  | ≤ 300 MiB | yes | 1 |\n"
        "| peer; itself | 12.3 ms | 2.5 s | 1.00× | 0.50 to 1.50 |  |  | 7 |\n\n"
        "**memory**\n\n"
        "| batch | MiB |\n| --- | ---: |\n| 4 | 60 |\n| 16 | 250 |\n<!-- end -->\nafter\n"
    )
    assert not (tmp_path / "docs/explanation/results.md").exists()


def test_exact_rows_match_the_dense_gradient(benchmarks: None) -> None:
    from comparisons.losses import dense, distance, embeddings, exact_rows, gradient

    z_a, z_b = embeddings(20)
    found = exact_rows(z_a, z_b, 3)
    exact = gradient(dense, *(z.detach().double().requires_grad_() for z in (z_a, z_b)))
    assert distance(found, tuple(part[:3] for part in exact)) < 1e-7
    assert distance(tuple(2 * part for part in exact), exact) == pytest.approx(1)


def test_profile_counts_stages_once_and_removes_its_clocks(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import profile_step

    from pretextkit.training._step import TrainStep

    ticks = itertools.count()
    monkeypatch.setattr(profile_step, "now", lambda: float(next(ticks)))  # every reading is one second later
    before = TrainStep.__init__, TrainStep.prepare, TrainStep._loss, torch.autograd.backward
    images = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8)
    found = profile_step.profile_of(pk.tasks.SimCLR(TinyBackbone()), images, batch_size=4, steps=2)
    stages = found["seconds_per_step"]
    assert [stages[stage] for stage in ("views", "forward", "backward", "optimizer")] == [1, 1, 1, 1]
    assert stages["loader"] == 1.5  # one more request finds the end of the epoch
    assert sum(found["fraction"].values()) == pytest.approx(1)
    assert found["images_per_second"] == pytest.approx(4 / sum(stages.values()))
    assert before == (TrainStep.__init__, TrainStep.prepare, TrainStep._loss, torch.autograd.backward)
    assert re.search(r"^backward +\d+\.\d\d +\d+\.\d%$", profile_step.table(found), re.MULTILINE)


def test_gpu_benchmark_reports_a_missing_gpu(
    benchmarks: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "needs an NVIDIA GPU, and torch sees none here" in capsys.readouterr().err


def test_arrangements_alternate_and_compare_within_rounds(benchmarks: None) -> None:
    from scaling import arrangements, measure_arrangements

    every = {arrangement: name for name, arrangement in arrangements(4).items()}
    order: list[str] = []

    def measure(arrangement: Any) -> float:
        order.append(every[arrangement])
        found = order.count(order[-1])  # run 1 is the warm-up
        weak = 50 if found == 2 else 35 * found
        return {"one process": 10 * found, "strong": 30 * found, "weak": weak, "threads": 9}[order[-1]]

    rows = measure_arrangements(measure, processes=4, rounds=3)
    assert order[4:8] == order[:4][::-1] == order[8:12][::-1] == ["one process", "strong", "weak", "threads"]
    assert rows["one process"] == {"images_per_second": 30, "ratio": 1, "lowest": 1, "highest": 1}
    assert rows["strong"] == {"images_per_second": 90, "ratio": 3, "lowest": 3, "highest": 3}
    assert rows["weak"] == {"images_per_second": 105, "ratio": 3.5, "lowest": 2.5, "highest": 3.5}
    assert rows["threads"]["lowest"] == 9 / 40


@pytest.mark.slow
@pytest.mark.xdist_group("serial")
def test_scaling_of_two_processes_ends_when_one_fails(benchmarks: None, tables: ModuleType) -> None:
    from comparisons.timing import Effort
    from scaling import Training, measure_training, started, tables_of

    training = Training("simclr", "small-cnn")
    with pytest.raises(EOFError), started(2) as everywhere:  # noqa: PT012 - starting two more takes seconds
        row = measure_training(training, everywhere, 2, Effort(quick=True), rounds=1)
        assert everywhere(torch.distributed.get_world_size) == [2, 2]
        assert everywhere(torch.get_num_threads) == [1, 1]
        everywhere(len)  # fails without an argument
    assert row["communication"]["weights"] == sum(weight.numel() for weight in training.make().parameters())
    assert all(found["images_per_second"] > 0 for found in row["arrangements"].values())
    text = tables.tables_of({"tables": tables_of({training.name: row}, 2)})
    ratios = r"( \d\.\d\d \(\d\.\d\d to \d\.\d\d\), \d+% \|){3}"
    assert re.search(rf"^\| simclr, small-cnn \| \d+ \|{ratios}$", text["Speed"], re.MULTILINE)
    assert re.search(
        r"^\| simclr, small-cnn \| 2\.\d \| [\d.]+ \| [\d.]+ \| [\d,]+ \|$", text["Communication"], re.MULTILINE
    )


@pytest.mark.usefixtures("benchmarks")
def test_line_summarizes_ends_and_slope() -> None:
    from steady import line

    hours = [number / 100 for number in range(100)]
    found = line(hours, [50 + 20 * hour for hour in hours])
    assert found == pytest.approx(
        {
            "median": 50 + 20 * 0.495,
            "first_tenth": 50 + 20 * 0.045,
            "last_tenth": 50 + 20 * 0.945,
            "slope_per_hour": 20,
            "slope_per_hour_in_percent": 100 * 20 / 59.9,
        }
    )
