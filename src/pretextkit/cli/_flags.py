"""Flags from the keywords of a function: its names, types, defaults and descriptions."""

from __future__ import annotations

import ast
import inspect
import math
import re
import types
from argparse import SUPPRESS, Action, ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Several
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from pretextkit.errors import OptionError, unknown_name

__all__ = ["add_flags", "given", "keyword_flag", "parse_assignments"]

Group: TypeAlias = Any
"""A parser or a group of one; argparse has no public common class."""


def add_flags(
    group: Group,
    function: Callable[..., Any],
    *,
    leave_out: Iterable[str] = (),
    kinds: Mapping[str, type] | None = None,
) -> None:
    """Add a flag for each keyword of a function: ``batch_size`` becomes ``--batch-size``.

    Keywords that take functions or other objects of Python have no flag.

    A flag that is not given leaves no trace in the parsed options, and the function uses its own default.

    Args:
        group: Parser, or group of a parser.
        function: Function or class.
        leave_out: Keywords without a flag.
        kinds: Types of keywords whose annotations say more than a command line can.

    Example:
        >>> parser = ArgumentParser()
        >>> def train(images, *, epochs: int | None = None, rate: float = 0.1): ...
        >>> add_flags(parser, train)
        >>> parser.parse_args(["--epochs", "3"])
        Namespace(epochs=3)
    """
    present, described = {action.dest for action in group._actions}, _descriptions(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY or name in {*leave_out, *present}:
            continue
        annotation = (kinds or {}).get(name) or _resolved(parameter.annotation, function)
        if (kind := _kind(annotation)) is not None:
            text = described.get(name, "") + _default(parameter.default)
            group.add_argument(keyword_flag(name), dest=name, default=SUPPRESS, help=text, **kind)


def given(options: Namespace, function: Callable[..., Any], *, leave_out: Iterable[str] = ()) -> dict[str, Any]:
    """Return the keywords of a function that were given as flags, in the order of its signature.

    Example:
        >>> def train(images, *, epochs=None, rate=0.1): ...
        >>> given(Namespace(rate=0.2, json=True), train)
        {'rate': 0.2}
    """
    names = [each.name for each in inspect.signature(function).parameters.values() if each.kind is each.KEYWORD_ONLY]
    return {name: getattr(options, name) for name in names if hasattr(options, name) and name not in leave_out}


def keyword_flag(keyword: str) -> str:
    """Name the flag of a keyword.

    Example:
        >>> keyword_flag("batch_size")
        '--batch-size'
    """
    return "--" + keyword.replace("_", "-")


def parse_assignments(texts: Iterable[str], function: Callable[..., Any], flag: str) -> dict[str, Any]:
    """Read texts such as ``temperature=0.5`` as keywords of a function.

    Raises:
        OptionError: A text has no ``=``.
        UnknownNameError: The function has no such keyword.

    Example:
        >>> def make(backbone, *, temperature=0.2): ...
        >>> parse_assignments(["temperature=0.5"], make, "--task-option")
        {'temperature': 0.5}
    """
    keywords = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"{flag} NAME=VALUE", got=repr(text), fix=f"For example {flag} {text}=1.")
        if name.replace("-", "_") not in keywords:
            raise unknown_name(f"keyword for {flag}", name, keywords)
        found[name.replace("-", "_")] = _value(value)
    return found


def _kind(annotation: Any) -> dict[str, Any] | None:
    """Translate a type into arguments of ``add_argument``; None for a function and other objects of Python."""
    members = _members(annotation)
    words = tuple(word for each in members if get_origin(each) is Literal for word in get_args(each))
    lists = [each for each in members if get_origin(each) is Several]
    if bool in members:
        return {"action": BooleanOptionalAction}
    if lists:
        return _list_kind(get_args(lists[0])[0], words, scalar=get_args(lists[0])[0] in members)
    if int in members and any(get_origin(each) is tuple for each in members):
        return {"type": _side_or_pair, "metavar": "N|HxW"}
    if words and not {str, Path} & set(members):
        return {"choices": words}
    for kind, shown in ((int, "N"), (float, "X"), (Path, "PATH"), (str, "TEXT")):
        if kind in members:
            return {"type": str if kind is Path else kind, "metavar": shown}
    return None


def _side_or_pair(text: str) -> int | tuple[int, ...]:
    """Read the size of images, ``"64"`` or ``"240x320"``."""
    sides = tuple(map(int, text.lower().split("x")))
    return sides[0] if len(sides) == 1 else sides


_side_or_pair.__name__ = "size"  # in the message of argparse


def _list_kind(element: type, words: tuple[str, ...], *, scalar: bool) -> dict[str, Any]:
    """Translate a list of values, in whose place one of ``words``, or one value if ``scalar``, may stand."""

    class Values(Action):
        def __call__(self, parser: ArgumentParser, options: Namespace, values: Any, option: str | None = None) -> None:
            alone = len(values) == 1 and (scalar or values[0] in words)
            setattr(options, self.dest, values[0] if alone else values)

    def read(text: str) -> Any:
        return text if text in words else element(text)

    read.__name__ = element.__name__  # in the message of argparse
    return {"nargs": "*", "type": read, "action": Values, "metavar": "X"}


def _members(annotation: Any) -> list[Any]:
    """List the members of a union, at any depth."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [each for member in get_args(annotation) for each in _members(member)]
    return [annotation]


def _resolved(annotation: Any, function: Callable[..., Any]) -> Any:
    """Evaluate the text of an annotation where the function was written."""
    where: Any = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    return eval(annotation, where.__globals__) if isinstance(annotation, str) else annotation


def _descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """Read the descriptions of arguments from a docstring, as plain text for argparse."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(function) or "", re.DOTALL | re.MULTILINE)
    entries = re.split(r"^ {4}(?=\w+: )", section[1], flags=re.MULTILINE) if section else []
    pairs = [entry.partition(": ") for entry in entries if entry.strip()]
    return {name: _plain(text) for name, _, text in pairs}


def _plain(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    text = re.sub(r"\s+", " ", text.replace("``", "").replace("%", "%%")).strip()
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _default(value: Any) -> str:
    if value is None or value == () or (isinstance(value, float) and math.isinf(value)):
        return ""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return f" (default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})"


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
