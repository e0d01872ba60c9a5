"""Fine-tuning of a head and, optionally, of the backbone on labeled images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import explain_complex_weights, module_device, module_dtype, refuse_meta, unwrap
from pretextkit._seeding import derived_generator, derived_seed, seeded
from pretextkit._validation import check_callable, check_float, check_int
from pretextkit.contracts import SpatialBackbone
from pretextkit.data import LabeledLike
from pretextkit.data._sources import ImageSource, TensorImages
from pretextkit.errors import OptionError, ShapeError, unknown_name
from pretextkit.evaluation._classes import ClassWeights, find_classes, match_classes, resolve_class_weights
from pretextkit.evaluation._feature_rows import FeatureRows
from pretextkit.evaluation._features import extract_features
from pretextkit.evaluation._labeled_source import LabeledSource, cached_features, labeled_source
from pretextkit.evaluation._labels import labeled_images
from pretextkit.evaluation._stages import stage_modules
from pretextkit.evaluation._trained_classifiers import trained_classifier
from pretextkit.inference._classifier import Classifier
from pretextkit.metrics._classification import ClassReport, class_report, warn_of_missed_classes
from pretextkit.training._hardware import Precision, resolve_device, resolve_precision
from pretextkit.training._history import History
from pretextkit.training._loop import train as run_training
from pretextkit.training._objectives import Augmentation, ClassifierObjective, HeadObjective, Objective
from pretextkit.training._optim import OptimizerName
from pretextkit.training._sampler import sample_images, unmeasured_normalizations
from pretextkit.training._settings import Settings, check_batch_norm, make_plan

__all__ = ["FinetuneOptions", "FinetuneResult", "Trainable", "freeze_and_finetune"]

Trainable = Literal["none", "all"] | Sequence[str]
"""Trained part of the backbone: ``"none"``, ``"all"`` or names of submodules or stages."""


class FinetuneOptions(TypedDict, total=False):
    """Options of :func:`freeze_and_finetune` that do not depend on the budget or the data."""

    trainable: Trainable
    head_epochs: int
    batch_size: int
    optimizer: OptimizerName
    learning_rate: float | None
    weight_decay: float | None
    layer_decay: float
    augment: Augmentation | None
    clip_norm: float | None
    class_weights: ClassWeights


@dataclass(frozen=True)
class FinetuneResult:
    """Result of fine-tuning."""

    classifier: Classifier = field(repr=False)
    """Trained backbone and head, in evaluation mode; the logits of classes without training images are -inf."""
    accuracy: float | None
    """Accuracy on ``val`` after the last epoch; None without ``val``. It does not select an epoch."""
    predictions: Tensor | None = field(repr=False)
    """Predicted labels ``n`` of ``val``; None without ``val``."""
    targets: Tensor | None = field(repr=False)
    """True labels ``n`` of ``val``, in the numbers of train; None without ``val``."""
    class_report: ClassReport | None = field(repr=False)
    """Recall and precision of each class on ``val``; None without ``val``."""
    history: History = field(repr=False)
    """One row for each epoch; its ``accuracy`` is measured on the augmented training batches."""
    seconds: float
    """Wall-clock time of the training in seconds."""

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean recall of the classes on ``val``; None without ``val``."""
        return None if self.class_report is None else self.class_report.balanced_accuracy

    def __str__(self) -> str:
        note = "" if self.class_report is None else self.class_report.note.rstrip(",")
        shown = "not measured" if self.accuracy is None else f"{self.accuracy:.1%}{note}"
        return f"fine-tuned in {self.seconds:.1f} s: accuracy {shown}"


def freeze_and_finetune(
    backbone: nn.Module,
    head: nn.Module,
    train: LabeledLike,
    val: LabeledLike | None = None,
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
    class_weights: ClassWeights = None,
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: bool = True,
    workers: int = 0,
) -> FinetuneResult:
    """Train a head on the features of a backbone and, if requested, parts of the backbone, in place.

    Frozen modules stay in evaluation mode, BatchNorm statistics included, and are bit-identical afterwards. With
    ``head_epochs`` the head first trains alone, because the gradients of a random head would distort the features
    (Kumar et al. 2022, arXiv 2202.10054). Classes without training images are never predicted: their logits are -inf
    in the loss and in the classifier that is returned, also those of a head with more outputs than classes. Backbone
    and head are returned in evaluation mode. After an error, their modes are restored.

    Args:
        backbone: Module from images ``b c h w`` in [0, 1] to features ``b d``, maps or tokens; the latter are averaged.
        head: Module from features ``b d`` to logits ``b k``.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; labels 0…k-1; images labeled -1 are left out. A
            ``Dataset`` is read once for its labels and again in every epoch, and draws its random transforms again.
            Features of a frozen backbone are computed once if the images are equal on a second reading. A
            ``DataLoader`` keeps its order, unless it gives the same images in the same order twice: it is then held in
            memory and shuffled.
        val: Validation images with labels, in the same forms as ``train``; scored once, after the last epoch.
        trainable: Trained part of the backbone: ``"none"``, ``"all"``, or names of submodules or of the stages of a
            ``SpatialBackbone``, such as ``["stage4"]``.
        epochs: Passes over the labeled images.
        head_epochs: Passes in which only the head trains, before the ``epochs``.
        batch_size: Images per step; at most all labeled images.
        optimizer: ``"adamw"``, ``"sgd"`` or ``"lars"``, as for :func:`~pretextkit.functional.pretrain`.
        learning_rate: Highest learning rate of the schedule; by default as for :func:`~pretextkit.functional.pretrain`.
        weight_decay: Weight decay of matrices and filters; by default as for :func:`~pretextkit.functional.pretrain`.
        layer_decay: Factor on the learning rate for each layer further from the head; 1 switches it off.
        augment: Function from a batch and a generator to the augmented batch.
        clip_norm: Maximum norm of the gradient; no clipping by default.
        class_weights: Weights of the classes in the loss: ``"balanced"`` gives every class the same weight, numbers
            give each class its own. By default every image has the same weight.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``, as for :func:`~pretextkit.functional.pretrain`.
        device: ``"auto"`` is a GPU if there is one.
        seed: Seed of the order of images, the augmentation and random layers.
        progress: Show a progress bar.
        workers: Processes that read a ``Dataset`` or folder.

    Returns:
        The classifier, its accuracy and the history.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1, or more classes than the head has outputs.
        ShapeError: The backbone or the head returns something else, or the head takes features of another width.
        UnknownNameError: The backbone has no submodule of that name.
        OptionError: An option is out of range, or BatchNorm would train on batches of one image.
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
    if augment is not None:
        check_callable("augment", augment, "images", "generator")
    layer_decay = check_float("layer_decay", layer_decay, "(0, 1]", fix="1 switches it off.")
    head_epochs = check_int("head_epochs", head_epochs, at_least=0, fix="0 switches this phase off.")
    batch_size = check_int("batch_size", batch_size, of=freeze_and_finetune)
    source, labels = labeled_source(train, "train", seed, workers)
    classes = find_classes(labels, source.class_names)
    weights = resolve_class_weights(class_weights, labels, classes)
    with seeded(derived_seed(seed, "val")):  # a loader draws from the global generator
        heldout = None if val is None else labeled_images(val, "val", workers)  # read before training, to fail early
    if heldout is not None:
        heldout = heldout[0], match_classes(heldout[1], heldout[0].class_names, classes, "val")
    _check_module(backbone, "backbone")
    _check_module(head, "head")
    trained = _trained_modules(backbone, trainable, source, seed)
    for module in trained:
        if next(module.parameters(), None) is None:
            got = f"a {type(module).__name__} without any"
            fix = "Name modules with weights in trainable, or use trainable='none'."
            raise OptionError("trained modules with weights", got=got, fix=fix)
    if head_epochs and not trained:
        raise OptionError(
            "head_epochs=0, because only the head trains",
            got=f"head_epochs={head_epochs}, trainable={trainable!r}",
            fix="Add the head_epochs to epochs, or pass trainable='all'.",
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
    phases = _phases(settings, head_epochs, trained)
    plans = [make_plan(phase, source) for phase, _ in phases]  # refuses invalid settings before anything changes
    check_batch_norm(batch_size, [head], "head")
    check_batch_norm(batch_size, trained, "backbone")
    resolve_precision(precision, resolve_device(device), module_dtype(head))
    classifier = Classifier(backbone, head, classes.present).to(resolve_device(device))
    rows: list[dict[str, float]] = []
    seconds = 0.0
    with _restored(backbone, classifier):
        _check_fit(
            ClassifierObjective(classifier, trained, augment, classes.present, layer_decay, weights), source, seed
        )
        for module in trained:  # before the head trains, because it changes the features
            module.train()
            for normalization in unmeasured_normalizations(module):
                normalization.measure(sample_images(source, seed).to(normalization.mean.device))
        for (phase, modules), plan in zip(phases, plans, strict=True):
            objective: Objective = ClassifierObjective(
                classifier, modules, augment, classes.present, layer_decay, weights
            )
            inputs = source
            if not modules and augment is None and (rows_of := _features_of(backbone, source, precision, seed)):
                objective, inputs = HeadObjective(head, classes.present, weights), rows_of  # the features never change
            run = run_training(objective, inputs, phase, plan, title="Classifier", progress=progress)
            rows += _shift_rows(run.history, rows, seconds)
            seconds += run.seconds
    record = {
        "by": "freeze_and_finetune",
        "images": len(source),
        "epochs": epochs,
        "trainable": trainable,
        "seed": seed,
    }
    classifier = trained_classifier(backbone, head, classes, source, record).eval()
    history = History(tuple(rows))
    if heldout is None:
        return FinetuneResult(classifier, None, None, None, None, history, seconds)
    accuracy, predictions = _score(classifier, *heldout)
    report = class_report(predictions, heldout[1], classes.shown_names)
    warn_of_missed_classes(report, "Pass class_weights='balanced', or add training images of the class.")
    return FinetuneResult(classifier, accuracy, predictions, heldout[1], report, history, seconds)


def _phases(settings: Settings, head_epochs: int, trained: list[nn.Module]) -> list[tuple[Settings, list[nn.Module]]]:
    """Return the settings and the trained modules of the backbone for each phase."""
    if not head_epochs:
        return [(settings, trained)]
    return [(replace(settings, epochs=head_epochs), []), (replace(settings, seed=settings.seed + 1), trained)]


@contextmanager
def _restored(backbone: nn.Module, classifier: Classifier) -> Iterator[None]:
    """Restore ``requires_grad`` of the backbone and the modes of all modules, also after an error."""
    gradients = [(weight, weight.requires_grad) for weight in backbone.parameters()]
    modes = [(module, module.training) for module in classifier.modules() if hasattr(module, "training")]
    try:
        yield
    finally:
        for weight, requires_grad in gradients:
            weight.requires_grad_(requires_grad)
        for module, mode in modes:
            module.training = mode


def _check_fit(objective: ClassifierObjective, source: ImageSource, seed: int) -> None:
    """Compute the loss of one image, to refuse a backbone or head that does not fit before anything changes."""
    with seeded(derived_seed(seed, "try")):  # a loader draws from the global generator
        images, labels = next(iter(source.batches([torch.tensor([0])])))
    assert labels is not None
    device = module_device(objective.module)
    with evaluation_mode(objective.module):
        generator = derived_generator(seed, "try")
        batch = objective.prepare_batch(as_float(images.to(device)), labels.to(device), generator)
        features = objective.module.features(batch[0])
        width = features.shape[1]
        try:
            objective.head_loss(features, batch[1])
        except (RuntimeError, TypeError, AttributeError, IndexError) as error:
            explain_complex_weights(objective.module.head, error)
            first = next((each for each in objective.module.head.modules() if isinstance(each, nn.Linear)), None)
            raise ShapeError(
                f"a head for features b d of width {width}, from the backbone",
                got="a head that fails on them" if first is None else f"a head for features of {first.in_features}",
                fix=f"Build it for that width, for example LinearHead({width}, {int(objective.classes[-1]) + 1}).",
            ) from error


def _check_module(module: nn.Module, what: str) -> None:
    if not isinstance(module, nn.Module):
        raise OptionError(f"{what} to be an nn.Module", got=type(module).__name__, fix="Wrap it in a module.")
    refuse_meta(module, f"the {what}")


def _shift_rows(history: History, previous: Sequence[Mapping[str, float]], seconds: float) -> list[dict[str, float]]:
    """Add the epochs, steps and seconds of previous phases to those of a phase."""
    last = previous[-1] if previous else {"epoch": 0, "step": 0}
    offsets = {"epoch": last["epoch"], "step": last["step"], "seconds": seconds}
    return [{name: value + offsets.get(name, 0) for name, value in row.items()} for row in history.rows]


def _features_of(backbone: nn.Module, source: ImageSource, precision: Precision, seed: int) -> FeatureRows | None:
    """Extract the features once; None if the images differ from one reading to the next."""
    if isinstance(source, LabeledSource):
        return cached_features(backbone, source, precision, seed)
    features, labels = extract_features(backbone, source, precision=precision)
    assert labels is not None
    return FeatureRows(features["last"], labels)


def _trained_modules(backbone: nn.Module, trainable: Trainable, source: ImageSource, seed: int) -> list[nn.Module]:
    if trainable == "none":
        return []
    if trainable == "all":
        return [backbone]
    network = unwrap(backbone)
    modules = {**dict(backbone.named_modules()), **dict(network.named_modules())}  # with and without the wrapper's name
    if isinstance(trainable, str):
        raise unknown_name(
            "choice of trained modules", trainable, ["none", "all"], "Put the name of one submodule into a list."
        )
    named = {name: [module] for name, module in modules.items()}
    if isinstance(network, SpatialBackbone) and not set(trainable) <= set(named):
        with seeded(derived_seed(seed, "stages")):  # a loader draws from the global generator
            images = next(iter(source.batches([torch.tensor([0])]))).images
        named = {**stage_modules(network, as_float(images)), **named}
    for name in trainable:
        if name not in named:
            inner = dict(network.named_modules())
            known = [each for each in named if each and (each in inner or each not in modules)]
            raise unknown_name(f"submodule of {type(network).__name__}", name, known)
    return list(dict.fromkeys(module for name in trainable for module in named[name]))


def _score(classifier: Classifier, images: TensorImages, targets: Tensor) -> tuple[float, Tensor]:
    device = module_device(classifier)
    with evaluation_mode(classifier):
        predictions = torch.cat(
            [classifier(as_float(batch.images.to(device))).argmax(1).cpu() for batch in images.in_order(256)]
        )
    return (predictions == targets.cpu()).float().mean().item(), predictions
