from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from pretextkit.contracts import SpatialBackbone
from pretextkit.errors import (
    DataError,
    DivergenceError,
    OptionError,
    PretextkitError,
    ShapeError,
    TrainingWarning,
    UnknownNameError,
)
from pretextkit.evaluation._classes import find_classes
from pretextkit.evaluation._logistic_classifier import fit_logistic_classifier
from pretextkit.finetuning._data import read_data
from pretextkit.finetuning._head import find_linear_layer
from pretextkit.finetuning._objectives import HeadObjective
from pretextkit.finetuning._recipe import Recipe, default_steps, divide_evenly, resolve_settings
from pretextkit.finetuning._score import warn_below_majority
from pretextkit.finetuning._work import prepare_work
from pretextkit.functional import FinetuneResult, extract_features, freeze_and_finetune, linear_probe
from pretextkit.metrics._classification import class_report
from pretextkit.models import LinearHead, MLPHead, SmallCNN
from pretextkit.testing import TinyBackbone
from pretextkit.training._settings import Settings
from pretextkit.views import LightAugmentation
from tests.helpers import same_numbers


def striped(n: int, seed: int, k: int = 2, size: int = 16) -> tuple[Tensor, Tensor]:
    """Images whose class is the direction of their stripes."""
    labels = torch.arange(n) % k
    images = torch.rand(n, 3, size, size, generator=Generator().manual_seed(seed)) * 0.5
    images[labels == 0, :, ::2] += 0.5
    images[labels == 1, :, :, ::2] += 0.5
    return images, labels


TRAIN, VAL = striped(24, 0), striped(16, 1)


class Parts(nn.Module):
    """Backbone of three parts with BatchNorm, and a buffer that changes even in evaluation mode."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.one = self._part(3, 8)
        self.two = self._part(8, 8)
        self.three = self._part(8, 8)

    @staticmethod
    def _part(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.three(self.two(self.one(images))).mean((2, 3))
        return out


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def tune(
    backbone: nn.Module, head: nn.Module | str, train: Any = TRAIN, val: Any = None, **options: Any
) -> FinetuneResult:
    defaults: dict[str, Any] = {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "fp32", "progress": False}
    if options.get("steps"):
        del defaults["epochs"]
    return freeze_and_finetune(backbone, head, train, val, **{**defaults, "trainable": "none", **options})


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def flip(images: Tensor, generator: Generator) -> Tensor:
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


@pytest.mark.parametrize("augment", [None, flip])
def test_frozen_backbone_stays_bit_identical(augment: Any) -> None:
    backbone, head = Parts(), LinearHead(8, 2)
    before, head_before = snapshot(backbone), snapshot(head)
    tune(backbone, head, augment=augment)
    assert changed(backbone, before) == set()
    assert changed(head, head_before) == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize("trainable", [["three"], ["three", "one"], ["two.0"]])
def test_trainable_names_train_only_these_modules(trainable: list[str]) -> None:
    backbone = Parts()
    before = snapshot(backbone)
    tune(backbone, LinearHead(8, 2), trainable=trainable)
    moved = changed(backbone, before)
    assert moved == {name for name in before if name.startswith(tuple(f"{part}." for part in trainable))}


def test_trainable_all_trains_every_weight() -> None:
    backbone = Parts()
    before = snapshot(backbone)
    tune(backbone, LinearHead(8, 2), trainable="all")
    assert changed(backbone, before) == set(before)


@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_eval_after_success_restored_after_error(fails: bool) -> None:
    backbone, head = Parts().train(), LinearHead(8, 2).eval()
    backbone.two.eval()
    next(backbone.one.parameters()).requires_grad_(False)
    twin = copy.deepcopy((backbone, head))
    modes: list[list[bool]] = []

    def augment(images: Tensor, generator: Generator) -> Tensor:
        modes.append([part.training for part in (backbone.one, backbone.two, backbone.three, head)])
        if fails and len(modes) == 2:
            raise ZeroDivisionError
        return images

    try:
        tune(backbone, head, augment=augment, trainable=["three"])
        assert not fails
    except ZeroDivisionError:
        assert fails
    assert modes[0] == [False] * 4  # check of one image
    assert modes[1] == [False, False, True, True]
    for module, other in zip((backbone, head), twin, strict=True):
        assert [m.training for m in module.modules()] == [fails and m.training for m in other.modules()]
        assert [w.requires_grad for w in module.parameters()] == [w.requires_grad for w in other.parameters()]


def test_head_on_cached_features_equals_head_on_images() -> None:
    backbone = Parts()
    cached, recomputed = LinearHead(8, 2), LinearHead(8, 2)
    recomputed.load_state_dict(cached.state_dict())
    calls: list[int] = []
    handle = backbone.register_forward_hook(lambda *_: calls.append(1))
    one = tune(backbone, cached, val=VAL, epochs=4, optimizer="sgd", learning_rate=0.5)
    assert len(calls) == 3  # check of one image, train once, val once
    other = tune(backbone, recomputed, val=VAL, epochs=4, optimizer="sgd", learning_rate=0.5, augment=lambda x, _: x)
    handle.remove()
    torch.testing.assert_close(cached.state_dict(), recomputed.state_dict(), rtol=1e-3, atol=1e-4)
    assert one.history.column("loss") == pytest.approx(other.history.column("loss"), rel=1e-3)
    assert one.accuracy == other.accuracy


def rates(monkeypatch: pytest.MonkeyPatch, backbone: nn.Module, **options: Any) -> list[dict[str, float]]:
    """Learning rate of every parameter at every step."""
    head = LinearHead(options.pop("d"), 2)
    names = {id(w): f"backbone.{name}" for name, w in backbone.named_parameters()}
    names |= {id(w): f"head.{name}" for name, w in head.named_parameters()}
    seen: list[dict[str, float]] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        seen.append({names[id(w)]: group["lr"] for group in self.param_groups for w in group["params"]})
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    tune(backbone, head, optimizer="sgd", learning_rate=0.008, epochs=1, **options)
    return seen


def test_layer_decay_lowers_rates_away_from_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rates(monkeypatch, Parts(), d=8, trainable="all", layer_decay=0.5)
    assert seen[0]["head.linear.weight"] == seen[0]["head.linear.bias"] == 0.008
    for part, rate in (("three", 0.004), ("two", 0.002), ("one", 0.001)):
        assert {value for name, value in seen[0].items() if name.startswith(f"backbone.{part}.")} == {rate}


def test_layer_decay_counts_frozen_and_nested_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rates(monkeypatch, TinyBackbone(), d=64, trainable=["layers.0"], layer_decay=0.5)
    assert {value for name, value in seen[0].items() if name.startswith("backbone.layers.0.")} == {0.008 * 0.5**3}
    assert {name.split(".")[2] for name in seen[0] if name.startswith("backbone.")} == {"0"}


def test_layer_decay_of_one_keeps_all_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(rates(monkeypatch, Parts(), d=8, trainable="all")[0].values()) == {0.008}


def test_finetuning_learns_and_scores_unseen_images() -> None:
    backbone, head = TinyBackbone(), LinearHead(64, 2)
    result = tune(backbone, head, val=VAL, epochs=20, trainable="all")
    assert result.accuracy == 1.0
    assert result.history.column("loss")[-1] < 0.5 * result.history.column("loss")[0]
    assert result.classifier.backbone is not backbone
    for trained, kept in ((backbone, result.classifier.backbone), (head, result.classifier.head)):
        assert same_numbers(trained, kept)
    assert result.predictions is not None
    assert torch.equal(result.predictions, VAL[1])
    assert str(result).endswith("accuracy 100.0%")


def test_accuracy_is_measured_after_the_last_epoch() -> None:
    backbone, head = TinyBackbone(), LinearHead(64, 2)
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.copy_(torch.tensor([1.0, 0.0]))
    scores = []
    for epochs in (1, 3):
        one, other = copy.deepcopy((backbone, head))
        result = tune(one, other, val=VAL, epochs=epochs, learning_rate=1e-4)
        scores.append(result.accuracy)
        with torch.no_grad():
            predictions = result.classifier.eval()(VAL[0]).argmax(1)
        assert result.accuracy == (predictions == VAL[1]).float().mean().item()
    shuffled = VAL[1][torch.randperm(16, generator=Generator().manual_seed(0))]
    one, other = copy.deepcopy((backbone, head))
    tune(one, other, val=VAL)
    two, another = copy.deepcopy((backbone, head))
    tune(two, another, val=(VAL[0], shuffled))
    assert changed(other, snapshot(another)) == set()  # val has no influence


def test_accuracy_without_val_is_none() -> None:
    result = tune(TinyBackbone(), LinearHead(64, 2))
    assert result.accuracy is None
    assert result.predictions is None
    assert str(result).endswith("accuracy not measured")


def test_val_is_scored_in_evaluation_mode_without_trace() -> None:
    backbone, head = Parts(), nn.Sequential(nn.Dropout(0.9), LinearHead(8, 2))
    result = tune(backbone, head, val=VAL, trainable="all", epochs=1)
    with torch.no_grad():
        expected = result.classifier.eval()(VAL[0]).argmax(1)
    assert result.predictions is not None
    assert torch.equal(result.predictions, expected)


def test_large_head_on_few_labels_learns() -> None:
    """An MLP head with 67 thousand weights on 600 labels."""
    generator = Generator().manual_seed(0)
    labels = torch.arange(732) % 4
    centers = torch.randn(4, 3, 8, 8, generator=generator)
    images = (0.5 + 0.15 * centers[labels] + 0.1 * torch.randn(732, 3, 8, 8, generator=generator)).clamp(0, 1)
    head = MLPHead(192, 4, hidden_dim=340)
    assert 65_000 < sum(weight.numel() for weight in head.parameters()) < 68_000
    result = tune(nn.Flatten(), head, (images[:600], labels[:600]), (images[600:], labels[600:]), epochs=3)
    assert result.accuracy is not None
    assert result.accuracy > 0.95


def test_unlabeled_images_are_left_out() -> None:
    images, labels = TRAIN
    garbage = torch.ones(10, 3, 16, 16)
    one, other = LinearHead(64, 2), LinearHead(64, 2)
    other.load_state_dict(one.state_dict())
    backbone = TinyBackbone()
    mixed = (torch.cat([images, garbage]), torch.cat([labels, torch.full((10,), -1)]))
    clean = tune(backbone, one, TRAIN, VAL)
    dirty = tune(backbone, other, mixed, (torch.cat([garbage, VAL[0]]), torch.cat([torch.full((10,), -1), VAL[1]])))
    assert changed(one, snapshot(other)) == set()
    assert clean.accuracy == dirty.accuracy
    assert dirty.predictions is not None
    assert len(dirty.predictions) == 16


@pytest.mark.parametrize("kind", ["dataset", "loader", "bytes"])
def test_finetuning_is_equal_for_every_source(kind: str) -> None:
    sources: dict[str, Any] = {
        "dataset": TensorDataset(*TRAIN),
        "loader": DataLoader(TensorDataset(*TRAIN), batch_size=5),
        "bytes": ((TRAIN[0] * 255).byte(), TRAIN[1]),
    }
    one, other = LinearHead(64, 2), LinearHead(64, 2)
    other.load_state_dict(one.state_dict())
    backbone = TinyBackbone()
    tune(backbone, one)
    tune(backbone, other, sources[kind])
    features = backbone.eval()(VAL[0])
    torch.testing.assert_close(one(features).softmax(1), other(features).softmax(1), rtol=0, atol=0.02)
    if kind != "bytes":
        assert changed(one, snapshot(other)) == set()


def test_torchvision_resnet_trains_layers_by_name() -> None:
    backbone = resnet18()
    backbone.fc = nn.Identity()
    before = snapshot(backbone)
    tune(backbone, LinearHead(512, 2), striped(8, 0, size=32), trainable=["layer4.1"], epochs=1)
    assert {name.rsplit(".", 2)[0] for name in changed(backbone, before)} == {"layer4.1"}


def test_finetuning_is_deterministic_and_keeps_global_rng() -> None:
    backbone, head = Parts(), nn.Sequential(nn.Dropout(0.2), LinearHead(8, 2))
    state = torch.get_rng_state()
    results = []
    for seed in (0, 0, 1):
        one, other = copy.deepcopy((backbone, head))
        tune(one, other, trainable="all", augment=flip, val=VAL, seed=seed)
        results.append({**snapshot(one), **snapshot(other)})
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
    assert not all(torch.equal(value, results[2][name]) for name, value in results[0].items())


@pytest.mark.parametrize("trainable", ["none", "all"])
def test_head_with_too_few_outputs_is_refused_unchanged(trainable: Any) -> None:
    backbone, head = Parts(), LinearHead(8, 2)
    before, head_before = snapshot(backbone), snapshot(head)
    with pytest.raises(DataError) as caught:
        tune(backbone, head, striped(12, 0, k=3), trainable=trainable)
    assert caught.value.text == (
        "Expected at most 2 classes, because the head has 2 outputs, but got 3 classes. "
        "Give the head one output for each class."
    )
    assert not changed(head, head_before)
    assert not changed(backbone, before)


def test_head_with_more_outputs_is_allowed() -> None:
    assert tune(Parts(), LinearHead(8, 5), val=VAL).accuracy is not None


@pytest.mark.parametrize(
    ("train", "val", "options", "kind", "text"),
    [
        (TRAIN[0], None, {}, DataError, "Expected labels for train, but got none. Pass a pair (images, labels), or a"),
        (TRAIN, VAL[0], {}, DataError, "Expected labels for val, but got none. Pass a pair (images, labels), or a"),
        (
            (TRAIN[0], TRAIN[1] * 0 - 1),
            None,
            {},
            DataError,
            "Expected labels for train, but got labels",
        ),
        (
            TRAIN,
            (VAL[0], VAL[1] * 0 - 1),
            {},
            DataError,
            "Expected labels for val, but got labels",
        ),
        (
            TRAIN,
            (VAL[0], VAL[1] + 1),
            {},
            DataError,
            "Expected val labels 0 to 1, the classes of train, but got",
        ),
        ((TRAIN[0], TRAIN[1] * 0), None, {}, DataError, "Expected at least 2 classes, but got class 0 only."),
        ((TRAIN[0], TRAIN[1] * 2), None, {}, DataError, "Expected labels 0 to 1 for 2 classes, but got labels up to 2"),
        ((TRAIN[0], TRAIN[1][1:]), None, {}, ShapeError, "Expected as many labels as images, but got 23 labels for 24"),
        ((TRAIN[0] * 9, TRAIN[1]), None, {}, DataError, "Expected float images in [0, 1], but got values from"),
        (
            TRAIN,
            None,
            {"trainable": "head"},
            UnknownNameError,
            "Expected the name of a choice of trained modules",
        ),
        (
            TRAIN,
            None,
            {"trainable": ["tow"]},
            UnknownNameError,
            "Expected the name of a submodule of Parts, but got 'tow'. Did you mean 'two'? Known: one, one.0,",
        ),
        (
            TRAIN,
            None,
            {"layer_decay": 1.5},
            OptionError,
            "Expected layer_decay to be a number in (0, 1], but got 1.5. 1 switches it off.",
        ),
        (
            TRAIN,
            None,
            {"layer_decay": 0.0},
            OptionError,
            "Expected layer_decay to be a number in (0, 1], but got 0.0. ",
        ),
        (
            TRAIN,
            None,
            {"layer_decay": math.nan},
            OptionError,
            "Expected layer_decay to be a number in (0, 1], but got nan.",
        ),
        (TRAIN, None, {"label_smoothing": 1.0}, OptionError, "Expected label_smoothing to be a number in [0, 1), but"),
        (TRAIN, None, {"epochs": 1, "steps": 1}, OptionError, "Expected at most one of epochs and steps, but got"),
        (TRAIN, None, {"augment": "light"}, OptionError, "Expected augment to be a function, 'auto' or None, but got"),
        (TRAIN, None, {"epochs": 0}, OptionError, "Expected epochs to be an integer >= 1, but got 0."),
        (
            TRAIN,
            None,
            {"batch_size": 0},
            OptionError,
            "Expected batch_size to be an integer >= 1, but got 0.",
        ),
        (TRAIN, None, {"optimizer": "adam"}, UnknownNameError, "Expected the name of an optimizer, but got 'adam'."),
        (
            TRAIN,
            None,
            {"learning_rate": -1.0},
            OptionError,
            "Expected learning_rate to be a number in [0, inf), but got",
        ),
    ],
)
def test_invalid_input_is_refused_before_any_change(
    train: Any, val: Any, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    backbone, head = Parts(), LinearHead(8, 2)
    before, head_before = snapshot(backbone), snapshot(head)
    with pytest.raises(kind) as caught:
        tune(backbone, head, train, val, **options)
    assert str(caught.value).startswith(text)
    assert not changed(backbone, before)
    assert not changed(head, head_before)
    assert all(weight.requires_grad for weight in backbone.parameters())
    assert all(module.training for module in backbone.modules())


def test_batch_of_one_is_refused_with_batchnorm_in_head() -> None:
    with pytest.raises(OptionError) as caught:
        tune(Parts(), MLPHead(8, 2), batch_size=1)
    assert caught.value.text == (
        "Expected a batch_size of at least 2, because the head has BatchNorm layers, but got 1. Raise batch_size."
    )
    assert tune(Parts(), LinearHead(8, 2), batch_size=1, epochs=1).accuracy is None


def test_batch_of_one_is_refused_with_batchnorm_in_backbone() -> None:
    for trainable in ("all", ["one"]):
        backbone = Parts()
        before = snapshot(backbone)
        with pytest.raises(OptionError) as caught:
            tune(backbone, LinearHead(8, 2), batch_size=1, trainable=trainable)
        assert caught.value.text == (
            "Expected a batch_size of at least 2, because the backbone has BatchNorm layers, "
            "but got 1. Raise batch_size."
        )
        assert not changed(backbone, before)
    assert tune(Parts(), LinearHead(8, 2), batch_size=1, epochs=1, trainable=["two.0"]).accuracy is None


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "fp8"},
        {"precision": "fp16"},
        {"optimizer": "adam"},
        {"optimizer": "adam", "learning_rate": 0.1},
        {"epochs": 0},
        {"layer_decay": 0.0},
        {"augment": "light"},
        {"clip_norm": -1.0},
        {"train": striped(12, 0, k=3)},
    ],
)
def test_refused_call_does_not_measure_normalization(options: dict[str, Any]) -> None:
    backbone, head = TinyBackbone(), LinearHead(64, 2)
    before, head_before = snapshot(backbone), snapshot(head)
    with pytest.raises(PretextkitError):
        tune(backbone, head, trainable="all", **options)
    assert not backbone.normalization.measured
    assert not changed(backbone, before)
    assert not changed(head, head_before)
    assert all(module.training for module in (*backbone.modules(), *head.modules()))


def test_refused_head_keeps_its_batchnorm_statistics() -> None:
    head = MLPHead(8, 2)
    before = snapshot(head)
    with pytest.raises(DataError, match="Expected at most 2 classes"):
        tune(Parts(), head, striped(12, 0, k=3), augment=flip)
    assert not changed(head, before)


def test_non_finite_weights_raise_divergence_error(monkeypatch: pytest.MonkeyPatch) -> None:
    head = LinearHead(8, 2)
    step = torch.optim.AdamW.step

    def broken(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        result = step(self, *args, **kwargs)
        nn.init.constant_(head.linear.bias, math.nan)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with pytest.raises(DivergenceError, match=r"Expected a finite weight 'linear.bias', but got nan or inf at step 1"):
        tune(Parts(), head, batch_size=24, epochs=1)


def test_batch_size_is_at_most_the_data_size() -> None:
    result = tune(Parts(), LinearHead(8, 2), striped(4, 0), batch_size=64, epochs=3)
    assert result.history.column("step") == [1, 2, 3]


def test_head_sees_features_of_measured_normalization() -> None:
    backbone = TinyBackbone()
    tune(backbone, "linear", trainable="all", learning_rate=0.0)
    torch.testing.assert_close(backbone.normalization.mean, TRAIN[0].mean((0, 2, 3)))
    seen: list[Tensor] = []
    fresh = TinyBackbone()
    fresh.normalization.register_forward_hook(lambda module, inputs, output: seen.append(module.mean.clone()))
    tune(fresh, "linear", trainable="all", epochs=1)
    assert len(seen) > 3
    assert all(
        torch.equal(mean, seen[-1]) for mean in seen[2:]
    )  # the width of the features, and the check of one image


def linear_probe_logits(backbone: nn.Module, train: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
    features = extract_features(backbone, train).layers["last"]
    head = fit_logistic_classifier(features, train[1], find_classes(train[1], None), seed=0)
    return head(extract_features(backbone, images).layers["last"])


@pytest.mark.parametrize("head", ["linear", LinearHead(64, 2), nn.Linear(64, 2)])
def test_linear_head_of_a_frozen_backbone_is_the_linear_probe(head: Any) -> None:
    backbone, train = TinyBackbone(), striped(50, 3)
    options: Any = {"trainable": "none", "layers": "last", "device": "cpu", "progress": False}
    result = freeze_and_finetune(backbone, head, train, VAL, **options)
    expected = linear_probe_logits(backbone, train, VAL[0]).softmax(1)
    torch.testing.assert_close(result.probabilities, expected, rtol=0, atol=1e-3)
    assert (result.settings.steps, result.history.rows) == (0, ())
    assert str(result.settings) == "the head, head from logistic regression"
    assert str(result).startswith("fine-tuned in ")


def test_named_head_of_a_frozen_backbone_is_the_linear_probe_of_the_chosen_layers() -> None:
    backbone, train = TinyBackbone(), striped(50, 3)
    result = freeze_and_finetune(backbone, "linear", train, VAL, trainable="none", device="cpu", progress=False)
    probe = linear_probe(backbone, train, VAL)
    torch.testing.assert_close(result.probabilities, probe.probabilities, rtol=0, atol=1e-5)
    assert result.settings.layers == probe.layer
    assert result.classifier.layers == probe.classifier.layers
    assert str(result.settings) == f"the head, head on {probe.layer} from logistic regression"


def test_training_of_a_named_head_begins_from_the_probe_of_the_chosen_layers() -> None:
    backbone, train = pretrained(TinyBackbone()), striped(50, 3)
    probe = linear_probe(backbone, train, VAL)
    still: dict[str, Any] = {"trainable": "all", "augment": None, "optimizer": "sgd", "learning_rate": 0.0}
    result = tune(backbone, "linear", train, VAL, **still)
    torch.testing.assert_close(result.probabilities, probe.probabilities, rtol=0, atol=1e-5)
    assert set(probe.layer.split(" + ")) <= set(result.settings.layers.split(" + "))


def test_training_of_a_named_head_reaches_every_stage() -> None:
    backbone, train = pretrained(SmallCNN()), striped(40, 3)
    before = snapshot(backbone)
    result = tune(backbone, "linear", train, trainable="all", average=1.0, steps=3)
    assert any(layer == "stage4" for layer, _ in result.classifier.layers)
    assert {name for name, _ in backbone.named_parameters()} <= changed(backbone, before)


class LastIsNoise(SpatialBackbone):
    """Two stages: the first has the brightness, the second is noise."""

    def __init__(self) -> None:
        super().__init__(in_channels=3)
        self.scale = nn.Parameter(torch.ones(()))

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        noise = torch.rand(len(images), 4, 2, 2, generator=Generator().manual_seed(len(images)))
        return images * self.scale, noise * self.scale


def test_last_layer_joins_with_weights_of_zero_if_it_is_not_chosen() -> None:
    backbone, (images, labels) = pretrained(LastIsNoise()), striped(50, 3)
    train = images * (0.5 + 0.5 * labels[:, None, None, None]), labels
    probe = linear_probe(backbone, train, VAL)
    assert "stage2" not in probe.layer
    for trainable, joined in (("all", True), ("none", False)):
        options: dict[str, Any] = {"augment": None, "optimizer": "sgd", "learning_rate": 0.0}
        result = tune(backbone, "linear", train, VAL, trainable=trainable, **options)
        assert (("stage2", 1) in result.classifier.layers) is joined
        torch.testing.assert_close(result.probabilities, probe.probabilities, rtol=0, atol=1e-5)
        if joined:
            assert not result.classifier.head.get_parameter("linear.weight")[:, -4:].any()


def test_head_reads_the_layers_that_are_named() -> None:
    train = striped(50, 3)
    result = tune(SmallCNN(), "linear", train, layers=["stage2 2x2", "stage4"])
    assert result.classifier.layers == (("stage2", 2), ("stage4", 1))
    assert result.settings.layers == "stage2 2x2 + stage4 1x1"
    assert result.classifier.head.get_parameter("linear.weight").shape == (2, 4 * 64 + 256)
    again = tune(SmallCNN(), LinearHead(4 * 64 + 256, 2), train, layers=["stage2 2x2 + stage4"])
    assert again.classifier.layers == result.classifier.layers
    assert tune(SmallCNN(), "linear", train, layers="last").settings.layers == "last"
    assert tune(SmallCNN(), LinearHead(256, 2), train).settings.layers == "last"
    with pytest.raises(UnknownNameError, match="stage9"):
        tune(SmallCNN(), "linear", train, layers=["stage9"])


def test_other_heads_by_name_read_the_chosen_layers() -> None:
    backbone, train = pretrained(TinyBackbone()), striped(50, 3)
    result = tune(backbone, "mlp", train, VAL, trainable="all", steps=30)
    assert result.settings.layers != "last"
    assert result.settings.head_start == "30 steps on features"
    assert result.accuracy is not None
    assert result.accuracy > 0.8


def test_head_on_random_weights_that_train_reads_the_output() -> None:
    train = striped(50, 3)
    assert tune(SmallCNN(), "linear", train, trainable="all", steps=1).settings.layers == "last"
    assert tune(SmallCNN(), "linear", train, trainable="none").settings.layers != "last"
    assert tune(pretrained(SmallCNN()), "linear", train, trainable="all", steps=1).settings.layers != "last"
    named = tune(SmallCNN(), "linear", train, trainable="all", layers=["stage2"], steps=1)
    assert named.settings.layers == "stage2 1x1"


def test_training_begins_from_the_linear_probe() -> None:
    backbone, train = Parts().eval(), striped(50, 3)
    tune(backbone, "linear", train, trainable="all")  # BatchNorm has seen images
    expected = linear_probe_logits(copy.deepcopy(backbone), train, VAL[0]).softmax(1)
    options = {"trainable": "all", "learning_rate": 0.0, "optimizer": "sgd", "average": 1.0}
    result = tune(backbone, "linear", train, VAL, **options)
    assert result.probabilities is not None
    torch.testing.assert_close(result.probabilities, expected, rtol=0, atol=0.2)  # new BatchNorm statistics


def test_outputs_beyond_the_classes_are_never_predicted() -> None:
    result = tune(TinyBackbone(), LinearHead(64, 5), val=VAL, epochs=None)
    assert result.probabilities is not None
    assert result.probabilities.shape == result.classifier(VAL[0]).shape == (16, 2)


@pytest.mark.parametrize(
    "head",
    [
        nn.Linear(8, 2, bias=False),
        nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 2)),
        nn.utils.parametrizations.weight_norm(nn.Linear(8, 2)),
        LinearHead(8, 2).requires_grad_(False),
    ],
)
def test_other_heads_are_not_taken_for_a_linear_layer(head: nn.Module) -> None:
    assert find_linear_layer(head) is None


def test_other_head_takes_steps_before_the_backbone_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, trained = Parts(), []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        trained.append(sum(len(group["params"]) for group in self.param_groups))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    result = tune(backbone, MLPHead(8, 2), trainable="all", steps=5)
    assert trained == [5] * 5 + [5 + 12] * 5
    assert result.settings.head_start == "5 steps on features"
    assert result.history.last["step"] == 5


def test_head_by_name_fits_features_and_classes_and_keeps_global_rng() -> None:
    backbone, state = Parts(), torch.get_rng_state()
    result = tune(backbone, "linear", striped(24, 0, k=3))
    assert torch.equal(state, torch.get_rng_state())
    layer: Any = result.classifier.head.linear
    assert (layer.in_features, layer.out_features) == (8, 3)
    assert isinstance(tune(Parts(), "mlp").classifier.head, MLPHead)


def test_head_by_unsuitable_name_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'linear'"):
        tune(Parts(), "liner")
    with pytest.raises(OptionError, match="Use 'linear' or 'mlp'"):
        tune(Parts(), "patch-discriminator")


@given(count=st.integers(2, 3000), most=st.integers(2, 300))
def test_divided_batches_leave_few_images_over(count: int, most: int) -> None:
    size = divide_evenly(count, most)
    assert 2 <= size <= most
    batches = count // size
    assert count - batches * size <= min(size - 1, batches)


@pytest.mark.parametrize(("labels", "steps", "batch"), [(100, 600, 50), (732, 600, 61), (10**6, 4000, 255)])
def test_default_budget_follows_from_the_number_of_labels(labels: int, steps: int, batch: int) -> None:
    assert (divide_evenly(labels, None), default_steps(labels, divide_evenly(labels, None))) == (batch, steps)


def pretrained(backbone: Any) -> Any:
    """Mark a backbone as trained before."""
    backbone.starts_from = "weights of a test"
    return backbone


@pytest.mark.parametrize(("labels", "batch"), [(100, 25), (732, 31), (999, 31), (1000, 62), (5000, 63)])
def test_random_weights_train_on_few_labels_in_small_batches(labels: int, batch: int) -> None:
    assert resolve_settings(Settings(), labels, [nn.Linear(1, 1)], from_random=True).batch_size == batch


def default_steps_of(backbone: nn.Module, trainable: Any = "all") -> int:
    data = read_data(TRAIN, None, None, 0, 0)
    work = prepare_work(backbone, "linear", data, Settings(device="cpu"), Recipe(trainable), progress=False)
    return work.plan.total


def test_random_weights_train_longer() -> None:
    backbone = Parts()
    assert default_steps_of(backbone) == 3000
    assert default_steps_of(backbone, "none") == 600  # no weight of the backbone trains
    backbone.train()(TRAIN[0])
    assert default_steps_of(backbone) == 600
    assert default_steps(10**6, 256, from_random=True) == 4000


def test_every_image_is_seen_in_every_epoch() -> None:
    images, labels = striped(100, 0, size=4)
    seen: list[Tensor] = []

    def record(batch: Tensor, generator: Generator) -> Tensor:
        seen.append(batch.flatten(1).sum(1))
        return batch

    result = tune(TinyBackbone(), "linear", (images, labels), batch_size=64, epochs=2, augment=record)
    assert result.settings.batch_size == 50
    for epoch in (seen[1:3], seen[3:5]):  # the first is the check of one image
        torch.testing.assert_close(torch.cat(epoch).sort().values, images.flatten(1).sum(1).sort().values)


def test_default_augmentation_only_where_images_train() -> None:
    light = repr(LightAugmentation())
    assert tune(Parts(), "linear", trainable="all").settings.augmentation == light
    assert tune(Parts(), "linear", trainable=["three"]).settings.augmentation == light
    assert tune(Parts(), "linear").settings.augmentation is None
    assert tune(Parts(), "linear", trainable="all", augment=None).settings.augmentation is None
    assert tune(Parts(), "linear", augment=flip).settings.augmentation == "flip"


def test_label_smoothing_equals_the_loss_of_torch() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    output = HeadObjective(nn.Identity(), torch.arange(3), None, 0.2).loss((logits, labels))
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(logits, labels, label_smoothing=0.2))


def test_unused_batchnorm_is_measured_before_the_head_is_fitted() -> None:
    backbone = Parts()
    result = tune(backbone, "linear", striped(64, 0), VAL, trainable="all", steps=1, learning_rate=0.0)
    assert result.history.last["loss"] < math.log(2)  # the statistics of its batch hardly differ
    frozen = Parts()
    before = snapshot(frozen)
    tune(frozen, "linear", trainable=["three"], steps=1)
    assert {name.split(".")[0] for name in changed(frozen, before)} == {"three"}


def test_accuracy_below_the_majority_class_is_reported() -> None:
    labels = torch.tensor([1] * 70 + [0] * 30)
    with pytest.warns(TrainingWarning, match=r"32.0% on val is below the 70.0% of always predicting '1'"):
        warn_below_majority(class_report(torch.tensor([0] * 68 + [1] * 2 + [0] * 30), labels))
    for hits in (70, 62):  # 62 of 70 and no other: below, but within the chance of 100 images
        warn_below_majority(class_report(torch.tensor([1] * hits + [0] * (70 - hits) + [1] * 30), labels))


def test_wrong_labels_give_the_majority_warning() -> None:
    images, labels = striped(64, 0)
    val = torch.cat([images[labels == 0], images[labels == 1][:8]])
    wrong = torch.cat([torch.ones(32), torch.zeros(8)]).long()
    with pytest.warns(TrainingWarning, match="on val is below the"):
        tune(TinyBackbone(), "linear", (images, labels), (val, wrong), trainable="all", epochs=3)
