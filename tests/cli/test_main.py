"""Exit status, messages and flags of the command line."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Generator, Tensor

import pretextkit as pk
from pretextkit.cli import main
from pretextkit.cli._commands import COMMANDS
from pretextkit.cli._flags import add_flags, given
from pretextkit.cli._main import parse
from pretextkit.cli._messages import as_flags
from pretextkit.cli._outputs import plain
from pretextkit.functional import compare, fixmatch, freeze_and_finetune, linear_probe, pretrain
from tests.cli.conftest import TRAIN
from tests.helpers import ROOT

LABELS = ["--labels", "labels.csv"]


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_has_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    (example,) = [each.example for each in COMMANDS if each.name == command]
    for line in example.splitlines():
        assert line in shown
        program, *words = line.split()
        assert program == "pretextkit"
        assert parse(words).command.name == command


@pytest.mark.parametrize(
    ("command", "function", "elsewhere"),
    [
        ("pretrain", pretrain, {"augment", "callbacks", "checkpoint"}),
        ("probe", linear_probe, set()),
        ("finetune", freeze_and_finetune, {"augment", "callbacks"}),
        ("fixmatch", fixmatch, {"augment", "weak", "strong", "callbacks"}),
        ("compare", compare, {"save", "pretraining", "finetuning", "callbacks"}),
    ],
)
def test_every_keyword_is_a_flag_with_its_default(
    command: str, function: Any, elsewhere: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and name not in elsewhere:
            assert re.search(rf"--{name.replace('_', '-')}[ ,]", shown), name
            if isinstance(parameter.default, float) and parameter.default not in (float("inf"),):
                assert f"(default: {parameter.default})" in shown, name


def test_flag_has_the_type_of_its_keyword() -> None:
    import argparse

    def train(
        images: Any,
        *,
        epochs: int | None = None,
        fast: bool = True,
        rate: float = 0.1,
        hook: Callable[[int], int] | None = None,
    ) -> None: ...

    parser = argparse.ArgumentParser()
    add_flags(parser, train)
    options = parser.parse_args(["--epochs", "3", "--no-fast"])
    assert given(options, train) == {"epochs": 3, "fast": False}
    assert given(parser.parse_args([]), train) == {}
    assert "--hook" not in parser.format_help()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--pool", "2"], "pool=2"),
        (["--pool", "1", "2"], "pool=[1, 2]"),
        (["--layers", "all"], 'layers="all"'),
        (["--layers", "stage2"], 'layers=["stage2"]'),
        (["--class-weights", "balanced"], 'class_weights="balanced"'),
        (["--class-weights", "1", "2.5"], "class_weights=[1.0, 2.5]"),
        (["--memory", "inf"], 'memory=float("inf")'),
        (["--batch_size=8"], "batch_size=8"),
    ],
)
def test_values_of_a_flag_become_the_value_of_the_keyword(
    words: list[str], code: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "photos", "--backbone", "run", *words, "--show-code"]) == 0
    assert f"backbone, train, {code})" in capsys.readouterr().out


def test_second_set_may_stand_after_flags(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "photos", "--backbone", "run", "new-photos", "--show-code"]) == 0
    assert "linear_probe(backbone, train, test)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "train a backbone on images without labels"),
        (["pretrian"], "unknown command: pretrian; did you mean pretrain?"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["pretrain"], "the following arguments are required: IMAGES"),
        (["pretrain", "photos", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["pretrain", "photos", "--optimizer", "adam"], "invalid choice: 'adam'"),
        (["pretrain", "photos", "--epoch", "3"], "unrecognized arguments: --epoch 3; did you mean --epochs?"),
        (["finetune", "photos"], "the following arguments are required: --backbone"),
        (["probe", "photos", "--backbone", "run", "--label-column", "x"], "need --labels with a CSV file"),
        (["probe", "photos", "--backbone", "run", "--backbone-option", "x=1"], "needs the name of a backbone"),
        (["anomaly", "photos", "--memory-bank-size", "5"], "--method neighbors takes no --memory-bank-size"),
        (["anomaly", "photos", "photos", "--method", "patches"], "--method patches needs --backbone"),
        (["anomaly", "photos", "--method", "patches", "--backbone", "run"], "needs NORMAL and IMAGES"),
    ],
)
def test_wrong_flags_end_with_status_2(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    found = capsys.readouterr()
    assert message in found.err
    assert found.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "no-photos"], "Expected a folder of images, but got 'no-photos'."),
        (["pretrain", "photos", "--task", "simcrl"], "Did you mean 'simclr'?"),
        (["pretrain", "photos", "--task-option", "heat=1"], "Expected the name of a keyword for --task-option"),
        (["pretrain", "photos", "--task-option", "heat"], "Expected --task-option NAME=VALUE, but got 'heat'."),
        (["pretrain", "photos", "--backbone", "resnet81"], "Did you mean 'resnet18'?"),
        (["pretrain", "photos", "--out", "labels.csv"], "Expected a folder to write in at"),
        (["finetune", "photos", *LABELS, "--backbone", "run", "--out", "run"], "For example run/classifier.pt."),
        (["finetune", "photos", "--backbone", "run"], "\nOn the command line: --labels labels.csv\n"),
        (["predict", "run/backbone.pt", "photos"], "Expected a classifier in run/backbone.pt, but got a backbone."),
        (["predict", "labels.csv", "photos"], "labels.csv"),
        (["predict", "new-photos", "pets.pt"], "The classifier comes first: pretextkit predict pets.pt new-photos. "),
        (
            ["predict", "run", "photos"],
            "Pass a file that 'pretextkit finetune --out' or 'pretextkit probe --out' wrote.",
        ),
        (["probe", "photos", "--backbone", "run"], "that are all -1.\nOn the command line: --labels labels.csv\nLabel"),
        (["probe", "photos", "--labels", "none.csv", "--backbone", "run"], "got no file 'none.csv'"),
        (["compare", "photos", *LABELS], "\nOn the command line: --epochs 10, --views-per-image 40\n"),
    ],
)
def test_error_is_one_message_with_status_1(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json"]) == 1
    found = capsys.readouterr()
    assert message in found.err
    assert found.err.splitlines()[-3 if "On the command" in found.err else -1].startswith("Error: ")
    assert found.out == ""


def test_damaged_file_is_left_out_by_the_flag_in_the_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "photos/damaged.jpg").write_bytes(b"")
    call = ["duplicates", "photos", "--threshold", "0.5"]
    assert main(call) == 1
    assert "\nOn the command line: --on-error skip\n" in capsys.readouterr().err
    assert main([*call, "--on-error", "skip"]) == 0
    assert "1 skipped" in capsys.readouterr().out


def test_file_that_cannot_be_written_fails_before_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_arguments: object, **_options: object) -> None:
        raise AssertionError("training has begun")

    monkeypatch.setattr(pk.functional, "freeze_and_finetune", train)
    call = ["finetune", "photos", *LABELS, "--backbone", "run", "--out"]
    for out in ("run", "labels.csv/pets.pt"):
        assert main([*call, out]) == 1
    with pytest.raises(AssertionError, match="has begun"):
        main([*call, "new/pets.pt"])


def test_warning_is_printed_once_and_is_in_the_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (folder / "labels.csv").open("a") as file:
        file.write("gone.png,red\n")
    call = ["finetune", "photos", *LABELS, "--backbone", "run", "--steps", "1", "--no-progress", "--json"]
    assert main(call) == 0
    found = capsys.readouterr()
    (text,) = json.loads(found.out)["warnings"]
    assert text.startswith("1 of 25 names in labels.csv fit no image in photos: gone.png.")
    assert found.err.count(text) == 1


class Interrupting(pk.tasks.Rotation):
    """A rotation task during whose second step somebody presses Ctrl-C, once."""

    armed = True
    calls = 0

    def views(self, images: Tensor, generator: Generator) -> Any:
        Interrupting.calls += 1
        if Interrupting.armed and Interrupting.calls == 2:
            Interrupting.armed = False
            signal.raise_signal(signal.SIGINT)
        return super().views(images, generator)


def test_ctrl_c_ends_with_status_130_and_the_command_resumes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pk.pretext_tasks, "_classes", {**pk.pretext_tasks._classes, "interrupting": Interrupting})
    call = ["pretrain", "photos", "--backbone", "small-cnn", "--task", "interrupting", "--out", "stopped", *TRAIN]
    call += ["--epochs", "3"]
    assert main(call) == 130
    assert "Stopped at step 2 of 6" in capsys.readouterr().err
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed_at"] == 2


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pretextkit", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_module_runs_as_a_program() -> None:
    answer = run("--version")
    assert (answer.returncode, answer.stdout) == (0, f"pretextkit {pk.__version__}\n")


def test_pipe_without_a_reader_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pretextkit", "list"]
    with os.fdopen(writer, "w") as closed:
        answer = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (1, "")


def test_entry_point_is_the_function() -> None:
    assert '\n[project.scripts]\npretextkit = "pretextkit.cli:main"\n' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are texts on other systems")
def test_name_of_a_file_that_is_no_text_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.rename("new-photos/00.png", b"new-photos/\xff.png")
    assert main(["predict", "pets.pt", "new-photos", "--csv", "odd.csv"]) == 0
    assert "\\udcff.png" in capfd.readouterr().out
    assert b"new-photos/\xff.png" in (folder / "odd.csv").read_bytes()


def test_flags_of_advice_are_those_of_the_command() -> None:
    flags = {"seeds": "--seeds", "progress": "--progress", "label": "--label-column", "labels": "--labels"}
    assert as_flags("For example seeds=(0, 1, 2).", flags) == "On the command line: --seeds 0 1 2"
    assert as_flags("Pass progress=False.", flags) == "On the command line: --no-progress"
    text = "labels=pretextkit.data.CsvLabels('labels.csv', label='a b'), or label=2."
    assert as_flags(text, flags) == "On the command line: --label-column 'a b', --label-column 2"
    assert as_flags("Lower k, or k=5. seeds=...", flags) == ""


def test_plain_leaves_no_nan_and_no_tensor() -> None:
    from torch import tensor

    values = {"a": tensor([1.0, float("nan")]), "b": (Path("x"), None, True), "c": float("inf")}
    assert plain(values) == {"a": [1.0, None], "b": ["x", None, True], "c": None}


def next_of(shown: str) -> str:
    (line,) = [line for line in shown.splitlines() if line.startswith("Next: ")]
    return line


def test_next_command_of_a_probe_repeats_what_the_probe_was_given(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (folder / "labels.csv").read_text("utf-8")
    (folder / "three.csv").write_text("".join(f"{line},x\n" for line in table.splitlines()), "utf-8")
    backbone = ["--backbone", "small-cnn", "--backbone-option", "in_channels=3"]
    images = ["--size", "16x24", "--fit", "stretch"]
    labels = ["--labels", "three.csv", "--label-column", "color"]
    assert main(["probe", "photos", *backbone, *images, *labels, "--layers", "last"]) == 0
    command = next_of(capsys.readouterr().err).removeprefix("Next: pretextkit ").split()
    assert main([*command, "--steps", "1", "--no-progress", "--device", "cpu"]) == 0
    assert "32 images of 3x16x24, 2 classes, 24 labeled" in capsys.readouterr().out


@pytest.mark.parametrize(("images", "labels"), [("photos", "--labels labels.csv"), ("classes", "")])
def test_next_step_of_pretrain_asks_for_labels_where_there_are_none(
    folder: Path, capsys: pytest.CaptureFixture[str], images: str, labels: str
) -> None:
    for number, path in enumerate(sorted((folder / "photos").glob("*.png"))):
        (folder / "classes" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        (folder / "classes" / str(number % 2) / path.name).write_bytes(path.read_bytes())
    flags = ["--steps", "1", "--batch-size", "2", "--size", "16", "--device", "cpu", "--no-progress", "--out", "new"]
    assert main(["pretrain", images, *flags]) == 0
    command = next_of(capsys.readouterr().err).removeprefix("Next: ")
    assert command == f"pretextkit probe {images} --backbone new {labels}".strip()
    assert main(command.split()[1:]) == 0


def test_next_step_of_select_is_to_fill_in_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    select = ["select", "photos", "--n", "3", "--csv", "to_label.csv"]
    assert main([*select, "--backbone", "run", "--size", "32"]) == 0
    expected = "Next: fill in the column label of to_label.csv, then: pretextkit finetune photos --backbone run"
    assert next_of(capsys.readouterr().err) == f"{expected} --out classifier.pt --labels to_label.csv --size 32"
    assert main(select) == 0
    assert "Next" not in capsys.readouterr().err


def test_forgotten_labels_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", "photos", "--n", "3", "--backbone", "run", "--csv", "to_label.csv"]) == 0
    assert main(["finetune", "photos", "--backbone", "run", "--labels", "to_label.csv"]) == 1
    shown = capsys.readouterr().err
    assert "Warning: None of the 3 rows of to_label.csv has a label. Fill in its column of labels." in shown
    assert "Error: Expected labels for train, but got labels that are all -1.\nOn the command line: --labels" in shown
    assert "\nLabel some images of each class" in shown


@pytest.mark.parametrize(
    ("paths", "arguments"),
    [
        (["photos"], "train"),
        (["photos", "val"], "train, test=val"),
        (["photos", "--unlabeled", "more"], "train, unlabeled=unlabeled"),
        (["photos", "val", "--unlabeled", "more"], "train, unlabeled=unlabeled, test=val"),
    ],
)
def test_fixmatch_gets_each_set(paths: list[str], arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fixmatch", *paths, "--backbone", "small-cnn", "--labels", "labels.csv", "--show-code"]) == 0
    shown = capsys.readouterr().out
    assert f'result = fixmatch(backbone, "linear", {arguments})' in shown
    assert ('FolderImages("more", labels=False, ' in shown) == ("unlabeled" in arguments)


def test_commands_of_the_label_first_page_parse() -> None:
    page = (ROOT / "docs/how-to/label-first.md").read_text("utf-8").replace("\\\n", "")
    commands = [line.split()[1:] for line in page.splitlines() if line.startswith("pretextkit ")]
    assert [parse(words).command.name for words in commands] == [
        *("pretrain", "select", "probe", "fixmatch", "predict", "select"),
    ]


def test_cache_is_a_folder(folder: Path) -> None:
    command = ["probe", "photos", "--backbone", "run", "--labels", "labels.csv"]
    assert main([*command, "--cache", "decoded"]) == 0
    assert [path.suffix for path in (folder / "decoded").iterdir()] == [".images"]
