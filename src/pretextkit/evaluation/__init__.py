"""Measure a backbone: features, probes, fine-tuning, segmentation."""

from pretextkit.evaluation._classifier import Classifier
from pretextkit.evaluation._features import Features, extract_features
from pretextkit.evaluation._finetune import FinetuneResult, freeze_and_finetune
from pretextkit.evaluation._knn import KNNResult, knn_probe
from pretextkit.evaluation._linear_probe import LayerScore, ProbeResult, linear_probe
from pretextkit.evaluation._segmentation import SegmentationResult, SegmentationScore, segmentation_probe
from pretextkit.evaluation._segmentation_heads import ConvMapHead, LinearMapHead, PixelHead

__all__ = [
    "Classifier",
    "ConvMapHead",
    "Features",
    "FinetuneResult",
    "KNNResult",
    "LayerScore",
    "LinearMapHead",
    "PixelHead",
    "ProbeResult",
    "SegmentationResult",
    "SegmentationScore",
    "extract_features",
    "freeze_and_finetune",
    "knn_probe",
    "linear_probe",
    "segmentation_probe",
]
