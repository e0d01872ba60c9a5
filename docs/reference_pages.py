"""A Sphinx extension: one reference page for each public module, and a table of all that is registered.

The pages are written from the live package at each build: no page can be missing or out of date.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import pretextkit
from pretextkit.registries import Registry

REGISTRIES = {"pretext_tasks": "Pretext tasks", "backbones": "Backbones", "heads": "Heads"}

GROUPS = {
    "training": "Pretrain",
    "evaluation": "Evaluate features, find alike images",
    "finetuning": "Learn from few labels",
    "selection": "Choose what to label",
    "inference": "Save, load, predict",
    "comparison": "Compare tasks",
    "anomaly": "Find anomalies",
    "data": "Read images",
    "models": "Build networks",
    "report": "Report",
    "plots": "Draw",
    "metrics": "Metrics",
    "losses": "Losses",
}
"""Groups of the summary of functions, by the package in which a function is written."""


def public_modules() -> list[ModuleType]:
    """List the package, and its sub-packages and modules with an ``__all__``; as in ``tests/test_api.py``."""
    names = sorted(info.name for info in pkgutil.iter_modules(pretextkit.__path__) if not info.name.startswith("_"))
    names.sort(key=lambda name: name != "functional")  # the documented path of the functions of other packages
    modules = [importlib.import_module(f"pretextkit.{name}") for name in names]
    return [pretextkit, *(module for module in modules if hasattr(module, "__all__"))]


def has_new_names(module: ModuleType, homes: dict[int, str]) -> bool:
    """Return whether a module has names that no earlier page documents; ``evaluation``, for example, has none."""
    return any(id(getattr(module, name)) not in homes for name in module.__all__)


def page(module: ModuleType, homes: dict[int, str]) -> str:
    """Write the page of a module; names that an earlier page documents are linked there."""
    name = module.__name__
    parts = [name, "=" * len(name), "", f".. module:: {name}", "", inspect.getdoc(module) or "", ""]
    elsewhere = []
    for each in sorted(module.__all__, key=lambda each: (not each[0].isupper(), each)):
        value = getattr(module, each)
        if isinstance(value, ModuleType):
            elsewhere.append(f"- :mod:`{value.__name__}`")
        elif isinstance(value, Registry):
            elsewhere.append(f"- ``{each}``: see :doc:`registries`")
        elif id(value) in homes:
            elsewhere.append(f"- :py:obj:`{homes[id(value)]}`")
        else:
            homes[id(value)] = f"{name}.{each}"
            parts += [*directive(each, value), ""]
    if elsewhere:
        parts += [".. rubric:: Also here", "", *elsewhere, ""]
    return "\n".join(parts)


def directive(name: str, value: Any) -> list[str]:
    if inspect.isclass(value):
        # Methods that scikit-learn makes, and whose docstrings point to pages of its own.
        made = [each for each in vars(value) if each.startswith("set_") and each.endswith("_request")]
        without = [f"   :exclude-members: {', '.join(made)}"] if made else []
        return [f".. autoclass:: {name}", "   :members:", *without, "   :show-inheritance:"]
    return [f".. autofunction:: {name}"] if callable(value) and inspect.isfunction(value) else [f".. autodata:: {name}"]


def registries_page() -> str:
    """Write a table of each registry, from the registry."""
    parts = ["Registries", "==========", ""]
    for attribute, title in REGISTRIES.items():
        registry = getattr(pretextkit, attribute)
        parts += [title, "-" * len(title), "", f"``pretextkit.{attribute}``; plug-ins join it through the entry-point"]
        parts += [f"group ``{registry.group}``.", "", ".. list-table::", "   :header-rows: 1", ""]
        parts += ["   * - Name", "     - Class", "     - Description"]
        for name, cls in registry.items():
            if cls.__module__.startswith("pretextkit."):
                summary = (inspect.getdoc(cls) or "").splitlines()[0]
                parts += [f"   * - ``{name}``", f"     - :py:class:`{cls.__name__}`", f"     - {summary}"]
        parts.append("")
    return "\n".join(parts)


def summary(homes: dict[int, str]) -> str:
    """Write a table of the functions of each group, the first functions first: those that people look for."""
    groups: dict[str, dict[str, str]] = {group: {} for group in GROUPS}
    for module in public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            is_shown = inspect.isfunction(value) or (inspect.isclass(value) and module.__name__ == "pretextkit.data")
            group = value.__module__.split(".")[1] if is_shown and "." in value.__module__ else ""
            if group in groups and id(value) in homes:
                groups[group][homes[id(value)]] = (inspect.getdoc(value) or "").splitlines()[0]
    parts = []
    for group, title in GROUPS.items():
        first = sorted(groups[group].items(), key=lambda each: (each[0].count("."), "functional." not in each[0]))
        parts += [f".. rubric:: {title}", "", ".. list-table::", "   :widths: 40 60", ""]
        for full, line in first:
            parts += [f"   * - :py:obj:`~{full}`", f"     - {line}"]
        parts.append("")
    return "\n".join(parts)


def write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    homes: dict[int, str] = {}
    pages = {module.__name__: page(module, homes) for module in public_modules() if has_new_names(module, homes)}
    pages["registries"] = registries_page()
    (folder / "summary.inc").write_text(summary(homes), encoding="utf-8")
    for stale in set(folder.glob("*.rst")) - {folder / f"{name}.rst" for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # else Sphinx need not read it again
            path.write_text(text, encoding="utf-8")


def link_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Find a public name by its last part: docstrings name things as the modules that they are written in do."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    last = node["reftarget"].rpartition(".")[2]
    found = [
        full
        for full, entry in domain.objects.items()
        if full.rpartition(".")[2] == last and full.startswith("pretextkit.") and not entry.aliased
    ]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, content)  # type: ignore[return-value]


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("task_pages")  # of this folder
    app.connect("builder-inited", write_pages)
    app.connect("missing-reference", link_by_last_name)
    return {"parallel_read_safe": True}
