"""Write the printed outputs in docs/tutorial/own-photos.md, from docs/tutorial/own-photos.json.

    python scripts/walkthrough.py          # write the outputs in the page from the JSON file
    python scripts/walkthrough.py --check  # fail if the page is out of date
    python scripts/walkthrough.py --run --data data/tinyimagenet20.npz  # run the page's commands first

In the page, ``<!-- run: NAME -->`` stands before a block of commands, and ``<!-- output: NAME -->`` and
``<!-- end -->`` enclose what they printed. The JSON file has the commands with their outputs: if the commands of the
page change, the check fails until they have run. Lines of progress are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path("docs/tutorial/own-photos.md")
RUN = re.compile(r"^<!-- run: ([a-z]+) -->\n```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(r"(^<!-- output: ([a-z]+) -->\n).*?(^<!-- end -->$)", re.DOTALL | re.MULTILINE)
PROGRESS = re.compile(r"^[\w -]+: step \d+/\d+.*\n", re.MULTILINE)
WIDTH = 300
"""Characters of a line of JSON that the page shows."""


def commands(page: str) -> dict[str, str]:
    """Read the blocks of commands, by name."""
    return dict(RUN.findall(page))


def run(blocks: dict[str, str], data: str) -> dict[str, dict[str, str]]:
    """Run blocks of commands one after the other in a new folder of photos, and return commands and outputs."""
    sys.path.insert(0, str(ROOT / "examples"))
    from untidy_folder import make_untidy_folder

    done = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_untidy_folder(folder / "work", data, classes=8, photos=2000, labels=100, new=200)
        program = folder / "pretextkit"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pretextkit "$@"\n')
        program.chmod(0o755)
        environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        for title, block in blocks.items():
            print(f"$ {block}", end="", flush=True)
            shell = ["bash", "-c", f"exec 2>&1\n{block}"]
            answer = subprocess.run(shell, stdout=subprocess.PIPE, text=True, cwd=folder / "work", env=environment)
            print(answer.stdout, end="", flush=True)
            done[title] = {"commands": block, "output": PROGRESS.sub("", answer.stdout)}
    return done


def filled(page: str, done: dict[str, dict[str, str]]) -> str:
    """Write the outputs into a page.

    Raises:
        SystemExit: The commands of the page are not those that have run.
    """
    for name, block in commands(page).items():
        if done.get(name, {}).get("commands") != block:
            raise SystemExit(f"The commands {name!r} of {PAGE} have not run: python scripts/walkthrough.py --run.")

    def shown(match: re.Match[str]) -> str:
        lines = done[match[2]]["output"].splitlines()
        text = "\n".join(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in lines)
        return f"{match[1]}```text\n{text}\n```\n{match[3]}"

    return OUTPUT.sub(shown, page)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check the page under ``root``; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    parser.add_argument("--run", action="store_true", help="run the commands of the page first, for some minutes")
    parser.add_argument("--data", default="tinyimagenet20", help="photos: any source of pretextkit.data.load")
    options = parser.parse_args(arguments)
    page, record = root / PAGE, (root / PAGE).with_suffix(".json")
    text = page.read_text("utf-8")
    if options.run:
        done = run(commands(text), options.data)
        record.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    wanted = filled(text, json.loads(record.read_text("utf-8")))
    if wanted == text:
        return 0
    print(f"{'Out of date' if options.check else 'Written'}: {PAGE}")
    if not options.check:
        page.write_text(wanted, encoding="utf-8")
    return int(options.check)


if __name__ == "__main__":
    sys.exit(main())
