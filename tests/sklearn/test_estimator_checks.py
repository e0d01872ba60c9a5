"""scikit-learn's own checks, on estimators whose backbone passes features ``n d`` on.

No check is exempted. scikit-learn itself skips ``check_array_api_input`` without its environment variable, and, for
estimators of images alone (``two_d_array=False``), every check that would pass rows of numbers: ``FinetuneClassifier``
is tested in ``test_estimators.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from pretextkit.sklearn import FeatureExtractor, ProbeClassifier

ESTIMATORS = [FeatureExtractor(nn.Identity()), ProbeClassifier(nn.Identity(), penalties=(1e-4, 1e-2))]


# DataWarning: a class of the check's few rows has not a single hit.
@pytest.mark.filterwarnings("ignore::pretextkit.errors.DataWarning", "ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(ESTIMATORS)  # type: ignore[untyped-decorator]
def test_estimator_passes_the_check(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
