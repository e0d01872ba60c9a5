"""Measure a backbone: features, probes, segmentation, neighbors."""

from pretextkit.evaluation._features import Features, extract_features
from pretextkit.evaluation._knn import KNNResult, knn_probe
from pretextkit.evaluation._linear_probe import LayerScore, ProbeResult, linear_probe
from pretextkit.evaluation._neighbors import Duplicates, Neighbors, near_duplicates, nearest_neighbors
from pretextkit.evaluation._segmentation import SegmentationResult, SegmentationScore, segmentation_probe
from pretextkit.evaluation._segmentation_heads import ConvMapHead, LinearMapHead, PixelHead

__all__ = [
    "ConvMapHead",
    "Duplicates",
    "Features",
    "KNNResult",
    "LayerScore",
    "LinearMapHead",
    "Neighbors",
    "PixelHead",
    "ProbeResult",
    "SegmentationResult",
    "SegmentationScore",
    "extract_features",
    "knn_probe",
    "linear_probe",
    "near_duplicates",
    "nearest_neighbors",
    "segmentation_probe",
]
