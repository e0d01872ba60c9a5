"""Comparison of pretext tasks under one budget and one protocol."""

from pretextkit.comparison._compare import compare
from pretextkit.comparison._cost import views_per_image
from pretextkit.comparison._result import Comparison, ComparisonRun

__all__ = ["Comparison", "ComparisonRun", "compare", "views_per_image"]
