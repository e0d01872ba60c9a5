"""Callbacks of a run: a probe every few epochs, the best weights, early stopping, and the base class for others."""

from pretextkit.callbacks._early_stopping import EarlyStopping
from pretextkit.callbacks._keep_best import KeepBest
from pretextkit.callbacks._probe import Probe
from pretextkit.training._callbacks import Callback, CallbackLike, RunStatus, StopTraining

__all__ = ["Callback", "CallbackLike", "EarlyStopping", "KeepBest", "Probe", "RunStatus", "StopTraining"]
