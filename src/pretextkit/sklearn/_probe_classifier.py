"""A linear classifier on the features of a frozen backbone, for scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from pretextkit.data import as_source
from pretextkit.data._sources import ImageSource
from pretextkit.data._types import Size
from pretextkit.evaluation._classes import ClassWeights
from pretextkit.evaluation._features import Layers
from pretextkit.evaluation._logistic_classifier import PENALTIES
from pretextkit.evaluation._probe_setup import read_train
from pretextkit.evaluation._storage import FeatureStore
from pretextkit.inference._classifier import Classifier
from pretextkit.sklearn._backbones import built_backbone
from pretextkit.sklearn._image_classifier import ImageClassifier
from pretextkit.training._hardware import Precision

__all__ = ["ProbeClassifier"]


class ProbeClassifier(ImageClassifier):
    """Linear probe as a classifier of scikit-learn: logistic regression on the features of a frozen backbone.

    ``fit`` is :func:`~pretextkit.functional.linear_probe` without a test: it chooses layers and penalty on held-out
    parts of the training images. Labels are words or numbers.

    Args:
        backbone: Module or function from images to features, or the name of a registered backbone, which is built with
            random weights. Pretrain a backbone first, or read one with :func:`~pretextkit.load_backbone`.
        layers: ``"auto"``, ``"last"``, ``"all"`` stages or a list of names, as for ``linear_probe``.
        pool: Side or sides of the grid over which maps are averaged; by default 1, 2 and 4 with ``layers="auto"``, and
            otherwise 1.
        penalties: L2 penalties to choose from.
        class_weights: ``"balanced"``, one number for each class, or None for equal weight of every image.
        batch_size: Images per forward pass.
        precision: Precision of the extraction.
        size: Side of the images of paths, or a pair (height, width), as for :class:`~pretextkit.data.FolderImages`;
            arrays keep their size.
        seed: Seed of the split of the training images, and of the weights of a backbone that is given by its name.

    Example:
        >>> import numpy
        >>> from pretextkit.models import SmallCNN
        >>> images = numpy.zeros((8, 32, 32, 3), numpy.uint8)
        >>> images[::2, 8:24] = 255
        >>> words = ["bar", "blank"] * 4
        >>> ProbeClassifier(SmallCNN(), layers="last").fit(images, words).predict(images[:2]).tolist()
        ['bar', 'blank']
    """

    def __init__(
        self,
        backbone: Any,
        *,
        layers: Layers | Literal["auto"] = "auto",
        pool: int | Sequence[int] | None = None,
        penalties: Sequence[float] = PENALTIES,
        class_weights: ClassWeights = None,
        batch_size: int = 256,
        precision: Precision = "auto",
        size: Size | None = None,
        seed: int = 0,
    ) -> None:
        self.backbone = backbone
        self.layers = layers
        self.pool = pool
        self.penalties = penalties
        self.class_weights = class_weights
        self.batch_size: int = batch_size
        self.precision = precision
        self.size = size
        self.seed = seed

    def _fitted(self, images: Any, labels: Tensor) -> Classifier:
        backbone = built_backbone(self.backbone, self.seed)
        setup = read_train(
            backbone,
            as_source(images, labels) if isinstance(images, ImageSource) else (images, labels),
            (FeatureStore(), FeatureStore()),
            layers=self.layers,
            pool=self.pool,
            penalties=self.penalties,
            class_weights=self.class_weights,
            batch_size=self.batch_size,
            precision=self.precision,
            seed=self.seed,
        )
        return setup.classifier(setup.choose())
