"""What was run, in texts and numbers: ``settings.json`` and reports say so. No checkpoint is compared by it."""

from __future__ import annotations

import inspect
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from pretextkit._arguments import decode
from pretextkit._fingerprint import plain_attributes
from pretextkit._modules import unwrap
from pretextkit._recipes import try_recipe
from pretextkit.data._folder import FolderImages
from pretextkit.data._image_files import inner_datasets
from pretextkit.data._sources import ImageSource
from pretextkit.data._tensor_images import TensorImages
from pretextkit.distributed._sharding import class_name
from pretextkit.registries import backbones

__all__ = ["describe_backbone", "describe_device", "describe_run", "describe_versions", "started_by"]

_COMMAND: ContextVar[str] = ContextVar("command", default="")
"""Command line that started the training; empty for a program in Python."""


@contextmanager
def started_by(command: str) -> Iterator[None]:
    """Note the command line that starts the trainings inside the block.

    Example:
        >>> with started_by("pretextkit pretrain photos"):
        ...     _COMMAND.get()
        'pretextkit pretrain photos'
    """
    token = _COMMAND.set(command)
    try:
        yield
    finally:
        _COMMAND.reset(token)


def describe_run(task: nn.Module, source: ImageSource, trained: Mapping[str, Any]) -> dict[str, str | float | None]:
    """Describe a pretraining; what is unknown is left out.

    Args:
        task: Pretext task, perhaps compiled.
        source: Images.
        trained: Description of the training for the files of its backbone.

    Example:
        >>> import pretextkit as pk
        >>> from pretextkit.data._tensor_images import TensorImages
        >>> task, source = pk.tasks.Rotation(pk.models.SmallCNN()), TensorImages(torch.zeros(9, 3, 8, 8))
        >>> found = describe_run(task, source, {"task": "rotation", "images": 9, "seed": 0})
        >>> found["backbone"], found["images"], found["source"]
        ('small-cnn', 9, 'tensor')
    """
    backbone, backbone_options = describe_backbone(unwrap(task).backbone)
    found = {
        "task": trained["task"],
        "task_options": _task_options(unwrap(task)),
        "backbone": backbone,
        "backbone_options": backbone_options,
        "images": trained["images"],
        "source": _describe_source(source),
        "image_size": _describe_size(trained.get("image format"), source),
        "seed": trained["seed"],
        "versions": describe_versions(),
        "command": _COMMAND.get(),
    }
    return {name: value for name, value in found.items() if value != ""}


def describe_backbone(backbone: nn.Module) -> tuple[str, str]:
    """Return the name of a backbone and the arguments of its constructor; of an unregistered one, its class.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> describe_backbone(SmallCNN(in_channels=1)), describe_backbone(nn.Flatten())
        (('small-cnn', 'in_channels=1'), ('Flatten', ''))
    """
    recipe = try_recipe(backbone, backbones)
    if recipe is None:
        return class_name(unwrap(backbone)), ""
    options = [repr(decode(value)) for value in recipe["positional"]]
    options += [f"{name}={decode(value)!r}" for name, value in recipe["named"].items()]
    return recipe["name"], ", ".join(options)


def describe_device(device: torch.device) -> str:
    """Name a device, and the model of a GPU.

    Example:
        >>> describe_device(torch.device("cpu"))
        'cpu'
    """
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def describe_versions() -> str:
    """Name the versions at work.

    Example:
        >>> describe_versions().split(", ")[1] == f"torch {torch.__version__}"
        True
    """
    try:
        torchvision = f", torchvision {version('torchvision')}"
    except PackageNotFoundError:  # built without metadata: no reason to stop a training
        torchvision = ""
    libraries = f"torch {torch.__version__}{torchvision}"
    return f"pretextkit {sys.modules['pretextkit'].__version__}, {libraries}, Python {platform.python_version()}"


def _task_options(task: nn.Module) -> str:
    """List the options that a task keeps as numbers and texts; the augmentation is a setting of the run."""
    kept = plain_attributes(task, "task")
    names = [name for name in inspect.signature(type(task)).parameters if f"task.{name}" in kept]
    return ", ".join(f"{name}={kept[f'task.{name}']}" for name in names if name != "augmentation")


def _describe_source(source: ImageSource) -> str:
    """Name the folder of the images, or the class of the innermost dataset, but no function that reads files."""
    parts = [each for each in inner_datasets(source) if isinstance(each, Dataset) or hasattr(each, "__len__")]
    folder = next((each for each in parts if isinstance(each, FolderImages)), None)
    if folder is not None:
        return str(folder.root)
    return "tensor" if isinstance(parts[-1], TensorImages) else type(parts[-1]).__name__


def _describe_size(image_format: Mapping[str, Any] | None, source: ImageSource) -> str:
    if image_format is None:
        return ""
    size = "{channels}x{height}x{width}".format(**image_format)
    is_folder = any(isinstance(each, FolderImages) for each in inner_datasets(source))
    return f"{size}, fit {image_format['fit']}" if is_folder else size
