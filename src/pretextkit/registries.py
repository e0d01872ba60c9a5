"""Registries of pretext tasks, backbones and heads: built in, registered in code, or installed as plug-ins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from pretextkit.contracts import Backbone, Head, PretextTask
from pretextkit.errors import DuplicateNameError, OptionError, PluginError, UnknownNameError, reason, unknown_name

__all__ = [
    "Registry",
    "backbones",
    "heads",
    "pretext_tasks",
    "register_backbone",
    "register_head",
    "register_pretext_task",
]

T = TypeVar("T")

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""One spelling per name: ``Small_CNN`` and ``small-cnn`` cannot both exist."""


class Registry(Mapping[str, type[T]]):
    """Mapping from names to classes of one kind.

    Listing the names imports no plug-in; ``registry[name]`` does. Models of torchvision and timm are backbones by the
    names ``"torchvision/resnet50"`` and ``"timm/convnext_atto"``, which are looked up and not listed.

    Type checkers know the class and the options of each built-in name; for any other name they accept all options.

    Args:
        kind: Noun for the classes in error messages, such as ``"backbone"``.
        base: Base class of every registered class.
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
        self._libraries: dict[str, Callable[[str], type[T]]] = {}

    def register(self, name: str, cls: type[T]) -> None:
        """Register ``cls`` as ``name``.

        A class that is defined again, such as in a notebook cell that runs twice, replaces the first one.

        Raises:
            OptionError: ``name`` is not lowercase words joined by hyphens, or ``cls`` is abstract or does not derive
                from the registry's base.
            DuplicateNameError: Another class has this name.
        """
        self._register(name, cls, _path(cls))

    def add_library(self, library: str, find: Callable[[str], type[T]]) -> None:
        """Let ``find`` look up the names ``"library/model"``, which are not listed: ``find("model")`` is the class."""
        self._libraries[library] = find

    def create(self, name: str, *args: Any, **options: Any) -> T:
        """Build ``self[name](*args, **options)``, for a name from a configuration or a command line."""
        return self[name](*args, **options)

    def name_of(self, cls: type) -> str | None:
        """Return the name of a registered class, also of one that its plug-in has not registered yet; or None.

        Example:
            >>> from pretextkit import backbones
            >>> from pretextkit.models import SmallCNN
            >>> backbones.name_of(SmallCNN)
            'small-cnn'
        """
        for name, registered in self._classes.items():
            if registered is cls:
                return name
        package = cls.__module__.partition(".")[0]  # of other packages, no plug-in is loaded to look for the class
        for point in entry_points(group=self.group):
            if point.module.partition(".")[0] == package and self[point.name] is cls:
                return point.name
        return None

    def __getitem__(self, name: str) -> type[T]:
        library, _, model = name.partition("/") if isinstance(name, str) else ("", "", "")
        if model and library in self._libraries:
            return self._libraries[library](model)
        points = [point for point in entry_points(group=self.group) if point.name == name]
        if len(points) > 1:
            raise DuplicateNameError(
                f"one installed {self.kind} named {name!r}",
                got=" and ".join(sorted(map(_source, points))),
                fix="Uninstall all but one of them.",
            )
        for point in points:
            self._register(name, self._load(point), _source(point))
        if name not in self._classes:
            libraries = " and ".join(f"{each}/..." for each in sorted(self._libraries))
            others = f"Models of libraries: {libraries}. " if libraries else ""
            raise unknown_name(self.kind, name, self, f"{others}Plug-ins use the entry-point group {self.group!r}.")
        return self._classes[name]

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and name.partition("/")[0] in self._libraries:
            with suppress(PluginError, UnknownNameError):
                return bool(self[name])
        return name in set(self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._classes, *(point.name for point in entry_points(group=self.group))}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Registry({self.kind}: {', '.join(self)})"

    def _register(self, name: str, cls: type[T], source: str) -> None:
        if not NAME.fullmatch(name):
            raise OptionError(
                f"the name of the {self.kind} {source} to be lowercase words joined by hyphens",
                got=repr(name),
                fix="Choose a name like 'small-cnn'.",
            )
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise OptionError(
                f"the {self.kind} {name!r} to be a subclass of {self.base.__name__}",
                got=source,
                fix=f"Derive it from pretextkit.{self.base.__name__}.",
            )
        if missing := sorted(getattr(cls, "__abstractmethods__", ())):
            raise OptionError(
                f"the {self.kind} {name!r} to be a concrete class",
                got=f"{source} without {' and '.join(missing)}",
                fix=f"Define {' and '.join(missing)}, or register a subclass that does.",
            )
        registered = self._classes.get(name)
        if registered is not None and _path(registered) != _path(cls):
            raise DuplicateNameError(
                f"one {self.kind} named {name!r}",
                got=f"{_path(registered)} and {source}",
                fix="Give one of them another name.",
            )
        self._classes[name] = cls

    def _load(self, point: EntryPoint) -> Any:
        try:
            return point.load()
        except Exception as error:
            raise PluginError(
                f"the {self.kind} {point.name!r} to load from {_source(point)}",
                got=reason(error),
                fix="Repair, update or uninstall that distribution.",
            ) from error


def _path(cls: object) -> str:
    return f"{cls.__module__}.{cls.__qualname__}" if isinstance(cls, type) else repr(cls)


def _source(point: EntryPoint) -> str:
    origin = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
    return f"{point.value} of {origin}"


if TYPE_CHECKING:  # overloads give each built-in name its class
    from pretextkit._registry_types import BackboneRegistry, HeadRegistry, PretextTaskRegistry
else:
    BackboneRegistry = HeadRegistry = PretextTaskRegistry = Registry

pretext_tasks = PretextTaskRegistry("pretext task", PretextTask, "pretextkit.pretext_tasks")
backbones = BackboneRegistry("backbone", Backbone, "pretextkit.backbones")
heads = HeadRegistry("head", Head, "pretextkit.heads")

TaskT = TypeVar("TaskT", bound=PretextTask[Any, Any])
BackboneT = TypeVar("BackboneT", bound=Backbone)
HeadT = TypeVar("HeadT", bound=Head)


# One concrete decorator per kind: type checkers lose the decorated class in a generic one.


def register_pretext_task(name: str) -> Callable[[type[TaskT]], type[TaskT]]:
    """Register the decorated :class:`~pretextkit.PretextTask` as ``name``.

    Raises:
        OptionError: ``name`` is not lowercase words joined by hyphens, or the class is abstract or of another kind.
        DuplicateNameError: Another class has this name.

    Example:
        >>> from pretextkit import Labeled, TaskOutput
        >>> @register_pretext_task("spread")
        ... class Spread(PretextTask[Labeled]):
        ...     def views(self, images, generator):
        ...         return Labeled(images, torch.arange(len(images)))
        ...     def forward(self, batch):
        ...         return TaskOutput(-self.backbone(batch.images).std(), {})
        >>> pretext_tasks["spread"] is Spread
        True
    """

    def decorate(cls: type[TaskT]) -> type[TaskT]:
        pretext_tasks.register(name, cls)
        return cls

    return decorate


def register_backbone(name: str) -> Callable[[type[BackboneT]], type[BackboneT]]:
    """Register the decorated :class:`~pretextkit.Backbone` as ``name``.

    Raises:
        OptionError: ``name`` is not lowercase words joined by hyphens, or the class is abstract or of another kind.
        DuplicateNameError: Another class has this name.

    Example:
        >>> @register_backbone("channel-means")
        ... class ChannelMeans(Backbone):
        ...     feature_dim = 3
        ...     def forward(self, images):
        ...         return self.normalization(images).mean((2, 3))
        >>> backbones.create("channel-means")(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 3])
    """

    def decorate(cls: type[BackboneT]) -> type[BackboneT]:
        backbones.register(name, cls)
        return cls

    return decorate


def register_head(name: str) -> Callable[[type[HeadT]], type[HeadT]]:
    """Register the decorated :class:`~pretextkit.Head` as ``name``.

    Raises:
        OptionError: ``name`` is not lowercase words joined by hyphens, or the class is abstract or of another kind.
        DuplicateNameError: Another class has this name.

    Example:
        >>> @register_head("unit-length")
        ... class UnitLength(Head):
        ...     def forward(self, features):
        ...         return torch.nn.functional.normalize(features)
        >>> heads["unit-length"] is UnitLength
        True
    """

    def decorate(cls: type[HeadT]) -> type[HeadT]:
        heads.register(name, cls)
        return cls

    return decorate
