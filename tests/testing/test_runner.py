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


def test_all_failures_are_reported_together() -> None:
    with pytest.raises(ConformanceError) as caught:
        run_checks([check("one", False), check("two", True), check("three", False)])
    assert str(caught.value) == (
        "Expected all 3 checks to go as declared, but got 2 that did not:\n"
        "  one: one does not hold.\n"
        "  three: three does not hold."
    )
    assert isinstance(caught.value, PretextkitError)
    assert isinstance(caught.value, AssertionError)


def test_expected_failures_are_allowed_and_stale_ones_are_not() -> None:
    run_checks([check("one", False, "for a reason"), check("two", True)])
    with pytest.raises(ConformanceError, match=r"  one: passes; remove it from expected_failures\."):
        run_checks([check("one", True, "for a reason")])


def test_any_exception_is_a_failure_with_its_type() -> None:
    def broken() -> None:
        raise ZeroDivisionError("by nought")

    assert failure(Check("broken", "", broken)) == "ZeroDivisionError: by nought"
    with pytest.raises(ConformanceError, match="broken: ZeroDivisionError: by nought"):
        run_checks([Check("broken", "", broken)])


def test_an_exemption_from_an_unknown_check_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'features_are_b_d'"):
        backbone_checks(TinyBackbone, expected_failures={"features_are_bd": "typing error"})


def test_interrupts_are_not_failures() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failure(Check("interrupted", "", interrupted))


@pytest.mark.parametrize("make", [list, iter])
def test_pytest_parameters_carry_names_and_strict_marks(make: Callable[[list[Check]], list[Check]]) -> None:
    mark = parametrize_checks(make([check("one", True), check("two", False, "a reason")])).mark
    assert mark.args[0] == "check"
    one, two = mark.args[1]
    assert (one.id, two.id) == ("one", "two")
    assert not one.marks
    (xfail,) = two.marks
    assert xfail.kwargs == {"reason": "a reason", "strict": True}


def test_a_mapping_leads_the_names() -> None:
    parameters = parametrize_checks({"a": [check("one", True)], "b": [check("one", True)]}).mark.args[1]
    assert [parameter.id for parameter in parameters] == ["a-one", "b-one"]


@parametrize_checks([check("holds", True), check("fails", False, "shown to fail strictly")])
def test_runs_under_pytest(check: Check) -> None:
    check.run()


def test_the_kit_imports_no_pytest() -> None:
    code = "import sys, pretextkit.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
