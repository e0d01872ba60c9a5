"""Python programs as text: what a command runs is what ``--show-code`` prints."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

from pretextkit import functional

__all__ = ["Script", "call", "literal"]

WIDTH = 88
"""Length of a line."""

IMPORTS = {"sys": "import sys", "Subset": "from torch.utils.data import Subset"}
"""Names outside pretextkit and torch that a program may use, with their imports."""


@dataclass(frozen=True)
class Script:
    """A Python program that binds ``result``.

    Example:
        >>> print(Script(["result = torch.ones(2)"]).text())
        import torch
        <BLANKLINE>
        result = torch.ones(2)
        print(result)
        <BLANKLINE>
    """

    body: Sequence[str]
    """Statements."""
    show: Sequence[str] = ("print(result)",)
    """Statements that print the result; left out with ``--json``."""
    files: Sequence[Path | None] = ()
    """Files and folders that the program writes; None stands for a file that is not asked for."""
    hints: Sequence[str] = ()
    """Lines for the user at the end, such as the next command."""

    def text(self, *, show: bool = True) -> str:
        """Write the program with its imports; ``show`` adds the statements that print the result."""
        code = "\n".join([*self.body, *(self.show if show else ())])
        if "workers=" in code:  # a process that reads images imports the program
            code = f'if __name__ == "__main__":\n{indent(code, "    ")}'
        used = [name for name in functional.__all__ if re.search(rf"\b{name}\(", code)]
        standard = [IMPORTS["sys"]] if "sys." in code else []
        outside = ["import torch"] if "torch." in code else []
        outside += [IMPORTS["Subset"]] if "Subset(" in code else []
        own = ["import pretextkit as pk"] if "pk." in code else []
        own += [f"from pretextkit.functional import {', '.join(used)}"] if used else []
        blocks = ["\n".join(block) for block in (standard, outside, own) if block]
        return "\n\n".join([*blocks, code]) + "\n"

    def run(self, *, show: bool) -> Any:
        """Run the program, and return its ``result``."""
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(self.text(show=show), "<pretextkit>", "exec"), names)
        return names["result"]


def call(function: str, *arguments: str, **options: Any) -> str:
    """Write a call; arguments are code, and options are values.

    Example:
        >>> call("pretrain", "task", "photos", epochs=3, checkpoint="run")
        'pretrain(task, photos, epochs=3, checkpoint="run")'
    """
    parts = [*arguments, *(f"{name}={literal(value)}" for name, value in options.items())]
    line = f"{function}({', '.join(parts)})"
    if len(line) <= WIDTH - len("    result = "):
        return line
    return f"{function}(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def literal(value: Any) -> str:
    """Write a value as code; paths become texts, and a :class:`Code` is code already.

    Example:
        >>> print(literal(Path("run")), literal([1.0, float("inf")]), literal(Code("photos.size")))
        "run" [1.0, float("inf")] photos.size
    """
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str | Path):
        text = str(value)
        return repr(text) if '"' in text else '"' + repr("'" + text)[2:]  # in double quotes
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


class Code(str):
    """Text that is code."""

    __slots__ = ()
