"""Helpers that several test modules share. Import them with ``from tests.helpers import ...``."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pretextkit as pk
from pretextkit.functional import pretrain
from pretextkit.testing import TinyBackbone, TinyTokenBackbone

__all__ = [
    "ROOT",
    "TORCH",
    "LargestTensor",
    "WithDropoutAndNorm",
    "generator",
    "load_script",
    "normal",
    "random_images",
    "random_labels",
    "require_exact_resume",
    "toy_task",
    "uniform",
]

ROOT = Path(__file__).parents[1]
"""Root of the repository."""

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
"""Release of PyTorch, such as (2, 12)."""


def generator(seed: int = 0) -> Generator:
    """Build a seeded CPU generator."""
    return Generator().manual_seed(seed)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Draw numbers from the uniform distribution on [0, 1)."""
    return torch.rand(shape, generator=generator(seed))


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Draw numbers from the standard normal distribution."""
    return torch.randn(shape, generator=generator(seed))


def same_numbers(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two modules have equal weights and buffers."""
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


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


def toy_task(name: str, backbone: pk.Backbone | None = None, **options: Any) -> Any:
    """Create a registered task on a tiny backbone that suits it, with the arguments that it needs."""
    if backbone is None:
        backbone = TinyTokenBackbone() if name == "mae" else TinyBackbone()
    if name == "distillation":
        options = {"teacher": toy_teacher(), **options}
    return pk.pretext_tasks.create(name, backbone, **options)


def toy_teacher() -> TinyBackbone:
    """Build a teacher, always with the same random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        return TinyBackbone()


def require_exact_resume(make: Callable[[int], Any], images: Tensor, folder: Path, **options: Any) -> None:
    """Require bit-identical states of a run of four steps and of one that is interrupted after two and resumed.

    ``make`` builds the task from a seed. The resumed run begins with other weights, because the checkpoint has them.
    """
    fixed: dict[str, Any] = {"batch_size": 8, "steps": 4, "device": "cpu", "precision": "fp32", "progress": False}
    fixed |= options
    full, stopped, resumed = make(0), make(0), make(1)
    pretrain(full, images, **fixed)
    own, count = stopped.after_step, [0]

    def after_step() -> None:
        own()
        count[0] += 1
        if count[0] == 2:
            signal.raise_signal(signal.SIGINT)

    stopped.after_step = after_step
    with pytest.raises(KeyboardInterrupt):
        pretrain(stopped, images, checkpoint=folder, **fixed)
    assert pretrain(resumed, images, checkpoint=folder, **fixed).resumed_at == 2
    for key, value in full.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
