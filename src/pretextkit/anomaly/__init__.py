"""Anomaly scores from models of normal images, and decisions from scores."""

from pretextkit.anomaly._decisions import Calibration, calibrate
from pretextkit.anomaly._error_maps import TopFraction, feature_distance
from pretextkit.anomaly._mahalanobis import mahalanobis_anomaly_score
from pretextkit.anomaly._neighbors import neighbor_anomaly_score
from pretextkit.anomaly._patches import patch_anomaly_score
from pretextkit.anomaly._reconstruction import reconstruction_anomaly_score
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
