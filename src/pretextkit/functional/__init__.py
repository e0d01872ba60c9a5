"""Functions for use in any code, without a framework: pretraining, probes, fine-tuning, anomaly scores, comparison.

This module only re-exports. The code is in :mod:`pretextkit.training`, ``evaluation``, ``finetuning``, ``inference``,
``anomaly``, ``selection``, ``comparison``, ``metrics`` and ``losses``.
"""

from pretextkit.anomaly import (
    AnomalyScores,
    Calibration,
    TopFraction,
    calibrate,
    feature_distance,
    mahalanobis_anomaly_score,
    neighbor_anomaly_score,
    patch_anomaly_score,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
)
from pretextkit.comparison import Comparison, ComparisonRun, compare, views_per_image
from pretextkit.evaluation import (
    ConvMapHead,
    Duplicates,
    Features,
    KNNResult,
    LayerScore,
    LinearMapHead,
    Neighbors,
    PixelHead,
    ProbeResult,
    SegmentationResult,
    SegmentationScore,
    extract_features,
    knn_probe,
    linear_probe,
    near_duplicates,
    nearest_neighbors,
    segmentation_probe,
)
from pretextkit.finetuning import FinetuneResult, FinetuneSettings, fixmatch, freeze_and_finetune
from pretextkit.inference import Classifier, Predictions
from pretextkit.losses import nt_xent_loss
from pretextkit.metrics import DetectionMetrics, SegmentationMetrics, detection_metrics, segmentation_metrics
from pretextkit.selection import ProbCover, Selection, TypiClust, select_files, select_to_label
from pretextkit.training._pretrain import PretrainResult, pretrain
from pretextkit.training._run_step import run_step

__all__ = [
    "AnomalyScores",
    "Calibration",
    "Classifier",
    "Comparison",
    "ComparisonRun",
    "ConvMapHead",
    "DetectionMetrics",
    "Duplicates",
    "Features",
    "FinetuneResult",
    "FinetuneSettings",
    "KNNResult",
    "LayerScore",
    "LinearMapHead",
    "Neighbors",
    "PixelHead",
    "Predictions",
    "PretrainResult",
    "ProbCover",
    "ProbeResult",
    "SegmentationMetrics",
    "SegmentationResult",
    "SegmentationScore",
    "Selection",
    "TopFraction",
    "TypiClust",
    "calibrate",
    "compare",
    "detection_metrics",
    "extract_features",
    "feature_distance",
    "fixmatch",
    "freeze_and_finetune",
    "knn_probe",
    "linear_probe",
    "mahalanobis_anomaly_score",
    "near_duplicates",
    "nearest_neighbors",
    "neighbor_anomaly_score",
    "nt_xent_loss",
    "patch_anomaly_score",
    "pretrain",
    "reconstruction_anomaly_score",
    "rotation_anomaly_score",
    "run_step",
    "segmentation_metrics",
    "segmentation_probe",
    "select_files",
    "select_to_label",
    "views_per_image",
]
