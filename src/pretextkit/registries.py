"""Named pretext tasks, backbones and heads, built in, registered in code, or installed as plug-ins."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pretextkit.contracts import Backbone, Head, PretextTask
from pretextkit.errors import DuplicateNameError, OptionError, PluginError, UnknownNameError

__all__ = ["Registry", "backbone", "backbones", "head", "heads", "pretext_task", "pretext_tasks", "unknown_name"]

T = TypeVar("T")


def unknown_name(kind: str, name: object, known: list[str], fix: str = "") -> UnknownNameError:
    """Build the error for a name that is not known, with the nearest known one and all of them."""
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return UnknownNameError(f"the name of a {kind}", got=repr(name), fix=f"{hint}Known: {', '.join(known)}. {fix}".rstrip())


class Registry(Mapping[str, type[T]]):
    """A mapping from names to classes of one kind.

    Listing imports no plug-in; ``registry[name]`` loads it.

    Args:
        kind: What is registered, for messages.
        base: Every class registered must derive from it.
        group: Entry-point group through which installed packages add classes.

    Example:
        >>> from pretextkit import backbones
        >>> "resnet18" in backbones
        True
        >>> backbones["resnet-18"]
        Traceback (most recent call last):
            ...
        pretextkit.errors.UnknownNameError: Expected the name of a backbone, but got 'resnet-18'. Did you mean ...
    """

    def __init__(self, kind: str, base: type[Any], group: str) -> None:
        self.kind, self.base, self.group = kind, base, group
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str, cls: type[T]) -> None:
        """Register ``cls`` as ``name``.

        Defining the same class again (a notebook cell run twice) replaces it.

        Raises:
            OptionError: ``cls`` does not derive from the registry's base.
            DuplicateNameError: Another class has the name.
        """
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise OptionError(
                f"a subclass of {self.base.__name__} for the {self.kind} {name!r}",
                got=repr(cls),
                fix=f"Derive it from pretextkit.{self.base.__name__}.",
            )
        known = self._classes.get(name)
        if known is not None and _identity(known) != _identity(cls):
            raise DuplicateNameError(
                f"one {self.kind} named {name!r}",
                got=f"{_identity(known)} and {_identity(cls)}",
                fix="Register one of them under another name.",
            )
        self._classes[name] = cls

    def create(self, name: str, *args: Any, **options: Any) -> T:
        """Build ``self[name](*args, **options)``, for names that come from a configuration or command line."""
        return self[name](*args, **options)

    def __getitem__(self, name: str) -> type[T]:
        plugins = [point for point in entry_points(group=self.group) if point.name == name]
        for point in plugins:
            self.register(name, self._load(point))
        if name not in self._classes:
            raise unknown_name(self.kind, name, list(self), f"Plug-ins register in the entry-point group {self.group!r}.")
        return self._classes[name]

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._classes, *(point.name for point in entry_points(group=self.group))}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Registry({self.kind}: {', '.join(self)})"

    def _load(self, point: EntryPoint) -> Any:
        try:
            return point.load()
        except Exception as error:
            origin = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
            raise PluginError(
                f"the {self.kind} {point.name!r} to load from {point.value!r} of {origin}",
                got=f"{type(error).__name__}: {error}",
                fix="Repair, update or uninstall that distribution.",
            ) from error


def _identity(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


pretext_tasks: Registry[PretextTask[Any, Any]] = Registry("pretext task", PretextTask, "pretextkit.pretext_tasks")
backbones: Registry[Backbone] = Registry("backbone", Backbone, "pretextkit.backbones")
heads: Registry[Head] = Registry("head", Head, "pretextkit.heads")

TaskT = TypeVar("TaskT", bound=PretextTask[Any, Any])
BackboneT = TypeVar("BackboneT", bound=Backbone)
HeadT = TypeVar("HeadT", bound=Head)


# One concrete decorator per kind: a generic one would make type checkers forget the class it returns.


def pretext_task(name: str) -> Callable[[type[TaskT]], type[TaskT]]:
    """Register the decorated :class:`~pretextkit.PretextTask` as ``name``."""

    def decorate(cls: type[TaskT]) -> type[TaskT]:
        pretext_tasks.register(name, cls)
        return cls

    return decorate


def backbone(name: str) -> Callable[[type[BackboneT]], type[BackboneT]]:
    """Register the decorated :class:`~pretextkit.Backbone` as ``name``."""

    def decorate(cls: type[BackboneT]) -> type[BackboneT]:
        backbones.register(name, cls)
        return cls

    return decorate


def head(name: str) -> Callable[[type[HeadT]], type[HeadT]]:
    """Register the decorated :class:`~pretextkit.Head` as ``name``."""

    def decorate(cls: type[HeadT]) -> type[HeadT]:
        heads.register(name, cls)
        return cls

    return decorate
