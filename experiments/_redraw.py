"""Option ``--redraw`` of experiments: draw the plots of a finished report again, without training."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

__all__ = ["add_redraw", "chance_of", "read_report"]


def add_redraw(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--redraw``."""
    text = "draw the plots of a finished report beside it, and train nothing"
    parser.add_argument("--redraw", type=Path, metavar="REPORT.json", help=text)


def read_report(path: Path) -> Any:
    """Read the JSON report of an experiment."""
    return json.loads(path.read_text("utf-8"))


def chance_of(report: Any, data: str = "") -> float:
    """Read the accuracy of random guesses from the description of the set named ``data``, or else of the first set."""
    text = report["data"]
    found = re.search(rf"\({data}:[^)]*, (\d+) classes", text) or re.search(r", (\d+) classes", text)
    assert found, f"Expected a number of classes in {text!r}."
    return 1 / int(found[1])
