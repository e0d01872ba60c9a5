"""Errors with three parts (expected value, actual value, fix), and training warnings."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterable
from typing import ClassVar

import torch

__all__ = [
    "CheckpointError",
    "CollapseWarning",
    "DataError",
    "DataWarning",
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


TROUBLESHOOTING = "https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html"
"""Page with a section for each warning, each class of errors, and each error that many people meet first."""

PASSED_THROUGH = frozenset({"pretextkit", "torch", "functools", "contextlib"})
"""Packages between the line of the user and a warning: modules are called by torch, cached properties by functools."""


class PretextkitError(Exception):
    """Base of every error raised on purpose by pretextkit.

    Args:
        expected: Expected value as a noun phrase; without ``got``, a full sentence that describes the problem.
        got: Actual value.
        fix: Advice to the caller, as a sentence.
        see: Section of the page on troubleshooting that has an example, as an anchor; by default that of the class.

    Example:
        >>> print(PretextkitError("a batch of at least 2", got=1, fix="Raise batch_size."))
        Expected a batch of at least 2, but got 1. Raise batch_size.
    """

    section: ClassVar[str] = ""
    """Section of the page on troubleshooting that explains this class of errors, as an anchor."""

    def __init__(self, expected: str, *, got: object = ..., fix: str = "", see: str = "") -> None:
        expected, see = _without_worker_traceback(type(self), expected, see)
        super().__init__(expected)
        self.expected, self.got, self.fix, self.see = expected, got, fix, see

    @property
    def text(self) -> str:
        """Problem and fix, without the address of the section."""
        problem = self.expected if self.got is ... else f"Expected {self.expected}, but got {self.got}."
        return f"{problem} {self.fix}".rstrip()

    def __str__(self) -> str:
        return linked(self.text, self.see or self.section)


class DataWarning(UserWarning):
    """Images or a result may not be what was intended; the message names the cause and a fix."""


class TrainingWarning(UserWarning):
    """Training continues with a silent failure; the message names the cause and a fix."""


class CollapseWarning(TrainingWarning):
    """The backbone gives nearly the same features to all images; the message names the cause."""


class ShapeError(PretextkitError, ValueError):
    """A tensor has an invalid shape."""

    section = "a-shape-that-does-not-fit"


class DataError(PretextkitError, ValueError):
    """Images, labels or files have invalid contents."""

    section = "images-labels-or-files-that-do-not-fit"


class OptionError(PretextkitError, ValueError):
    """An option has a value outside its choices or range."""

    section = "an-option-out-of-range"


class UnknownNameError(PretextkitError, KeyError):
    """A name is unknown; the message suggests the most similar one."""

    section = "a-name-that-is-unknown"


class DuplicateNameError(PretextkitError, ValueError):
    """Two classes have the same name."""

    section = "a-name-that-is-taken"


class PluginError(PretextkitError, ImportError):
    """An installed plug-in cannot be loaded."""

    section = "a-plug-in-that-cannot-be-loaded"


class CheckpointError(PretextkitError, RuntimeError):
    """A checkpoint is corrupt, belongs to another run, or cannot be written."""

    section = "a-checkpoint-that-cannot-be-used"


class DivergenceError(PretextkitError, RuntimeError):
    """The training loss is NaN or infinite."""

    section = "a-loss-that-rises"


def linked(text: str, see: str) -> str:
    """Add the section of the page on troubleshooting to a message; without a section the text stays.

    Example:
        >>> linked("The loss rises.", "a-loss-that-rises")
        'The loss rises. See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#a-loss-that-rises.'
        >>> linked("The loss rises.", "")
        'The loss rises.'
    """
    return f"{text} See {TROUBLESHOOTING}#{see}." if see else text


def warn(text: str, category: type[Warning] = UserWarning, *, see: str) -> None:
    """Give a warning that names its section of the page on troubleshooting, and blames the line of the user.

    Args:
        text: Cause and fix, as sentences.
        category: Class of the warning.
        see: The section, as an anchor; empty for none.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn("No image is read.", DataWarning, see="files-that-are-not-read")
        >>> print(caught[0].message)
        No image is read. See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#files-that-are-not-read.
    """
    level = 1 if torch.compiler.is_compiling() else _level_of_user()  # the compiler of torch traces no frames
    warnings.warn(linked(text, see), category, stacklevel=level)


def _level_of_user() -> int:
    """Count the frames from the caller of this function to the first outside of the packages passed through."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in PASSED_THROUGH:
        frame, level = frame.f_back, level + 1
    return level


def reason(error: BaseException) -> str:
    """Describe an error as a phrase of one line, which another error can name as its ``got``.

    Example:
        >>> reason(ShapeError("images b c h w", got="shape (2, 3)", fix="Add axes."))
        'shape (2, 3) in place of images b c h w'
        >>> reason(RuntimeError("Sizes differ.\\nTraceback of C++"))
        'RuntimeError: Sizes differ'
    """
    if isinstance(error, PretextkitError):
        return error.expected.rstrip(".") if error.got is ... else f"{error.got} in place of {error.expected}"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip().rstrip('.')}" if lines else type(error).__name__


def _without_worker_traceback(kind: type[PretextkitError], text: str, see: str) -> tuple[str, str]:
    """Take message and section of an error out of the text with which a DataLoader raises the error of a worker again.

    Example:
        >>> worker = "Caught DataError in DataLoader worker process 0.\\nOriginal Traceback (most recent call last):\\n"
        >>> worker += f"pretextkit.errors.DataError: {DataError('No images.', see='no-images')}"
        >>> DataError(worker).text, DataError(worker).see
        ('No images.', 'no-images')
    """
    if not (text.startswith("Caught ") and "\nOriginal Traceback" in text):
        return text, see
    text = text.rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2].strip()
    message, _, section = text.rpartition(f" See {TROUBLESHOOTING}#")
    return (message, section.rstrip(".")) if message else (text, see)


def unknown_name(kind: str, name: object, known: Iterable[str], fix: str = "") -> UnknownNameError:
    """Build the error for an unknown name, with the most similar valid name and a list of all.

    Example:
        >>> print(unknown_name("precision", "FP_16", ["bf16", "fp16", "fp32"]).text)
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
