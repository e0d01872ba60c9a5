"""Images in: sources, folders, splits and the embedded sample."""

from pretextkit._validation import check_classes, check_images, check_labels
from pretextkit.data._as_source import as_source
from pretextkit.data._collate import ImageBatch
from pretextkit.data._csv_labels import CsvLabels
from pretextkit.data._dataset_images import DatasetImages
from pretextkit.data._folder import FolderImages
from pretextkit.data._image_format import ImageFormat
from pretextkit.data._items import select_keys
from pretextkit.data._load import ImageData, load
from pretextkit.data._loader_images import LoaderImages
from pretextkit.data._segmentation import SegmentationData, Segmented, load_segmentation
from pretextkit.data._sources import ImageSource
from pretextkit.data._splits import keep_labels, stratified_split, stratified_subset
from pretextkit.data._stream import StreamImages, shards_for_this_worker
from pretextkit.data._tensor_images import TensorImages
from pretextkit.data._types import ImagesLike, LabeledLike

__all__ = [
    "CsvLabels",
    "DatasetImages",
    "FolderImages",
    "ImageBatch",
    "ImageData",
    "ImageFormat",
    "ImageSource",
    "ImagesLike",
    "LabeledLike",
    "LoaderImages",
    "SegmentationData",
    "Segmented",
    "StreamImages",
    "TensorImages",
    "as_source",
    "check_classes",
    "check_images",
    "check_labels",
    "keep_labels",
    "load",
    "load_segmentation",
    "select_keys",
    "shards_for_this_worker",
    "stratified_split",
    "stratified_subset",
]
