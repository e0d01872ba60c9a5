"""Named checks, and the three ways to run them: all at once, one by one, or each as a pytest test."""

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
    """Something does not keep the contract; the message lists every check that failed and why."""


@dataclass(frozen=True)
class Check:
    """One named check of one object.

    Example:
        >>> Check("one_is_one", "one equals one", lambda: require(1 == 1, "1 was something else")).run()
    """

    name: str
    """What ``expected_failures`` calls it."""
    promise: str
    """What holds where it passes, as a sentence."""
    run: Callable[[], None]
    """Raises where it fails."""
    expected_failure: str | None = None
    """Why it may fail, if it may."""


def require(holds: bool, otherwise: str) -> None:
    """Raise :class:`ConformanceError` unless ``holds``; a plain ``assert`` would vanish under ``python -O``.

    Example:
        >>> require(False, "The views differ.")
        Traceback (most recent call last):
            ...
        pretextkit.testing.runner.ConformanceError: The views differ.
    """
    if not holds:
        raise ConformanceError(otherwise)


def bind(
    functions: Iterable[Callable[[CaseT], None]], case: CaseT, expected_failures: Mapping[str, str]
) -> list[Check]:
    """Make one :class:`Check` of each function, all about ``case``.

    A function's name is the check's name, and the first line of its docstring the promise.

    Raises:
        UnknownNameError: ``expected_failures`` names no check.
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
    """Run ``check``; say why it failed, or None. Any exception is a failure."""
    try:
        check.run()
    except ConformanceError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def run_checks(checks: Iterable[Check]) -> None:
    """Run every check, then report together all that did not go as expected.

    Raises:
        ConformanceError: A check failed, or one in ``expected_failures`` passed: that exemption is stale.

    Example:
        >>> run_checks([Check("sun_rises", "the sun rises", lambda: require(False, "It stayed dark."))])
        Traceback (most recent call last):
            ...
        pretextkit.testing.runner.ConformanceError: Expected all 1 checks to go as declared, but got 1 that did not:
          sun_rises: It stayed dark.
    """
    count, wrong = 0, []
    for check in checks:
        count += 1
        reason = failure(check)
        if check.expected_failure is None and reason is not None:
            wrong.append(f"  {check.name}: {reason}")
        elif check.expected_failure is not None and reason is None:
            wrong.append(f"  {check.name}: passes; remove it from expected_failures.")
    if wrong:
        raise ConformanceError("\n".join((_headline(count, len(wrong)), *wrong)))


def _headline(count: int, wrong: int) -> str:
    return f"Expected all {count} checks to go as declared, but got {wrong} that did not:"


def parametrize_checks(checks: Mapping[str, Iterable[Check]] | Iterable[Check]) -> pytest.MarkDecorator:
    """Turn checks into pytest tests: the decorated function takes ``check`` and calls ``check.run()``.

    An expected failure becomes a strict ``xfail``, so that a stale exemption fails. Pass a mapping to test several
    things in one function; its keys lead the tests' names. This alone needs pytest.

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
