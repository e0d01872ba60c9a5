"""The kit detects planted bugs and passes correct tasks, and every check of the kit can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pretextkit import Recommended
from pretextkit.testing import TinyBackbone, check_pretext_task, pretext_task_checks
from pretextkit.testing._runner import failure

from .own_tests import OWN_TESTS, fails, own_tests
from .planted import BUGS
from .planted_bugs import build, unaugmented
from .toy_tasks import COMPARES, TOY_TASKS, ToyContrast, ToyRotation

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "planted-bugs.md"
FACTORY_CHECKS = {"factory_makes_new_tasks"}
"""Checks of the factory, which no bug in a task can break; another test covers them."""


@pytest.mark.parametrize("task", TOY_TASKS)
def test_kit_passes_correct_tasks(task: Any) -> None:
    expected = COMPARES if issubclass(task, ToyContrast) else {}
    check_pretext_task(lambda: task(TinyBackbone()), expected_failures=expected)


@pytest.mark.parametrize("task", OWN_TESTS)
def test_own_tests_pass_correct_tasks(task: Any) -> None:
    for test in own_tests(task):
        test(build(task))


@pytest.mark.parametrize("task", BUGS)
def test_declared_check_detects_planted_bug(task: Any) -> None:
    name = BUGS[task][1]
    checks = {check.name: check for check in pretext_task_checks(lambda: unaugmented(task))}
    if name in checks:
        assert failure(checks[name]), f"{name} passes"
    else:
        (test,) = (test for test in own_tests(task) if test.__name__ == name)
        assert fails(test, build(task)), f"{name} passes"


def test_every_check_of_the_kit_detects_a_bug() -> None:
    names = {check.name for check in pretext_task_checks(lambda: ToyRotation(TinyBackbone()))}
    assert names - {caught_by for _, caught_by in BUGS.values()} == FACTORY_CHECKS


@pytest.mark.parametrize("recommended", [{"learning_rate": 1e-3}, None, Recommended])
def test_kit_detects_recommended_settings_of_another_type(recommended: Any) -> None:
    class Wrong(ToyRotation):
        pass

    Wrong.recommended = recommended
    checks = pretext_task_checks(lambda: Wrong(TinyBackbone()))
    (check,) = (c for c in checks if c.name == "recommended_settings_are_usable")
    assert failure(check) == (
        f"recommended is a {type(recommended).__name__}; write recommended = pretextkit.Recommended(...) in the class."
    )


def test_kit_detects_factory_that_reuses_a_backbone() -> None:
    backbone = TinyBackbone()
    (check,) = (c for c in pretext_task_checks(lambda: ToyRotation(backbone)) if c.name == "factory_makes_new_tasks")
    assert failure(check) == "Two tasks share parameters; build backbone and task inside the factory."


def test_page_lists_every_bug_with_a_detection() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for task, (wrong, _) in BUGS.items():
        (line,) = (line for line in lines if line.startswith(f"| {task.__bases__[0].__name__}: {wrong} |"))
        assert not line.endswith("| none | none |")
