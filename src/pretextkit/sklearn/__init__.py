"""Estimators of scikit-learn: features of images, and classifiers with words as labels (extra ``sklearn``).

They take arrays ``n h w`` or ``n h w c`` (uint8, or float in [0, 1]), tensors ``n c h w`` and lists of paths, and work
in ``Pipeline``, ``cross_val_score`` and ``GridSearchCV``. Importing this module needs scikit-learn; ``import
pretextkit`` does not.
"""

from pretextkit.sklearn._installed import require_sklearn as _require_sklearn

_require_sklearn()

from pretextkit.sklearn._feature_extractor import FeatureExtractor  # noqa: E402 - the error above comes first
from pretextkit.sklearn._finetune_classifier import FinetuneClassifier  # noqa: E402
from pretextkit.sklearn._probe_classifier import ProbeClassifier  # noqa: E402

__all__ = ["FeatureExtractor", "FinetuneClassifier", "ProbeClassifier"]
