"""Features of images as a transformer of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from pretextkit.data._image_files import warn_of_lost_order
from pretextkit.data._types import Size
from pretextkit.evaluation._features import Layers, image_features
from pretextkit.sklearn._backbones import built_backbone
from pretextkit.sklearn._inputs import check_kind, is_features, read_features, read_images
from pretextkit.training._hardware import Precision

if TYPE_CHECKING:
    import numpy

__all__ = ["FeatureExtractor"]


class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transformer from images to the features of a frozen backbone.

    ``fit`` trains nothing; it copies the backbone, or builds it. Features of several layers stand side by side.

    Args:
        backbone: Module or function from images to features, or the name of a registered backbone, which is built with
            random weights. Pretrain a backbone first, or read one with :func:`~pretextkit.load_backbone`.
        layers: ``"last"``, ``"all"`` stages, or a list of names, as for :func:`extract_features`.
        pool: Side or sides of the grid over which maps are averaged; 1 is the global average.
        batch_size: Images per forward pass.
        precision: Precision of the forward pass.
        size: Side of the images of paths, or a pair (height, width), as for :class:`~pretextkit.data.FolderImages`;
            arrays keep their size.
        seed: Seed of the weights of a backbone that is given by its name.

    Attributes:
        backbone_: The copied or built backbone.

    Example:
        >>> import numpy
        >>> from pretextkit.models import SmallCNN
        >>> images = numpy.zeros((4, 32, 32, 3), numpy.uint8)
        >>> FeatureExtractor(SmallCNN(), layers="all").fit_transform(images).shape
        (4, 480)
    """

    def __init__(
        self,
        backbone: Any,
        *,
        layers: Layers = "last",
        pool: int | Sequence[int] = 1,
        batch_size: int = 256,
        precision: Precision = "auto",
        size: Size | None = None,
        seed: int = 0,
    ) -> None:
        self.backbone = backbone
        self.layers = layers
        self.pool = pool
        self.batch_size = batch_size
        self.precision = precision
        self.size = size
        self.seed = seed

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Copy or build the backbone, and measure the width of its features on the first image.

        Args:
            X: Images: an array ``n h w`` or ``n h w c``, a tensor ``n c h w``, a list of paths, or a folder; features
                ``n d`` for a module that takes them.
            y: Ignored.

        Returns:
            The transformer itself.

        Raises:
            DataError: ``X`` holds something else.
            OptionError: An option is out of range.
            UnknownNameError: There is no backbone or layer of that name.
        """
        if is_features(X):
            first = read_features(self, X, fitting=True)[0][:1]
        else:
            first = next(iter(read_images(X, self.size).batches([torch.arange(1)]))).images
        self.backbone_ = built_backbone(self.backbone, self.seed)
        self._n_features_out = self._features(first).shape[1]
        return self

    def transform(self, X: Any) -> numpy.ndarray[Any, Any]:
        """Compute the features of images.

        Args:
            X: Images as for :meth:`fit`.

        Returns:
            ``n d``, float32.

        Raises:
            DataError: ``X`` holds something other than in ``fit``.
        """
        check_is_fitted(self)
        if check_kind(self, X):
            return self._features(read_features(self, X)[0])
        images = read_images(X, self.size)
        warn_of_lost_order(images)
        return self._features(images)

    def _features(self, images: Any) -> numpy.ndarray[Any, Any]:
        layers = image_features(
            self.backbone_,
            images,
            layers=self.layers,
            pool=self.pool,
            batch_size=self.batch_size,
            precision=self.precision,
        ).layers
        joined: numpy.ndarray[Any, Any] = torch.cat(list(layers.values()), 1).numpy()
        return joined

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
