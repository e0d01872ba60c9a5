"""Arguments of constructors, recorded as plain data, to build an equal module elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

__all__ = ["Arguments", "RecordsArguments", "decode", "encode"]


class Arguments(NamedTuple):
    """Arguments of a constructor."""

    positional: list[Any]
    """Encoded values."""
    named: dict[str, Any]
    """Name to encoded value."""
    unrecordable: tuple[str, ...]
    """Names of arguments that are no plain data, such as a module."""


class RecordsArguments:
    """Base of classes whose objects remember the arguments of their constructor.

    Authors of subclasses do nothing for it: ``__new__`` gets the arguments before any ``__init__`` runs.
    """

    _arguments: Arguments

    if not TYPE_CHECKING:  # a type checker reads the signature of __init__

        def __new__(cls, *positional: Any, **named: Any) -> Any:
            """Make an object and record the arguments."""
            made = super().__new__(cls)
            made.__dict__["_arguments"] = _record(cls, positional, named)  # nn.Module is not initialized yet
            return made


def _record(cls: Any, positional: tuple[Any, ...], named: Mapping[str, Any]) -> Arguments:
    lost = [name for name, value in named.items() if not _is_plain(value)]
    if not all(map(_is_plain, positional)):
        try:
            bound = dict(inspect.signature(cls.__init__).bind_partial(None, *positional).arguments)
        except TypeError:  # __init__ refuses the arguments too, with a better message
            bound = {"arguments": positional}
        lost += [name for name, value in bound.items() if not _is_plain(value)] or ["arguments"]
    kept = {name: encode(value) for name, value in named.items() if name not in lost}
    return Arguments([] if lost else [encode(value) for value in positional], kept, tuple(lost))


def encode(value: Any) -> Any:
    """Convert plain data to JSON; tuples and mappings stay distinct from lists.

    Example:
        >>> encode({"depths": (2, 2)})
        {'mapping': [['depths', {'tuple': [2, 2]}]]}
    """
    if isinstance(value, tuple):
        return {"tuple": [encode(each) for each in value]}
    if isinstance(value, list):
        return [encode(each) for each in value]
    if isinstance(value, Mapping):
        return {"mapping": [[encode(key), encode(each)] for key, each in value.items()]}
    return value


def decode(value: Any) -> Any:
    """Convert the result of :func:`encode` back.

    Example:
        >>> decode(encode({"depths": (2, [3, None])}))
        {'depths': (2, [3, None])}
    """
    if isinstance(value, list):
        return [decode(each) for each in value]
    if isinstance(value, dict) and "tuple" in value:
        return tuple(decode(each) for each in value["tuple"])
    if isinstance(value, dict):
        return {decode(key): decode(each) for key, each in value["mapping"]}
    return value


def _is_plain(value: Any) -> bool:
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(_is_plain(each) for pair in value.items() for each in pair)
    return value is None or type(value) in (bool, int, float, str)
