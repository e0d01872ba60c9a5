"""What pretraining and fine-tuning are made of."""

from pretextkit.training.hardware import Precision, resolve_device, resolve_precision
from pretextkit.training.history import History
from pretextkit.training.loop import Trainee, TrainingRun, train
from pretextkit.training.optim import LARS, OptimizerName, build_optimizer, parameter_groups, warmup_cosine
from pretextkit.training.settings import Settings

__all__ = [
    "LARS",
    "History",
    "OptimizerName",
    "Precision",
    "Settings",
    "Trainee",
    "TrainingRun",
    "build_optimizer",
    "parameter_groups",
    "resolve_device",
    "resolve_precision",
    "train",
    "warmup_cosine",
]
