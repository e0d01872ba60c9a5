"""Errors say what was expected, what came and what to do, and survive a trip between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from pretextkit import errors
from pretextkit.errors import PretextkitError

BUILTIN_PARENT = {
    "CheckpointError": RuntimeError,
    "DataError": ValueError,
    "DivergenceError": RuntimeError,
    "DuplicateNameError": ValueError,
    "OptionError": ValueError,
    "PluginError": ImportError,
    "ShapeError": ValueError,
    "UnknownNameError": KeyError,
}
KINDS = [PretextkitError, *(getattr(errors, name) for name in BUILTIN_PARENT)]


def test_every_public_error_has_the_builtin_parent_that_callers_expect() -> None:
    assert set(errors.__all__) == {
        "CollapseWarning",
        "TrainingWarning",
        "PretextkitError",
        "unknown_name",
        *BUILTIN_PARENT,
    }
    for name, parent in BUILTIN_PARENT.items():
        assert issubclass(getattr(errors, name), PretextkitError)
        assert issubclass(getattr(errors, name), parent)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("error_kwargs", "text"),
    [
        ({"got": 1, "fix": "Raise it."}, "Expected at least 2, but got 1. Raise it."),
        ({"got": 1}, "Expected at least 2, but got 1."),
        ({"got": None}, "Expected at least 2, but got None."),
        ({"got": "", "fix": "Give one."}, "Expected at least 2, but got . Give one."),
        ({"fix": "- raise it."}, "at least 2 - raise it."),
        ({}, "at least 2"),
    ],
)
def test_message(kind: type[PretextkitError], error_kwargs: dict[str, str], text: str) -> None:
    # KeyError would show the repr of its argument: the text must come through unquoted all the same.
    assert str(kind("at least 2", **error_kwargs)) == text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("got", [(3, 28, 28), None, ...])
def test_an_error_from_a_worker_process_arrives_whole(kind: type[PretextkitError], got: object) -> None:
    error = kind("images b c h w", got=got, fix="Add a batch axis.")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert (twin.expected, twin.got, twin.fix) == (error.expected, error.got, error.fix)
