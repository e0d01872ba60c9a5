"""Self-supervised pretext tasks for images."""

from pretextkit.contracts import Backbone, Head, InputNormalization, PretextTask, SpatialBackbone, TaskOutput
from pretextkit.errors import PretextkitError
from pretextkit.registries import Registry, backbone, backbones, head, heads, pretext_task, pretext_tasks

__all__ = [
    "Backbone",
    "Head",
    "InputNormalization",
    "PretextTask",
    "PretextkitError",
    "Registry",
    "SpatialBackbone",
    "TaskOutput",
    "backbone",
    "backbones",
    "head",
    "heads",
    "pretext_task",
    "pretext_tasks",
]
