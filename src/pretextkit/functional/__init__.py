"""What other code can use without any framework: pretraining, probes, fine-tuning, anomaly scores."""

from pretextkit.functional.anomaly import (
    AnomalyScores,
    Calibration,
    Detection,
    TopShare,
    calibrate,
    detection_metrics,
    feature_distance,
    mahalanobis_anomaly_score,
    neighbor_anomaly_score,
    patch_anomaly_score,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
)
from pretextkit.functional.classifier import Classifier
from pretextkit.functional.compare import compare
from pretextkit.functional.comparison import Comparison, ComparisonCell
from pretextkit.functional.features import Features, extract_features
from pretextkit.functional.finetune import FinetuneResult, freeze_and_finetune
from pretextkit.functional.knn import KNNResult, knn_probe
from pretextkit.functional.pretrain import PretrainResult, pretrain
from pretextkit.functional.probe import LayerScore, ProbeResult, linear_probe
from pretextkit.functional.segmentation import SegmentationResult, SegmentationScore, segmentation_probe
from pretextkit.functional.segmentation_heads import ConvMapHead, LinearMapHead, PixelHead
from pretextkit.functional.segmentation_metrics import SegmentationMetrics, segmentation_metrics
from pretextkit.functional.view_count import views_per_image
from pretextkit.losses import nt_xent_loss

__all__ = [
    "AnomalyScores",
    "Calibration",
    "Classifier",
    "Comparison",
    "ComparisonCell",
    "ConvMapHead",
    "Detection",
    "Features",
    "FinetuneResult",
    "KNNResult",
    "LayerScore",
    "LinearMapHead",
    "PixelHead",
    "PretrainResult",
    "ProbeResult",
    "SegmentationMetrics",
    "SegmentationResult",
    "SegmentationScore",
    "TopShare",
    "calibrate",
    "compare",
    "detection_metrics",
    "extract_features",
    "feature_distance",
    "freeze_and_finetune",
    "knn_probe",
    "linear_probe",
    "mahalanobis_anomaly_score",
    "neighbor_anomaly_score",
    "nt_xent_loss",
    "patch_anomaly_score",
    "pretrain",
    "reconstruction_anomaly_score",
    "rotation_anomaly_score",
    "segmentation_metrics",
    "segmentation_probe",
    "views_per_image",
]
