"""The public names and their signatures equal ``docs/api-inventory.txt``, because they must not change by accident.

After an intended change, ``python tests/test_api.py`` writes the file again; add a line to CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

from torch import nn

import pretextkit

INVENTORY = Path(__file__).parent.parent / "docs" / "api-inventory.txt"


def public_modules() -> list[ModuleType]:
    """List the package, and its subpackages and modules with an ``__all__``."""
    names = sorted(info.name for info in pkgutil.iter_modules(pretextkit.__path__) if not info.name.startswith("_"))
    names.sort(key=lambda name: name != "functional")  # the documented path of what it exports again
    modules = [importlib.import_module(f"pretextkit.{name}") for name in names]
    return [pretextkit, *(module for module in modules if hasattr(module, "__all__"))]


def public_names() -> Iterator[tuple[str, Any]]:
    """Yield every public object once, under its documented path."""
    seen = set()
    for module in public_modules():
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if not isinstance(value, ModuleType) and id(value) not in seen:
                seen.add(id(value))
                yield f"{module.__name__}.{name}", value


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class defines, without inherited ones."""
    for name, value in sorted(vars(cls).items()):
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            yield name, value


class Bare(str):
    """Annotation without quotes in its repr."""

    __slots__ = ()
    __repr__ = str.__str__


def signature(function: Any) -> str:
    def bare(annotation: Any) -> Any:
        annotation = getattr(annotation, "__forward_arg__", annotation)
        return Bare(annotation) if isinstance(annotation, str) else annotation

    found = inspect.signature(function)

    def default(value: Any) -> Any:
        return Bare(value.__name__) if inspect.isfunction(value) else value  # their repr has an address

    parameters = [
        p.replace(annotation=bare(p.annotation), default=default(p.default)) for p in found.parameters.values()
    ]
    return str(found.replace(parameters=parameters, return_annotation=bare(found.return_annotation)))


def constructor(cls: Any) -> str:
    ours = hasattr(cls, "_fields") or getattr(cls.__init__, "__module__", "").startswith("pretextkit")
    if not ours:
        return ""  # the constructors of torch differ between releases
    # In older releases of Python, inspect takes an inherited __new__ although an __init__ is nearer.
    nearest = next(base for base in cls.__mro__ if {"__new__", "__init__"} & vars(base).keys())
    return signature(cls if nearest is object else nearest)


def lines() -> Iterator[str]:
    for path, value in public_names():
        if inspect.isclass(value):
            yield f"{path}{constructor(value)}"
            for name, member in members(value):
                yield f"{path}.{name}{'' if isinstance(member, property) else signature(getattr(value, name))}"
        elif inspect.isroutine(value):
            yield f"{path}{signature(value)}"
        else:
            yield f"{path}: {value if get_origin(value) else type(value).__name__}"


def test_public_api_equals_the_inventory() -> None:
    written, found = INVENTORY.read_text(encoding="utf-8").splitlines(), list(lines())
    gone, new = sorted(set(written) - set(found)), sorted(set(found) - set(written))
    assert not gone + new, f"removed: {gone}\nadded: {new}\nIf this is intended: python tests/test_api.py"
    assert written == found


def test_every_public_name_has_a_docstring() -> None:
    bare = []
    for path, value in public_names():
        if inspect.isclass(value):
            bare += [f"{path}.{name}" for name, _ in members(value) if not inspect.getdoc(getattr(value, name))]
        if (inspect.isclass(value) or inspect.isroutine(value)) and not inspect.getdoc(value):
            bare.append(path)
    assert not bare


def test_every_public_function_and_module_has_an_example() -> None:
    without = [
        path
        for path, value in public_names()
        if inspect.isroutine(value) or (inspect.isclass(value) and issubclass(value, nn.Module))
        if ">>> " not in (value.__doc__ or "") and not inspect.isabstract(value)
    ]
    assert not without


def test_all_lists_every_public_import_of_a_package() -> None:
    for module in public_modules():
        ours = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and getattr(value, "__module__", "").startswith("pretextkit")
            and hasattr(module, "__path__")
        }
        assert ours <= set(module.__all__), module.__name__
        assert len(set(module.__all__)) == len(module.__all__), module.__name__


if __name__ == "__main__":
    INVENTORY.write_text("\n".join([*lines(), ""]), encoding="utf-8")
