"""``pretextkit list``: the names of tasks, backbones and heads."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from pretextkit.cli._command import Command
from pretextkit.cli._script import Script, literal

__all__ = ["COMMAND"]

KINDS = {"tasks": "pretext_tasks", "backbones": "backbones", "heads": "heads"}

SHOW = (
    "for kind, classes in result.items():",
    "    for name, summary in classes.items():",
    '        print(f"{kind:10} {name:20} {summary}")',
)


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", choices=KINDS, help="only these names")


def _write(options: Namespace) -> Script:
    kinds = [options.kind] if options.kind else list(KINDS)
    registries = ", ".join(f"{literal(kind)}: pk.{KINDS[kind]}" for kind in kinds)
    return Script(
        [
            f"registries = {{{registries}}}",
            "result = {",
            '    kind: {name: (cls.__doc__ or "").partition("\\n")[0] for name, cls in registry.items()}',
            "    for kind, registry in registries.items()",
            "}",
        ],
        SHOW,
    )


def _describe(result: Mapping[str, Mapping[str, str]]) -> Mapping[str, Any]:
    return result


COMMAND = Command(
    name="list",
    summary="list the names of pretext tasks, backbones and heads",
    example="pretextkit list tasks",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
