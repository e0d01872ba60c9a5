"""Arguments in, exit status out."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from textwrap import indent
from typing import Any

import pretextkit
from pretextkit.cli._command import Command, UsageError
from pretextkit.cli._commands import COMMANDS
from pretextkit.cli._flags import keyword_flag
from pretextkit.cli._messages import as_flags, shown_warnings
from pretextkit.cli._outputs import plain
from pretextkit.cli._script import Script
from pretextkit.errors import PretextkitError
from pretextkit.training._description import started_by

__all__ = ["main", "parse"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit status: of success, of an error that is explained, of wrong flags, and of Ctrl-C."""

OTHER_NAMES = {"checkpoint": "--out", "save": "--out", "label": "--label-column", "file": "--file-column"}
"""Flags of keywords that have another name on the command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status.

    Args:
        arguments: Command and flags; by default those of the process.

    Returns:
        0; 1 after an error, whose message is on standard error; 2 for wrong flags; 130 after Ctrl-C.

    Example:
        >>> main(["list", "heads", "--json"])
        {"command": "list", "heads": {...}, "files": [], "warnings": []}
        0
    """
    _escape_names_of_files()
    try:
        words = sys.argv[1:] if arguments is None else arguments
        options = parse(words)
        with started_by(shlex.join(["pretextkit", *words])):
            status = _run(options.command, options)
        sys.stdout.flush()  # a pipe without a reader is found here
        return status
    except SystemExit as stop:  # argparse: 0 after --help, 2 after wrong flags
        return stop.code if isinstance(stop.code, int) else USAGE
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has left, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command and its arguments, in any order; the result has its ``command`` and its ``parser`` too.

    Raises:
        SystemExit: After ``--help``, or if the arguments are wrong.

    Example:
        >>> parse(["neighbors", "one.jpg", "--k", "3", "photos"]).database
        'photos'
    """
    words = _with_hyphens(arguments)
    parser, commands = _build_parsers()
    if not words:
        parser.print_help(sys.stderr)
        raise SystemExit(USAGE)
    if words[0] not in commands:
        if near := difflib.get_close_matches(words[0].lower(), commands, n=1):
            parser.error(f"unknown command: {words[0]}; did you mean {near[0]}?")
        return parser.parse_args(words)
    own = commands[words[0]]
    options, unknown = own.parse_known_intermixed_args(words[1:])
    if unknown:
        own.error(_unknown_text(unknown, own))
    return options


def _build_parsers() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Build the parser that lists the commands, and the parser of each."""
    parser = argparse.ArgumentParser(prog="pretextkit", description="Self-supervised learning on your images.")
    parser.add_argument("--version", action="version", version=f"pretextkit {pretextkit.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        described = f"{command.summary[0].upper()}{command.summary[1:]}."
        own = commands.add_parser(
            command.name,
            help=command.summary,
            description=described,
            epilog=f"example:\n{indent(command.example, '  ')}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_flags(own)
        own.add_argument("--json", action="store_true", help="print the result as one JSON object")
        own.add_argument("--show-code", action="store_true", help="print the Python program that does the same")
        own.set_defaults(command=command, parser=own)
        own.usage = _short_usage(own)
    return parser, commands.choices


def _short_usage(parser: argparse.ArgumentParser) -> str:
    """Name the positional arguments and the required flags; ``--help`` lists the others."""
    words = [f"{a.option_strings[0]} {a.metavar}" for a in parser._actions if a.option_strings and a.required]
    for action in parser._actions:
        if not action.option_strings:
            name = str(action.metavar or action.dest).upper()
            words.append(f"[{name}]" if action.nargs == "?" else f"{name} ..." if action.nargs == "+" else name)
    return " ".join([parser.prog, *words, "[flags]"])


def _run(command: Command, options: argparse.Namespace) -> int:
    """Write the program of a command; then show it or run it."""
    flags = _flags_of(options.parser)
    with shown_warnings(flags) as texts:
        try:
            script = command.write(options)
            if options.show_code:
                print(json.dumps({"code": script.text()}) if options.json else script.text(), end="")
                return OK
            with redirect_stdout(sys.stderr) if options.json else nullcontext():
                result = script.run(show=not options.json)
        except UsageError as error:
            options.parser.error(str(error))
        except BrokenPipeError:
            raise
        except (PretextkitError, OSError) as error:
            print("\n".join(_error_lines(error, flags)), file=sys.stderr)
            return FAILED
    if options.json:
        about: Mapping[str, Any] = {"files": [path for path in script.files if path], "warnings": texts}
        print(json.dumps(plain({"command": command.name, **command.describe(result), **about})))
    else:
        _tell(script)
    return OK


def _error_lines(error: Exception, flags: Mapping[str, str]) -> list[str]:
    """Say what is wrong; then the flags that mend it, if there are any; and last what to do in Python."""
    advice = as_flags(error.fix, flags) if isinstance(error, PretextkitError) else ""
    if not isinstance(error, PretextkitError) or not advice:
        return [f"Error: {error}"]
    problem = error.text.removesuffix(error.fix).rstrip()
    return [f"Error: {problem}", advice, str(error)[len(problem) :].strip()]


def _tell(script: Script) -> None:
    """Say what was written, and what may come next."""
    for line in [*(f"Written: {path}" for path in script.files if path), *script.hints]:
        print(line, file=sys.stderr)


def _flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Map the keywords of a command to its flags."""
    own = {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}
    return {name: flag for name, flag in OTHER_NAMES.items() if flag in own.values()} | own


def _with_hyphens(arguments: Sequence[str]) -> list[str]:
    """Take ``--batch_size`` like ``--batch-size``."""
    parts = [text.partition("=") for text in arguments]
    return [
        (keyword_flag(name[2:]) if name.startswith("--") else name) + equals + value for name, equals, value in parts
    ]


def _unknown_text(unknown: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """Name unknown arguments, and the flag that is most similar to the first."""
    flags = [flag for action in parser._actions for flag in action.option_strings]
    near = difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1)
    return f"unrecognized arguments: {' '.join(unknown)}" + (f"; did you mean {near[0]}?" if near else "")


def _escape_names_of_files() -> None:
    """Let names of files that are no text of the terminal print with escapes, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
