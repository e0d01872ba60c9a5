"""What a fine-tuning trains, on which data, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import explain_complex_weights, module_device, module_dtype
from pretextkit._seeding import derived_generator, derived_seed, seeded
from pretextkit.data._sources import ImageSource
from pretextkit.errors import ShapeError
from pretextkit.finetuning._averaging import default_average, is_pretrained
from pretextkit.finetuning._data import FinetuneData
from pretextkit.finetuning._head import build_head
from pretextkit.finetuning._layers import (
    first_layers,
    resolve_layers,
)
from pretextkit.finetuning._objectives import ClassifierObjective, HeadObjective
from pretextkit.finetuning._recipe import (
    Recipe,
    resolve_augmentation,
    resolve_settings,
)
from pretextkit.finetuning._trained_modules import check_module, find_trained_modules
from pretextkit.inference._classifier import Classifier
from pretextkit.training._callbacks import CallbackLike
from pretextkit.training._hardware import resolve_device, resolve_precision
from pretextkit.training._loop import TrainingRun, train
from pretextkit.training._objectives import Objective
from pretextkit.training._settings import Plan, Settings, check_batch_norm, make_plan
from pretextkit.views import Augmentation

__all__ = ["FinetuneWork", "check_fit", "prepare_work"]


@dataclass(frozen=True)
class FinetuneWork:
    """What one call trains, on which data, and how."""

    classifier: Classifier
    head_name: str | None
    """Name by which the head was built; None for a module."""
    trained: Sequence[nn.Module]
    """Modules of the backbone that train."""
    data: FinetuneData
    augment: Augmentation | None
    recipe: Recipe
    """Options of the call; with the layers ``"auto"``, the classifier reads the output until they are chosen."""
    average: float
    """Weight of the trained parameters when they are averaged with the first ones; 1 keeps the trained ones alone."""
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
            self.recipe.layer_decay,
            self.data.class_weights,
            self.recipe.label_smoothing,
        )

    def head_objective(self) -> HeadObjective:
        """Join the head with its loss on features."""
        return HeadObjective(
            self.classifier.head, self.data.classes.present, self.data.class_weights, self.recipe.label_smoothing
        )

    def train(
        self, objective: Objective, source: ImageSource, plan: Plan, callbacks: Sequence[CallbackLike] = ()
    ) -> TrainingRun:
        """Train with the settings of the work."""
        return train(
            objective, source, self.settings, plan, title="Classifier", progress=self.progress, callbacks=callbacks
        )


def prepare_work(
    backbone: nn.Module,
    head: nn.Module | str,
    data: FinetuneData,
    given: Settings,
    recipe: Recipe,
    progress: bool,
) -> FinetuneWork:
    """Check the options and resolve those that the call left out, before anything changes.

    Args:
        backbone: Module from images to features.
        head: Module from features to logits, or the name of a head.
        data: Labeled images.
        given: Settings of the call.
        recipe: Other options of the call.
        progress: Show a progress bar.

    Raises:
        OptionError: An option is out of range, or BatchNorm would train on batches of one image.
        UnknownNameError: There is no module, head, optimizer or precision of that name.
    """
    check_module(backbone, "backbone")
    trained = find_trained_modules(backbone, recipe.trainable, data.source, given.seed)
    pretrained = is_pretrained(backbone)
    from_random = bool(trained) and not pretrained
    settings = resolve_settings(given, len(data.source), trained, from_random=from_random)
    plan = make_plan(settings, data.source)
    average = recipe.average
    if average == "auto":
        average = default_average(len(data.source), len(data.classes.present)) if pretrained else 1.0
    layers = resolve_layers(recipe.layers, backbone, head, from_random=from_random)
    recipe = replace(recipe, layers=layers)
    parts = first_layers(recipe.layers, backbone)
    name, head = head if isinstance(head, str) else None, build_head(head, backbone, parts, data, settings.seed)
    check_module(head, "head")
    check_batch_norm(plan.batch_size, [head], "head")
    check_batch_norm(plan.batch_size, trained, "backbone")
    device = resolve_device(settings.device)
    resolve_precision(settings.precision, device, module_dtype(head))
    return FinetuneWork(
        classifier=Classifier(backbone, head, data.classes.present, layers=parts).to(device),
        head_name=name,
        trained=trained,
        data=data,
        augment=resolve_augmentation(recipe.augment, trained),
        recipe=recipe,
        average=average if trained else 1.0,
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
