"""The conformance kit for pretext tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pretextkit.contracts import PretextTask
from pretextkit.testing import _task_copies as task_copies
from pretextkit.testing import _task_inputs as task_inputs
from pretextkit.testing import _task_learning as task_learning
from pretextkit.testing import _task_steps as task_steps
from pretextkit.testing import _task_views as task_views
from pretextkit.testing._cases import TaskCase
from pretextkit.testing._runner import NONE, Check, bind, run_checks

__all__ = ["check_pretext_task", "pretext_task_checks"]


def pretext_task_checks(
    make: Callable[[], PretextTask[Any, Any]],
    *,
    expected_failures: Mapping[str, str] = NONE,
    image_size: int | tuple[int, int] = 32,
    channels: int = 3,
) -> list[Check]:
    """List the checks of a pretext task, for :func:`parametrize_checks` or to run one by one.

    Args:
        make: Makes a new task with new weights; give it a small backbone such as :class:`TinyBackbone`, since some
            checks train it.
        expected_failures: Checks that may fail, each with the reason.
        image_size: Of the toy images the task is tried on.
        channels: Of the toy images.

    Raises:
        UnknownNameError: ``expected_failures`` names no check.

    Example:
        >>> from pretextkit import pretext_tasks
        >>> from pretextkit.testing import TinyBackbone
        >>> checks = pretext_task_checks(lambda: pretext_tasks["rotation"](TinyBackbone()))
        >>> [check.promise for check in checks if check.name == "views_change_no_input"]
        ['Views leave the images they are given as they were.']
    """
    modules = (task_views, task_steps, task_copies, task_inputs, task_learning)
    functions = [function for module in modules for function in module.CHECKS]
    return bind(functions, TaskCase(make, image_size, channels), expected_failures)


def check_pretext_task(
    make: Callable[[], PretextTask[Any, Any]],
    *,
    expected_failures: Mapping[str, str] = NONE,
    image_size: int | tuple[int, int] = 32,
    channels: int = 3,
) -> None:
    """Run every check of a pretext task, in some ten seconds.

    Args:
        make: Makes a new task with new weights; give it a small backbone such as :class:`TinyBackbone`, since some
            checks train it.
        expected_failures: Checks that may fail, each with the reason.
        image_size: Of the toy images the task is tried on.
        channels: Of the toy images.

    Raises:
        ConformanceError: Lists every check that failed and why, and every exemption that is stale.
        UnknownNameError: ``expected_failures`` names no check.

    Example:
        >>> from pretextkit import pretext_tasks
        >>> from pretextkit.testing import TinyBackbone
        >>> check_pretext_task(
        ...     lambda: pretext_tasks["rotation"](TinyBackbone()),
        ...     expected_failures={
        ...         "views_draw_for_each_image": "all four rotations, nothing random",
        ...         "views_use_the_generator": "all four rotations, nothing random",
        ...     },
        ... )
    """
    run_checks(pretext_task_checks(make, expected_failures=expected_failures, image_size=image_size, channels=channels))
