"""Each silent failure is planted once and reported; healthy runs get no warning, because warnings are errors here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset

import pretextkit as pk
from pretextkit import PretextTask, TaskOutput
from pretextkit.batches import Labeled
from pretextkit.data._collate import ImageBatch
from pretextkit.data._sources import ImageSource
from pretextkit.data._tensor_images import TensorImages
from pretextkit.errors import DataError, DivergenceError, ShapeError, TrainingWarning
from pretextkit.functional import PretrainResult, compare, freeze_and_finetune, pretrain
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.training import warmup_cosine
from pretextkit.training._history import StepValues
from pretextkit.training._monitors import Finding, ShortcutMonitor, TrainingMonitor, WarnOnce, detect_copied_generator
from tests.helpers import toy_task

IMAGES = toy_images(64, size=16, generator=Generator().manual_seed(0))


class Plain(PretextTask[Labeled]):
    """Rotation with one turn per image; each subclass breaks one part."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(TinyBackbone())
            self.head = nn.Linear(64, 4)

    def views(self, images: Tensor, generator: Generator) -> Labeled:
        labels = torch.randint(4, (len(images),), generator=generator)
        turned = [torch.rot90(image, int(k), (1, 2)) for image, k in zip(images, labels, strict=True)]
        return Labeled(torch.stack(turned), labels)

    def features(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels)

    def forward(self, batch: Labeled) -> TaskOutput:
        logits = self.head(self.features(batch.images))
        accuracy = (logits.argmax(1) == batch.labels).float().mean()
        return TaskOutput(self.loss(logits, batch.labels), {"accuracy": accuracy})


def run(task: PretextTask[Any, Any], images: Any = IMAGES, **options: Any) -> PretrainResult:
    defaults: dict[str, Any] = {"epochs": 6, "batch_size": 32, "device": "cpu", "precision": "fp32"}
    return pretrain(task, images, progress=False, **{**defaults, **options})


def warning_of(task: PretextTask[Any, Any], images: Any = IMAGES, **options: Any) -> str:
    """Train, and return the text of the only warning."""
    with pytest.warns(TrainingWarning) as caught:
        run(task, images, **options)
    (warning,) = caught
    return str(warning.message)


def test_warn_once_warns_once_per_kind_if_enabled() -> None:
    findings = [Finding("a", "first"), Finding("a", "second"), Finding("b", "third", UserWarning)]
    warn_once = WarnOnce()
    with pytest.warns() as caught:
        warn_once(findings)
    assert [str(each.message) for each in caught] == ["first", "third"]
    assert [each.category for each in caught] == [TrainingWarning, UserWarning]
    warn_once(findings)  # warnings are errors here
    WarnOnce(enabled=False)(findings)


def test_unbroken_task_trains_without_warning() -> None:
    assert len(run(Plain()).history.rows) == 6


class NanLoss(Plain):
    steps = 0

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        type(self).steps += 1
        return super().loss(logits, labels) * (math.inf if type(self).steps == 4 else 1)


def test_infinite_loss_raises_and_names_the_model() -> None:
    with pytest.raises(DivergenceError) as caught:
        run(NanLoss())
    assert str(caught.value) == (
        "Expected a finite loss, but got inf at step 4. Training has stopped; a checkpoint, if there is one, holds the "
        "last good weights. The views were finite: weights have grown too large, or the loss itself overflows or "
        "divides by 0. Lower learning_rate, set clip_norm=1.0, or use precision='fp32'. "
        "See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#a-loss-that-rises."
    )


def test_infinite_views_raise_and_name_the_views() -> None:
    def divided(images: Tensor, generator: Generator) -> Tensor:
        return (images - images) / (images - images)

    with pytest.raises(DivergenceError, match=r"at step 1.*The views hold NaN or infinity, but the images do not: "):
        run(Plain(), augment=divided)


def test_infinite_images_raise_and_name_the_image() -> None:
    broken = IMAGES.clone()
    broken[3, 0, 1, 1] = math.inf
    with pytest.raises(DataError, match=r"Expected finite pixels, but got infinite pixels, first in image 3\."):
        run(Plain(), broken)
    with pytest.raises(DataError, match=r"Expected finite pixels, but got infinite pixels"):
        run(Plain(), DataLoader(TensorDataset(broken), batch_size=32, shuffle=True))


class NormOfZero(Plain):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(logits, labels) + 0.1 * (self.head.weight - self.head.weight.detach()).square().sum().sqrt()


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_nan_gradient_raises_and_names_the_weight(clip_norm: float | None) -> None:
    with pytest.raises(DivergenceError) as caught:
        run(NormOfZero(), clip_norm=clip_norm)
    text = str(caught.value)
    others = " and 10 more" if clip_norm else ""  # clipping divides all by the length, which is nan
    first = "'backbone.layers.0.0.weight', 'backbone.layers.0.1.weight', 'backbone.layers.0.1.bias'"
    names = f"{first} and 8 more" if others else "'head.weight'"
    assert text.startswith(f"Expected a finite gradient of {names}, but got nan at step 1. Training has stopped")
    assert "The loss was finite, but not its derivative: a square root or norm of 0," in text


class Detached(Plain):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images).detach()


class Idle(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(64, 8)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Detached, "'backbone.layers.0.0.weight', 'backbone.layers.0.1.weight', 'backbone.layers.0.1.bias' and 6 more"),
        (Idle, "'projection.weight', 'projection.bias'"),
    ],
)
def test_weights_without_gradient_are_named(kind: type[Plain], names: str) -> None:
    assert warning_of(kind()) == (
        f"The loss does not depend on {names}: no gradient in 10 steps. If a head or backbone should learn, "
        "something detaches it from the loss (detach, no_grad, or an unused output). If it follows other weights, "
        "such as a momentum copy, call requires_grad_(False) on it. Otherwise delete it. "
        "See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#weights-that-do-not-train."
    )


class Turns(Plain):
    """Two heads used in alternate steps."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(64, 4)
        self.steps = torch.zeros(())

    def forward(self, batch: Labeled) -> TaskOutput:
        self.steps += 1
        head = self.head if self.steps % 2 else self.other
        return TaskOutput(self.loss(head(self.features(batch.images)), batch.labels), {})


@pytest.mark.parametrize("change", ["frozen", "turns", "few steps"])
def test_frozen_alternating_or_new_weights_give_no_warning(change: str) -> None:
    task = Turns() if change == "turns" else Idle()
    if change == "frozen":
        task.projection.requires_grad_(False)
    run(task, epochs=4 if change == "few steps" else 6)


class Dead(Plain):
    """Every unit is below 0 for every image, as after a step that was too long."""

    def features(self, images: Tensor) -> Tensor:
        return torch.relu(super().features(images) - 1e6) * 0 + torch.zeros(len(images), 64)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(torch.relu(logits - 1e6), labels)


def test_dead_units_give_a_zero_gradient_warning() -> None:
    with pytest.warns(TrainingWarning) as caught:
        run(Dead())
    texts = [str(warning.message) for warning in caught]
    (text,) = (text for text in texts if text.startswith("Every gradient"))
    assert text == (
        "Every gradient was 0 in 10 steps: nothing is learned. Dead units (every input of a ReLU below 0) or a "
        "constant loss do that: look at the loss, lower learning_rate, and initialize the weights again. "
        "See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#weights-that-do-not-train."
    )


class Unreached(Plain):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(logits, labels).detach()


class Unreduced(Plain):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize(("kind", "got"), [(Unreached, "shape (), without"), (Unreduced, "shape (32,), with")])
def test_loss_without_gradient_or_scalar_shape_is_refused(kind: type[Plain], got: str) -> None:
    with pytest.raises(ShapeError) as caught:
        run(kind())
    assert caught.value.text == (
        f"Expected a loss of shape () that depends on the weights, but got {got} gradient. Take the mean over the "
        "batch, and detach nothing between the weights and the loss."
    )


class Shown(Plain):
    """Views that show the answer at the left border, as chromatic aberration or black corners do."""

    def views(self, images: Tensor, generator: Generator) -> Labeled:
        views, labels = super().views(images, generator)
        views[:, :, :, :4] = (labels / 3).view(-1, 1, 1, 1)
        return Labeled(views, labels)


def test_perfect_early_accuracy_warns_of_a_shortcut() -> None:
    text = warning_of(Shown(), batch_size=64, epochs=24, learning_rate=0.01, warmup=0.0)
    assert text.startswith(
        "Perfect accuracy this early means that the task has a shortcut: steps 16 to 20 had no error. Unless"
    )
    assert "the views show the answer. Look for lines that continue across patch borders, black corners" in text
    assert "run pretextkit.testing.check_pretext_task on the task" in text


def test_resumed_run_gives_no_shortcut_warning() -> None:
    monitor = ShortcutMonitor()
    for step in range(18, 40):  # its first steps are behind it
        assert monitor.on_step(StepValues(step, {"loss": 0.01, "accuracy": 1.0}, 1.0), 32) == []


def test_few_images_give_no_shortcut_warning() -> None:
    monitor = ShortcutMonitor()
    for step in range(40):
        assert monitor.on_step(StepValues(step, {"loss": 0.01, "accuracy": 1.0}, 1.0), 8) == []


def two_shades(seed: int = 0) -> tuple[Tensor, Tensor]:
    images = toy_images(64, size=16, generator=Generator().manual_seed(seed))
    labels = torch.arange(64) % 2
    return 0.5 * images + 0.5 * labels.view(-1, 1, 1, 1), labels


@pytest.mark.parametrize("options", [{"trainable": "all"}, {"trainable": "none"}])
def test_fine_tuning_on_easy_labels_gives_no_warning(options: Any) -> None:
    """Black and white images are told apart in a few steps, which is no shortcut."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = pk.heads["linear"](64, 2)
        backbone = TinyBackbone()
    result = freeze_and_finetune(
        backbone,
        head,
        two_shades(),
        epochs=30,
        batch_size=32,
        learning_rate=0.01,
        augment=None,
        device="cpu",
        progress=False,
        **options,
    )
    assert result.history.column("accuracy")[7:10] == [1.0] * 3  # steps 15 to 20, which a pretext task may not solve


def test_supervised_method_of_compare_gives_no_warning() -> None:
    options: dict[str, Any] = {"label_fractions": [1.0], "finetune_steps": 1, "device": "cpu", "progress": False}
    options |= {"epochs": 24, "batch_size": 32, "seeds": [0]}
    result = compare(["rotation"], TinyBackbone, two_shades(), two_shades(1), **options)
    assert {run.method for run in result.runs} >= {"supervised", "rotation"}


def test_rising_loss_gives_a_warning() -> None:
    with pytest.warns(TrainingWarning) as caught:  # its features collapse, too
        run(Plain(), optimizer="sgd", learning_rate=30.0, warmup=0.5)
    (text,) = (str(each.message) for each in caught if each.category is TrainingWarning)
    assert text.startswith("The loss rises: it was 1.")
    assert "on average in epoch " in text
    assert "Steps are too long: lower learning_rate, lengthen warmup, or set clip_norm=1.0." in text
    assert text.endswith(" See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#a-loss-that-rises.")


def test_lucky_first_batch_of_a_few_steps_gives_no_warning() -> None:
    # The second run begins with the four images that the first run has just seen.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        images, task = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8), pk.tasks.SimCLR(TinyBackbone())
    first, second = (
        pretrain(task, images, steps=steps, batch_size=4, device="cpu", progress=False).history.rows[-1]["loss"]
        for steps in (1, 2)
    )
    assert second < first


def test_loss_scale_below_one_gives_a_warning() -> None:
    monitor = TrainingMonitor(nn.Linear(1, 1), TensorImages(IMAGES), 32, 2, scaled=True)
    monitor.on_step(0, {"loss": 1.0}, math.inf)  # the scaler skips one step
    assert monitor.on_epoch(1.0, 1.0, 2.0**10) == []
    (finding,) = monitor.on_epoch(2.0, 1.0, 2.0**-3)
    assert finding.text == (
        "In fp16, nearly every step is skipped because its gradient is infinite: the loss scale has fallen to 0.12. "
        "Use precision='bf16' or 'fp32'."
    )


class AlwaysTheSame(Sampler[int]):
    """A shuffle with the same seed in every epoch."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(len(IMAGES), generator=Generator().manual_seed(0)).tolist())


class Noisy(Dataset[Tensor]):
    """Random transforms: no two readings are the same."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Tensor:
        return (IMAGES[index] + 0.1 * torch.rand(())).clamp(0, 1)


class OneForAll(Dataset[Tensor]):
    """A dataset that ignores its index."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Tensor:
        return IMAGES[0]


LOADERS = {
    "in order": lambda: DataLoader(TensorDataset(IMAGES), batch_size=8),
    "transformed, in order": lambda: DataLoader(Noisy(), batch_size=32),
    "seeded in each epoch": lambda: DataLoader(TensorDataset(IMAGES), batch_size=8, sampler=AlwaysTheSame()),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_unshuffled_loader_gives_a_warning(kind: str) -> None:
    loader: Any = LOADERS[kind]()  # type: ignore[no-untyped-call]
    assert warning_of(Plain(), loader, batch_size=loader.batch_size, epochs=4) == (
        "Every epoch has the same images in the same order, so the same images always share a batch. "
        "Pass DataLoader(..., shuffle=True). See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#epochs-that-repeat-images."
    )


def test_dataset_that_ignores_its_index_gives_a_warning() -> None:
    with pytest.warns(TrainingWarning, match=r"images: the dataset gives one image for every index\. Check its"):
        run(Plain(), OneForAll(), epochs=2)


@pytest.mark.parametrize("batch_size", [8, 32, 64])
def test_shuffled_orders_give_no_warning(batch_size: int) -> None:
    for images in (IMAGES, TensorDataset(IMAGES), DataLoader(TensorDataset(IMAGES), batch_size, shuffle=True)):
        run(Plain(), images, batch_size=batch_size, epochs=3)
    run(Plain(), DataLoader(TensorDataset(IMAGES), batch_size=32), epochs=1)  # no second epoch to be the same
    run(Plain(), DataLoader(TensorDataset(IMAGES[:16]), batch_size=8), batch_size=8, epochs=3)  # few could be


class Shards(IterableDataset[Tensor]):
    """Four shards in another order in each epoch, and their images in order: the example of the documents."""

    def __init__(self, shuffle: bool = True, buffer: int = 0) -> None:
        self.shuffle, self.buffer = shuffle, buffer

    def __len__(self) -> int:
        return len(IMAGES)

    def __iter__(self) -> Iterator[Tensor]:
        shards = pk.data.shards_for_this_worker(IMAGES.chunk(4), shuffle=self.shuffle)
        waiting: list[Tensor] = []
        for image in (image for shard in shards for image in shard):
            waiting.append(image)
            if len(waiting) > self.buffer:
                yield waiting.pop(int(torch.randint(len(waiting), ())))
        yield from waiting


@pytest.mark.parametrize("seed", range(8))
def test_shuffled_shards_that_begin_alike_give_no_warning(seed: int) -> None:
    run(Plain(), Shards(), batch_size=16, epochs=10, seed=seed)


def test_shuffle_buffer_gives_no_warning() -> None:
    run(Plain(), Shards(shuffle=False, buffer=4), batch_size=32, epochs=6)
    run(Plain(), Shards(shuffle=False, buffer=4), batch_size=64, epochs=6)


@pytest.mark.parametrize("batch_size", [8, 32, 64])
def test_unshuffled_stream_gives_a_warning(batch_size: int) -> None:
    run(Plain(), Shards(shuffle=False), batch_size=batch_size, epochs=3)  # not yet known
    assert warning_of(Plain(), Shards(shuffle=False), batch_size=batch_size, epochs=4) == (
        "Every epoch has the same images in the same order, so the same images always share a batch. Shuffle the "
        "shards, or the images within a buffer. See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#epochs-that-repeat-images."
    )


class Mostly(Dataset[Tensor]):
    """Three of four images are blank."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Tensor:
        return IMAGES[index] if index % 4 == 0 else torch.zeros(3, 16, 16)


@pytest.mark.parametrize("seed", range(8))
def test_many_equal_images_give_no_warning(seed: int) -> None:
    run(Plain(), Mostly(), epochs=4, seed=seed)


class OwnGenerator(Dataset[Tensor]):
    """A dataset with its own generator, which every worker copies."""

    def __init__(self, seeded: bool = True) -> None:
        self.generator = Generator().manual_seed(0) if seeded else None

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Tensor:
        generator = Generator()
        generator.seed()  # from the system
        return torch.rand(3, 16, 16, generator=self.generator or generator)


def test_generator_copied_to_workers_gives_a_warning() -> None:
    with pytest.warns(TrainingWarning) as caught:
        run(Plain(), OwnGenerator(), epochs=1, workers=1)
    (warning,) = caught
    assert str(warning.message) == (
        "OwnGenerator draws from its own generator, and the workers of every epoch start with the same copy of it: "
        "its random transforms repeat in every epoch. Draw from the global generators of torch, Python or NumPy, "
        "which are seeded for each batch, or use workers=0. "
        "See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#epochs-that-repeat-images."
    )


@pytest.mark.parametrize(
    ("dataset", "workers"),
    [(OwnGenerator(), 0), (OwnGenerator(seeded=False), 1), (Noisy(), 1), (TensorDataset(IMAGES), 1)],
)
def test_datasets_without_copied_generator_give_no_warning(dataset: Dataset[Any], workers: int) -> None:
    assert detect_copied_generator(pk.data.as_source(dataset, workers=workers)) == []


class Counts(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.name = "constant"

    def after_step(self) -> None:
        self.count += 1


def test_changed_attribute_outside_checkpoints_gives_a_warning(tmp_path: Path) -> None:
    assert warning_of(Counts(), checkpoint=tmp_path) == (
        "'task.count' changed in training, but no checkpoint holds it: a resumed run would differ. Keep it in a "
        "buffer: self.register_buffer('name', torch.tensor(0)). "
        "See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#state-that-no-checkpoint-saves."
    )
    run(Counts())  # without a checkpoint there is nothing to resume


@given(st.integers(1, 500), st.floats(0, 1))
def test_schedule_ends_with_the_run(total: int, share: float) -> None:
    rates = [warmup_cosine(step, total, math.ceil(share * total)) for step in range(total)]
    assert min(rates) > 0
    assert rates[-1] == max(rates) or warmup_cosine(total, total, math.ceil(share * total)) == pytest.approx(0)


class TooShort(ImageSource):
    """A source whose length is too large."""

    def __len__(self) -> int:
        return len(IMAGES)

    def batches(self, order: Any) -> Iterator[ImageBatch]:
        return (ImageBatch(IMAGES[rows], None) for rows in list(order)[:1])


def test_source_that_ends_early_raises() -> None:
    with pytest.raises(DataError) as caught:
        run(Plain(), TooShort(), epochs=1)
    assert caught.value.text == (
        "Expected 2 batches of 32 in an epoch of 64 images, but got only 1. The source ends before its length says, "
        "and the schedule would end with it. Fix its __len__."
    )


BUILT_IN = [name for name in pk.pretext_tasks if pk.pretext_tasks[name].__module__.startswith("pretextkit.")]


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "toys") for name in BUILT_IN), *((name, "sample") for name in BUILT_IN if name != "colorization")],
)
def test_built_in_task_gives_no_warning(name: str, kind: str) -> None:
    """Thirty steps: the shortcut check needs twenty, the gradient check ten. Warnings are errors here."""
    toys = toy_images(128, size=32, generator=Generator().manual_seed(0))
    images = pk.data.load("sample").train_images[:128] if kind == "sample" else toys
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = toy_task(name)
    assert run(task, images, epochs=None, steps=32, batch_size=16).steps == 32
