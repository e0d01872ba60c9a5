"""Anomaly scores from models of normal images, all with one type of result."""

from pretextkit.functional.anomaly.calibration import Calibration, calibrate
from pretextkit.functional.anomaly.detection import Detection, detection_metrics
from pretextkit.functional.anomaly.error_maps import feature_distance
from pretextkit.functional.anomaly.mahalanobis import mahalanobis_anomaly_score
from pretextkit.functional.anomaly.neighbors import neighbor_anomaly_score
from pretextkit.functional.anomaly.patches import patch_anomaly_score
from pretextkit.functional.anomaly.reconstruction import reconstruction_anomaly_score
from pretextkit.functional.anomaly.reduction import TopShare
from pretextkit.functional.anomaly.rotation import rotation_anomaly_score
from pretextkit.functional.anomaly.scores import AnomalyScores

__all__ = [
    "AnomalyScores",
    "Calibration",
    "Detection",
    "TopShare",
    "calibrate",
    "detection_metrics",
    "feature_distance",
    "mahalanobis_anomaly_score",
    "neighbor_anomaly_score",
    "patch_anomaly_score",
    "reconstruction_anomaly_score",
    "rotation_anomaly_score",
]
