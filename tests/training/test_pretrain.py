from __future__ import annotations

import copy
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

import pretextkit as pk
from pretextkit.data import StreamImages
from pretextkit.data._image_format import ImageFormat
from pretextkit.errors import (
    CheckpointError,
    DataError,
    DivergenceError,
    OptionError,
    ShapeError,
    TrainingWarning,
    UnknownNameError,
)
from pretextkit.functional import PretrainResult, pretrain
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.views import LightAugmentation
from tests.helpers import WithDropoutAndNorm

IMAGES = toy_images(16, size=16, generator=Generator().manual_seed(0))
Task = pk.PretextTask[Any, Any]


def make(name: str = "rotation", seed: int = 0) -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task: Task = pk.pretext_tasks[name](WithDropoutAndNorm())
        return task


def run(task: Task, images: Any = IMAGES, **options: Any) -> PretrainResult:
    defaults: dict[str, Any] = {"batch_size": 4, "device": "cpu", "precision": "fp32", "progress": False}
    if "steps" not in options:
        defaults["epochs"] = 2
    return pretrain(task, images, **{**defaults, **options})


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: nn.Module, other: nn.Module | dict[str, Tensor]) -> bool:
    values = other.state_dict() if isinstance(other, nn.Module) else other
    return one.state_dict().keys() == values.keys() and all(
        torch.equal(value, values[name]) for name, value in one.state_dict().items()
    )


def at_step(task: Task, step: int, act: Callable[[], None]) -> None:
    """Do something after a step."""
    own, done = task.after_step, [0]

    def after_step() -> None:
        own()
        done[0] += 1
        if done[0] == step:
            act()

    task.after_step = after_step  # type: ignore[method-assign]


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rotation", {}),
        ("simclr", {"optimizer": "adamw", "clip_norm": 0.5}),
        ("simclr", {"optimizer": "sgd"}),
        ("simclr", {"optimizer": "lars", "precision": "bf16"}),
    ],
)
@pytest.mark.parametrize("stop", [4, 6])  # at the end of an epoch of four steps, and in the middle of one
def test_stopped_run_resumes_exactly(tmp_path: Path, name: str, options: dict[str, Any], stop: int) -> None:
    complete, stopped, resumed = make(name), make(name), make(name, seed=1)  # resumed starts from other weights
    expected = run(complete, epochs=3, **options)
    at_step(stopped, stop, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run(stopped, epochs=3, checkpoint=tmp_path, **options)
    assert not same(stopped, complete)
    torch.rand(7)  # draws between the calls
    result = run(resumed, epochs=3, checkpoint=tmp_path, **options)
    assert (result.resumed_at, result.steps) == (stop, 12)
    assert same(resumed, complete)
    for row, other in zip(expected.history.rows, result.history.rows, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}


def test_ctrl_c_without_checkpoint_stops_after_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    task = make()
    at_step(task, 2, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run(task)
    assert "repeat the call" not in capsys.readouterr().err


SCRIPT = """
import os, signal, sys, torch
from pretextkit.functional import pretrain
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone, toy_images
torch.set_num_threads(1)
torch.manual_seed(0)
task = Rotation(TinyBackbone())
images = toy_images(8, size=16, generator=torch.Generator().manual_seed(0))
done = 0
def after_step():
    global done
    done += 1
    if done == 3:
        os.kill(os.getpid(), signal.SIGTERM)
        print("held", flush=True)
task.after_step = after_step
pretrain(task, images, epochs=4, batch_size=4, device="cpu", precision="fp32", progress=False, checkpoint=sys.argv[1])
"""


FINISH = """
import sys, torch
from pretextkit.functional import pretrain
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone, toy_images
torch.set_num_threads(1)
torch.manual_seed(0)
complete, resumed = Rotation(TinyBackbone()), Rotation(TinyBackbone())
images = toy_images(8, size=16, generator=torch.Generator().manual_seed(0))
options = {"epochs": 4, "batch_size": 4, "device": "cpu", "precision": "fp32", "progress": False}
pretrain(complete, images, **options)
print(pretrain(resumed, images, checkpoint=sys.argv[1], **options).resumed_at)
states = [task.state_dict().values() for task in (complete, resumed)]
print(all(torch.equal(one, other) for one, other in zip(*states, strict=True)))
"""


def test_sigterm_saves_and_the_same_call_resumes(tmp_path: Path) -> None:
    """Both calls have a process of their own: the threads and flags of this one round differently."""
    stopped, finished = (
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120)
        for script in (SCRIPT, FINISH)
    )
    assert (stopped.returncode, stopped.stdout) == (143, "held\n")
    assert stopped.stderr == "Stopped at step 3 of 8; repeat the call to resume.\n"
    assert (finished.returncode, finished.stdout) == (0, "3\nTrue\n")


@pytest.mark.parametrize("name", ["rotation", "simclr"])
def test_seed_decides_the_result(name: str) -> None:
    one, two, other = make(name), make(name), make(name)
    run(one)
    torch.rand(3)
    run(two)
    run(other, seed=1)
    assert same(one, two)
    assert not same(one, other)


def test_pretrain_restores_global_generators() -> None:
    task = make("simclr")
    loader: DataLoader[Any] = DataLoader(TensorDataset(IMAGES), batch_size=4, shuffle=True)
    before = torch.get_rng_state(), random.getstate()
    for images in (IMAGES, loader, TensorDataset(IMAGES)):
        run(task, images, epochs=1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


@pytest.mark.parametrize("training", [True, False])
def test_pretrain_restores_modes_also_after_an_error(training: bool) -> None:
    task = make().train(training)
    next(task.backbone.children()).train(not training)
    modes = [module.training for module in task.modules()]
    seen: list[bool] = []
    at_step(task, 1, lambda: seen.extend(module.training for module in task.modules()))
    run(task, epochs=1)
    assert all(seen)
    assert [module.training for module in task.modules()] == modes
    at_step(task, 1, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run(task, epochs=1)
    assert [module.training for module in task.modules()] == modes


def test_normalization_is_measured_once_from_the_images() -> None:
    task = make()
    run(task, steps=1)
    normalization = task.backbone.normalization
    torch.testing.assert_close(normalization.mean, IMAGES.mean((0, 2, 3)))
    torch.testing.assert_close(normalization.std, IMAGES.std((0, 2, 3), correction=0))
    before = normalization.mean.clone(), normalization.std.clone()
    run(task, IMAGES / 2, steps=1)
    assert torch.equal(before[0], normalization.mean)
    assert torch.equal(before[1], normalization.std)


def test_uint8_images_are_normalized_as_floats() -> None:
    task = make()
    images = (IMAGES * 255).round().byte()
    run(task, images, steps=1)
    torch.testing.assert_close(task.backbone.normalization.mean, (images.float() / 255).mean((0, 2, 3)))


def test_rotation_learns_from_toy_images() -> None:
    torch.manual_seed(0)
    task = pk.tasks.Rotation(TinyBackbone())
    images = toy_images(64, size=16, generator=Generator().manual_seed(0))
    history = run(task, images, epochs=8, batch_size=16).history
    assert history.last["loss"] < 0.8 < 1.2 < history.rows[0]["loss"]
    assert history.last["accuracy"] > 0.9
    unseen = toy_images(64, size=16, generator=Generator().manual_seed(1))
    with torch.no_grad():
        assert task.eval().step(unseen, Generator()).metrics["accuracy"] > 0.9


def as_folder(path: Path) -> Path:
    for i, image in enumerate((IMAGES * 255).byte()):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path / f"{i}.png")
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "float tensor": lambda _: IMAGES,
    "byte tensor": lambda _: (IMAGES * 255).byte(),
    "array": lambda _: (IMAGES * 255).byte().permute(0, 2, 3, 1).numpy(),
    "pair": lambda _: (IMAGES, torch.full((16,), -1)),
    "dataset": lambda _: TensorDataset(IMAGES, torch.arange(16)),
    "loader": lambda _: DataLoader(TensorDataset(IMAGES, torch.arange(16)), batch_size=4),
    "folder": as_folder,
    "gray": lambda _: IMAGES[:, :1],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_images_trains(tmp_path: Path, kind: str) -> None:
    task = make()
    before = snapshot(task)
    result = run(task, SOURCES[kind](tmp_path), epochs=1)
    assert result.steps == 4
    assert not same(task, before)


def test_dataset_and_tensor_give_the_same_result() -> None:
    one, other = make(), make()
    run(one)
    run(other, TensorDataset(IMAGES, torch.arange(16)))
    assert same(one, other)


class Noisy(Dataset[Tensor]):
    """Images with noise from the global generators."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Tensor:
        return (IMAGES[index] + 0.1 * torch.rand_like(IMAGES[index]) + 0.1 * random.random()).clamp(0, 1)


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(IMAGES)


def test_record_of_the_image_format_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make(), make()
    states = []
    for task in (one, other):
        torch.manual_seed(0)
        random.seed(0)
        run(task, Noisy())
        states.append((torch.rand(3).tolist(), random.random()))
        monkeypatch.setattr(ImageFormat, "of", lambda source: None)  # the other run reads no image for its record
    assert same(one, other)
    assert states[0] == states[1]


@pytest.mark.parametrize("images", [DataLoader(TensorDataset(IMAGES), batch_size=4), StreamImages(Stream(), length=16)])
def test_record_of_the_image_format_reads_no_loader_or_stream(images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFormat, "of", lambda source: pytest.fail("read"))
    run(make(), images, epochs=1)
    with pytest.raises(pytest.fail.Exception, match="read"):
        run(make(), IMAGES, epochs=1)


def test_loader_sets_the_batch_size() -> None:
    result = run(make(), DataLoader(TensorDataset(IMAGES), batch_size=8), batch_size=None, epochs=1)
    assert result.steps == 2


def test_loader_with_distributed_sampler_is_refused() -> None:
    data = TensorDataset(IMAGES)
    loader: DataLoader[Any] = DataLoader(data, batch_size=4, sampler=DistributedSampler(data, num_replicas=2, rank=0))
    with pytest.raises(OptionError) as caught:
        run(make(), loader)
    assert caught.value.text == (
        "Expected the same full loader on every process, because each process takes its own rows of every batch, but "
        "got a DistributedSampler. Pass the dataset itself, and workers=...: each process then reads its own rows "
        "only."
    )


def test_after_step_runs_once_after_each_update() -> None:
    task = make()
    seen = [snapshot(task.head)]  # type: ignore[arg-type]
    own = task.after_step

    def after_step() -> None:
        own()
        seen.append(snapshot(task.head))  # type: ignore[arg-type]

    task.after_step = after_step  # type: ignore[method-assign]
    run(task, epochs=None, steps=5)
    assert len(seen) == 6
    assert all(not torch.equal(a["linear.weight"], b["linear.weight"]) for a, b in pairwise(seen))


def test_history_and_callbacks_get_one_row_per_epoch() -> None:
    rows: list[Any] = []
    result = run(make(), epochs=3, callbacks=[rows.append])
    assert rows == list(result.history.rows)
    assert result.history.column("epoch") == [1, 2, 3]
    assert {"loss", "accuracy", "accuracy_90", "learning_rate"} <= set(rows[0])
    settings = "3 epochs, batch 4, learning rate 0.001, weight decay 0.05, LightAugmentation(crop_scale=(0.5, 1.0), "
    assert str(result).startswith(f"{settings}jitter=0.5, flip=0.0): 12 steps in ")
    assert f"fp32 on cpu), loss {rows[-1]['loss']:.3f}, accuracy " in str(result)


def test_checkpoint_folder_holds_checkpoint_and_history(tmp_path: Path) -> None:
    run(make(), checkpoint=str(tmp_path / "run"))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.pt",
        "history.csv",
        "settings.json",
    ]
    again = make()
    assert run(again, checkpoint=tmp_path / "run").images_per_second == 0
    with pytest.raises(CheckpointError, match="task: 'Rotation' there, 'SimCLR' here"):
        run(make("simclr"), checkpoint=tmp_path / "run")


class Few(pk.tasks.Rotation):
    recommended = pk.Recommended(learning_rate=0.002, smallest_batch=8, largest_batch=16, images_to_read=16)


def darken_all(images: Tensor, generator: Generator) -> Tensor:
    return images / 2


def test_checkpoint_of_other_options_or_images_is_refused(tmp_path: Path) -> None:
    run(make("simclr"), epochs=1, checkpoint=tmp_path)
    other = make("simclr")
    other.temperature = 0.1  # type: ignore[assignment]
    before = snapshot(other)
    with pytest.raises(CheckpointError, match=r"got task.temperature: '0.2' there, '0.1' here\. Repeat the call"):
        run(other, epochs=1, checkpoint=tmp_path)
    with pytest.raises(
        CheckpointError, match=r"got first images: '8x3x16x16 float32 \w+' there, '8x3x16x16 float32 \w+'"
    ):
        run(make("simclr"), IMAGES.flip(0), epochs=1, checkpoint=tmp_path)
    assert same(other, before)


SETTINGS = {"batch_size": 16, "learning_rate": 0.001, "weight_decay": 0.05, "warmup": 0.05}
"""The values that follow from the sixteen images, the task and the optimizer."""


def short(task: Any, folder: Path, **options: Any) -> PretrainResult:
    quiet: Any = {"device": "cpu", "precision": "fp32", "progress": False, "checkpoint": folder}
    return pretrain(task, IMAGES, **{"steps": 2, **quiet, **options})


def test_call_that_gives_the_resolved_values_resumes(tmp_path: Path) -> None:
    result = short(make(), tmp_path)
    assert asdict(result.settings) | SETTINGS | {"warmup": 1} == asdict(result.settings)
    saved = json.loads((tmp_path / "settings.json").read_text())
    assert saved == result.history.settings == saved | asdict(result.settings)
    assert short(make(), tmp_path).resumed_at == 2
    assert short(make(), tmp_path, **SETTINGS).resumed_at == 2


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"batch_size": 4}, "batch_size: 16 there, 4 here"),
        ({"learning_rate": 0.01}, "learning_rate: 0.001 there, 0.01 here"),
        ({"weight_decay": 0.0}, "weight_decay: 0.05 there, 0.0 here"),
        ({"warmup": 1.0}, "warmup: 1 there, 2 here"),
        ({"steps": None, "epochs": 2}, "epochs: None there, 2 here"),
        ({"steps": None}, "epochs: None there, 400 here"),
    ],
)
def test_call_that_gives_other_values_is_refused(tmp_path: Path, options: Any, difference: str) -> None:
    short(make(), tmp_path)
    with pytest.raises(CheckpointError, match=difference):
        short(make(), tmp_path, **options)


@pytest.mark.parametrize(
    ("augmentation", "name"),
    [(None, "None"), (LightAugmentation(flip=0.5), r"LightAugmentation\(.*flip=0.5\)"), (darken_all, "darken_all")],
)
def test_call_with_another_augmentation_is_refused(tmp_path: Path, augmentation: Any, name: str) -> None:
    def task(augmentation: Any) -> pk.tasks.Rotation:
        return pk.tasks.Rotation(TinyBackbone(), augmentation=augmentation)

    short(task(LightAugmentation()), tmp_path / "default")
    with pytest.raises(CheckpointError, match=rf"task.augmentation: .*flip=0.0\)' there, '{name}' here\."):
        short(task(augmentation), tmp_path / "default")
    result = short(task(augmentation), tmp_path / "own")
    assert re.fullmatch(name, str(result.settings.augmentation))
    assert short(task(augmentation), tmp_path / "own").resumed_at == 2


def test_call_without_any_option_reads_the_recommended_images() -> None:
    task = Few(TinyBackbone())
    result = pretrain(task, IMAGES, device="cpu", progress=False)
    assert (result.settings.epochs, result.settings.batch_size, result.steps) == (10, 8, 20)
    assert result.settings.learning_rate == 0.002


def test_invalid_recommended_settings_are_named() -> None:
    task = Few(TinyBackbone())
    type(task).recommended, kept = {"learning_rate": 0.1}, type(task).recommended  # type: ignore[assignment]
    try:
        with pytest.raises(OptionError, match=r"Expected Few.recommended to be a pretextkit.Recommended, but got dict"):
            pretrain(task, IMAGES)
    finally:
        type(task).recommended = kept


def darkened(images: Tensor, generator: Generator) -> Tensor:
    return images * torch.rand(len(images), 1, 1, 1, generator=generator)


def test_views_are_made_from_augmented_images() -> None:
    task = make()
    own, met = task.views, list[tuple[Tensor, int]]()

    def views(images: Tensor, generator: Generator) -> Any:
        met.append((images, generator.initial_seed()))
        return own(images, generator)

    task.views = views  # type: ignore[method-assign]
    run(task, IMAGES[:4], steps=3, augment=darkened)
    for images, seed in met:
        share = torch.rand(4, 1, 1, 1, generator=Generator().manual_seed(seed))
        order = [int((images[row] / share[row] - IMAGES[:4]).abs().amax((1, 2, 3)).argmin()) for row in range(4)]
        assert sorted(order) == [0, 1, 2, 3]
        torch.testing.assert_close(images, IMAGES[:4][order] * share)
    assert len({seed for _, seed in met}) == 3


def test_identity_includes_the_augmentation(tmp_path: Path) -> None:
    task, again, stopped = make(), make(), make()
    run(task, augment=darkened, checkpoint=tmp_path / "complete")
    at_step(stopped, 3, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run(stopped, augment=darkened, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="got augment: 'darkened' there, None here"):
        run(make(), checkpoint=tmp_path / "run")
    run(again, augment=darkened, checkpoint=tmp_path / "run")
    assert same(again, task)
    plain = make()
    run(plain)
    assert not same(plain, task)


def test_bf16_and_fp32_losses_are_close() -> None:
    one, other = make(), make()
    full, half = run(one, precision="fp32"), run(other, precision="bf16")
    assert (full.precision, half.precision) == ("fp32", "bf16")
    assert half.history.last["loss"] == pytest.approx(full.history.last["loss"], rel=0.05)
    assert not same(one, other)


def test_channels_last_keeps_the_result() -> None:
    one, other = (pk.tasks.Rotation(TinyBackbone()) for _ in range(2))  # dropout draws in the order of the memory
    other.load_state_dict(one.state_dict())
    weight = one.get_parameter("backbone.layers.1.0.weight")
    seen: list[bool] = []

    def look(_: object) -> None:
        seen.append(weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous())

    for task, channels_last in ((one, True), (other, False)):
        options = {"steps": 3, "optimizer": "sgd", "learning_rate": 0.01, "callbacks": [look]}
        run(task, channels_last=channels_last, **options)
    assert seen == [True, False]
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_weights_come_back_contiguous(tmp_path: Path) -> None:
    task = pk.tasks.Rotation(TinyBackbone())
    run(task, steps=1)
    assert all(value.is_contiguous() for value in task.state_dict().values())
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(task.backbone.state_dict(), tmp_path / "backbone.safetensors")  # refuses other formats
    safetensors.load_model(task.backbone, tmp_path / "backbone.safetensors")


class Flat(pk.Backbone):
    """A minimal backbone to compile."""

    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.linear(self.normalization(images)[:, :, 0, 0])
        return features


@pytest.mark.slow
def test_compiled_task_trains() -> None:
    plain, compiled = (pk.tasks.Rotation(Flat()) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    one, other = run(plain, steps=3), run(compiled, steps=3, compile=True)
    assert other.history.last["loss"] == pytest.approx(one.history.last["loss"], rel=1e-3)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, compiled.state_dict()[name], rtol=1e-2, atol=1e-3)


def damaged(images: Tensor, index: int) -> Tensor:
    images = images.clone()
    images[index, 0, 0, 0] = torch.nan
    return images


@pytest.mark.parametrize(
    ("images", "options", "kind", "text"),
    [
        (damaged(IMAGES, 3), {}, DataError, "Expected finite pixels, but got NaN pixels, first in image 3."),
        (IMAGES * 255, {}, DataError, "Expected float images in [0, 1], but got values from 0 to "),
        (IMAGES[:0], {}, DataError, "Expected at least one image with at least one pixel, but got shape"),
        (IMAGES[0], {}, ShapeError, "Expected images b c h w, but got shape (3, 16, 16)."),
        (IMAGES[:, :2], {}, ShapeError, "Expected images of 3 channels (or 1), as the network takes, but got shape ("),
        (IMAGES.long(), {}, DataError, "Expected images of dtype uint8 (0 to 255) or floating-point (0 to 1), but got"),
        (IMAGES[..., :12], {}, ShapeError, "Expected square images"),
        (TensorDataset(damaged(IMAGES, 3)), {}, DataError, "Expected finite pixels, but got NaN pixels"),
        (
            IMAGES,
            {"batch_size": 17},
            OptionError,
            "Expected batch_size to be between 1 and 16, the number of images, but got",
        ),
        (
            IMAGES,
            {"batch_size": 1},
            OptionError,
            "Expected a batch_size of at least 2, because the task has BatchNorm",
        ),
        (
            IMAGES[:1],
            {"batch_size": None},
            OptionError,
            "Expected a batch_size of at least 2, because the task has BatchNorm",
        ),
        (IMAGES, {"epochs": 0}, OptionError, "Expected epochs to be an integer >= 1, but got 0."),
        (IMAGES, {"steps": 3, "epochs": 1}, OptionError, "Expected either epochs or steps, but got epochs=1, steps=3."),
        (IMAGES, {"learning_rate": -1.0}, OptionError, "Expected learning_rate to be a number in [0, inf), but got"),
        (IMAGES, {"optimizer": "adam"}, UnknownNameError, "Expected the name of an optimizer, but got 'adam'."),
        (IMAGES, {"precision": "fp8"}, UnknownNameError, "Expected the name of a precision, but got 'fp8'."),
        (IMAGES, {"precision": "fp16"}, OptionError, "Expected fp16 on a CUDA device, but got device cpu."),
        (IMAGES, {"device": "gpu"}, OptionError, "Expected a device of this machine, but got 'gpu'."),
    ],
)
def test_bad_input_raises_and_changes_nothing(
    tmp_path: Path, images: Any, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    task = make()
    before, modes = snapshot(task), [module.training for module in task.modules()]
    with pytest.raises(kind) as caught:
        run(task, images, checkpoint=tmp_path / "run", **options)
    assert str(caught.value).startswith(text)
    assert same(task, before)
    assert [module.training for module in task.modules()] == modes
    assert not (tmp_path / "run").exists()


def test_frozen_task_is_refused() -> None:
    with pytest.raises(OptionError) as caught:
        run(make().requires_grad_(False))
    assert caught.value.text == (
        "Expected at least one trainable weight, but got requires_grad=False on all weights. Call requires_grad_(True) "
        "on some weights."
    )


def test_frozen_backbone_stays_and_the_head_trains() -> None:
    task = make()
    task.backbone.requires_grad_(False)
    before = {name: weight.clone() for name, weight in task.named_parameters()}
    with pytest.warns(TrainingWarning, match="only the head of the task trains"):
        run(task, epochs=1)
    changed = {name for name, weight in task.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}


def test_divergence_names_step_and_last_good_checkpoint_resumes(tmp_path: Path) -> None:
    task = make()
    at_step(task, 3, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run(task, checkpoint=tmp_path)
    good = copy.deepcopy(snapshot(task))
    broken = make()

    def break_weights() -> None:
        with torch.no_grad():
            broken.head.linear.weight.fill_(torch.inf)  # type: ignore[union-attr, operator]

    at_step(broken, 1, break_weights)
    with pytest.raises(DivergenceError, match=r"Expected a finite loss, but got nan at step 5\. Training has stopped"):
        run(broken, checkpoint=tmp_path)
    resumed = make()
    assert run(resumed, checkpoint=tmp_path).resumed_at == 3
    assert all(value.isfinite().all() for value in resumed.state_dict().values() if value.is_floating_point())
    complete = make()
    run(complete)
    assert same(resumed, complete)
    assert not same(resumed, good)
