"""Self-supervised pretext tasks for images: typed, framework-free, honest about what they measure."""

from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING

from pretextkit import callbacks, data, distributed, functional, losses, metrics, models, tasks, views
from pretextkit.batches import ImageToImage, Labeled, Masked, PatchPair, Tiles, TwoViews
from pretextkit.contracts import (
    Backbone,
    Head,
    InputNormalization,
    PretextTask,
    Recommended,
    SpatialBackbone,
    TaskOutput,
    TokenBackbone,
)
from pretextkit.errors import PretextkitError
from pretextkit.inference import load_backbone, load_classifier, save_backbone
from pretextkit.registries import (
    Registry,
    backbones,
    heads,
    pretext_tasks,
    register_backbone,
    register_head,
    register_pretext_task,
)

if TYPE_CHECKING:
    from pretextkit import plots, report, testing

__version__ = "0.2.0"

__all__ = [
    "Backbone",
    "Head",
    "ImageToImage",
    "InputNormalization",
    "Labeled",
    "Masked",
    "PatchPair",
    "PretextTask",
    "PretextkitError",
    "Recommended",
    "Registry",
    "SpatialBackbone",
    "TaskOutput",
    "Tiles",
    "TokenBackbone",
    "TwoViews",
    "backbones",
    "callbacks",
    "data",
    "distributed",
    "functional",
    "heads",
    "load_backbone",
    "load_classifier",
    "losses",
    "metrics",
    "models",
    "plots",
    "pretext_tasks",
    "register_backbone",
    "register_head",
    "register_pretext_task",
    "report",
    "save_backbone",
    "tasks",
    "testing",
    "views",
]

_LAZY = ("plots", "report", "testing")
"""Modules that are imported at their first use."""

if not TYPE_CHECKING:  # for a type checker, __getattr__ would make every name valid

    def __getattr__(name: str) -> _ModuleType:
        if name in _LAZY:
            return _import_module(f"{__name__}.{name}")
        found = next((f"; it is in {part.__name__}" for part in (functional, data) if name in part.__all__), "")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{found}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LAZY})
