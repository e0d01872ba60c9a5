from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from pretextkit.errors import DataError, OptionError, ShapeError, UnknownNameError
from pretextkit.evaluation import _logistic_classifier as classifier
from pretextkit.evaluation._linear_probe import ProbeResult
from pretextkit.evaluation._solvers._logistic import fit_logistic
from pretextkit.functional import linear_probe
from pretextkit.testing import TinyBackbone

IDENTITY = nn.Identity()


def clouds(n: int, seed: int, k: int = 3, d: int = 6, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % k
    noises = torch.randn(n, d, generator=Generator().manual_seed(seed))
    return 10 + 3 * torch.eye(k, d)[labels] + noise * noises, labels


def striped(n: int, seed: int, k: int = 2, size: int = 16) -> tuple[Tensor, Tensor]:
    """Images whose class is the direction of their stripes."""
    labels = torch.arange(n) % k
    images = torch.rand(n, 3, size, size, generator=Generator().manual_seed(seed)) * 0.5
    images[labels == 0, :, ::2] += 0.5
    images[labels == 1, :, :, ::2] += 0.5
    return images, labels


def same(one: ProbeResult, other: ProbeResult) -> bool:
    return (one.layer, one.layers) == (other.layer, other.layers) and torch.equal(one.predictions, other.predictions)


def test_separable_features_give_perfect_accuracy() -> None:
    result = linear_probe(IDENTITY, clouds(60, 0, noise=0.1), clouds(30, 1, noise=0.1))
    assert result.accuracy == 1.0
    assert result.layers["last"].validation == pytest.approx(1.0)
    assert result.layers["last"].feature_dim == 6
    assert str(result) == "linear probe: 100.0% (95% interval 88.6-100.0) at last, from 60 labels"


def test_noise_features_give_chance_accuracy() -> None:
    generator = Generator().manual_seed(0)
    train, test = ((torch.randn(300, 5, generator=generator), torch.arange(300) % 3) for _ in range(2))
    result = linear_probe(IDENTITY, train, test)
    assert 0.2 < result.accuracy < 0.47
    assert 0.2 < result.layers["last"].validation < 0.47


def test_head_equals_logistic_regression_by_gradient_descent() -> None:
    train, test = clouds(60, 0, noise=1.5), clouds(30, 1, noise=1.5)
    result = linear_probe(IDENTITY, train, test, penalties=[0.05])
    mean, std = train[0].double().mean(0), train[0].double().std(0, correction=0)
    rows, target = (train[0].double() - mean) / std, nn.functional.one_hot(train[1]).double()
    weight, bias = torch.zeros(6, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for _ in range(3000):
        slope = ((rows @ weight + bias).softmax(1) - target) / 60
        weight -= 0.5 * (rows.T @ slope + 0.05 * weight)
        bias -= 0.5 * slope.sum(0)
    logits = (test[0].double() - mean) / std @ weight + bias
    ours = result.head(test[0]).double()
    scale = ours.std() / logits.std()  # the smallest log loss of held-out images
    assert 0.2 < scale <= 1.001
    torch.testing.assert_close(ours.log_softmax(1), (scale * logits).log_softmax(1), rtol=0, atol=0.05)
    assert torch.equal(result.predictions, logits.argmax(1))
    assert result.accuracy == pytest.approx((logits.argmax(1) == test[1]).double().mean().item())


def test_head_accepts_raw_features() -> None:
    train, test = clouds(60, 0), clouds(30, 1)
    result = linear_probe(IDENTITY, train, test)
    assert torch.equal(result.head(test[0]).argmax(1), result.predictions)
    assert torch.equal(result.targets, test[1])
    assert not any(weight.requires_grad for weight in result.head.parameters())


def test_accuracy_ignores_scale_and_shift_of_features() -> None:
    (x, y), (x_test, y_test) = clouds(60, 0), clouds(30, 1)
    scale = torch.tensor([1e-3, 1e-2, 1.0, 10.0, 1e3, 1e4])
    one = linear_probe(IDENTITY, (x, y), (x_test, y_test))
    other = linear_probe(IDENTITY, (x * scale - 5, y), (x_test * scale - 5, y_test))
    assert (one.predictions == other.predictions).float().mean() > 0.95
    assert one.layers["last"].penalty == other.layers["last"].penalty


def test_layer_and_penalty_do_not_depend_on_test() -> None:
    train, test = striped(40, 0), striped(30, 1)
    torch.manual_seed(0)
    backbone = TinyBackbone()
    one = linear_probe(backbone, train, test, layers="all", pool=[1, 2])
    wrong = test[1][torch.randperm(30, generator=Generator().manual_seed(0))]
    other = linear_probe(backbone, train, (test[0], wrong), layers="all", pool=[1, 2])
    assert other.layer == one.layer
    assert torch.equal(other.predictions, one.predictions)
    for name, score in one.layers.items():
        assert other.layers[name]._replace(accuracy=0) == score._replace(accuracy=0)
    assert torch.equal(one.head.linear.weight, other.head.linear.weight)
    assert other.accuracy != one.accuracy


def test_chosen_layer_is_best_on_heldout_folds() -> None:
    class TwoLayers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noise, self.signal = nn.Linear(6, 6), nn.Identity()
            nn.init.zeros_(self.noise.weight)

        def forward(self, x: Tensor) -> Tensor:
            self.signal(x)
            out: Tensor = self.noise(x)
            return out

    result = linear_probe(TwoLayers(), clouds(60, 0), clouds(30, 1), layers="all")
    assert list(result.layers) == ["noise", "signal"]
    assert result.layer == "signal"
    assert result.accuracy == result.layers["signal"].accuracy
    assert result.layers["noise"].accuracy == pytest.approx(1 / 3, abs=0.01)
    scores = {name: score.validation for name, score in result.layers.items()}
    assert max(scores, key=lambda name: scores[name]) == "signal"
    losses = {name: score.log_loss for name, score in result.layers.items()}
    assert min(losses, key=lambda name: losses[name]) == "signal"


class Halves(nn.Module):
    """Two layers that each show half of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.signal, self.noise = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.signal(x[:, :6])
        out: Tensor = self.noise(x[:, 6:])
        return out


def test_chosen_layer_differs_from_the_best_on_test() -> None:
    def halves(seed: int) -> tuple[Tensor, Tensor]:
        features, labels = clouds(60, seed)
        return torch.cat([features, torch.randn(60, 6, generator=Generator().manual_seed(seed + 9))], 1), labels

    train, (x_test, _) = halves(0), halves(1)
    adverse = linear_probe(Halves(), train, halves(1), layers=["noise"]).predictions  # labels that fit the noise
    result = linear_probe(Halves(), train, (x_test, adverse), layers=["signal", "noise"])
    assert result.layers["noise"].accuracy == 1.0 > result.layers["signal"].accuracy
    assert result.layer == "signal"
    assert result.accuracy == result.layers["signal"].accuracy


@pytest.mark.parametrize("few", [5000, 10])
def test_chosen_penalty_is_best_on_heldout_folds(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Forty features, three of them useful, and sixty rows: a penalty that is too small overfits the noise."""
    monkeypatch.setattr(classifier, "FEW", few)
    train, test = clouds(60, 0, d=40, noise=3.0), clouds(600, 1, d=40, noise=3.0)
    chosen = linear_probe(IDENTITY, train, test).layers["last"]
    alone = {
        each: linear_probe(IDENTITY, train, test, penalties=[each]).layers["last"] for each in classifier.PENALTIES
    }
    # The first fold, of twelve images, narrows the penalties.
    assert chosen.log_loss < min(each.log_loss for each in alone.values()) + 0.01
    assert chosen.accuracy > alone[1e-5].accuracy


def test_predictions_that_are_too_sure_are_made_less_sure() -> None:
    """A hundred features separate ninety rows: a weak penalty is sure of every new image, and often wrong."""
    train, test = clouds(90, 0, d=100, noise=1.5), clouds(600, 1, d=100, noise=1.5)
    result = linear_probe(IDENTITY, train, test, penalties=[1e-4])
    mean, std = train[0].mean(0), train[0].std(0, correction=0)
    plain = fit_logistic((train[0] - mean) / std, train[1], 3, torch.tensor([1e-4])).logits((test[0] - mean) / std)[0]
    ours = result.head(test[0])
    scale = (ours.std() / plain.std()).item()
    centered = [(each - each.mean(1, keepdim=True)).flatten() for each in (ours, plain)]
    assert torch.corrcoef(torch.stack(centered))[0, 1] > 0.99  # so weak a penalty is solved to a few percent
    assert 0.1 < scale < 0.6
    assert plain.softmax(1).amax(1).mean() > result.probabilities.amax(1).mean() + 0.1
    losses = [nn.functional.cross_entropy(each, test[1]) for each in (ours, plain)]
    assert losses[0] < 0.7 * losses[1]


def test_validation_equals_explicit_cross_validation() -> None:
    train, test = clouds(25, 0, noise=2.0), clouds(30, 1)
    result = linear_probe(IDENTITY, train, test, penalties=[0.1], seed=3)
    folds = classifier.folds(train[1], 3)
    assert sorted(torch.cat(folds).tolist()) == list(range(25))
    found = torch.zeros(25, 3)
    for heldout in folds:
        fit = torch.tensor([row for row in range(25) if row not in heldout.tolist()])
        mean, std = train[0].mean(0), train[0].std(0, correction=0)
        rows = (train[0] - mean) / std
        model = fit_logistic(rows[fit], train[1][fit], 3, torch.tensor([0.1]))
        found[heldout] = model.logits(rows[heldout])[0]
    right = int((found.argmax(1) == train[1]).sum())
    loss = min(nn.functional.cross_entropy(k / 1000 * found, train[1], reduction="sum").item() for k in range(1, 1001))
    assert result.layers["last"].validation == pytest.approx(right / 25)
    assert result.layers["last"].log_loss == pytest.approx(loss / 25, abs=2e-3)


def test_one_label_per_class_is_enough() -> None:
    train = clouds(3, 0, noise=0.1)
    result = linear_probe(IDENTITY, train, clouds(30, 1, noise=0.1))
    assert result.accuracy > 0.6  # six features, standardized on three rows: chance is a third
    two = linear_probe(IDENTITY, clouds(2, 0, k=2, d=2, noise=0.1), clouds(30, 1, k=2, d=2, noise=0.1))
    assert two.accuracy == 1.0


def test_constant_and_wide_features_are_accepted() -> None:
    (x, y), (x_test, y_test) = clouds(12, 0, noise=0.1), clouds(30, 1, noise=0.1)

    def widened(features: Tensor, seed: int) -> Tensor:
        noise = torch.randn(len(features), 100, generator=Generator().manual_seed(seed))
        return torch.cat([features, torch.full((len(features), 5), 7.0), noise * 0.01], 1)

    result = linear_probe(IDENTITY, (widened(x, 0), y), (widened(x_test, 1), y_test))
    assert result.head.linear.weight.isfinite().all()
    assert result.accuracy > 0.5
    flat = linear_probe(
        IDENTITY, (torch.cat([x, x[:, :1] * 0], 1), y), (torch.cat([x_test, x_test[:, :1] + 9], 1), y_test)
    )
    assert flat.accuracy == 1.0  # features constant on train have no influence on test


def test_unlabeled_images_are_left_out() -> None:
    (x, y), (x_test, y_test) = clouds(60, 0), clouds(30, 1)
    garbage = torch.full((20, 6), 1e6)
    one = linear_probe(IDENTITY, (x, y), (x_test, y_test))
    mixed = (torch.cat([garbage, x]), torch.cat([torch.full((20,), -1), y]))
    mixed_test = (torch.cat([garbage, x_test]), torch.cat([torch.full((20,), -1), y_test]))
    other = linear_probe(IDENTITY, mixed, mixed_test)
    assert same(one, other)
    assert other.head.linear.weight.shape == (3, 6)


@pytest.mark.parametrize("kind", ["module", "lambda", "torchvision", "dataset", "loader"])
def test_probe_accepts_modules_functions_and_sources(kind: str) -> None:
    train, test = striped(40, 0, size=32), striped(20, 1, size=32)
    model: Any = TinyBackbone()
    if kind == "lambda":
        model = lambda x: torch.stack([x.diff(dim=2).abs().mean((1, 2, 3)), x.diff(dim=3).abs().mean((1, 2, 3))], 1)  # noqa: E731
    if kind == "torchvision":
        torch.manual_seed(0)
        model = resnet18()
    data: Any = train
    if kind == "dataset":
        data = TensorDataset(*train)
    if kind == "loader":
        data = DataLoader(TensorDataset(*train), batch_size=16, shuffle=True)
    layers: Any = ["layer1", "layer2.1"] if kind == "torchvision" else "last"
    result = linear_probe(model, data, test, layers=layers)
    assert result.accuracy > 0.9
    if kind == "torchvision":
        assert list(result.layers) == ["layer1", "layer2.1"]
        assert [score.feature_dim for score in result.layers.values()] == [64, 128]


def test_pool_sides_are_compared_like_layers() -> None:
    train, test = striped(20, 0, size=32), striped(20, 1, size=32)
    result = linear_probe(TinyBackbone(), train, test, layers="all", pool=[1, 2])
    assert [(name, score.feature_dim) for name, score in result.layers.items()] == [
        (f"stage{i} {side}x{side}", d * side * side) for i, d in ((1, 16), (2, 32), (3, 64)) for side in (1, 2)
    ]


class Meddling(nn.Module):
    """Module with every state that a probe could change, also in evaluation mode."""

    calls: Tensor

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.register_buffer("calls", torch.zeros(()))
        self.fails = fails

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        torch.rand(())  # draws from the global generator
        if self.fails:
            raise ZeroDivisionError
        features: Tensor = self.layer(x).mean((2, 3))
        return features


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("layers", ["last", "all"])
def test_probe_leaves_model_and_global_rng_unchanged(fails: bool, layers: Any) -> None:
    model = Meddling(fails)
    model.layer[2].eval()
    next(model.parameters()).requires_grad_(False)
    twin = copy.deepcopy(model)
    train, test = striped(20, 0), striped(10, 1)
    images, rng = train[0].clone(), torch.get_rng_state()
    try:
        linear_probe(model, train, test, layers=layers)
        assert not fails
    except ZeroDivisionError:
        assert fails
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in model.state_dict().items())
    for module, other in zip(model.modules(), twin.modules(), strict=True):
        assert module.training == other.training
        assert not module._forward_hooks
    for weight, same_weight in zip(model.parameters(), twin.parameters(), strict=True):
        assert weight.requires_grad == same_weight.requires_grad
        assert weight.grad is None
    assert torch.equal(train[0], images)
    assert torch.equal(torch.get_rng_state(), rng)


def test_probe_is_deterministic_for_a_seed() -> None:
    train, test = clouds(60, 0, noise=3.0), clouds(30, 1, noise=3.0)
    assert same(linear_probe(IDENTITY, train, test), linear_probe(IDENTITY, train, test))


def test_invalid_data_are_refused() -> None:
    x, y = clouds(12, 0)
    images = torch.rand(12, 3, 4, 4)
    flat = nn.Flatten()
    cases: list[tuple[Any, Any, Any, str]] = [
        (
            IDENTITY,
            (x, y * 0),
            (x, y),
            "Expected at least 2 classes, but got class 0 only.",
        ),
        (
            IDENTITY,
            (x, y + 1),
            (x, y),
            "Expected labels 0 to 2 for 3 classes, but got labels up to 3 without 0. "
            "If the classes are numbered from 1, subtract 1 for train and test: ",
        ),
        (
            flat,
            images,
            (images, y),
            "Expected labels for train, but got none. Pass a pair (images, labels), or a Dataset of (image, label).",
        ),
        (flat, (images, y), images, "Expected labels for test, but got none."),
        (IDENTITY, (x, y * 0 - 1), (x, y), "Expected labels for train, but got labels that are all -1."),
        (
            IDENTITY,
            (x, y % 2),
            (x, y),
            "Expected test labels 0 to 1, the classes of train, but got label 2. "
            "Give train at least one image of every class.",
        ),
        (IDENTITY, (x / 0, y), (x, y), "Expected finite features from layer 'last', but got NaN or inf."),
    ]
    for model, train, test, text in cases:
        with pytest.raises(DataError) as caught:
            linear_probe(model, train, test)
        assert str(caught.value).startswith(text)
    with pytest.raises(ShapeError, match="Expected as many labels as images, but got 11 labels for 12 images"):
        linear_probe(IDENTITY, (x, y[1:]), (x, y))
    with pytest.raises(ShapeError) as shape:
        linear_probe(IDENTITY, (x, y), (x[:, 1:], y))
    assert shape.value.text == (
        "Expected features of equal width from layer 'last' on train and test, but got 6 and 5. "
        "Give the model images of one size, or pass features of one width."
    )


@pytest.mark.parametrize("penalties", [[], [0.0], [1.0, -1.0], [math.nan], [math.inf]])
def test_penalties_out_of_range_are_refused(penalties: list[float]) -> None:
    with pytest.raises(OptionError) as caught:
        linear_probe(IDENTITY, clouds(12, 0), clouds(12, 0), penalties=penalties)
    what = (
        f"a number in (0, inf), but got {penalties[-1]}" if penalties else "a sequence of at least 1 value, but got []"
    )
    assert caught.value.text == f"Expected penalties to be {what}. For example penalties=(1e-4, 1e-2, 1.0)."


def test_unknown_layers_are_refused() -> None:
    train = striped(8, 0)
    with pytest.raises(
        UnknownNameError, match=r"a layer of TinyBackbone, but got 'layers\.9'\. Did you mean 'layers\."
    ):
        linear_probe(TinyBackbone(), train, train, layers=["layers.9"])
    with pytest.raises(OptionError, match="Expected layers='last' for a function, but got 'all'"):
        linear_probe(lambda x: x.mean((2, 3)), train, train, layers="all")


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_features_of_any_scale_are_separated(scale: float) -> None:
    features, labels = clouds(60, 0)
    plain, scaled = (linear_probe(IDENTITY, (x, labels)) for x in (features, scale * features))
    assert plain.accuracy > 0.8
    assert scaled.accuracy == pytest.approx(plain.accuracy, abs=0.05)


def test_features_whose_sum_overflows_are_refused() -> None:
    features, labels = torch.full((20, 3), 1e38), torch.arange(20) % 2
    with pytest.raises(DataError) as caught:
        linear_probe(IDENTITY, (features, labels))
    assert caught.value.text == (
        "Expected features from layer 'last' whose sum fits float32 (3.4e38), but got a feature of 1e+38. "
        "Scale the features down; the probe standardizes them anyway."
    )
