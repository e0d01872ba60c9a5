"""What pretraining and fine-tuning are made of."""

from pretextkit.training._hardware import Precision, resolve_device, resolve_precision
from pretextkit.training._history import History
from pretextkit.training._optim import LARS, OptimizerName, build_optimizer, parameter_groups, warmup_cosine

__all__ = [
    "LARS",
    "History",
    "OptimizerName",
    "Precision",
    "build_optimizer",
    "parameter_groups",
    "resolve_device",
    "resolve_precision",
    "warmup_cosine",
]
