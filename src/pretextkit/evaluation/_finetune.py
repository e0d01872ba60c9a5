"""Fine-tuning: labels in, a classifier out, with as much of the backbone frozen as wished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode, module_device
from pretextkit._seeding import derived_generator
from pretextkit._validation import check_classes, check_classes_seen, check_float, check_int
from pretextkit.data import as_source
from pretextkit.data._sources import ImageSource, TensorImages
from pretextkit.errors import DataError, OptionError, unknown_name
from pretextkit.evaluation._classifier import Augmentation, Classifier, ClassifierObjective, FeatureRows, HeadObjective
from pretextkit.evaluation._features import extract_features
from pretextkit.training._hardware import Precision, resolve_device, resolve_precision
from pretextkit.training._history import History
from pretextkit.training._loop import train as run_training
from pretextkit.training._normalization import sample_images, unmeasured_normalizations
from pretextkit.training._objectives import Objective
from pretextkit.training._optim import OptimizerName
from pretextkit.training._settings import Settings, check_batch_norm, make_plan

__all__ = ["FinetuneResult", "freeze_and_finetune"]

Trainable = Literal["none", "all"] | Sequence[str]
"""What of the backbone trains beside the head."""


@dataclass(frozen=True)
class FinetuneResult:
    """What fine-tuning did."""

    classifier: Classifier = field(repr=False)
    """The backbone and the head, trained and in evaluation mode."""
    accuracy: float | None
    """On ``val`` after the last epoch; no epoch is picked by it."""
    predictions: Tensor | None = field(repr=False)
    """``n`` labels of ``val`` as the classifier sees them."""
    history: History = field(repr=False)
    """One row for each epoch; ``accuracy`` there is on the (augmented) training batches."""
    seconds: float
    """Of the training."""

    def __str__(self) -> str:
        shown = "not measured" if self.accuracy is None else f"{self.accuracy:.1%}"
        return f"fine-tuned in {self.seconds:.1f} s: accuracy {shown}"


def freeze_and_finetune(
    backbone: nn.Module,
    head: nn.Module,
    train: Any,
    val: Any = None,
    *,
    trainable: Trainable = "none",
    epochs: int = 30,
    head_epochs: int = 0,
    batch_size: int = 64,
    optimizer: OptimizerName = "adamw",
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    layer_decay: float = 1.0,
    augment: Augmentation | None = None,
    clip_norm: float | None = None,
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: bool = True,
) -> FinetuneResult:
    """Train a head on a backbone's features, and as much of the backbone as asked for, in place.

    What is frozen stays in evaluation mode, BatchNorm statistics included, and is bit-identical afterwards. With
    ``head_epochs`` the head first learns alone, so that its random start does not wreck the features that the rest
    would then fine-tune (Kumar et al. 2022, arXiv 2202.10054). Both come back in evaluation mode, ready to classify;
    after an error, in the modes they were in.

    Args:
        backbone: Any module from images ``b c h w`` in [0, 1] to features ``b d``.
        head: From ``b d`` to logits ``b k``.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; labels 0…k-1, -1 being unlabeled and left out.
        val: Likewise; scored once, after the last epoch.
        trainable: ``"none"`` of the backbone, ``"all"`` of it, or the names of the submodules that train.
        epochs: Passes over the labeled images.
        head_epochs: Passes in which only the head trains, before these; 0 where nothing else will.
        batch_size: Images in a step; all of them where there are fewer.
        optimizer: As for :func:`~pretextkit.functional.pretrain`.
        learning_rate: Likewise.
        weight_decay: Likewise.
        layer_decay: Factor on the learning rate for each layer further from the head, 1 being none.
        augment: Function from a batch and a generator to the batch that is trained on.
        clip_norm: Longest gradient let through.
        precision: As for :func:`~pretextkit.functional.pretrain`.
        device: Likewise.
        seed: Of the order, the augmentation and the layers' own randomness.
        progress: Show how far it has come.

    Returns:
        The classifier and its accuracy.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1 or more classes than the head has outputs.
        UnknownNameError: The backbone has no submodule of that name.
        OptionError: An option is out of range, or the batch has one image and what trains BatchNorm.
        DivergenceError: The loss or a weight became NaN or infinite.

    Example:
        >>> from pretextkit.models import LinearHead, SmallCNN
        >>> images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 2
        >>> result = freeze_and_finetune(
        ...     SmallCNN(), LinearHead(256, 2), (images, labels), epochs=1, device="cpu", progress=False
        ... )
        >>> result.classifier(images).shape
        torch.Size([16, 2])
    """
    layer_decay = check_float("layer_decay", layer_decay, "(0, 1]", fix="1 switches it off.")
    head_epochs = check_int("head_epochs", head_epochs, at_least=0, fix="0 switches them off.")
    batch_size = check_int("batch_size", batch_size, of=freeze_and_finetune)
    source, labels = _labeled(train, "train")
    classes = check_classes(labels)
    held = None if val is None else _labeled(val, "val")  # read now: an error after the training would come late
    if held is not None:
        check_classes_seen(held[1], classes, "val")
    trained = _trained_modules(backbone, trainable)
    if head_epochs and not trained:
        raise OptionError(
            "head_epochs before something of the backbone trains",
            got=f"head_epochs={head_epochs}, trainable={trainable!r}",
            fix="Add them to epochs, or pass trainable='all'.",
        )
    settings = Settings(
        epochs=epochs,
        batch_size=min(batch_size, len(source)),
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        precision=precision,
        device=device,
        seed=seed,
    )
    phases = [(settings, trained)]
    if head_epochs:
        phases = [(replace(settings, epochs=head_epochs), []), (replace(settings, seed=seed + 1), trained)]
    for phase, _ in phases:
        make_plan(phase, source)  # refuses what the loop would, before anything changes
    check_batch_norm(batch_size, [head], "head")
    check_batch_norm(batch_size, trained, "backbone")
    resolve_precision(precision, resolve_device(device))
    classifier = Classifier(backbone, head).to(resolve_device(device))
    state = [(weight, weight.requires_grad) for weight in backbone.parameters()]
    modes = [(module, module.training) for module in classifier.modules()]
    rows: list[dict[str, float]] = []
    seconds = 0.0
    try:
        _try_one(ClassifierObjective(classifier, trained, augment, classes, layer_decay), source, seed)
        for module in trained:  # before the head learns alone, on features that would then change
            module.train()
            for normalization in unmeasured_normalizations(module):
                normalization.measure(sample_images(source, seed).to(normalization.mean.device))
        for phase, modules in phases:
            trainee: Objective
            inputs: ImageSource
            if modules or augment is not None:
                trainee, inputs = ClassifierObjective(classifier, modules, augment, classes, layer_decay), source
            else:  # the features never change: make them once
                trainee, inputs = HeadObjective(head, classes), _features_of(backbone, source, precision)
            run = run_training(trainee, inputs, phase, title="Classifier", progress=progress)
            rows += _later(run.history, rows, seconds)
            seconds += run.seconds
    finally:
        for weight, requires_grad in state:
            weight.requires_grad_(requires_grad)
        for module, mode in modes:
            module.training = mode
    classifier.eval()
    accuracy, predictions = (None, None) if held is None else _score(classifier, *held)
    return FinetuneResult(classifier, accuracy, predictions, History(tuple(rows)), seconds)


def _try_one(trainee: ClassifierObjective, source: TensorImages, seed: int) -> None:
    """Score one image, so that a head that does not fit is refused while nothing has changed."""
    images, labels = next(iter(source.batches([torch.tensor([0])])))
    assert labels is not None
    device = module_device(trainee.module)
    with evaluation_mode(trainee.module):
        trainee.score(trainee.prepare(as_float(images.to(device)), labels.to(device), derived_generator(seed, "try")))


def _later(history: History, before: Sequence[Mapping[str, float]], seconds: float) -> list[dict[str, float]]:
    """Count a phase's epochs, steps and seconds on from those of the phase before."""
    last = before[-1] if before else {"epoch": 0, "step": 0}
    ahead = {"epoch": last["epoch"], "step": last["step"], "seconds": seconds}
    return [{name: value + ahead.get(name, 0) for name, value in row.items()} for row in history.rows]


def _features_of(backbone: nn.Module, source: ImageSource, precision: Precision) -> FeatureRows:
    features, labels = extract_features(backbone, source, precision=precision)
    assert labels is not None
    return FeatureRows(features["last"], labels)


def _labeled(data: Any, what: str) -> tuple[TensorImages, Tensor]:
    """Keep the labeled images of ``data``, in memory, and give their labels too."""
    source = as_source(data)
    images, labels = [], []
    for batch in source.in_order(256):
        if batch.labels is None:
            raise DataError(
                f"labels for {what}", got="none", fix="Pass a pair (images, labels), or a Dataset of (image, label)."
            )
        keep = batch.labels >= 0
        images.append(batch.images[keep])
        labels.append(batch.labels[keep])
    targets = torch.cat(labels)
    if not len(targets):
        raise DataError(f"labeled images for {what}", got="labels that are all -1", fix="Label some of them.")
    return TensorImages(torch.cat(images), targets), targets


def _trained_modules(backbone: nn.Module, trainable: Trainable) -> list[nn.Module]:
    if trainable == "none":
        return []
    if trainable == "all":
        return [backbone]
    modules = dict(backbone.named_modules())
    if isinstance(trainable, str):
        raise unknown_name(
            "choice of what trains", trainable, ["none", "all"], "One submodule's name goes into a list."
        )
    for name in trainable:
        if name not in modules:
            raise unknown_name(f"submodule of {type(backbone).__name__}", name, [known for known in modules if known])
    return [modules[name] for name in trainable]


def _score(classifier: Classifier, images: TensorImages, targets: Tensor) -> tuple[float, Tensor]:
    device = module_device(classifier)
    with evaluation_mode(classifier):
        predictions = torch.cat(
            [classifier(as_float(batch.images.to(device))).argmax(1).cpu() for batch in images.in_order(256)]
        )
    return (predictions == targets.cpu()).float().mean().item(), predictions
