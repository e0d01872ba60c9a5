"""``pretextkit report``: one HTML page of a training or a comparison."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretextkit.cli._command import Command
from pretextkit.cli._outputs import add_out_flag, check_file
from pretextkit.cli._script import Script, literal

__all__ = ["COMMAND"]


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of a training or a comparison")
    add_out_flag(parser, "HTML file", default="report.html")


def _write(options: Namespace) -> Script:
    check_file(options.out, "report.html")
    call = f"result = pk.report.write({literal(options.folder)}, {literal(options.out)})"
    return Script([call], (), files=(options.out,))


def _describe(result: Path) -> Mapping[str, Any]:
    return {"report": str(result)}


COMMAND = Command(
    name="report",
    summary="write an HTML page of a training or a comparison",
    example="pretextkit report run --out run.html",
    add_flags=_add_flags,
    write=_write,
    describe=_describe,
)
