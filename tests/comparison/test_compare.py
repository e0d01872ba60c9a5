from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import TensorDataset

import pretextkit as pk
from pretextkit import Labeled, PretextTask, TaskOutput
from pretextkit.comparison import _runner
from pretextkit.data import TensorImages, stratified_subset
from pretextkit.errors import CheckpointError, DataError, DuplicateNameError, OptionError, UnknownNameError
from pretextkit.evaluation import _logistic_classifier
from pretextkit.evaluation._solvers._logistic import LogisticModel, fit_rotated
from pretextkit.functional import (
    Comparison,
    ComparisonRun,
    compare,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
    views_per_image,
)
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.views import CropAndRecolor

N, CLASSES = 48, 3


class Brightness(PretextTask[Labeled]):
    """Classify bright and dark images: learned in a step or two."""

    def __init__(self, backbone: Any, stop_at: int | None = None) -> None:
        super().__init__(backbone)
        self.head = nn.Linear(backbone.feature_dim, 2)
        self._stop_at, self._step = stop_at, 0

    def views(self, images: Tensor, generator: Generator) -> Labeled:
        turned = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        return Labeled(torch.where(turned, 1 - images, images), turned.flatten().long())

    def forward(self, batch: Labeled) -> TaskOutput:
        return TaskOutput(nn.functional.cross_entropy(self.head(self.backbone(batch.images)), batch.labels), {})

    def after_step(self) -> None:
        self._step += 1
        if self._step == self._stop_at:
            os.kill(os.getpid(), signal.SIGINT)


def data(seed: int, n: int = N) -> tuple[Tensor, Tensor]:
    """Images whose class is roughly their amount of blue."""
    generator = Generator().manual_seed(seed)
    images, labels = toy_images(n, size=16, generator=generator), torch.arange(n) % CLASSES
    blue = 0.3 * (labels[:, None, None] - 1) + 0.3 * torch.rand(n, 1, 1, generator=generator)
    images[:, 2] = (0.5 * images[:, 2] + 0.5 * blue).clamp(0, 1)
    return images, labels


TRAIN, TEST = data(0), data(1, 30)
OPTIONS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "label_fractions": (0.25, 1.0),
    "finetune_steps": 3,
    "device": "cpu",
    "progress": False,
}
TASKS = {"brightness": Brightness}


def compared(
    tasks: Any = TASKS, backbone: Any = TinyBackbone, train: Any = TRAIN, test: Any = TEST, **options: Any
) -> Comparison:
    return compare(tasks, backbone, train, test, **{**OPTIONS, **options})


def figures(run: ComparisonRun) -> dict[str, Any]:
    """Values of a run that do not depend on the clock or the machine."""
    values = run.to_dict()
    values["training"] = {name: value for name, value in run.training.items() if name != "seconds"}
    return {name: value for name, value in values.items() if name not in ("seconds", "peak_memory")}


@pytest.fixture(scope="module", autouse=True)
def _hasty_solver() -> Iterator[None]:
    """Stop probes after a few steps, because only their inputs are tested here."""

    def hasty(*data: Any, max_steps: int = 0, **options: Any) -> LogisticModel:
        return fit_rotated(*data, max_steps=5, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_logistic_classifier, "fit_rotated", hasty)
        yield


@pytest.fixture(scope="module")
def result() -> Comparison:
    return compared()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Methods and seeds that are measured, in order."""
    measured: list[str] = []
    measure = _runner._measure

    def counting(method: Any, seed: int, *others: Any) -> ComparisonRun:
        measured.append(f"{method.name} {seed}")
        return measure(method, seed, *others)

    monkeypatch.setattr(_runner, "_measure", counting)
    return measured


def new_backbone(seed: int = 0) -> TinyBackbone:
    """Build the backbone from which every method starts."""
    torch.manual_seed(seed)
    backbone = TinyBackbone()
    backbone.normalization.measure(TRAIN[0][torch.randperm(N)])  # N is below the sample size: all images, in any order
    return backbone


@pytest.fixture(scope="module")
def by_seed(result: Comparison) -> dict[int, Comparison]:
    return {0: result, 1: compared(seeds=[1])}


@pytest.mark.parametrize("seed", [0, 1])
def test_random_init_equals_a_direct_probe(by_seed: dict[int, Comparison], seed: int) -> None:
    run, backbone = by_seed[seed].runs[0], new_backbone(seed)
    probe = linear_probe(backbone, TRAIN, TEST, seed=seed)
    assert (run.method, run.linear, run.layer, run.layers) == (
        "random init",
        probe.accuracy,
        probe.layer,
        probe.layers,
    )
    assert run.linear_last == probe.layers[probe.last].accuracy
    assert run.knn == knn_probe(backbone, TRAIN, TEST).accuracy
    assert (run.steps, run.images, run.views_seen, run.seconds, run.training) == (0, 0, 0, 0, {})


@pytest.mark.parametrize("seed", [0, 1])
def test_finetuning_on_few_labels_equals_a_direct_call(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    tune = freeze_and_finetune

    def look(*others: Any, **options: Any) -> Any:
        result = tune(*others, **options)
        losses.append(result.history.last["loss"])
        return result

    monkeypatch.setattr(_runner, "freeze_and_finetune", look)
    run = compared([], seeds=[seed], label_fractions=[0.25]).runs[0]
    few = stratified_subset(TRAIN[1], 12, seed=seed)
    assert TRAIN[1][few].bincount().tolist() == [4, 4, 4]
    backbone = new_backbone(seed)
    data = TRAIN[0][few], TRAIN[1][few]
    options: dict[str, Any] = {"epochs": 3, "seed": seed, "device": "cpu", "progress": False}
    direct = tune(backbone, "linear", data, TEST, trainable="all", **options)
    assert run.finetuned == {12: direct.accuracy}
    assert losses[0] == direct.history.last["loss"]


@pytest.mark.parametrize("seed", [0, 1])
def test_supervised_equals_direct_training_and_probe(by_seed: dict[int, Comparison], seed: int) -> None:
    run, backbone = by_seed[seed].runs[1], new_backbone(seed)
    options: dict[str, Any] = {"epochs": 2, "batch_size": 16, "seed": seed, "device": "cpu", "progress": False}
    tuned = freeze_and_finetune(backbone, "linear", TRAIN, trainable="all", **options)
    probe = linear_probe(backbone, TRAIN, TEST, seed=seed)
    assert (run.method, run.linear, run.layers) == ("supervised", probe.accuracy, probe.layers)
    assert run.training["loss"] == tuned.history.last["loss"]
    assert (run.steps, run.images, run.views_seen) == (6, 96, 96)


@pytest.mark.parametrize("seed", [0, 1])
def test_task_equals_direct_pretraining_and_probe(by_seed: dict[int, Comparison], seed: int) -> None:
    torch.manual_seed(seed)
    task = Brightness(TinyBackbone())
    options: dict[str, Any] = {"epochs": 2, "batch_size": 16, "seed": seed, "device": "cpu", "progress": False}
    pretrained = pk.functional.pretrain(task, TRAIN[0], **options)
    probe = linear_probe(task.backbone, TRAIN, TEST, seed=seed)
    run = by_seed[seed].runs[2]
    assert (run.method, run.linear, run.layers) == ("brightness", probe.accuracy, probe.layers)
    assert run.training["loss"] == pretrained.history.last["loss"]
    assert (run.steps, run.images, run.views_seen) == (6, 96, 96)


def test_all_methods_finetune_on_the_same_stratified_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, Tensor]] = []
    tune = freeze_and_finetune

    def look(backbone: nn.Module, head: str, few: TensorImages, *others: Any, **options: Any) -> Any:
        assert few.labels is not None
        assert few.labels.bincount().tolist() == [len(few) // 3] * 3
        seen.append((options["seed"], few.images))
        return tune(backbone, head, few, *others, **options)

    monkeypatch.setattr(_runner, "freeze_and_finetune", look)
    compared(label_fractions=[0.25], finetune_steps=1, seeds=[0, 1])
    first, second = ([images for seed, images in seen if seed == wanted] for wanted in (0, 1))
    assert len(first) == len(second) == 3
    assert all(torch.equal(images, first[0]) for images in first)
    assert all(torch.equal(images, second[0]) for images in second)
    assert not torch.equal(first[0], second[0])


def test_choices_do_not_depend_on_test(result: Comparison) -> None:
    wrong = TEST[1][torch.randperm(30, generator=Generator().manual_seed(0))]
    other = compared(test=(TEST[0], wrong))
    for one, two in zip(result.runs, other.runs, strict=True):
        assert (one.layer, one.training["loss"] if one.training else 0) == (two.layer, two.training.get("loss", 0))
        assert {name: score._replace(accuracy=0) for name, score in one.layers.items()} == {
            name: score._replace(accuracy=0) for name, score in two.layers.items()
        }
    assert [run.linear for run in result.runs] != [run.linear for run in other.runs]


def test_settings_of_every_training_are_recorded(result: Comparison) -> None:
    random, supervised, task = (run.settings for run in result.runs)
    assert random["training"] == "no training"
    assert supervised["training"].startswith("all weights, 6 steps of 16, learning rate 0.001")
    assert task["training"].startswith("2 epochs, batch 16, learning rate 0.001")
    for settings in (random, supervised, task):
        assert settings["fine-tuning, 12 labels"].startswith("all weights, 3 steps of 12")
        assert settings["kNN"].startswith("k=")
    assert Comparison.from_dict(json.loads(json.dumps(result.to_dict()))).runs[2].settings == task


def test_batch_is_that_of_the_task_by_default() -> None:
    class Eager(Brightness):
        recommended = pk.Recommended(learning_rate=0.01, smallest_batch=8)

    tasks = {"brightness": Brightness, "eager": Eager}
    runs = {run.method: run for run in compared(tasks, batch_size=None, label_fractions=()).runs}
    assert runs["brightness"].settings["training"].startswith("2 epochs, batch 32, learning rate 0.001")
    assert runs["eager"].settings["training"].startswith("2 epochs, batch 8, learning rate 0.01")
    assert (runs["brightness"].images, runs["eager"].images) == (64, 96)


def test_compare_is_deterministic_and_keeps_global_rng(result: Comparison) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = compared()
    assert torch.equal(torch.get_rng_state(), before)
    assert list(map(figures, again.runs)) == list(map(figures, result.runs))


def test_runs_are_ordered_by_method_and_seed() -> None:
    result = compared(seeds=[3, 1], label_fractions=())
    assert [(run.method, run.seed) for run in result.runs] == [
        (row, seed) for row in ("random init", "supervised", "brightness") for seed in (3, 1)
    ]
    assert result.runs[0].linear != result.runs[1].linear or result.runs[0].layers != result.runs[1].layers


# The budget.


def test_views_per_image_counts_pixels_through_the_backbone() -> None:
    source = TensorImages(torch.rand(4, 3, 32, 32))
    tasks = pk.tasks
    assert views_per_image(tasks.Rotation(TinyBackbone()), source) == 4
    assert views_per_image(tasks.SimCLR(TinyBackbone()), source) == 2
    jigsaw = tasks.JigsawContext(TinyBackbone(), pairs=3)
    patch = jigsaw.views(source.images, Generator()).center.shape[-1]
    assert views_per_image(jigsaw, source) == pytest.approx(3 * 2 * patch**2 / 32**2)


def test_views_per_image_keeps_the_task_unchanged() -> None:
    task = pk.tasks.Rotation(pk.models.SmallCNN())
    before = {name: value.clone() for name, value in task.state_dict().items()}
    views_per_image(task, TensorImages(torch.rand(4, 3, 32, 32)))
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert task.training
    assert not task.backbone.normalization._forward_pre_hooks


def test_backbone_without_normalization_call_is_refused() -> None:
    class Bare(pk.Backbone):
        feature_dim = 3

        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    with pytest.raises(OptionError) as error:
        compared(backbone=Bare)
    assert error.value.text == (
        "Expected a backbone that calls self.normalization, but got Bare, which does not. "
        "Call self.normalization(images) first in its forward."
    )


def costs(result: Comparison) -> dict[str, list[float]]:
    """Steps, images and views of each method."""
    return {run.method: [run.steps, run.images, run.views_seen] for run in result.runs}


def test_equal_budgets_read_equal_images_or_views() -> None:
    tasks = ["rotation", "simclr"]
    options: dict[str, Any] = {"label_fractions": (), "batch_size": 8}
    epochs = costs(compared(tasks, epochs=2, **options))
    assert epochs["rotation"] == [12, 96, 384]
    assert epochs["simclr"] == [12, 96, 192]
    assert epochs["supervised"] == [12, 96, 96]
    views = costs(compared(tasks, epochs=None, views_per_image=4, **options))
    assert views["rotation"] == [6, 48, 192]
    assert views["simclr"] == [12, 96, 192]
    assert views["supervised"] == [24, 192, 192]


def test_unlabeled_images_are_only_used_for_pretraining() -> None:
    labels = TRAIN[1].clone()
    labels[24:] = -1
    result = compared(train=(TRAIN[0], labels), label_fractions=[1.0])
    by_row = {run.method: run for run in result.runs}
    assert by_row["brightness"].images == 96
    assert by_row["supervised"].images == 96  # 4 passes over 24, in equal batches of 12
    assert list(by_row["supervised"].finetuned) == [24]
    backbone = new_backbone()
    assert by_row["random init"].linear == linear_probe(backbone, (TRAIN[0][:24], TRAIN[1][:24]), TEST).accuracy


def test_transfer_pretrains_on_images_of_other_size_and_color() -> None:
    other = toy_images(40, size=20, channels=1, generator=Generator().manual_seed(2))
    result = compared(images=other, label_fractions=())
    torch.manual_seed(0)
    task = Brightness(TinyBackbone())
    pk.functional.pretrain(task, other, epochs=2, batch_size=16, device="cpu", progress=False)
    assert result.runs[2].linear == linear_probe(task.backbone, TRAIN, TEST).accuracy
    assert result.runs[2].images == 2 * 2 * 16
    torch.manual_seed(0)
    backbone = TinyBackbone()
    backbone.normalization.measure(other)  # random init is normalized like pretrained backbones
    assert result.runs[0].linear == linear_probe(backbone, TRAIN, TEST).accuracy


def test_compare_accepts_datasets(result: Comparison) -> None:
    other = compared(train=TensorDataset(*TRAIN), test=TensorDataset(*TEST))
    assert list(map(figures, other.runs)) == list(map(figures, result.runs))


def test_compare_accepts_a_registered_backbone_name() -> None:
    result = compared([], "small-cnn", label_fractions=())
    assert result.settings["backbone"] == "SmallCNN"
    assert [run.method for run in result.runs] == ["random init", "supervised"]


def test_options_reach_pretraining_and_finetuning(result: Comparison) -> None:
    still = compared(pretraining={"optimizer": "sgd", "learning_rate": 0.0}, finetuning={"learning_rate": 0.0})
    random, supervised, task = still.runs
    for other in (supervised, task):  # no method changed its weights
        for name, score in random.layers.items():
            assert other.layers[name] == pytest.approx(score, abs=1e-4)
    assert result.runs[2].layers != result.runs[0].layers


# Resuming.


def test_finished_runs_are_not_repeated(tmp_path: Path, counted: list[str], result: Comparison) -> None:
    first = compared(save=tmp_path)
    assert counted == ["random init 0", "supervised 0", "brightness 0"]
    assert list(map(figures, first.runs)) == list(map(figures, result.runs))
    assert compared(save=tmp_path).runs == first.runs  # seconds included
    assert len(counted) == 3
    more = compared({"rotation": pk.tasks.Rotation, **TASKS}, save=tmp_path, seeds=[0, 1])
    assert counted[3:] == [
        "rotation 0",
        *(f"{row} 1" for row in ("random init", "supervised", "rotation", "brightness")),
    ]
    assert [run for run in more.runs if run in first.runs] == list(first.runs)
    assert Comparison.load(tmp_path / "comparison.json") == more


def test_interrupted_run_resumes_to_the_same_result(tmp_path: Path, counted: list[str], result: Comparison) -> None:
    with pytest.raises(KeyboardInterrupt):
        compared({"brightness": partial(Brightness, stop_at=4)}, save=tmp_path)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["random_init-0.json", "supervised-0.json"]
    assert not (tmp_path / "comparison.json").exists()
    resumed = compared(save=tmp_path)
    assert counted[3:] == ["brightness 0"]
    assert list(map(figures, resumed.runs)) == list(map(figures, result.runs))
    state = torch.load(tmp_path / "checkpoints" / "brightness-0" / "checkpoint.previous.pt", weights_only=True)["state"]
    assert state["step"] == 4  # the run resumed from there


def test_comparisons_with_shared_checkpoints_pretrain_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(Brightness, "after_step", lambda self: steps.append(1))
    one = compared(save=tmp_path / "one", checkpoints=tmp_path / "shared", images=TRAIN[0], label_fractions=())
    assert len(steps) == 6
    other = compared(
        save=tmp_path / "other", checkpoints=tmp_path / "shared", images=TRAIN[0], label_fractions=(), test=data(5, 20)
    )
    assert len(steps) == 6
    assert other.runs[2].training == one.runs[2].training
    assert other.runs[2].seconds == one.runs[2].seconds  # of the shared pretraining
    assert other.runs[2].linear != one.runs[2].linear


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the runs of a call without tasks."""
    folder = tmp_path_factory.mktemp("finished")
    compared([], save=folder)
    return folder


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"epochs": 3}, "epochs: 2 there, 3 here"),
        ({"epochs": None, "views_per_image": 2}, "views_per_image: None there, 2.0 here"),
        ({"batch_size": 8}, "batch_size: 16 there, 8 here"),
        ({"finetune_steps": 4}, "finetune_steps: 3 there, 4 here"),
        ({"finetuning": {"layer_decay": 0.5}}, "finetuning: {} there, {'layer_decay': '0.5'} here"),
        ({"precision": "fp32"}, "precision: 'auto' there, 'fp32' here"),
        ({"label_fractions": [1.0]}, "label_counts: [12, 48] there, [48] here"),
        ({"pretraining": {"warmup": 0.2}}, "pretraining: {} there, {'warmup': '0.2'} here"),
        ({"test": data(3, 30)}, "test: 30 images "),
        ({"train": (TRAIN[0], TRAIN[1].roll(1))}, "train: 48 images "),
        ({"images": TRAIN[0]}, "images: 'those of train' there, '48 images 8x3x16x16 float32 "),
        ({"backbone": partial(pk.models.SmallCNN, in_channels=1)}, "backbone: 'TinyBackbone' there, 'SmallCNN' here"),
    ],
)
def test_runs_of_another_call_are_refused_with_the_difference(
    options: dict[str, Any], difference: str, finished: Path, counted: list[str]
) -> None:
    with pytest.raises(CheckpointError) as error:
        compared([], save=finished, **options)
    path = finished / "results" / "random_init-0.json"
    assert str(error.value).startswith(f"Expected the run {path} to belong to this comparison, but got ")
    assert difference in str(error.value).replace('"', "'").replace("test: '", "test: ").replace("train: '", "train: ")
    assert error.value.text.endswith(
        "Repeat the original call to resume, or pass another folder to start a new comparison."
    )
    assert not counted  # refused before anything was trained


def test_changed_task_options_refuse_only_the_run_of_that_task(tmp_path: Path) -> None:
    simclr = partial(compared, label_fractions=(), save=tmp_path)
    simclr({"simclr": partial(pk.tasks.SimCLR, augmentation=CropAndRecolor(jitter=0.1))})
    with pytest.raises(CheckpointError, match=r"trained\.augmentation: .*jitter=0\.1, .* there, .*jitter=0\.2, "):
        simclr({"simclr": partial(pk.tasks.SimCLR, augmentation=CropAndRecolor(jitter=0.2))})
    simclr({"simclr, more": partial(pk.tasks.SimCLR, augmentation=CropAndRecolor(jitter=0.2))})
    assert (tmp_path / "results" / "simclr,_more-0.json").exists()


def test_damaged_run_file_is_named_in_the_error(tmp_path: Path) -> None:
    compared([], save=tmp_path, label_fractions=())
    path = tmp_path / "results" / "supervised-0.json"
    path.write_text(path.read_text("utf-8")[:100], "utf-8")
    with pytest.raises(
        CheckpointError, match=r"Expected a finished run in .*supervised-0\.json, but got JSONDecodeError"
    ):
        compared([], save=tmp_path, label_fractions=())


def test_saved_files_are_plain_json(tmp_path: Path) -> None:
    result = compared(save=tmp_path)
    saved = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    assert saved["table"] == result.table()
    assert saved["settings"]["epochs"] == 2
    assert [run["method"] for run in saved["runs"]] == ["random init", "supervised", "brightness"]
    assert not list(tmp_path.rglob("*.partial"))


# Progress.


def test_progress_bar_runs_from_zero_to_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    class Bar:
        def __init__(self, show: bool, title: str, total: int, start: int, images_per_step: int) -> None:
            self.title, self.total, self.places, self.shown = title, total, [start], list[str]()
            bars.append(self)

        def update(self, done: int, values: dict[str, float]) -> None:
            self.places.append(done)
            self.shown += values

        def close(self) -> None:
            pass

    monkeypatch.setattr(_runner, "progress_for", Bar)
    compared(save=tmp_path, progress=True)
    (bar,) = bars
    assert bar.title == "compare"
    assert bar.places == sorted(bar.places)
    assert (bar.places[0], bar.places[-1]) == (0, bar.total)
    assert "brightness, seed 0: loss" in bar.shown
    assert "supervised, seed 0: fine-tuned on 12 labels" in bar.shown
    compared({**TASKS, "again": Brightness}, save=tmp_path)
    assert bars[1].places[0] == bar.total
    assert bars[1].places[-1] == bars[1].total


def test_compare_without_progress_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    compared()
    assert capfd.readouterr() == ("", "")


# Errors.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"epochs": None},
            "Expected a budget: either epochs or views_per_image, but got epochs=None, views_per_image=None. epochs=10 "
            "reads each image ten times; views_per_image=40 makes 40 views of each image.",
        ),
        (
            {"views_per_image": 2},
            "Expected a budget: either epochs or views_per_image, but got epochs=2, views_per_image=2. ",
        ),
        ({"epochs": 0}, "Expected epochs to be an integer >= 1, but got 0. "),
        (
            {"seeds": []},
            "Expected seeds to be a sequence of at least 1 value, but got []. For example seeds=(0, 1, 2).",
        ),
        ({"seeds": [0, 0]}, "Expected distinct seeds, but got [0, 0]. "),
        ({"seeds": 3}, "Expected seeds to be a sequence of at least 1 value, but got 3. "),
        ({"label_fractions": 0.1}, "Expected label_fractions to be a sequence, but got 0.1. "),
        (
            {"tasks": [Brightness]},
            "Expected task names, or a mapping from names to factories, but got Brightness. "
            'Name the task: {"rotation": Rotation}.',
        ),
        (
            {"tasks": {"bright": Brightness(TinyBackbone())}},
            "Expected a factory for 'bright', because every run trains a new module, but got a Brightness. "
            "Pass its class, or a function that builds it.",
        ),
        (
            {"backbone": TinyBackbone()},
            "Expected a factory for 'backbone', because every run trains a new module, but got a TinyBackbone. ",
        ),
        (
            {"label_fractions": [0]},
            "Expected label_fractions to be a number in (0, 1], but got 0. The default is (0.01, ",
        ),
        ({"finetune_steps": 0}, "Expected finetune_steps to be an integer >= 1, but got 0. "),
        (
            {"tasks": "rotation"},
            "Expected a list of task names, or a mapping, but got 'rotation'. Write ['rotation'].",
        ),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as error:
        compared(**options)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tasks": ["rotations"]},
            "Expected the name of a pretext task, but got 'rotations'. Did you mean 'rotation'?",
        ),
        ({"backbone": "smal-cnn"}, "Expected the name of a backbone, but got 'smal-cnn'. Did you mean 'small-cnn'?"),
        ({"pretraining": {"epoch": 2}}, "Expected the name of an option in pretraining, but got 'epoch'. "),
        (
            {"finetuning": {"layer-decay": 0.5}},
            "Expected the name of an option in finetuning, but got 'layer-decay'. Did you mean 'layer_decay'?",
        ),
    ],
)
def test_unknown_names_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        compared(**options)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("tasks", [["rotation", "rotation"], {"supervised": Brightness}])
def test_duplicate_method_names_are_refused(tasks: Any) -> None:
    with pytest.raises(
        DuplicateNameError, match=r"Expected one method of each name, but got two methods named '\w+'\. Choose"
    ):
        compared(tasks)


def another(backbone: Any) -> Any:
    return Brightness(TinyBackbone())


@pytest.mark.parametrize(
    ("factory", "got"), [(another, "a task around another backbone"), (lambda backbone: backbone, "TinyBackbone")]
)
def test_factory_that_returns_no_task_is_refused(factory: Callable[[Any], Any], got: str) -> None:
    with pytest.raises(DataError) as error:
        compared({"odd": factory})
    assert error.value.text == (
        f"Expected a pretext task around the given backbone from the factory 'odd', but got {got}. "
        "Pass the class of a task, or a function: lambda backbone: SimCLR(backbone, temperature=0.2)."
    )


def test_factory_that_returns_no_backbone_is_refused() -> None:
    with pytest.raises(DataError, match=r"Expected a pretextkit\.Backbone from the factory, but got Identity\. Return"):
        compared(backbone=nn.Identity)


@pytest.mark.parametrize("what", ["train", "test"])
@pytest.mark.parametrize("broken", [TRAIN[0], (TRAIN[0], torch.full((N,), -1))])
def test_data_without_labels_are_refused(what: str, broken: Any) -> None:
    with pytest.raises(DataError, match=rf"Expected labels for {what}, but got .+\. Pass a pair \(images, labels\)"):
        compared(**{what: broken})
