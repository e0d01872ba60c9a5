"""A fine-tuned classifier of images, for scikit-learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pretextkit.data import as_source
from pretextkit.data._sources import ImageSource
from pretextkit.data._types import Size
from pretextkit.errors import DataError, OptionError
from pretextkit.evaluation._classes import ClassWeights
from pretextkit.finetuning._averaging import AverageChoice
from pretextkit.finetuning._finetune import freeze_and_finetune
from pretextkit.finetuning._layers import HeadLayers
from pretextkit.finetuning._recipe import AugmentationChoice
from pretextkit.finetuning._trained_modules import Trainable
from pretextkit.inference._classifier import Classifier
from pretextkit.sklearn._backbones import built_backbone
from pretextkit.sklearn._image_classifier import ImageClassifier
from pretextkit.training._hardware import Precision

__all__ = ["FinetuneClassifier"]


class FinetuneClassifier(ImageClassifier):
    """Fine-tuning as a classifier of scikit-learn; the caller's backbone stays as it is.

    ``fit`` copies the backbone and calls :func:`~pretextkit.functional.freeze_and_finetune` with a linear head.

    Args:
        backbone: Module from images to features, or the name of a registered backbone, which is built with random
            weights.
        trainable: Trained part of the backbone: ``"all"``, ``"none"``, or names of stages or submodules.
        layers: Layers that the head reads: ``"auto"`` for those that the linear probe chooses, ``"last"``, or names.
        epochs: Passes over the images; pass at most one of ``epochs`` and ``steps``.
        steps: Optimizer steps; by default 20 passes, but at least 600, or 3,000 from random weights, and at most 4,000.
        batch_size: Most images in a step; None for the default of ``freeze_and_finetune``.
        learning_rate: Highest learning rate; None for the default of ``freeze_and_finetune``.
        layer_decay: Factor on the learning rate for each layer further from the head; 1 switches it off.
        label_smoothing: Part of each target that is spread over all classes; 0 switches it off.
        average: Part of the trained weights in the average with the weights before the training, or ``"auto"``.
        augment: Function from a batch and a generator to the augmented batch; ``"auto"`` crops and jitters colors
            lightly, None switches it off.
        class_weights: ``"balanced"``, one number for each class, or None for equal weight of every image.
        precision: Precision of the training.
        device: ``"auto"`` is a GPU if there is one.
        size: Side of the images of paths, or a pair (height, width), as for :class:`~pretextkit.data.FolderImages`;
            arrays keep their size.
        seed: Seed of the training, and of the weights of a backbone that is given by its name.
        progress: Show a progress bar.

    Example:
        >>> import numpy
        >>> from pretextkit.models import SmallCNN
        >>> images = numpy.zeros((8, 32, 32, 3), numpy.uint8)
        >>> images[::2, 8:24] = 255
        >>> model = FinetuneClassifier(SmallCNN(), steps=2, device="cpu").fit(images, ["bar", "blank"] * 4)
        >>> model.predict_proba(images[:2]).shape
        (2, 2)
    """

    def __init__(
        self,
        backbone: nn.Module | str,
        *,
        trainable: Trainable = "all",
        layers: HeadLayers = "auto",
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        layer_decay: float = 1.0,
        label_smoothing: float = 0.1,
        average: AverageChoice = "auto",
        augment: AugmentationChoice = "auto",
        class_weights: ClassWeights = None,
        precision: Precision = "auto",
        device: str | torch.device = "auto",
        size: Size | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        self.backbone = backbone
        self.trainable = trainable
        self.layers = layers
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.layer_decay = layer_decay
        self.label_smoothing = label_smoothing
        self.average = average
        self.augment = augment
        self.class_weights = class_weights
        self.precision = precision
        self.device = device
        self.size = size
        self.seed = seed
        self.progress = progress

    def _fitted(self, images: Any, labels: Tensor) -> Classifier:
        if not isinstance(images, ImageSource):
            raise DataError("images", got="features n d", fix="ProbeClassifier(torch.nn.Identity()) takes features.")
        backbone = built_backbone(self.backbone, self.seed)
        if not isinstance(backbone, nn.Module):
            fix = "Pass the module itself; ProbeClassifier takes functions."
            raise OptionError("a module as backbone", got=type(backbone).__name__, fix=fix)
        result = freeze_and_finetune(
            backbone,
            "linear",
            as_source(images, labels),
            trainable=self.trainable,
            layers=self.layers,
            epochs=self.epochs,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            layer_decay=self.layer_decay,
            label_smoothing=self.label_smoothing,
            average=self.average,
            augment=self.augment,
            class_weights=self.class_weights,
            precision=self.precision,
            device=self.device,
            seed=self.seed,
            progress=self.progress,
        )
        return result.classifier

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags
