"""Base of the classifiers: labels as words or numbers around a classifier of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device
from pretextkit.data._types import Size
from pretextkit.inference._classifier import Classifier
from pretextkit.sklearn._inputs import check_kind, is_features, read_features, read_images, read_labels

__all__ = ["ImageClassifier"]


class ImageClassifier(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Classifier of images whose labels are words or numbers."""

    batch_size: int | None
    size: Size | None
    classes_: numpy.ndarray[Any, Any]
    """Classes ``k``, sorted, in the order of the columns of :meth:`predict_proba`."""
    classifier_: Classifier
    """Fitted classifier, with the classes as names; its ``save`` writes it to a file."""

    def fit(self, X: Any, y: Any) -> ImageClassifier:
        """Fit the classifier to labeled images.

        Args:
            X: Images: an array ``n h w`` or ``n h w c``, a tensor ``n c h w``, a list of paths, or features ``n d``
                where the backbone takes them.
            y: ``n`` words or numbers; images with None have no label, and are left out.

        Returns:
            The classifier itself.

        Raises:
            DataError: ``X`` holds something else, or there is only one class.
            OptionError: An option is out of range.
        """
        images: Any
        if is_features(X):
            images, y = read_features(self, X, y, fitting=True) if y is not None else (X, y)
        else:
            images = read_images(X, self.size)
        self.classes_, numbers = read_labels(images, y)
        self.classifier_ = self._fitted(images, torch.from_numpy(numbers))
        self.classifier_.class_names = tuple(map(str, self.classes_))
        return self

    def predict(self, X: Any) -> numpy.ndarray[Any, Any]:
        """Predict the class of each image.

        Args:
            X: Images as for :meth:`fit`, or the path of a folder.

        Returns:
            ``n`` classes, as they were in ``y``.

        Raises:
            DataError: ``X`` holds something other than in ``fit``.
        """
        columns = self.predict_proba(X).argmax(1)
        predicted: numpy.ndarray[Any, Any] = self.classes_[columns]
        return predicted

    def predict_proba(self, X: Any) -> numpy.ndarray[Any, Any]:
        """Compute the probability of each class for each image.

        Args:
            X: Images as for :meth:`predict`.

        Returns:
            ``n k``, float64: each row has the sum 1, columns are in the order of ``classes_``.

        Raises:
            DataError: ``X`` holds something other than in ``fit``.
        """
        check_is_fitted(self)
        size = self.batch_size or 256
        if check_kind(self, X):
            probabilities = self._of_features(read_features(self, X)[0], size)
        else:
            probabilities = self.classifier_.predict_proba(read_images(X, self.size), batch_size=size)
        rows = probabilities.double()
        shares: numpy.ndarray[Any, Any] = (rows / rows.sum(1, keepdim=True)).numpy()
        return shares

    @abstractmethod
    def _fitted(self, images: Any, labels: Tensor) -> Classifier:
        """Fit a classifier to images, a source or features ``n d``, with the labels 0…k-1."""

    def _of_features(self, features: Tensor, batch_size: int) -> Tensor:
        device = module_device(self.classifier_)
        with evaluation_mode(self.classifier_):
            logits = [self.classifier_(rows.to(device)).cpu() for rows in torch.split(features, batch_size)]
        return torch.cat(logits).softmax(1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
