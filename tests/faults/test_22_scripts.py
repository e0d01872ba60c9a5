"""Pages run as scripts where workers start empty, and errors are one sentence."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import pretextkit as pk
from pretextkit.errors import DataError, ShapeError, reason
from tests.helpers import ROOT
from tests.test_docs import BLOCK, PAGES, code, write_photos

PREFIX = """
import multiprocessing, sys
multiprocessing.set_start_method("spawn", force=True)
"""
SAMPLE = """
sys.path.insert(0, {root!r})
from tests.test_docs import small_sample
"""
LIMIT = 550
"""Seconds of a script."""
STARTERS = {"spawn", "start_processes", "Process", "Pool", "ProcessPoolExecutor", "init_process_group"}
"""Functions that start processes, or are called in processes that torchrun started."""


def starts_processes(source: str) -> bool:
    """Whether code starts processes, or is made for processes that torchrun starts."""
    return any(starts_processes_here(node, STARTERS) for node in ast.walk(ast.parse(source)))


def starts_processes_here(node: ast.AST, starters: set[str]) -> bool:
    """Whether a node is a call of one of ``starters``, or one with workers."""
    if not isinstance(node, ast.Call):
        return False
    options = {each.arg: ast.unparse(each.value) for each in node.keywords}
    has_workers = {options.get("workers", "0"), options.get("num_workers", "0")} != {"0"}
    return has_workers or ast.unparse(node.func).rpartition(".")[2] in starters


def scripts(page: str) -> list[str]:
    """List one script for each block of a page that starts processes: the block, after those above it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    starting = [block for block in BLOCK.finditer(text) if starts_processes(block[2])]
    return [code(text[: block.end()]) for block in starting]


SCRIPTS = [pytest.param(page, each, id=f"{page}-{n}") for page in PAGES for n, each in enumerate(scripts(page))]


def run(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "page.py"
    sample = SAMPLE.format(root=str(ROOT)) if "small_sample" in source else ""
    path.write_text(PREFIX + sample + source, encoding="utf-8")
    options: dict[str, Any] = {"cwd": folder, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "timeout": LIMIT}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *(torchrun if "init_process_group" in source else []), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "source"), SCRIPTS)
def test_page_runs_as_script_under_spawn(page: str, source: str, tmp_path: Path) -> None:
    assert starts_processes(source), "a mark removes the processes"
    write_photos(tmp_path / "photos")
    answer = run(source, tmp_path)
    assert answer.returncode == 0, answer.stderr[-2000:]


@pytest.mark.slow
def test_page_without_guard_fails_under_spawn(tmp_path: Path) -> None:
    """The test above fails on a page that forgets the line."""
    write_photos(tmp_path / "photos")
    source = scripts("docs/how-to/own-images.md")[0].replace('if __name__ == "__main__":', "if True:")
    answer = run(source, tmp_path)
    assert answer.returncode != 0
    assert "bootstrapping phase" in answer.stderr


def test_code_that_starts_processes_is_found() -> None:
    for source in (
        "f(workers=2)",
        "DataLoader(data, num_workers=n)",
        "torch.multiprocessing.spawn(main, nprocs=2)",
        "torch.distributed.init_process_group()",
        "with ProcessPoolExecutor() as pool:\n    pass",
        "def main():\n    multiprocessing.Process(target=f).start()",
    ):
        assert starts_processes(source), source
    assert not starts_processes("f(workers=0)\nDataLoader(data)\n'spawn'\nx.num_workers")
    assert {str(each.values[0]) for each in SCRIPTS} >= {
        "docs/how-to/own-images.md",
        "docs/how-to/several-processes.md",
    }


def unguarded(source: str) -> list[int]:
    """Lines of calls that start processes outside a function and outside ``if __name__ == "__main__"``."""
    found = []

    def visit(node: ast.AST) -> None:
        guard = isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        if guard or isinstance(node, ast.FunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.expr) and starts_processes_here(node, STARTERS - {"init_process_group"}):
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


def test_unreadable_pixels_give_one_sentence(tmp_path: Path) -> None:
    Image.new("F", (8, 8)).save(tmp_path / "depth.tiff")
    with pytest.raises(DataError) as caught:
        next(pk.data.as_source(tmp_path).in_order(1))
    text = str(caught.value)
    assert text.count("Expected") == text.count("but got") == 1, text
    assert "but got a floating-point image" in text


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_worker_is_one_sentence(workers: int) -> None:
    items: Any = [torch.zeros(2, 3, 5, 5), torch.zeros(2, 3, 5, 5)]
    with pytest.raises(ShapeError) as caught:
        next(pk.data.DatasetImages(items, workers).in_order(2))
    text = str(caught.value)
    assert text.startswith("Expected an image c h w")
    assert text.count("Expected") == 1
    assert "\n" not in text


def test_error_of_torch_gives_its_first_line() -> None:
    assert reason(RuntimeError("first.\nsecond")) == "RuntimeError: first"
    assert reason(ValueError()) == "ValueError"
    assert reason(DataError("images", got="text", fix="Convert them.")) == "text in place of images"


def test_no_error_embeds_the_text_of_another() -> None:
    """Errors name another error through ``reason``; f-strings of an exception, and ``str`` of one, are not allowed."""
    allowed = {"training/_hardware.py"}  # its first line only
    for path in sorted(Path(pk.__file__).parent.rglob("*.py")):
        name = path.relative_to(Path(pk.__file__).parent).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.keyword) or node.arg not in ("got", "fix") or name in allowed:
                continue
            embedded = [
                each
                for each in ast.walk(node.value)
                if (isinstance(each, ast.FormattedValue) and ast.unparse(each.value) == "error")
                or (isinstance(each, ast.Call) and ast.unparse(each) in ("str(error)", "repr(error)"))
            ]
            assert not embedded, f"{name}:{node.value.lineno}"
