"""Anomaly scores from models of normal images, all with one type of result."""

from pretextkit.functional.anomaly.error_maps import feature_distance
from pretextkit.functional.anomaly.reconstruction import reconstruction_anomaly_score
from pretextkit.functional.anomaly.reduction import TopShare
from pretextkit.functional.anomaly.scores import AnomalyScores

__all__ = ["AnomalyScores", "TopShare", "feature_distance", "reconstruction_anomaly_score"]
