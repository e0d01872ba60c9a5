"""Errors state the expected value, the actual value and a fix, and can be pickled."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from pretextkit import errors
from pretextkit.errors import DataWarning, PretextkitError, warn

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


def test_errors_derive_from_the_matching_builtin_error() -> None:
    public = {name for name in errors.__all__ if name.endswith("Error") and name != "PretextkitError"}
    assert public == set(BUILTIN_PARENT)
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
def test_message_joins_expected_got_and_fix(
    kind: type[PretextkitError], error_kwargs: dict[str, str], text: str
) -> None:
    # A plain KeyError shows its argument in quotes; this one must not.
    error = kind("at least 2", **error_kwargs)
    assert error.text == text
    assert str(error) == (f"{text} See {errors.TROUBLESHOOTING}#{kind.section}." if kind.section else text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("got", [(3, 28, 28), None, ...])
def test_error_survives_pickling_and_copying(kind: type[PretextkitError], got: object) -> None:
    error = kind("images b c h w", got=got, fix="Add a batch axis.")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert (twin.expected, twin.got, twin.fix) == (error.expected, error.got, error.fix)


def test_warning_walks_no_frames_while_torch_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(errors, "_level_of_user", None)  # the compiler cannot trace a call
    with pytest.warns(DataWarning, match=r"^Images are dark\.$"):
        warn("Images are dark.", DataWarning, see="")
