"""Conformance checks of pretext tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pretextkit.contracts import PretextTask
from pretextkit.testing import _task_copies as task_copies
from pretextkit.testing import _task_inputs as task_inputs
from pretextkit.testing import _task_learning as task_learning
from pretextkit.testing import _task_state as task_state
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
    """List the checks of a pretext task, for :func:`parametrize_checks` or to run them one by one.

    Args:
        make: Builds a new task with new weights. Use a small backbone such as :class:`TinyBackbone`, because some
            checks train it.
        expected_failures: Names of checks that must fail, with the reason of each.
        image_size: Height and width of the toy images in pixels, or one number for both.
        channels: Channels of the toy images.

    Raises:
        UnknownNameError: A key of ``expected_failures`` is not the name of a check.

    Example:
        >>> from pretextkit import pretext_tasks
        >>> from pretextkit.testing import TinyBackbone
        >>> checks = pretext_task_checks(lambda: pretext_tasks["rotation"](TinyBackbone()))
        >>> [check.promise for check in checks if check.name == "views_leave_images_unchanged"]
        ['Making views does not change the images.']
    """
    modules = (task_views, task_steps, task_copies, task_state, task_inputs, task_learning)
    functions = [function for module in modules for function in module.CHECKS]
    return bind(functions, TaskCase(make, image_size, channels), expected_failures)


def check_pretext_task(
    make: Callable[[], PretextTask[Any, Any]],
    *,
    expected_failures: Mapping[str, str] = NONE,
    image_size: int | tuple[int, int] = 32,
    channels: int = 3,
) -> None:
    """Run every check of a pretext task, in about ten seconds.

    Args:
        make: Builds a new task with new weights. Use a small backbone such as :class:`TinyBackbone`, because some
            checks train it.
        expected_failures: Names of checks that must fail, with the reason of each.
        image_size: Height and width of the toy images in pixels, or one number for both.
        channels: Channels of the toy images.

    Raises:
        ConformanceError: A check failed, or a check in ``expected_failures`` passed; the message lists all.
        UnknownNameError: A key of ``expected_failures`` is not the name of a check.

    Example:
        >>> from pretextkit import pretext_tasks
        >>> from pretextkit.testing import TinyBackbone
        >>> check_pretext_task(
        ...     lambda: pretext_tasks["rotation"](TinyBackbone(), augmentation=None),
        ...     expected_failures={
        ...         "views_draw_for_each_image": "all four rotations, without random draws",
        ...         "views_use_the_generator": "all four rotations, without random draws",
        ...     },
        ... )
    """
    run_checks(pretext_task_checks(make, expected_failures=expected_failures, image_size=image_size, channels=channels))
