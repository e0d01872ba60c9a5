"""A command: its name, its flags, and the program that it writes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pretextkit.cli._script import Script

__all__ = ["Command", "UsageError"]


class UsageError(Exception):
    """Flags that do not fit together; the command ends with status 2."""


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Example:
        >>> from pretextkit.cli._script import Script
        >>> answer = Command("answer", "print 42", "pretextkit answer", lambda parser: None,
        ...                  lambda options: Script(["result = 42"]), lambda result: {"answer": result})
        >>> answer.write(Namespace()).run(show=False)
        42
    """

    name: str
    """Name on the command line."""
    summary: str
    """What it does, as a clause in the imperative."""
    example: str
    """Calls that ``--help`` shows, one a line."""
    add_flags: Callable[[ArgumentParser], None]
    """Adds its arguments to a parser."""
    write: Callable[[Namespace], Script]
    """Writes the program; raises :class:`UsageError` if flags do not fit together."""
    describe: Callable[[Any], Mapping[str, Any]]
    """Gives the result of the program as plain data for ``--json``."""
