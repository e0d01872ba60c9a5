"""Named checks, and runners: all together, one by one, or each as a pytest test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from pretextkit.errors import PretextkitError, unknown_name

if TYPE_CHECKING:
    import pytest

__all__ = ["NONE", "Check", "ConformanceError", "bind", "parametrize_checks", "require", "run_checks"]

CaseT = TypeVar("CaseT")

NONE: Mapping[str, str] = MappingProxyType({})
"""No expected failures."""


class ConformanceError(PretextkitError, AssertionError):
    """An object violates the contract; the message lists every failed check with its reason."""

    section = "a-plug-in-that-fails-its-checks"


@dataclass(frozen=True)
class Check:
    """Named check of one object.

    Example:
        >>> Check("one_is_one", "one equals one", lambda: require(1 == 1, "1 differs from 1.")).run()
    """

    name: str
    """Key in ``expected_failures``."""
    promise: str
    """Property that holds if the check passes, as a sentence."""
    run: Callable[[], None]
    """Function that raises if the check fails."""
    expected_failure: str | None = None
    """Reason of an expected failure, or None."""


def require(holds: bool, otherwise: str) -> None:
    """Raise :class:`ConformanceError` unless ``holds``; ``python -O`` would remove an ``assert``.

    Example:
        >>> require(False, "The views differ.")
        Traceback (most recent call last):
            ...
        pretextkit.testing._runner.ConformanceError: The views differ.
    """
    if not holds:
        raise ConformanceError(otherwise)


def bind(
    functions: Iterable[Callable[[CaseT], None]], case: CaseT, expected_failures: Mapping[str, str]
) -> list[Check]:
    """Make one :class:`Check` of ``case`` from each function.

    The function gives the name, and the first line of its docstring the promise.

    Raises:
        UnknownNameError: A key of ``expected_failures`` is not the name of a check.
    """
    by_name = {function.__name__: function for function in functions}
    for name in expected_failures:
        if name not in by_name:
            raise unknown_name("conformance check", name, sorted(by_name))

    def check(name: str, function: Callable[[CaseT], None]) -> Check:
        promise = (function.__doc__ or name).partition("\n")[0]
        return Check(name, promise, lambda: function(case), expected_failures.get(name))

    return [check(name, function) for name, function in by_name.items()]


def failure(check: Check) -> str | None:
    """Run ``check`` and return the reason of its failure, or None. Any exception is a failure."""
    try:
        check.run()
    except ConformanceError as error:
        return error.text
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def run_checks(checks: Iterable[Check]) -> None:
    """Run every check, then report all unexpected results together.

    Raises:
        ConformanceError: A check failed, or a check in ``expected_failures`` passed.

    Example:
        >>> run_checks([Check("sun_rises", "the sun rises", lambda: require(False, "It stayed dark."))])
        Traceback (most recent call last):
            ...
        pretextkit.testing._runner.ConformanceError: Expected the declared result of 1 check, but got 1 other result:
          sun_rises: It stayed dark.
    """
    count, wrong = 0, []
    for check in checks:
        count += 1
        reason = failure(check)
        if check.expected_failure is None and reason is not None:
            wrong.append(f"  {check.name}: {reason}")
        elif check.expected_failure is not None and reason is None:
            wrong.append(f"  {check.name}: passes; remove the name from expected_failures.")
    if wrong:
        raise ConformanceError("\n".join((_headline(count, len(wrong)), *wrong)))


def _headline(count: int, wrong: int) -> str:
    checks, results = ("check" if count == 1 else "checks"), ("result" if wrong == 1 else "results")
    return f"Expected the declared result of {count} {checks}, but got {wrong} other {results}:"


def parametrize_checks(checks: Mapping[str, Iterable[Check]] | Iterable[Check]) -> pytest.MarkDecorator:
    """Turn checks into pytest tests: the decorated function takes ``check`` and calls ``check.run()``.

    An expected failure becomes a strict ``xfail``: the test fails if the check passes. A mapping tests several objects
    in one function; its keys begin the test names. Only this function needs pytest.

    Example:
        >>> from pretextkit.testing import TinyBackbone, backbone_checks
        >>> @parametrize_checks({"tiny": backbone_checks(TinyBackbone)})
        ... def test_conforms(check):
        ...     check.run()
    """
    import pytest

    suites = checks if isinstance(checks, Mapping) else {"": checks}
    return pytest.mark.parametrize(
        "check",
        [
            pytest.param(
                check,
                id=f"{subject}-{check.name}".lstrip("-"),
                marks=[pytest.mark.xfail(reason=check.expected_failure, strict=True)] if check.expected_failure else [],
            )
            for subject, suite in suites.items()
            for check in suite
        ],
    )
