"""scikit-learn's own checks, on estimators whose backbone passes features ``n d`` on.

No check is exempted. scikit-learn itself skips ``check_array_api_input`` without its environment variable, and, for
estimators of images alone (``two_d_array=False``), every check that would pass rows of numbers: ``FinetuneClassifier``
is tested in ``test_estimators.py``.

Predictions of a part of the rows may differ by the rounding of float32, which depends on the number of rows and the
processor; scikit-learn's default allows that of float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from pretextkit.sklearn import FeatureExtractor, ProbeClassifier

ESTIMATORS = [FeatureExtractor(nn.Identity()), ProbeClassifier(nn.Identity(), penalties=(1e-4, 1e-2))]


# DataWarning: a class of the check's few rows has not a single hit.
@pytest.mark.filterwarnings("ignore::pretextkit.errors.DataWarning", "ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(ESTIMATORS)  # type: ignore[untyped-decorator]
def test_estimator_passes_the_check(
    estimator: Any, check: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "check_methods_subset_invariance" in str(check):
        nearly = partial(estimator_checks.assert_allclose, rtol=1e-5)
        monkeypatch.setattr(estimator_checks, "assert_allclose", nearly)
    check(estimator)
