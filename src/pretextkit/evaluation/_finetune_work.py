"""The two parts of a fine-tuning: first the head, then everything that trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import explain_complex_weights, module_device, module_dtype
from pretextkit._seeding import derived_generator, derived_seed, seeded
from pretextkit.data._sources import ImageSource
from pretextkit.errors import ShapeError
from pretextkit.evaluation._feature_rows import FeatureRows
from pretextkit.evaluation._finetune_data import FinetuneData
from pretextkit.evaluation._finetune_head import (
    build_head,
    find_linear_layer,
    read_features,
    set_to_logistic_regression,
)
from pretextkit.evaluation._finetune_modules import Trainable, check_module, find_trained_modules
from pretextkit.evaluation._finetune_objectives import ClassifierObjective, HeadObjective
from pretextkit.evaluation._finetune_recipe import (
    AugmentationChoice,
    FinetuneSettings,
    resolve_augmentation,
    resolve_settings,
)
from pretextkit.inference._classifier import Classifier
from pretextkit.training._callbacks import CallbackLike
from pretextkit.training._hardware import resolve_device, resolve_precision
from pretextkit.training._history import History
from pretextkit.training._loop import TrainingRun, train
from pretextkit.training._objectives import Objective, function_name
from pretextkit.training._sampler import sample_images, unmeasured_normalizations
from pretextkit.training._settings import Plan, Settings, check_batch_norm, make_plan
from pretextkit.views import Augmentation

__all__ = [
    "FinetuneWork",
    "Trained",
    "check_fit",
    "measure_normalizations",
    "prepare_work",
    "set_head",
    "train_classifier",
]

BATCH_NORM_IMAGES = 256
"""Images from which unused BatchNorm layers are measured."""

HEAD_STEPS = 200
"""Most steps in which a head that is not linear trains alone; features of the backbone make them cheap."""


class Trained(NamedTuple):
    """Outcome of a training."""

    settings: FinetuneSettings
    history: History
    stopped: str | None = None
    """Reason for which a callback stopped it."""


@dataclass(frozen=True)
class FinetuneWork:
    """What one call trains, on which data, and how."""

    classifier: Classifier
    trained: Sequence[nn.Module]
    """Modules of the backbone that train."""
    data: FinetuneData
    augment: Augmentation | None
    layer_decay: float
    label_smoothing: float
    trainable: Trainable
    settings: Settings
    plan: Plan
    budget_given: bool
    """Whether the call gave epochs or steps."""
    progress: bool
    callbacks: Sequence[CallbackLike] = ()
    """Callbacks of the training, without that of the head alone."""

    def objective(self) -> ClassifierObjective:
        """Freeze the backbone except for its trained modules, and join the classifier with its loss."""
        return ClassifierObjective(
            self.classifier,
            self.trained,
            self.augment,
            self.data.classes.present,
            self.layer_decay,
            self.data.class_weights,
            self.label_smoothing,
        )

    def head_objective(self) -> HeadObjective:
        """Join the head with its loss on features."""
        return HeadObjective(
            self.classifier.head, self.data.classes.present, self.data.class_weights, self.label_smoothing
        )


def prepare_work(
    backbone: nn.Module,
    head: nn.Module | str,
    data: FinetuneData,
    given: Settings,
    trainable: Trainable,
    augment: AugmentationChoice,
    layer_decay: float,
    label_smoothing: float,
    progress: bool,
) -> FinetuneWork:
    """Check the options and resolve those that the call left out, before anything changes.

    Raises:
        OptionError: An option is out of range, or BatchNorm would train on batches of one image.
        UnknownNameError: There is no module, head, optimizer or precision of that name.
    """
    settings = resolve_settings(given, len(data.source))
    plan = make_plan(settings, data.source)
    check_module(backbone, "backbone")
    trained = find_trained_modules(backbone, trainable, data.source, settings.seed)
    head = build_head(head, backbone, data, settings.seed)
    check_module(head, "head")
    check_batch_norm(plan.batch_size, [head], "head")
    check_batch_norm(plan.batch_size, trained, "backbone")
    device = resolve_device(settings.device)
    resolve_precision(settings.precision, device, module_dtype(head))
    return FinetuneWork(
        classifier=Classifier(backbone, head, data.classes.present).to(device),
        trained=trained,
        data=data,
        augment=resolve_augmentation(augment, trained),
        layer_decay=layer_decay,
        label_smoothing=label_smoothing,
        trainable=trainable,
        settings=settings,
        plan=plan,
        budget_given=given.epochs is not None or given.steps is not None,
        progress=progress,
    )


def check_fit(work: FinetuneWork) -> None:
    """Compute the loss of one image, to refuse a backbone or head that does not fit before anything changes.

    Raises:
        ShapeError: The head fails on the features, or the shapes of the features or the logits are wrong.
        DataError: There are more classes than outputs of the head.
    """
    objective, seed = work.objective(), work.settings.seed
    with seeded(derived_seed(seed, "try")):  # a loader draws from the global generator
        images, labels = next(iter(work.data.source.batches([torch.tensor([0])])))
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


def measure_normalizations(work: FinetuneWork) -> None:
    """Measure the input normalizations and BatchNorm layers that will train and have seen no image.

    The features of a random backbone else change by orders of magnitude, as soon as it trains on batch statistics.
    """
    modules = [each for trained in work.trained for each in trained.modules()]
    for module in work.trained:
        module.train()
    normalizations = [each for module in work.trained for each in unmeasured_normalizations(module)]
    layers = [each for each in modules if isinstance(each, nn.modules.batchnorm._BatchNorm) and _is_unused(each)]
    if not normalizations and not layers:
        return
    images = sample_images(work.data.source, work.settings.seed)
    for normalization in normalizations:
        normalization.measure(images.to(normalization.mean.device))
    if layers:
        _measure_batch_norms(work.classifier, layers, images[:BATCH_NORM_IMAGES])


def _is_unused(layer: Any) -> bool:
    return layer.num_batches_tracked is not None and int(layer.num_batches_tracked) == 0


@torch.no_grad()
def _measure_batch_norms(classifier: Classifier, layers: Sequence[Any], images: Tensor) -> None:
    """Set running statistics to those of a batch; each layer sees the output of measured layers."""
    classifier.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
        layer.momentum = 1.0
    classifier.features(as_float(images.to(module_device(classifier))))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.num_batches_tracked.zero_()


def train_classifier(work: FinetuneWork) -> Trained:
    """Set the head to the features of the backbone, then train it with the trained modules.

    A linear layer is set to the solution of the linear probe. Where nothing else trains and the call gave no budget, it
    keeps this solution. Another head takes some steps on the features, if the backbone trains later. Features are
    computed once.
    """
    layer = find_linear_layer(work.classifier.head)
    prepares = layer is not None or bool(work.trained)
    on_images = bool(work.trained) or work.augment is not None
    features, fixed = None, False
    if prepares or not on_images:
        backbone, settings = work.classifier.backbone, work.settings
        features, fixed = read_features(backbone, work.data.source, settings.precision, settings.seed, always=prepares)
    start = set_head(work, layer, features) if prepares and features is not None else "its own weights"
    if on_images or features is None or not fixed:
        run = _train(work, work.objective(), work.data.source, work.plan, work.callbacks)
    elif layer is None or work.budget_given:
        run = _train(work, work.head_objective(), features, work.plan, work.callbacks)
    else:
        return Trained(_describe(work, 0, start), History())
    return Trained(_describe(work, run.steps, start), run.history, run.stopped)


def set_head(work: FinetuneWork, layer: nn.Linear | None, features: FeatureRows) -> str:
    """Set a linear head by logistic regression on the features, another head by some steps, and say how."""
    if layer is not None:
        set_to_logistic_regression(layer, features, work.data, work.settings.seed)
        return "logistic regression"
    steps = min(HEAD_STEPS, work.plan.total)
    _train(work, work.head_objective(), features, replace(work.plan, total=steps, warmup=math.ceil(0.05 * steps)))
    return f"{steps} step{'' if steps == 1 else 's'} on features"


def _train(
    work: FinetuneWork, objective: Objective, source: ImageSource, plan: Plan, callbacks: Sequence[CallbackLike] = ()
) -> TrainingRun:
    return train(
        objective, source, work.settings, plan, title="Classifier", progress=work.progress, callbacks=callbacks
    )


def _describe(work: FinetuneWork, steps: int, head_start: str) -> FinetuneSettings:
    """Collect the settings, with the values that stood for those that the call left out."""
    trained = {"all": "all weights", "none": "the head"}
    return FinetuneSettings(
        trained=trained[work.trainable] if isinstance(work.trainable, str) else f"head and {', '.join(work.trainable)}",
        steps=steps,
        batch_size=work.plan.batch_size,
        optimizer=work.settings.optimizer,
        learning_rate=work.plan.learning_rate,
        augmentation=function_name(work.augment),
        head_start=head_start,
    )
