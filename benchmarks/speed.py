"""Compare the speed of pretextkit with other libraries, and write a report with hardware and versions.

    python benchmarks/speed.py --out docs/figures/speed.json   # all; about an hour on two quiet cores
    python benchmarks/speed.py --only knn_probe --again        # measure some again
    python benchmarks/speed.py --quick                         # test run; its numbers mean nothing

Each comparison first checks that both sides compute the same result, then runs them alternately in one process (memory,
imports and growth: in new processes). The report has the median and the range of the ratios of neighboring runs.
Finished rows are stored in ``--rows``: repeat the command to resume. A change of versions, threads or hardware measures
them again; a change of code does not, unless ``--again`` is given. The dependency group ``bench`` has the peers;
``nox -s bench`` installs them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from comparisons import growth, imports, loading, losses, probes, training, views
from comparisons.timing import Comparison, Effort, Row

from pretextkit.training import resolve_precision

ROOT = Path(__file__).parents[1]
TOPICS = (imports, views, losses, probes, loading, training, growth)
COMPARISONS = [comparison for topic in TOPICS for comparison in topic.COMPARISONS]
PACKAGES = ("pretextkit", "torch", "torchvision", "lightly", "pytorch-metric-learning", "kornia", "scikit-learn")


def environment() -> dict[str, Any]:
    """Return versions, hardware, threads and precision."""
    installed = {each.metadata["Name"].lower(): each.version for each in distributions()}
    return {
        **{package: installed.get(package) for package in PACKAGES},
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "threads": torch.get_num_threads(),
        "precision": resolve_precision("auto", torch.device("cpu")),
    }


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def revision() -> str | None:
    """Return the current commit; None outside of a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class FinishedRows:
    """Finished rows, one file each, valid for one environment."""

    def __init__(self, folder: Path, environment: Mapping[str, Any]) -> None:
        self.folder, self.environment = folder, dict(environment)

    def path(self, comparison: Comparison) -> Path:
        return self.folder / (re.sub(r"[^a-z0-9]+", "-", comparison.name.lower()).strip("-") + ".json")

    def get(self, comparison: Comparison) -> Row | None:
        """Return a finished row, if it was measured in this environment."""
        path = self.path(comparison)
        if not path.exists():
            return None
        stored = json.loads(path.read_text("utf-8"))
        row: Row = stored["row"]
        return row if stored["environment"] == self.environment else None

    def store(self, comparison: Comparison, row: Row) -> None:
        """Store a row atomically."""
        path = self.path(comparison)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"environment": self.environment, "row": row}, indent=1) + "\n", "utf-8")
        part.replace(path)


def target(comparison: Comparison) -> str:
    """Format the target of a row."""
    if comparison.bound is None:
        return ""
    if comparison.figure == "ratio":
        return f"≥ {comparison.bound:.2f}×"
    unit = {"extra seconds": "s more", "extra MiB": "MiB", "percent of the time": "% of the time"}[comparison.figure]
    return f"≤ {comparison.bound:g} {unit}"


def duration(seconds: float) -> str:
    """Format a duration with three digits."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def tables_of(rows: Mapping[str, tuple[Comparison, Row]]) -> dict[str, Any]:
    """Arrange the tables of the report: all comparisons, then each curve."""
    compared: dict[str, list[str]] = {}
    curves: dict[str, Any] = {}
    for name, (comparison, row) in rows.items():
        timed = "our_seconds" in row
        if comparison.bound is not None or timed:
            of_ratio = comparison.figure == "ratio"
            figure = f"{row['ratio']:.2f}×" if of_ratio else f"{row[comparison.figure]:.3g}"
            compared[name] = [
                duration(row["our_seconds"]) if timed else "",
                duration(row["their_seconds"]) if timed else "",
                figure,
                f"{row['lowest']:.2f} to {row['highest']:.2f}" if timed and of_ratio else "",
                target(comparison),
                {True: "yes", False: "no", None: ""}[comparison.met(row)],
                str(row.get("rounds", 1)),
            ]
        if "points" in row:
            first, *columns = row["points"][0]
            rows_of_curve = {}
            for point in row["points"]:
                cells = {
                    key: f"{value:,.3g}" if isinstance(value, float) else str(value) for key, value in point.items()
                }
                key = cells.pop(first)
                rows_of_curve[f"{key}, {cells['features']}" if "features" in cells else key] = list(cells.values())
            curves[comparison.operation] = {"corner": first, "columns": columns, "rows": rows_of_curve}
    columns = ["ours", "theirs", "ratio or figure", "lowest to highest", "target", "met", "rounds"]
    return {"Comparisons": {"corner": "operation; peer", "columns": columns, "rows": compared}, **curves}


def report(finished: FinishedRows, quick: bool) -> dict[str, Any]:
    """Assemble the report of all finished rows."""
    measured = ((comparison, finished.get(comparison)) for comparison in COMPARISONS)
    rows = {comparison.name: (comparison, row) for comparison, row in measured if row is not None}
    return {
        "command": shlex.join(["python", "benchmarks/speed.py"]),
        "quick": quick,
        "tables": tables_of(rows),
        "rows": [
            {
                "operation": comparison.operation,
                "peer": comparison.peer,
                "target": target(comparison),
                "met": comparison.met(row),
                **row,
            }
            for comparison, row in rows.values()
        ],
        "missing": [comparison.name for comparison in COMPARISONS if comparison.name not in rows],
        "environment": finished.environment,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PATTERN", help="regular expression for the names of rows")
    parser.add_argument("--again", action="store_true", help="measure finished rows again")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round; not for quoting")
    parser.add_argument("--list", action="store_true", help="list the comparisons without measuring")
    parser.add_argument("--out", type=Path, help="the report; by default out/speed.json, or out/speed-quick.json")
    parser.add_argument("--rows", type=Path, help="folder of finished rows; by default out/speed-rows")
    options = parser.parse_args()
    suffix = "-quick" if options.quick else ""
    out = options.out or Path(f"out/speed{suffix}.json")
    finished = FinishedRows(options.rows or Path(f"out/speed{suffix}-rows"), environment())
    chosen = [one for one in COMPARISONS if re.search(options.only, one.name, re.IGNORECASE)]
    failed = []
    for comparison in chosen:
        if options.list:
            print(f"{comparison.name}: {target(comparison)}")
            continue
        row = None if options.again else finished.get(comparison)
        if row is None:
            torch.manual_seed(0)
            begun = time.monotonic()
            try:
                row = comparison.measure(Effort(options.quick))
            except Exception:  # continue with the others; the exit status reports the failure
                traceback.print_exc()
                failed.append(comparison.name)
                continue
            finished.store(comparison, {**row, "revision": revision(), "seconds": time.monotonic() - begun})
        figure = "" if comparison.bound is None else f" {row[comparison.figure]:.3g} {comparison.figure}"
        print(f"{comparison.name}:{figure} (target {target(comparison) or 'none'})", flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report(finished, options.quick), indent=1, ensure_ascii=False) + "\n", "utf-8")
    for name in failed:
        print(f"FAILED: {name}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
