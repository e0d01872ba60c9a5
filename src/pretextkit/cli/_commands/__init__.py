"""The commands. To add one, write a file with a ``COMMAND``, and name it in the table below."""

from pretextkit.cli._command import Command
from pretextkit.cli._commands import (
    _anomaly,
    _compare,
    _duplicates,
    _finetune,
    _fixmatch,
    _list,
    _neighbors,
    _predict,
    _pretrain,
    _probe,
    _report,
    _select,
)

__all__ = ["COMMANDS"]

COMMANDS: tuple[Command, ...] = (
    _pretrain.COMMAND,
    _probe.COMMAND,
    _finetune.COMMAND,
    _fixmatch.COMMAND,
    _predict.COMMAND,
    _compare.COMMAND,
    _select.COMMAND,
    _neighbors.COMMAND,
    _duplicates.COMMAND,
    _anomaly.COMMAND,
    _report.COMMAND,
    _list.COMMAND,
)
"""All commands, in the order of ``pretextkit --help``."""
