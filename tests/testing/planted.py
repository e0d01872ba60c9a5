"""The list of planted bugs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pretextkit import PretextTask

BUGS: dict[type[PretextTask[Any, Any]], tuple[str, str]] = {}
"""Each broken task, with what is wrong in words and what is sure to catch it."""


def planted(wrong: str, *, caught_by: str) -> Callable[[type[Any]], type[Any]]:
    """Plant a bug."""

    def decorate(task: type[Any]) -> type[Any]:
        BUGS[task] = wrong, caught_by
        return task

    return decorate
