"""Self-supervised pretext tasks for images: typed, framework-free, honest about what they measure."""

from pretextkit import data, functional, losses, models, tasks, views
from pretextkit.batches import ImageToImage, Labelled, Masked, PatchPair, Tiles, TwoViews
from pretextkit.contracts import Backbone, Head, InputNormalization, PretextTask, SpatialBackbone, TaskOutput
from pretextkit.errors import PretextkitError
from pretextkit.registries import Registry, backbone, backbones, head, heads, pretext_task, pretext_tasks

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "Head",
    "ImageToImage",
    "InputNormalization",
    "Labelled",
    "Masked",
    "PatchPair",
    "PretextTask",
    "PretextkitError",
    "Registry",
    "SpatialBackbone",
    "TaskOutput",
    "Tiles",
    "TwoViews",
    "backbone",
    "backbones",
    "data",
    "functional",
    "head",
    "heads",
    "losses",
    "models",
    "pretext_task",
    "pretext_tasks",
    "tasks",
    "views",
]
