"""Training: settings, objectives, the loop, checkpoints and monitors; ``_loop.py`` begins with a map."""

from pretextkit.training._hardware import Precision, resolve_device, resolve_precision
from pretextkit.training._history import History
from pretextkit.training._optim import LARS, OptimizerName, build_optimizer, parameter_groups, warmup_cosine
from pretextkit.training._pretrain import PretrainOptions
from pretextkit.training._run_step import run_step
from pretextkit.training._settings import RunSettings

__all__ = [
    "LARS",
    "History",
    "OptimizerName",
    "Precision",
    "PretrainOptions",
    "RunSettings",
    "build_optimizer",
    "parameter_groups",
    "resolve_device",
    "resolve_precision",
    "run_step",
    "warmup_cosine",
]
