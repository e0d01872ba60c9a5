"""Write the printed outputs in the pages of docs/tutorial, from a JSON file beside each page.

    python scripts/walkthrough.py          # write the outputs in the pages from the JSON files
    python scripts/walkthrough.py --check  # fail if a page is out of date
    python scripts/walkthrough.py --run few-labels anomalies own-task  # run these pages first
    python scripts/walkthrough.py --run own-photos --data data/tinyimagenet20.npz

In a page, ``<!-- run: NAME -->`` stands before a block of commands or of Python, and ``<!-- output: NAME -->`` and
``<!-- end -->`` enclose what it printed. The blocks of a page run one after the other, on one thread, in a folder of
their own, and the Python blocks share their variables. A figure ``NAME.png`` that a block saves is copied to
docs/figures/tutorial-PAGE-NAME.png.

The JSON file has the blocks with their outputs and the hashes of their figures: if a block of the page or a figure
changes, the check fails until the page has run. Lines of progress are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
TUTORIAL = Path("docs/tutorial")
FIGURES = Path("docs/figures")
RUN = re.compile(
    r"^<!-- run: ([a-z-]+) -->\n(?:<!-- test: [^\n]* -->\n)*```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
OUTPUT = re.compile(r"(^<!-- output: ([a-z-]+) -->\n).*?(^<!-- end -->$)", re.DOTALL | re.MULTILINE)
PROGRESS = re.compile(r"^[\w -]+: step \d+/\d+.*\n", re.MULTILINE)
WIDTH = 400
"""Characters of a line of JSON that the page shows."""

COLUMNS = 88
"""Characters in a line of an output; longer lines are broken between words."""

LARGEST_FIGURE = 60_000
"""Bytes of a figure."""


class Block(NamedTuple):
    """A block of a page: ``sh`` or ``python``, and its text."""

    language: str
    text: str


def blocks(page: str) -> dict[str, Block]:
    """Read the blocks that run, by name."""
    return {name: Block(language, text) for name, language, text in RUN.findall(page)}


def commands(page: str) -> dict[str, str]:
    """Read the blocks of commands, by name."""
    return {name: block.text for name, block in blocks(page).items() if block.language == "sh"}


def pages(root: Path) -> list[Path]:
    """Find the pages that have blocks to run."""
    return [path for path in sorted((root / TUTORIAL).glob("*.md")) if blocks(path.read_text("utf-8"))]


def photos(folder: Path, data: str) -> None:
    """Write the folder of photos of own-photos.md."""
    sys.path.insert(0, str(ROOT / "examples"))
    from untidy_folder import make_untidy_folder

    make_untidy_folder(folder, data, classes=8, photos=2000, labels=100, new=200)


def package(folder: Path, data: str) -> None:
    """Copy the plug-in package of own-task.md."""
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT / "examples" / "plugin_package", folder / "plugin_package", ignore=left_out)


FOLDERS: dict[str, Callable[[Path, str], None]] = {"own-photos": photos, "own-task": package}
"""What the folder of a page has before the page runs."""


def run(page: Path, data: str) -> tuple[dict[str, dict[str, Any]], dict[str, bytes]]:
    """Run the blocks of a page one after the other in a new folder; return the record and the figures by name."""
    record: dict[str, dict[str, Any]] = {}
    figures: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as name, working_in(Path(name), page.stem, data) as environment:
        module = ModuleType("page")  # in sys.modules, like a script, because pickle looks classes up there
        sys.modules["page"] = module
        for title, block in blocks(page.read_text("utf-8")).items():
            print(f"$ {block.text}", end="", flush=True)
            if block.language == "sh":
                shell = ["bash", "-c", f"exec 2>&1\n{block.text}"]
                output = subprocess.run(shell, stdout=subprocess.PIPE, text=True, env=environment).stdout
            else:
                output = run_python(block.text, module.__dict__, f"{page.name}, {title}")
            print(output, end="", flush=True)
            record[title] = {"code": block.text, "output": PROGRESS.sub("", output)}
            if new := {path.stem: path.read_bytes() for path in sorted(Path().glob("*.png"))}:
                figures |= new
                record[title]["figures"] = {stem: digest(content) for stem, content in new.items()}
            for path in Path().glob("*.png"):
                path.unlink()
    return record, figures


@contextlib.contextmanager
def working_in(folder: Path, page: str, data: str) -> Iterator[dict[str, str]]:
    """Work in a new folder, where ``pretextkit`` and ``pip`` are those of this Python and packages stay inside."""
    import torch

    (folder / "work").mkdir()
    if page in FOLDERS:
        FOLDERS[page](folder / "work", data)
    programs = {name: f'-m {name} "$@"' for name in ("pretextkit", "pytest")}
    programs["pip"] = '-m pip "$@" --no-deps'  # an environment variable would also take the dependencies of the build
    for name, call in programs.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call}\n')
        program.chmod(0o755)
    site = folder / "site"
    environment = os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": f"{site}:{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}",
        "PIP_TARGET": str(site),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(folder / "work")
    torch.set_num_threads(1)
    try:
        yield environment
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)


def run_python(text: str, variables: dict[str, Any], name: str) -> str:
    """Run Python and return what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, name, "exec"), variables)
    return printed.getvalue()


def digest(content: bytes) -> str:
    """Return the hash of a figure that its JSON file records."""
    return hashlib.sha256(content).hexdigest()[:16]


def filled(name: str, page: str, record: dict[str, dict[str, Any]]) -> str:
    """Write the outputs into a page.

    Raises:
        SystemExit: The blocks of the page are not those that have run.
    """
    for title, block in blocks(page).items():
        if record.get(title, {}).get("code") != block.text:
            raise SystemExit(f"The block {title!r} of {name} has not run: python scripts/walkthrough.py --run.")

    def shown(match: re.Match[str]) -> str:
        return f"{match[1]}```text\n{wrapped(record[match[2]]['output'])}\n```\n{match[3]}"

    return OUTPUT.sub(shown, page)


def wrapped(output: str) -> str:
    """Break long lines between words, as a terminal does, and shorten lines of JSON that are longer than ``WIDTH``."""
    lines = []
    for line in output.splitlines():
        short = line[: WIDTH - 1] + "…" if line.startswith("{") and len(line) > WIDTH else line
        wrap = textwrap.TextWrapper(COLUMNS, break_on_hyphens=False, break_long_words=False).wrap
        parts = [short] if len(short) <= COLUMNS else wrap(short)
        lines += parts or [""]
    return "\n".join(lines)


def check_figures(root: Path, page: Path, record: dict[str, dict[str, Any]]) -> None:
    """Compare the figures of a page with those that its blocks have saved.

    Raises:
        SystemExit: A figure is missing, is another one, is too large, or is not shown.
    """
    text = page.read_text("utf-8")
    for title, done in record.items():
        for stem, wanted in done.get("figures", {}).items():
            path = root / FIGURES / f"tutorial-{page.stem}-{stem}.png"
            content = path.read_bytes() if path.exists() else b""
            if digest(content) != wanted:
                raise SystemExit(f"{path.name} is not the figure that the block {title!r} of {page.name} has saved.")
            if len(content) > LARGEST_FIGURE:
                raise SystemExit(f"{path.name} has {len(content):,} bytes, more than {LARGEST_FIGURE:,}.")
            if f"../figures/{path.name}" not in text:
                raise SystemExit(f"{page.name} does not show {path.name}.")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check the pages under ``root``; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    parser.add_argument("--run", nargs="+", metavar="PAGE", default=[], help="run these pages first, for some minutes")
    parser.add_argument("--data", default="tinyimagenet20", help="photos: any source of pretextkit.data.load")
    options = parser.parse_args(arguments)
    found = {page.stem: page for page in pages(root)}
    for name in options.run:
        record, figures = run(found[name], options.data)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        found[name].with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        for old in (root / FIGURES).glob(f"tutorial-{name}-*.png"):
            old.unlink()
        for stem, content in figures.items():
            (root / FIGURES / f"tutorial-{name}-{stem}.png").write_bytes(content)
    stale = 0
    for page in found.values():
        text = page.read_text("utf-8")
        record = json.loads(page.with_suffix(".json").read_text("utf-8"))
        wanted = filled(page.name, text, record)
        check_figures(root, page, record)
        if wanted != text:
            print(f"{'Out of date' if options.check else 'Written'}: {page.relative_to(root)}")
            stale += 1
            if not options.check:
                page.write_text(wanted, encoding="utf-8")
    return int(options.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
