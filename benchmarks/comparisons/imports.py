"""Import time."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from comparisons.timing import Comparison, Effort, Row, race


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def measure(other: str, effort: Effort) -> Row:
    """Import in new processes; the first import of each side compiles bytecode and is not counted."""
    row = race(lambda: run("import pretextkit"), lambda: run(other), effort, rounds=9)
    return {**row, "extra seconds": row["our_seconds"] - row["their_seconds"]}


COMPARISONS = [
    # `import lightly` alone does not import torch: nothing in it can be used yet.
    Comparison(
        "import pretextkit",
        "import lightly.loss, lightly.transforms",
        partial(measure, "import lightly.loss, lightly.transforms"),
        1.0,
    ),
    Comparison(
        "import pretextkit",
        "the floor: import torch, torchvision",
        partial(measure, "import torch, torchvision"),
        0.2,
        "extra seconds",
    ),
]
