"""Every registered task, for images of any number of channels."""

from __future__ import annotations

from typing import Any

import pretextkit as pk
from pretextkit.testing import TinyBackbone

__all__ = ["build"]


def build(name: str, channels: int = 3) -> Any:
    """Build a task; ``mae`` needs a backbone of tokens, and ``distillation`` a teacher."""
    if name == "mae":
        return pk.tasks.MAE(pk.models.ViTTiny(in_channels=channels, patch=8))
    if name == "distillation":
        return pk.tasks.Distillation(TinyBackbone(in_channels=channels), teacher=TinyBackbone(in_channels=channels))
    return pk.pretext_tasks.create(name, TinyBackbone(in_channels=channels))
