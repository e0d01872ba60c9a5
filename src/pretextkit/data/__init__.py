"""Images in: sources, folders, splits and the embedded sample."""

from pretextkit.data.checks import check_classes, check_images, check_labels
from pretextkit.data.sources import DatasetImages, ImageBatch, ImageSource, LoaderImages, TensorImages, as_source

__all__ = [
    "DatasetImages",
    "ImageBatch",
    "ImageSource",
    "LoaderImages",
    "TensorImages",
    "as_source",
    "check_classes",
    "check_images",
    "check_labels",
]
