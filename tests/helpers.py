"""Helpers that several test modules share. Import them with ``from tests.helpers import ...``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pretextkit.testing import TinyBackbone

__all__ = [
    "ROOT",
    "LargestTensor",
    "WithDropoutAndNorm",
    "generator",
    "load_script",
    "normal",
    "random_images",
    "random_labels",
    "uniform",
]

ROOT = Path(__file__).parents[1]
"""Root of the repository."""


def generator(seed: int = 0) -> Generator:
    """Build a seeded CPU generator."""
    return Generator().manual_seed(seed)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Draw numbers from the uniform distribution on [0, 1)."""
    return torch.rand(shape, generator=generator(seed))


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Draw numbers from the standard normal distribution."""
    return torch.randn(shape, generator=generator(seed))


def random_labels(n: int, classes: int, seed: int = 0) -> Tensor:
    """Draw ``n`` labels in 0..classes - 1, int64."""
    return torch.randint(classes, (n,), generator=generator(seed))


def random_images(n: int = 6, *, channels: int = 3, size: int | tuple[int, int] = 12, seed: int = 0) -> Tensor:
    """Draw noise images ``n c h w``, float in [0, 1)."""
    height, width = (size, size) if isinstance(size, int) else size
    return uniform(n, channels, height, width, seed=seed)


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record ``numbers``, the element count of the largest tensor that an operation allocates.

    Views of other tensors do not count.
    """

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if not any(returned.alias_info for returned in func._schema.returns):
            sizes = (leaf.numel() for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
            self.numbers = max(self.numbers, *sizes, 0)
        return output


class WithDropoutAndNorm(TinyBackbone):
    """A backbone with state that can differ between two runs: BatchNorm statistics and dropout masks."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Sequential(nn.BatchNorm2d(64), nn.Dropout(0.3))

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        *rest, last = super().stages(images)
        return *rest, self.last(last)


def load_script(path: str | Path) -> ModuleType:
    """Import a Python file that lies in no package, such as ``scripts/tables.py``, relative to the root."""
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
