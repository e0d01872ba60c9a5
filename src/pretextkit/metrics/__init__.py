"""Metrics of embeddings, classes, segmentation, detection and reconstruction, all without gradient."""

from pretextkit.metrics._classification import ClassReport, class_report
from pretextkit.metrics._detection import DetectionMetrics, detection_metrics
from pretextkit.metrics._embeddings import alignment, feature_spread, rankme, uniformity
from pretextkit.metrics._reconstruction import psnr
from pretextkit.metrics._segmentation import SegmentationMetrics, segmentation_metrics

__all__ = [
    "ClassReport",
    "DetectionMetrics",
    "SegmentationMetrics",
    "alignment",
    "class_report",
    "detection_metrics",
    "feature_spread",
    "psnr",
    "rankme",
    "segmentation_metrics",
    "uniformity",
]
