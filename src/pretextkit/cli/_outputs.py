"""Files that a command writes, and plain data for ``--json``."""

from __future__ import annotations

import importlib.util
import math
import os
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pretextkit.cli._script import call, literal
from pretextkit.errors import OptionError, PretextkitError

__all__ = ["add_csv_flag", "add_out_flag", "check_file", "check_folder", "csv_lines", "plain"]


def add_out_flag(parser: ArgumentParser, text: str, *, default: str | None = None) -> None:
    """Add the flag ``--out``, a file or a folder."""
    shown = f" (default: {default})" if default else ""
    parser.add_argument("--out", metavar="PATH", type=Path, default=default and Path(default), help=text + shown)


def add_csv_flag(parser: ArgumentParser, columns: str) -> None:
    """Add the flag ``--csv``, a table."""
    parser.add_argument("--csv", metavar="FILE", type=Path, help=f"write a table with the columns {columns}")


def csv_lines(path: Path | None) -> list[str]:
    """Write code that saves the result as a table, if it is asked for.

    Example:
        >>> csv_lines(Path("scores.csv"))
        ['result.to_csv("scores.csv")']
    """
    return [] if path is None else [call("result.to_csv", literal(path))]


def check_file(path: Path | None, example: str = "classifier.pt") -> None:
    """Check that a file such as ``example`` can be written, before hours of training.

    Raises:
        OptionError: The path is a folder, or lies where nothing can be written.
        PretextkitError: The suffix is ``.safetensors``, and safetensors is not installed.
    """
    if path is None:
        return
    if path.is_dir():
        raise OptionError(f"a file to write at {path}", got="a folder", fix=f"For example {path / example}.")
    if path.suffix == ".safetensors" and importlib.util.find_spec("safetensors") is None:
        raise PretextkitError(
            "Files with the suffix .safetensors need safetensors, which is not installed.",
            fix='Run: pip install "pretextkit[safetensors]"',
        )
    check_folder(path.absolute().parent)


def check_folder(path: Path) -> None:
    """Check that a folder exists and takes files, or can be made.

    Raises:
        OptionError: It does not.
    """
    near = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        got = "a folder without the right to write" if near.is_dir() else "a file"
        raise OptionError(f"a folder to write in at {near}", got=got, fix="Give another path.")


def plain(value: Any) -> Any:
    """Convert a result to data that JSON knows: tensors become lists, NaN becomes None, and modules are left out.

    Example:
        >>> plain({"loss": float("nan"), "run": Path("run"), "sizes": (1, 2)})
        {'loss': None, 'run': 'run', 'sizes': [1, 2]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return str(value)
