"""Images in: sources, folders, splits and the embedded sample."""

from pretextkit.data.checks import check_classes, check_images, check_labels
from pretextkit.data.folder import FolderImages
from pretextkit.data.items import ImageBatch
from pretextkit.data.load import ImageData, load
from pretextkit.data.read import as_source, images_of
from pretextkit.data.segmentation import SegmentationData, Segmented, load_segmentation
from pretextkit.data.sources import DatasetImages, ImageSource, LoaderImages, TensorImages
from pretextkit.data.splits import keep_labels, stratified_split, stratified_subset
from pretextkit.data.stream import StreamImages, own_shards

__all__ = [
    "DatasetImages",
    "FolderImages",
    "ImageBatch",
    "ImageData",
    "ImageSource",
    "LoaderImages",
    "SegmentationData",
    "Segmented",
    "StreamImages",
    "TensorImages",
    "as_source",
    "check_classes",
    "check_images",
    "check_labels",
    "images_of",
    "keep_labels",
    "load",
    "load_segmentation",
    "own_shards",
    "stratified_split",
    "stratified_subset",
]
