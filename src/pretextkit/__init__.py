"""Self-supervised pretext tasks for images: typed, framework-free, honest about what they measure."""

from pretextkit import data, functional, losses, models, tasks, views
from pretextkit.batches import ImageToImage, Labeled, Masked, PatchPair, Tiles, TwoViews
from pretextkit.contracts import Backbone, Head, InputNormalization, PretextTask, SpatialBackbone, TaskOutput
from pretextkit.errors import PretextkitError
from pretextkit.registries import (
    Registry,
    backbones,
    heads,
    pretext_tasks,
    register_backbone,
    register_head,
    register_pretext_task,
)

__version__ = "0.1.0"

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
    "Registry",
    "SpatialBackbone",
    "TaskOutput",
    "Tiles",
    "TwoViews",
    "backbones",
    "data",
    "functional",
    "heads",
    "losses",
    "models",
    "pretext_tasks",
    "register_backbone",
    "register_head",
    "register_pretext_task",
    "tasks",
    "views",
]
