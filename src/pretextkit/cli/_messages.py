"""Errors and warnings on the command line, with keywords of Python as flags."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pretextkit.errors import DataWarning, TrainingWarning

__all__ = ["as_flags", "shown_warnings"]

KEYWORD = re.compile(r"\b([a-z]\w*)=(\([^)]*\)|\[[^\]]*\]|'[^']*'|\"[^\"]*\"|True|False|-?\d(?:[\w.]*\w)?)")
"""A keyword with a value of Python; a call or a name is no value."""


def as_flags(message: str, flags: Mapping[str, str]) -> str:
    """Say how the keywords that a message names are given on the command line; an empty text if there are none.

    Args:
        message: Text of an error or a warning.
        flags: Flag of each keyword that the command takes.

    Example:
        >>> as_flags('Repair it, or leave such files out with on_error="skip".', {"on_error": "--on-error"})
        'On the command line: --on-error skip'
        >>> as_flags("The default is (0.01, 0.1).", {"on_error": "--on-error"})
        ''
    """
    found = dict.fromkeys(_as_flag(flags[name], value) for name, value in KEYWORD.findall(message) if name in flags)
    return f"On the command line: {', '.join(found)}" if found else ""


@contextmanager
def shown_warnings(flags: Mapping[str, str]) -> Iterator[list[str]]:
    """Print each warning once on standard error, without a place in the code, and collect the texts."""
    texts: list[str] = []

    def show(message: Warning | str, *_place: Any, **_more: Any) -> None:
        if (text := str(message)) not in texts:
            texts.append(text)
            print("\n".join(filter(None, [f"Warning: {text}", as_flags(text, flags)])), file=sys.stderr)

    with warnings.catch_warnings():
        for category in (DataWarning, TrainingWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield texts


def _as_flag(flag: str, text: str) -> str:
    value = ast.literal_eval(text)
    if isinstance(value, bool):
        return flag if value else flag.replace("--", "--no-", 1)
    values = value if isinstance(value, tuple | list) else [value]
    return shlex.join([flag, *map(str, values)])
