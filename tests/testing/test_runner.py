from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from pretextkit import PretextkitError
from pretextkit.errors import UnknownNameError
from pretextkit.testing import Check, ConformanceError, TinyBackbone, backbone_checks, parametrize_checks, run_checks
from pretextkit.testing._runner import failure, require


def check(name: str, holds: bool, expected_failure: str | None = None) -> Check:
    return Check(name, name, lambda: require(holds, f"{name} does not hold."), expected_failure)


def test_run_checks_reports_all_failures_together() -> None:
    with pytest.raises(ConformanceError) as caught:
        run_checks([check("one", False), check("two", True), check("three", False)])
    assert caught.value.text == (
        "Expected the declared result of 3 checks, but got 2 other results:\n"
        "  one: one does not hold.\n"
        "  three: three does not hold."
    )
    assert isinstance(caught.value, PretextkitError)
    assert isinstance(caught.value, AssertionError)


def test_run_checks_refuses_an_expected_failure_that_passes() -> None:
    run_checks([check("one", False, "for a reason"), check("two", True)])
    with pytest.raises(ConformanceError, match=r"  one: passes; remove the name from expected_failures\."):
        run_checks([check("one", True, "for a reason")])


def test_failure_names_the_type_of_any_exception() -> None:
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    assert failure(Check("broken", "", broken)) == "ZeroDivisionError: by zero"
    with pytest.raises(ConformanceError, match="broken: ZeroDivisionError: by zero"):
        run_checks([Check("broken", "", broken)])


def test_unknown_name_in_expected_failures_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'features_are_b_d'"):
        backbone_checks(TinyBackbone, expected_failures={"features_are_bd": "spelling mistake"})


def test_failure_lets_keyboard_interrupts_through() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failure(Check("interrupted", "", interrupted))


@pytest.mark.parametrize("make", [list, iter])
def test_parametrize_checks_gives_names_and_strict_marks(make: Callable[[list[Check]], list[Check]]) -> None:
    mark = parametrize_checks(make([check("one", True), check("two", False, "a reason")])).mark
    assert mark.args[0] == "check"
    one, two = mark.args[1]
    assert (one.id, two.id) == ("one", "two")
    assert not one.marks
    (xfail,) = two.marks
    assert xfail.kwargs == {"reason": "a reason", "strict": True}


def test_parametrize_checks_prefixes_names_with_keys() -> None:
    parameters = parametrize_checks({"a": [check("one", True)], "b": [check("one", True)]}).mark.args[1]
    assert [parameter.id for parameter in parameters] == ["a-one", "b-one"]


@parametrize_checks([check("holds", True), check("fails", False, "a strict xfail")])
def test_parametrized_checks_run_under_pytest(check: Check) -> None:
    check.run()


def test_kit_imports_no_pytest() -> None:
    code = "import sys, pretextkit.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
