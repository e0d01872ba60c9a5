"""Conformance of the task: every check is one test."""

import pretextkit as pk
from pretextkit.testing import Check, TinyBackbone, parametrize_checks, pretext_task_checks


@parametrize_checks(pretext_task_checks(lambda: pk.pretext_tasks["upside-down"](TinyBackbone())))
def test_conformance(check: Check) -> None:
    check.run()
