"""The tutorials show what their blocks have printed and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers import ROOT, load_script

PAGES = ["anomalies", "few-labels", "first-pretraining", "own-photos", "own-task"]
FENCE = "```"
PAGE = f"""# Page

<!-- run: one -->
<!-- test: 3 -> 2 -->
{FENCE}python
number = 3
print("It is", number)
from pathlib import Path

Path("dot.png").write_bytes(b"pixels")
{FENCE}

<!-- output: one -->
old
<!-- end -->

![dot](../figures/tutorial-page-dot.png)

<!-- run: two -->
{FENCE}sh
echo "from the shell"
echo "task: step 1/2 (50%)"
{FENCE}

<!-- output: two -->
<!-- end -->

<!-- run: three -->
{FENCE}python
print("again", number)
{FENCE}

<!-- output: three -->
<!-- end -->
"""


@pytest.fixture
def walkthrough() -> ModuleType:
    return load_script("scripts/walkthrough.py")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("docs/tutorial", "docs/figures"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "docs/tutorial/page.md").write_text(PAGE, "utf-8")
    (tmp_path / "docs/tutorial/index.md").write_text("# Tutorial\n", "utf-8")
    return tmp_path


def text_of(root: Path) -> str:
    return (root / "docs/tutorial/page.md").read_text("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_page_shows_every_output_and_figure_of_its_blocks(walkthrough: ModuleType, name: str) -> None:
    page = ROOT / "docs/tutorial" / f"{name}.md"
    text = page.read_text("utf-8")
    record = json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert walkthrough.filled(page.name, text, record) == text
    walkthrough.check_figures(ROOT, page, record)
    printing = {title for title, done in record.items() if done["output"].strip()}
    assert {title for _, title, _ in walkthrough.OUTPUT.findall(text)} == printing
    assert text.count("<!-- run: ") == len(walkthrough.blocks(text)) == len(record)


def test_every_page_with_blocks_is_checked(walkthrough: ModuleType) -> None:
    assert [page.stem for page in walkthrough.pages(ROOT)] == PAGES
    assert walkthrough.main(["--check"]) == 0


def test_blocks_run_in_order_and_fill_the_page(walkthrough: ModuleType, root: Path) -> None:
    assert walkthrough.main(["--run", "page"], root) == 0
    text = text_of(root)
    for output in ("It is 3", "from the shell", "again 3"):
        assert f"{FENCE}text\n{output}\n{FENCE}\n<!-- end -->" in text
    assert "step 1/2" not in text.partition("<!-- output: two -->")[2]
    assert (root / "docs/figures/tutorial-page-dot.png").read_bytes() == b"pixels"
    assert walkthrough.main(["--check"], root) == 0


def test_changed_output_fails_until_written(walkthrough: ModuleType, root: Path) -> None:
    walkthrough.main(["--run", "page"], root)
    page = root / "docs/tutorial/page.md"
    page.write_text(text_of(root).replace("It is 3", "It is 4"), "utf-8")
    assert walkthrough.main(["--check"], root) == 1
    assert "It is 4" in text_of(root)
    assert walkthrough.main([], root) == 0
    assert "It is 3" in text_of(root)


def test_changed_block_fails(walkthrough: ModuleType, root: Path) -> None:
    walkthrough.main(["--run", "page"], root)
    page = root / "docs/tutorial/page.md"
    page.write_text(text_of(root).replace("number = 3", "number = 4"), "utf-8")
    with pytest.raises(SystemExit, match=r"The block 'one' of page\.md has not run"):
        walkthrough.main(["--check"], root)


def test_other_figure_fails(walkthrough: ModuleType, root: Path) -> None:
    walkthrough.main(["--run", "page"], root)
    (root / "docs/figures/tutorial-page-dot.png").write_bytes(b"others")
    with pytest.raises(SystemExit, match=r"dot\.png is not the figure that the block 'one'"):
        walkthrough.main(["--check"], root)


def test_figure_without_a_place_fails(walkthrough: ModuleType, root: Path) -> None:
    walkthrough.main(["--run", "page"], root)
    page = root / "docs/tutorial/page.md"
    page.write_text(text_of(root).replace("![dot](../figures/tutorial-page-dot.png)", ""), "utf-8")
    with pytest.raises(SystemExit, match=r"page\.md does not show tutorial-page-dot\.png"):
        walkthrough.main(["--check"], root)


def test_large_figure_fails(walkthrough: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walkthrough, "LARGEST_FIGURE", 5)
    with pytest.raises(SystemExit, match="has 6 bytes, more than 5"):
        walkthrough.main(["--run", "page"], root)


def test_packages_are_installed_inside_the_folder_only(walkthrough: ModuleType, tmp_path: Path) -> None:
    with walkthrough.working_in(tmp_path, "own-task", "") as environment:
        assert (tmp_path / "work/plugin_package/pyproject.toml").exists()
        assert environment["PIP_TARGET"].startswith(str(tmp_path))
        assert Path.cwd() == tmp_path / "work"
    assert Path.cwd() != tmp_path / "work"


def test_long_lines_are_broken_between_words(walkthrough: ModuleType) -> None:
    assert walkthrough.wrapped("a  b\n" + "word " * 20) == "a  b\n" + " ".join(["word"] * 17) + "\nword word word"
    assert walkthrough.wrapped("{" * 500) == "{" * 399 + "…"  # JSON
    assert walkthrough.wrapped("x" * 500) == "x" * 500  # an address would lose its link
