"""Registry of planted bugs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pretextkit import PretextTask

BUGS: dict[type[PretextTask[Any, Any]], tuple[str, str]] = {}
"""Description of the bug in each broken task, and the name of a test that detects it."""


def planted(wrong: str, *, caught_by: str) -> Callable[[type[Any]], type[Any]]:
    """Register the decorated task as a planted bug."""

    def decorate(task: type[Any]) -> type[Any]:
        BUGS[task] = wrong, caught_by
        return task

    return decorate
