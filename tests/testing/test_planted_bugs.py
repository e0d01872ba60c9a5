"""What is broken is caught, what is correct passes, and every check of the kit can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pretextkit.testing import TinyBackbone, check_pretext_task, pretext_task_checks
from pretextkit.testing._runner import failure

from .own_tests import OWN_TESTS, fails, own_tests
from .planted import BUGS
from .planted_bugs import build
from .toy_tasks import TOY_TASKS, ToyRotation

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "planted-bugs.md"
ALONE = {"factory_makes_new_tasks"}
"""Checks of the factory, which no bug in a task can break; they have tests of their own."""


@pytest.mark.parametrize("task", TOY_TASKS)
def test_correct_tasks_pass_the_kit(task: Any) -> None:
    check_pretext_task(lambda: task(TinyBackbone()))


@pytest.mark.parametrize("task", OWN_TESTS)
def test_correct_tasks_pass_their_own_tests(task: Any) -> None:
    for test in own_tests(task):
        test(build(task))


@pytest.mark.parametrize("task", BUGS)
def test_every_bug_is_caught_by_what_is_said_to_catch_it(task: Any) -> None:
    name = BUGS[task][1]
    checks = {check.name: check for check in pretext_task_checks(lambda: task(TinyBackbone()))}
    if name in checks:
        assert failure(checks[name]), f"{name} lets it pass"
    else:
        (test,) = (test for test in own_tests(task) if test.__name__ == name)
        assert fails(test, build(task)), f"{name} lets it pass"


def test_no_check_of_the_kit_is_idle() -> None:
    names = {check.name for check in pretext_task_checks(lambda: ToyRotation(TinyBackbone()))}
    assert names - {caught_by for _, caught_by in BUGS.values()} == ALONE


def test_a_factory_that_reuses_one_backbone_is_caught() -> None:
    backbone = TinyBackbone()
    (check,) = (c for c in pretext_task_checks(lambda: ToyRotation(backbone)) if c.name == "factory_makes_new_tasks")
    assert failure(check) == "Two tasks share parameters; build backbone and task inside the factory."


def test_the_page_lists_every_bug() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for wrong, _ in BUGS.values():
        (line,) = (line for line in lines if f": {wrong} |" in line)
        assert not line.endswith("| none | none |")
