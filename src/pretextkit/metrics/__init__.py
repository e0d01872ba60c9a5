"""Measures of embeddings, segmentation, detection and reconstruction, without gradient."""

from pretextkit.metrics._embeddings import alignment, feature_spread, rankme, uniformity
from pretextkit.metrics._segmentation import SegmentationMetrics, segmentation_metrics

__all__ = [
    "SegmentationMetrics",
    "alignment",
    "feature_spread",
    "rankme",
    "segmentation_metrics",
    "uniformity",
]
