"""Identity of a run: what two calls must share for one to resume the other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch  # noqa: F401 - in the example
from torch import nn

from pretextkit._fingerprint import frozen_weights, module_options
from pretextkit.data._sources import ImageSource
from pretextkit.distributed._sharding import class_name
from pretextkit.training._settings import Plan, Settings

__all__ = ["run_identity"]


def run_identity(
    module: nn.Module, source: ImageSource, settings: Settings, plan: Plan, precision: str
) -> dict[str, Any]:
    """Describe a run in numbers, strings and tuples, without the device and ``compile``, which may change on resume.

    Resolved settings stand for those that are left out: a call that gives the same values belongs to the same run.

    Example:
        >>> from pretextkit.data._tensor_images import TensorImages
        >>> settings, source = Settings(epochs=1), TensorImages(torch.zeros(9, 1, 2, 2))
        >>> identity = run_identity(nn.Linear(2, 3), source, settings, Plan(9, 0.1, 1, 1, 0, 1), "fp32")
        >>> identity["images"], identity["frozen weights"], identity["weight bias"]
        (9, 'none', (3,))
    """
    free = ("device", "compile") if settings.accumulate > 1 else ("device", "compile", "accumulate")
    options = {name: value for name, value in asdict(settings).items() if name not in free}
    return {
        "task": class_name(module),
        **module_options(module, "task"),
        "images": len(source),
        "first images": source.fingerprint(),
        **options,
        **asdict(plan),
        "precision": precision,
        "frozen weights": frozen_weights(module),
        **{f"weight {name}": tuple(value.shape) for name, value in module.state_dict().items()},
    }
