"""Pages run as scripts where workers start empty, and errors are one sentence."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import BLOCK, PAGES, ROOT, code, write_photos

PREFIX = """
import multiprocessing, sys
multiprocessing.set_start_method("spawn", force=True)
"""
SAMPLE = """
sys.path.insert(0, {root!r})
from tests.test_docs import small_sample
"""
WORKERS = sorted(
    page for page in PAGES if "workers=" in "".join(b[2] for b in BLOCK.finditer((ROOT / page).read_text()))
)


def script(page: str) -> str:
    """Join the blocks of a page up to the last one with workers, or all if there is none."""
    text = (ROOT / page).read_text(encoding="utf-8")
    ends = [block.end() for block in BLOCK.finditer(text) if "workers=" in block[2]]
    text = text[: max(ends)] if ends else text
    return code(text).replace("steps=2, batch_size=4)", "steps=2, batch_size=4, workers=2, progress=False)")


def run(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "page.py"
    sample = SAMPLE.format(root=str(ROOT)) if "small_sample" in source else ""
    path.write_text(PREFIX + sample + source, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({*WORKERS, "docs/how-to/several-processes.md"}))
def test_page_runs_as_script_under_spawn(page: str, tmp_path: Path) -> None:
    if "own-images" in page:
        write_photos(tmp_path / "photos")
    answer = run(script(page), tmp_path)
    assert answer.returncode == 0, answer.stderr[-2000:]


@pytest.mark.slow
def test_page_without_guard_fails_under_spawn(tmp_path: Path) -> None:
    """The test above fails on a page that forgets the line."""
    write_photos(tmp_path / "photos")
    source = script("docs/how-to/own-images.md").replace('if __name__ == "__main__":', "if True:")
    assert run(source, tmp_path).returncode != 0


def unguarded(source: str) -> list[int]:
    """Lines of calls with workers outside a function and outside ``if __name__ == "__main__"``."""
    found = []

    def visit(node: ast.AST) -> None:
        guard = isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        if guard or isinstance(node, ast.FunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Call):
            options = {each.arg: ast.unparse(each.value) for each in node.keywords}
            if {options.get("workers", "0"), options.get("num_workers", "0")} != {"0"}:
                found.append(node.lineno)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


def test_calls_with_workers_are_guarded_on_every_page() -> None:
    for page in PAGES:
        for block in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
            assert unguarded(block[2]) == [], f"{page}: {block[2]}"
    for path in (ROOT / "examples").rglob("*.py"):
        assert unguarded(path.read_text(encoding="utf-8")) == [], path


def test_unguarded_call_is_found() -> None:
    assert unguarded("pretrain(task, photos, workers=2)") == [1]
    assert unguarded("if True:\n    DataLoader(data, num_workers=n)") == [2]
    assert unguarded("def main():\n    pretrain(task, photos, workers=2)\npretrain(task, photos, workers=0)") == []
