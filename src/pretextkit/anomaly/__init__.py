"""Anomaly scores from models of normal images, all with one type of result."""

from pretextkit.anomaly._calibration import Calibration, calibrate
from pretextkit.anomaly._error_maps import feature_distance
from pretextkit.anomaly._mahalanobis import mahalanobis_anomaly_score
from pretextkit.anomaly._neighbors import neighbor_anomaly_score
from pretextkit.anomaly._patches import patch_anomaly_score
from pretextkit.anomaly._reconstruction import reconstruction_anomaly_score
from pretextkit.anomaly._reduction import TopFraction
from pretextkit.anomaly._rotation import rotation_anomaly_score
from pretextkit.anomaly._scores import AnomalyScores
from pretextkit.metrics import DetectionMetrics, detection_metrics

__all__ = [
    "AnomalyScores",
    "Calibration",
    "DetectionMetrics",
    "TopFraction",
    "calibrate",
    "detection_metrics",
    "feature_distance",
    "mahalanobis_anomaly_score",
    "neighbor_anomaly_score",
    "patch_anomaly_score",
    "reconstruction_anomaly_score",
    "rotation_anomaly_score",
]
