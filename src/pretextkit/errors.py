"""The errors pretextkit raises: each says what was expected, what came, and what to do. And its warnings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "CollapseWarning",
    "DataError",
    "DivergenceError",
    "DuplicateNameError",
    "OptionError",
    "PluginError",
    "PretextkitError",
    "ShapeError",
    "TrainingWarning",
    "UnknownNameError",
    "unknown_name",
]


class PretextkitError(Exception):
    """Base of every error raised on purpose by pretextkit.

    Args:
        expected: What was expected, as a noun phrase; without ``got``, a sentence that says what is wrong.
        got: What came instead.
        fix: What to do about it, as a sentence.

    Example:
        >>> print(PretextkitError("a batch of at least 2", got=1, fix="Raise batch_size."))
        Expected a batch of at least 2, but got 1. Raise batch_size.
    """

    def __init__(self, expected: str, *, got: object = ..., fix: str = "") -> None:
        super().__init__(expected)
        self.expected, self.got, self.fix = expected, got, fix

    def __str__(self) -> str:
        problem = self.expected if self.got is ... else f"Expected {self.expected}, but got {self.got}."
        return f"{problem} {self.fix}".rstrip()


class TrainingWarning(UserWarning):
    """Training goes on, and does not do what it should; the message names the cause and the cure."""


class CollapseWarning(TrainingWarning):
    """A backbone has come to give every image nearly the same features; the message names the cause."""


class ShapeError(PretextkitError, ValueError):
    """A tensor has a shape the function cannot take."""


class DataError(PretextkitError, ValueError):
    """Images, labels or files hold something the function cannot use."""


class OptionError(PretextkitError, ValueError):
    """An option has a value outside its choices or range."""


class UnknownNameError(PretextkitError, KeyError):
    """A name is not known; the message suggests the nearest one."""


class DuplicateNameError(PretextkitError, ValueError):
    """Two things claim one name."""


class PluginError(PretextkitError, ImportError):
    """An installed plug-in could not be loaded."""


class CheckpointError(PretextkitError, RuntimeError):
    """A checkpoint is damaged, belongs to another run, or cannot be written."""


class DivergenceError(PretextkitError, RuntimeError):
    """Training produced a loss that is not finite."""


def unknown_name(kind: str, name: object, known: Iterable[str], fix: str = "") -> UnknownNameError:
    """Build the error for a name that is not known, with the nearest known one and all of them.

    Example:
        >>> print(unknown_name("precision", "FP_16", ["bf16", "fp16", "fp32"]))
        Expected the name of a precision, but got 'FP_16'. Did you mean 'fp16'? Known: bf16, fp16, fp32.
    """
    known = list(known)
    spellings = {_spelling(each): each for each in known}
    near = difflib.get_close_matches(_spelling(name), spellings, n=1)
    hint = f"Did you mean {spellings[near[0]]!r}? " if near else ""
    fix = f"{hint}Known: {', '.join(known) or 'none'}. {fix}".rstrip()
    article = "an" if kind[0] in "aeiou" else "a"
    return UnknownNameError(f"the name of {article} {kind}", got=repr(name), fix=fix)


def _spelling(name: object) -> str:
    return str(name).lower().replace("_", "-")
