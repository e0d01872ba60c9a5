"""FixMatch: naive twins of its loss, what gets a gradient, averaged weights, resume, and its data."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from pretextkit.callbacks import Callback, StopTraining
from pretextkit.data import FolderImages
from pretextkit.errors import CheckpointError, DataError, OptionError, ShapeError, TrainingWarning, UnknownNameError
from pretextkit.finetuning._fixmatch import _warn_of_unsure
from pretextkit.finetuning._fixmatch_objective import (
    AveragedClassifier,
    FixMatchBatch,
    FixMatchObjective,
    FixMatchRules,
    consistency_loss,
    draw_rows,
)
from pretextkit.finetuning._objectives import ClassifierObjective
from pretextkit.finetuning._work import FinetuneWork
from pretextkit.functional import Classifier, FinetuneResult, fixmatch
from pretextkit.inference._saving import load_classifier
from pretextkit.models import LinearHead, SmallCNN
from pretextkit.testing import TinyBackbone
from pretextkit.training._history import History
from pretextkit.training._optim import default_learning_rate
from pretextkit.views import LightAugmentation, StrongAugmentation
from tests.helpers import WithDropoutAndNorm, generator, normal, random_images, same_numbers


def striped(n: int, seed: int, size: int = 12) -> tuple[Tensor, Tensor]:
    """Images whose class is the direction of their stripes."""
    labels = torch.arange(n) % 2
    images = random_images(n, size=size, seed=seed) * 0.5
    images[labels == 0, :, ::2] += 0.5
    images[labels == 1, :, :, ::2] += 0.5
    return images, labels


IMAGES, LABELS = striped(40, 0)
FEW = torch.where(torch.arange(40) < 6, LABELS, -1)
TEST = striped(20, 1)


def match(
    backbone: nn.Module | None = None, labeled: Any = (IMAGES, FEW), *data: Any, **options: Any
) -> FinetuneResult:
    defaults = {"steps": 4, "batch_size": 4, "device": "cpu", "precision": "fp32", "progress": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = TinyBackbone() if backbone is None else backbone
    return fixmatch(backbone, "linear", labeled, *data, **{**defaults, **options})


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


@given(st.integers(1, 9), st.integers(2, 5), st.floats(0.2, 1.0), st.integers(0, 99))
def test_loss_equals_a_naive_twin(count: int, classes: int, threshold: float, seed: int) -> None:
    weak, strong = 3 * normal(count, classes, seed=seed), normal(count, classes, seed=seed + 100)
    expected, expected_sure = 0.0, []
    for one, other in zip(weak, strong, strict=True):
        probabilities = one.exp() / one.exp().sum()
        guess = int(probabilities.argmax())
        expected_sure.append(bool(probabilities[guess] >= threshold))
        if expected_sure[-1]:
            expected -= float((other.exp() / other.exp().sum()).log()[guess])
    loss, sure, guesses = consistency_loss(weak, strong, threshold)
    torch.testing.assert_close(float(loss), expected / count, rtol=1e-4, atol=1e-6)
    assert sure.tolist() == expected_sure
    assert torch.equal(guesses, weak.argmax(1))


def test_only_strong_views_of_sure_images_get_a_gradient() -> None:
    weak = torch.tensor([[9.0, 0.0], [0.5, 0.0]], requires_grad=True)
    strong = torch.zeros(2, 2, requires_grad=True)
    torch.autograd.backward(consistency_loss(weak, strong, 0.95)[0])
    assert weak.grad is None
    assert strong.grad is not None
    torch.testing.assert_close(strong.grad, torch.tensor([[-0.25, 0.25], [0.0, 0.0]]))


def objective(threshold: float = 0.95, weight: float = 1.0, batch_size: int = 3) -> FixMatchObjective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = TinyBackbone()
        classifier = Classifier(backbone, LinearHead(backbone.feature_dim, 2), torch.arange(2))
    supervised = ClassifierObjective(classifier, [backbone], None, torch.arange(2), 1.0)
    rules = FixMatchRules(LightAugmentation(jitter=0.0), StrongAugmentation(), batch_size, threshold, weight, 0.9)
    return FixMatchObjective(supervised, IMAGES[:6], LABELS[:6], ("across", "down"), rules)


def test_labeled_rows_are_never_masked() -> None:
    """With a threshold that nothing reaches, the loss is the cross-entropy of the labels alone."""
    matched = objective(threshold=1.0)
    batch = FixMatchBatch(IMAGES[:3], LABELS[:3], IMAGES[6:10], IMAGES[10:14])
    output = matched.loss(batch)
    logits = matched.averaged.classifier(IMAGES[:3])
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(logits, LABELS[:3]))
    assert output.metrics["sure"] == 0
    assert output.metrics["sure across"] == output.metrics["sure down"] == 0


def test_loss_is_the_sum_of_both_in_one_pass() -> None:
    matched = objective(threshold=0.1, weight=0.5)
    batch = FixMatchBatch(IMAGES[:3], LABELS[:3], IMAGES[6:10], IMAGES[10:14])
    output = matched.loss(batch)
    classifier = matched.averaged.classifier
    guesses = classifier(IMAGES[6:10]).argmax(1)
    labeled = nn.functional.cross_entropy(classifier(IMAGES[:3]), LABELS[:3])
    unlabeled = nn.functional.cross_entropy(classifier(IMAGES[10:14]), guesses)
    torch.testing.assert_close(output.loss, labeled + 0.5 * unlabeled)
    torch.testing.assert_close(output.metrics["labeled_loss"], labeled.detach())
    counts = [output.metrics["sure across"], output.metrics["sure down"]]
    assert [int(count) for count in counts] == guesses.bincount(minlength=2).tolist()
    assert output.metrics["sure"] == 1


def test_all_images_pass_the_network_together() -> None:
    matched, sizes = objective(), []
    matched.averaged.classifier.get_submodule("backbone").register_forward_hook(
        lambda module, inputs, output: sizes.append(len(inputs[0]))
    )
    matched.loss(FixMatchBatch(IMAGES[:3], LABELS[:3], IMAGES[6:10], IMAGES[10:14]))
    assert sizes == [11]


def test_batch_has_two_views_of_the_same_images_and_labels_of_their_own() -> None:
    matched = objective(batch_size=9)
    batch = matched.prepare_batch(IMAGES[6:10], None, generator())
    assert batch.weak.shape == batch.strong.shape == IMAGES[6:10].shape
    assert not torch.equal(batch.weak, batch.strong)
    assert len(batch.images) == len(batch.labels) == 9
    for image, label in zip(batch.images, batch.labels, strict=True):
        row = next(row for row in range(6) if torch.equal(IMAGES[row], image))
        assert label == LABELS[row]
    again = matched.prepare_batch(IMAGES[6:10], None, generator())
    assert all(torch.equal(one, other) for one, other in zip(batch, again, strict=True))


def test_each_view_has_its_own_augmentation() -> None:
    matched = objective()
    matched.rules = replace(
        matched.rules, weak=lambda images, generator: images * 0.5, strong=lambda images, generator: 1 - images
    )
    batch = matched.prepare_batch(IMAGES[6:10], None, generator())
    assert torch.equal(batch.weak, IMAGES[6:10] * 0.5)
    assert torch.equal(batch.strong, 1 - IMAGES[6:10])


def test_probability_at_the_threshold_is_sure() -> None:
    assert consistency_loss(torch.zeros(1, 2), torch.zeros(1, 2), 0.5)[1].tolist() == [True]


def test_gray_labeled_images_join_images_in_color() -> None:
    matched = objective()
    matched.images = matched.images[:, :1]
    assert matched.prepare_batch(IMAGES[6:10], None, generator()).images.shape[1] == 3


@given(st.integers(1, 7), st.integers(1, 20), st.integers(0, 9))
def test_rows_are_drawn_equally_often(count: int, size: int, seed: int) -> None:
    times = draw_rows(count, size, generator(seed)).bincount(minlength=count)
    assert int(times.sum()) == size
    assert int(times.max() - times.min()) <= 1


def test_average_follows_its_closed_form() -> None:
    classifier: Any = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    averaged = AveragedClassifier(classifier, 0.5)
    weight, expected = classifier[0].weight, classifier[0].weight.item()
    for step in range(1, 12):
        with torch.no_grad():
            weight.add_(1.0)
            classifier[1].running_mean.add_(1.0)
        averaged.follow()
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * weight.item()
    copied: Any = averaged.average.modules_copied[0]
    assert copied[0].weight.item() == pytest.approx(expected, rel=1e-5)
    assert copied[1].running_mean.item() == 11
    assert keep == 0.5
    averaged.finish()
    assert weight.item() == copied[0].weight.item()


def test_pretrained_backbone_learns_at_the_rate_of_random_weights() -> None:
    backbone = SmallCNN()
    backbone.starts_from = "weights of a friend"
    settings = match(backbone, steps=1).settings
    assert (settings.learning_rate, settings.average) == (0.003, 1.0)


def test_head_that_is_not_linear_begins_at_the_same_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    train = FinetuneWork.train

    def recorded(work: FinetuneWork, objective: Any, source: Any, plan: Any, callbacks: Any = ()) -> Any:
        rates.append(plan.learning_rate)
        return train(work, objective, source, plan, callbacks)

    monkeypatch.setattr(FinetuneWork, "train", recorded)
    head = nn.Sequential(nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 2))
    backbone = SmallCNN()
    backbone.starts_from = "weights of a friend"
    result = fixmatch(backbone, head, (IMAGES, FEW), steps=1, batch_size=4, device="cpu", progress=False)
    assert rates == [0.003]  # of the head alone
    assert result.settings.learning_rate == 0.003


def test_rate_of_sgd_follows_from_the_batch() -> None:
    backbone = SmallCNN()
    backbone.starts_from = "weights of a friend"
    settings = match(backbone, steps=1, optimizer="sgd", unlabeled_batch_size=8).settings
    assert settings.learning_rate == default_learning_rate("sgd", 8)


def test_result_is_the_average_and_classifies() -> None:
    backbone = TinyBackbone()
    result = match(backbone, (IMAGES, FEW), None, TEST, steps=30, threshold=0.8)
    assert result.accuracy is not None
    assert result.accuracy > 0.9
    assert same_numbers(backbone, result.classifier.backbone)
    assert not result.classifier.training
    assert result.history.last["sure"] > 0.3
    assert result.history.last["sure 0"] + result.history.last["sure 1"] == pytest.approx(
        result.history.last["sure"] * 12, rel=1e-4
    )
    assert "by FixMatch with 40 unlabeled images, 30 steps of 28" in str(result.settings)
    assert result.classifier.trained["by"] == "fixmatch"


def test_returned_weights_are_not_those_of_the_last_step() -> None:
    class Last(Callback):
        def on_step(self, status: Any) -> None:
            self.weights = weights(status.module.classifier.head)
            self.average = weights(status.module.average.modules_copied[0].head)

    last = Last()
    result = match(steps=5, callbacks=[last])
    assert_same(weights(result.classifier.head), last.average)
    assert not torch.equal(last.weights["linear.weight"], last.average["linear.weight"])


def test_one_source_equals_two_sources() -> None:
    one = match()
    two = match(None, (IMAGES[:6], LABELS[:6]), IMAGES)
    assert_same(weights(one.classifier), weights(two.classifier))
    other = match(None, (IMAGES[:6], LABELS[:6]), IMAGES[6:])
    name = "head.linear.weight"
    assert not torch.equal(weights(one.classifier)[name], weights(other.classifier)[name])


class Stop(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, status: Any) -> None:
        if status.step == self.step:
            raise StopTraining("enough")


def test_resumed_run_is_bit_exact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = WithDropoutAndNorm()
    full = match(copy.deepcopy(start), steps=7)
    halted = match(copy.deepcopy(start), steps=7, checkpoint=tmp_path, callbacks=[Stop(4)])
    assert halted.stopped == "enough"
    resumed = match(copy.deepcopy(start), steps=7, checkpoint=tmp_path)
    assert_same(weights(full.classifier), weights(resumed.classifier))
    numbers = [{key: value for key, value in row.items() if key != "seconds"} for row in full.history.rows]
    assert numbers == [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.history.rows]
    again = match(copy.deepcopy(start), steps=7, checkpoint=tmp_path)
    assert_same(weights(full.classifier), weights(again.classifier))


@pytest.mark.parametrize("other", [{"threshold": 0.9}, {"unlabeled_weight": 2.0}, {"momentum": 0.5}, {"seed": 1}])
def test_checkpoint_of_another_run_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    match(checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match=next(iter(other)).replace("_", " ")):
        match(checkpoint=tmp_path, **other)


def test_checkpoint_of_other_labels_is_refused(tmp_path: Path) -> None:
    match(checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="labeled images"):
        match(None, (IMAGES, torch.where(FEW >= 0, 1 - FEW, -1)), checkpoint=tmp_path)


def test_budget_in_views_counts_every_view() -> None:
    result = match(steps=None, views=100, batch_size=4, unlabeled_batch_size=8)  # 20 a step
    assert result.settings.steps == 5
    assert result.settings.batch_size == 20
    with pytest.raises(OptionError, match="at most one of steps and views"):
        match(steps=3, views=100)
    with pytest.raises(OptionError, match=r"views to be an integer >= 28, but got '9'|but got 9. A step has 28 views"):
        match(steps=None, views=9)


@pytest.mark.parametrize(
    ("options", "rate"), [({}, "0.003"), ({"trainable": "none"}, "0.001"), ({"learning_rate": 0.02}, "0.02")]
)
def test_learning_rate_is_that_of_fine_tuning_from_random_weights(options: dict[str, Any], rate: str) -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    result = match(backbone, steps=1, **options)
    assert f"learning rate {rate}," in str(result.settings)
    assert max(result.history.column("learning_rate")) <= float(rate)


def test_frozen_backbone_stays_as_it_is() -> None:
    backbone = WithDropoutAndNorm()
    before = weights(backbone)
    match(backbone, trainable="none", augment=None)
    assert_same(before, weights(backbone))


def test_folder_with_a_few_labels_is_one_source(tmp_path: Path) -> None:
    for i, image in enumerate(IMAGES):
        Image.fromarray((255 * image.permute(1, 2, 0)).byte().numpy()).save(tmp_path / f"{i:02}.png")
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n00.png,across\n01.png,down\n02.png,across\n03.png,down\n04.png,\n")
    result = match(SmallCNN(), FolderImages(tmp_path, labels=table))
    assert result.classifier.class_names == ("across", "down")
    assert {"sure across", "sure down"} <= set(result.history.last)
    result.classifier.save(tmp_path / "classifier.pt")
    loaded = load_classifier(tmp_path / "classifier.pt")
    assert loaded.predict(tmp_path).labels.tolist() == result.classifier.predict(tmp_path).labels.tolist()


def test_bad_data_is_refused() -> None:
    with pytest.raises(DataError, match=r"unlabeled images, but got a label for each of 40.* freeze_and_finetune"):
        match(None, (IMAGES, LABELS))
    with pytest.raises(DataError, match="labels for labeled"):
        match(None, (IMAGES, torch.full((40,), -1)))
    with pytest.raises(DataError, match="at least 2 classes"):
        match(None, (IMAGES, torch.where(FEW >= 0, 0, -1)))
    with pytest.raises(ShapeError, match=r"unlabeled images of 12x12 pixels, as the labeled, but got 8x8"):
        match(None, (IMAGES, FEW), random_images(9, size=8))
    with pytest.raises(UnknownNameError, match="head"):
        fixmatch(TinyBackbone(), "lin", (IMAGES, FEW), steps=1, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0}, "threshold"),
        ({"unlabeled_weight": -1}, "unlabeled_weight"),
        ({"momentum": 1}, "momentum"),
        ({"batch_size": 0}, "batch_size"),
        ({"unlabeled_batch_size": 0}, "unlabeled_batch_size"),
        ({"weak": None}, "weak"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        match(**options)


def test_error_leaves_the_backbone_as_it_was() -> None:
    backbone = TinyBackbone().train()
    with pytest.raises(ShapeError, match="12 images b c h w from augment"):
        match(backbone, strong=lambda images, generator: images[:1])
    assert backbone.training
    assert all(weight.requires_grad for weight in backbone.parameters())


def test_unsure_run_warns_and_others_do_not() -> None:
    def history(**numbers: float) -> History:
        return History(({"epoch": 1.0, "loss": 1.0, **{key.replace("_", " "): n for key, n in numbers.items()}},))

    with pytest.warns(TrainingWarning, match=r"Only 2.0% of the unlabeled images have a prediction of 0.95 or more"):
        _warn_of_unsure(history(sure=0.02, sure_cat=1, sure_dog=0), 500, 0.95)
    with pytest.warns(TrainingWarning, match="No unlabeled image is predicted as 'dog'"):
        _warn_of_unsure(history(sure=0.5, sure_cat=9, sure_dog=0), 500, 0.95)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _warn_of_unsure(history(sure=0.5, sure_cat=9, sure_dog=1), 500, 0.95)
        _warn_of_unsure(history(sure=0.0, sure_cat=0, sure_dog=0), 499, 0.95)
        _warn_of_unsure(History(()), 500, 0.95)
