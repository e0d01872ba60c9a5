"""The Python blocks of every page run, top to bottom, in a folder of their own.

Pages show settings for a user. Marks directly before a block make it shorter in the test:
``<!-- test: epochs=2 -> steps=2 -->`` replaces text (nothing after the arrow removes it), and
``<!-- test: skip, the reason -->`` leaves the block out. A mark without its block or its text fails.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Generator

from pretextkit.testing import toy_images
from tests.helpers import ROOT, TORCH, load_script

BLOCK = re.compile(r"^((?:<!-- test: [^\n]* -->\n)*)```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"<!-- test: (?:(?P<skip>skip), .+|(?P<long>.+?) ->(?: (?P<short>.+?))?) -->")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    if "_build" not in path.parts and BLOCK.search(path.read_text("utf-8"))
)
PROCESSES = re.compile(r"\b((?:num_)?workers)=[1-9]\d*")
PHOTOS = {
    "docs/how-to/label-first.md",
    "docs/how-to/own-images.md",
    "docs/how-to/troubleshooting.md",
    "docs/how-to/windows-and-macos.md",
}  # read a folder of images
UNTIDY = {"docs/tutorial/own-photos.md"}  # reads an untidy folder of photos and labels.csv
NEWER_TORCH = {"docs/how-to/export.md": (2, 7)}
SLOW = {"docs/how-to/own-task.md", "docs/tutorial/own-task.md"}  # run the conformance kit


def small_sample() -> Any:
    """The first images of the sample in the shape that ``pk.data.load`` gives."""
    import pretextkit as pk

    data = pk.data.load("sample")
    parts = (data.train_images[:120], data.train_labels[:120], data.test_images[:50], data.test_labels[:50])
    return pk.data.ImageData("sample", *parts, data.class_names)


def shorten(body: str, marks: str) -> str:
    """The code of a block after its marks, one a line, with the same number of lines."""
    for line in marks.splitlines():
        mark = MARK.fullmatch(line)
        assert mark is not None, f"No arrow and no reason to skip: {line}"
        if mark["skip"]:
            return "\n" * body.count("\n")
        assert mark["long"] in body, f"The block has no {mark['long']!r}: {line}"
        body = body.replace(mark["long"], mark["short"] or "")
    return body


def code(text: str) -> str:
    """All Python blocks of a page, each on the lines that it has there, shortened by its marks."""
    lines = [""] * text.count("\n")
    marks = 0
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(2))
        body = shorten(block[2], block[1]).splitlines()
        lines[first : first + len(body)] = body
        marks += block[1].count("\n")
    assert marks == text.count("<!-- test:"), "a mark does not stand directly before a Python block"
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads cost more than they save on small tensors
    yield
    torch.set_num_threads(threads)


def write_photos(folder: Path) -> None:
    from PIL import Image

    images = toy_images(20, size=40, generator=Generator().manual_seed(0))
    for number, image in enumerate(images):
        path = folder / ("indoors", "outdoors")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (image * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in PAGES]
)
def test_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pretextkit as pk

    if (needed := NEWER_TORCH.get(page, TORCH)) > TORCH:
        pytest.skip(f"needs PyTorch {needed[0]}.{needed[1]}")
    monkeypatch.chdir(tmp_path)
    for registry in (pk.pretext_tasks, pk.backbones, pk.heads):  # undo a page's registrations
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    if page in PHOTOS:
        write_photos(tmp_path / "photos")
    if page in UNTIDY:
        load_script("examples/untidy_folder.py").make_untidy_folder(tmp_path, classes=3, photos=30, labels=15, new=8)
        warnings.filterwarnings("ignore", "2 of 17 names in labels.csv fit no image")
    module = ModuleType("page")  # in sys.modules, like a script, because pickle looks classes up there
    module.__dict__["small_sample"] = small_sample
    monkeypatch.setitem(sys.modules, "page", module)
    source = code((ROOT / page).read_text(encoding="utf-8"))
    source = source.replace('if __name__ == "__main__":', "if True:")  # test_22_scripts.py runs scripts with processes
    source = PROCESSES.sub(r"\1=0", source)
    exec(compile(source, page, "exec"), module.__dict__)


def test_pages_with_code_are_found() -> None:
    first = {"README.md", "docs/index.md", "docs/tutorial/first-pretraining.md", "docs/how-to/own-task.md"}
    assert first < set(PAGES)


def test_blocks_keep_their_line_numbers() -> None:
    text = (ROOT / "docs/how-to/resume.md").read_text("utf-8")
    source = code(text).splitlines()
    number = text.splitlines().index("def run():")
    assert source[number] == "def run():"
    assert not any(line.startswith(("#", "<!--")) for line in source)


def test_marks_replace_remove_and_skip() -> None:
    fence = "```"
    block = f"{fence}python\nf(seeds=[0], epochs=9)\n{fence}\n"
    assert code(f"<!-- test: epochs=9 -> steps=2 -->\n{block}").strip() == "f(seeds=[0], steps=2)"
    assert code(f"<!-- test: seeds=[0], -> -->\n{block}").strip() == "f( epochs=9)"
    assert code(f"<!-- test: skip, needs a GPU -->\n{block}").strip() == ""


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("<!-- test: epochs=8 -> steps=2 -->\n", "no 'epochs=8'"),
        ("<!-- test: skip -->\n", "No arrow and no reason"),
        ("<!-- test: epochs=9 -> steps=2 -->\n\n", "directly before"),
    ],
)
def test_mark_without_text_reason_or_block_fails(mark: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        code(f"{mark}```python\nf(epochs=9)\n```\n")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return load_script("scripts/tables.py")


def test_committed_tables_match_committed_measurements(tables: ModuleType) -> None:
    assert tables.main(["--check"]) == 0


def write_report(root: Path) -> None:
    (root / "docs" / "figures").mkdir(parents=True)
    (root / "docs" / "explanation").mkdir()
    table = {"columns": ["Linear", "kNN"], "rows": {"random init": [0.81234, [0.6, 0.7]]}}
    report = {"tables": {"": table}, "data": "10 images", "seed": 0}
    (root / "docs" / "figures" / "quickstart.json").write_text(json.dumps(report | {"environment": {"torch": "2.4"}}))
    (root / "docs" / "figures" / "quickstart-bars.png").write_bytes(b"")
    (root / "README.md").write_text("# Title\n<!-- table: quickstart -->\nold\n<!-- end -->\nafter\n")


def test_check_fails_on_stale_table_until_written(tables: ModuleType, tmp_path: Path, capsys: Any) -> None:
    write_report(tmp_path)
    assert tables.main(["--check"], tmp_path) == 1
    assert "Out of date: README.md" in capsys.readouterr().out
    assert not (tmp_path / "docs/explanation/results.md").exists()
    assert tables.main([], tmp_path) == 0
    table = "| % | Linear | kNN |\n| --- | ---: | ---: |\n| random init | 81.2 | 65.0 ± 7.1 |\n"
    results = (tmp_path / "docs/explanation/results.md").read_text()
    assert results.endswith(
        "## What does the quickstart print?\n\nFile: `quickstart.json`.\n\n"
        f"Images: 10 images; seed: 0; torch: 2.4.\n\n{table}\n"
        "![quickstart-bars](../figures/quickstart-bars.png)\n"
    )
    assert (tmp_path / "README.md").read_text() == (
        f"# Title\n<!-- table: quickstart -->\n{table}<!-- end -->\nafter\n"
    )
    assert tables.main(["--check"], tmp_path) == 0


def test_table_without_measurements_is_named_in_error(tables: ModuleType, tmp_path: Path) -> None:
    write_report(tmp_path)
    (tmp_path / "docs/figures/quickstart.json").unlink()
    message = "README.md asks for the table 'quickstart', but docs/figures/quickstart.json has it not."
    with pytest.raises(SystemExit, match=re.escape(message)):
        tables.main(["--check"], tmp_path)
    assert "old" in (tmp_path / "README.md").read_text()


def test_single_cell_is_written_into_a_how_to(tables: ModuleType, tmp_path: Path) -> None:
    write_report(tmp_path)
    page = tmp_path / "docs" / "how-to" / "choose.md"
    page.parent.mkdir()
    page.write_text("| a | <!-- value: quickstart; ; random init; kNN -->12.3<!-- end --> |\n")
    assert tables.main(["--check"], tmp_path) == 1
    assert tables.main([], tmp_path) == 0
    assert page.read_text() == "| a | <!-- value: quickstart; ; random init; kNN -->65.0 ± 7.1<!-- end --> |\n"
    page.write_text("It is <!-- value: quickstart; ; random init; KNN -->65.0<!-- end -->\n")
    with pytest.raises(SystemExit, match=r"choose\.md asks for .*'KNN'.* no such cell"):
        tables.main([], tmp_path)


def test_value_at_the_begin_of_a_line_is_refused(tables: ModuleType, tmp_path: Path) -> None:
    """Markdown reads a comment there as the end of the paragraph."""
    write_report(tmp_path)
    (tmp_path / "README.md").write_text("It is\n<!-- value: quickstart; ; random init; kNN -->12.3<!-- end -->.\n")
    with pytest.raises(SystemExit, match=r"README\.md: a line that begins with a comment"):
        tables.main([], tmp_path)


def test_sentences_leave_a_table_of_several_columns(tables: ModuleType) -> None:
    long = "epochs and batches " * 5
    rows = [["a", "1", long, ""], ["b", "2", long, ""], ["c", "3", "", ""]]
    assert tables.markdown(["%", "x", "settings", "none"], rows) == (
        "| % | x |\n| --- | ---: |\n| a | 1 |\n| b | 2 |\n| c | 3 |\n\nSettings:\n\n- a; b: " + long + "\n"
    )
    assert tables.markdown(["Number", "Error"], [["1", long]]).splitlines()[1] == "| --- | --- |"
    assert "torchvision/<wbr>resnet18 | images/s" in tables.markdown(["%", "torchvision/resnet18", "images/s"], [])


def test_long_command_is_broken_before_its_flags(tables: ModuleType) -> None:
    command = "python experiments/one.py " + " ".join(f"--flag-{n} value" for n in range(10))
    lines = tables.continued(command).splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 88
    assert all(line.lstrip().startswith("--") for line in lines[1:])
    assert " ".join(line.removesuffix("\\").strip() for line in lines) == command


def test_chosen_layers_are_bold_in_table(tables: ModuleType) -> None:
    report = {
        "random_init": {"stage1 1x1": 0.3, "stage2 1x1": 0.4},
        "rotation": {"stage1 1x1": 0.35, "stage2 1x1": 0.345},
        "random_init_chosen": {"layer": "stage2 1x1"},
        "rotation_chosen": {"layer": "stage1 1x1"},
    }
    assert tables.tables_of(report)[""].splitlines()[2:] == [
        "| stage1 1x1 | 30.0 | **35.0** |",
        "| stage2 1x1 | **40.0** | 34.5 |",
    ]


def test_tables_listed_in_report_are_written(tables: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    (tmp_path / "docs" / "explanation").mkdir()
    (tmp_path / "README.md").write_text("# Title\n")
    page = tmp_path / "docs/explanation/page.md"
    page.write_text("<!-- table: digits, Few labels -->\n<!-- end -->\nafter\n")
    few = {"columns": ["10", "best", "steps"], "rows": {"rotation": [[0.5, 0.6], 0.25, 40], "none": [[0.5], None, "-"]}}
    report = {"tables": {"Few labels": few, "Other": {"columns": ["a"], "rows": {"b": [[]]}}}}
    (tmp_path / "docs/figures/digits.json").write_text(json.dumps(report))
    assert tables.main([], tmp_path) == 0
    assert page.read_text() == (
        "<!-- table: digits, Few labels -->\n"
        "| % | 10 | best | steps |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| rotation | 55.0 ± 7.1 | 25.0 | 40 |\n"
        "| none | 50.0 |  | - |\n"
        "<!-- end -->\nafter\n"
    )
    assert "**Few labels**\n\n| % | 10 |" in (tmp_path / "docs/explanation/results.md").read_text()
    page.write_text("<!-- table: digits, Fewer labels -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match=r"page\.md asks for the table 'digits', 'Fewer labels', but"):
        tables.main([], tmp_path)


INLINE_BULLET = re.compile(r"[.?!:;)] - [A-Z*`\[]| -$")
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def layout_faults(text: str) -> list[str]:
    """List the lines in which a paragraph swallowed a list item, and the rows of tables that a line break cut."""
    lines = CODE.sub("", text).splitlines()
    return [line for line in lines if INLINE_BULLET.search(line) or (line.startswith("|") and not line.endswith("|"))]


def test_layout_faults_finds_swallowed_item_and_cut_row() -> None:
    assert layout_faults("- One. - **Two.**\n\n- one -\ntwo\n\n| a | b\nc |\n\nA task - any - trains.\n") == [
        "- One. - **Two.**",
        "- one -",
        "| a | b",
    ]


FENCED = re.compile(r"^( *)```(?P<language>[^\n]*)\n(?P<body>.*?)^\1```$", re.DOTALL | re.MULTILINE)
COLUMNS = 88
"""Characters that a line of code shows without scrolling."""


def wide_lines(text: str) -> list[str]:
    """List the lines of code and output that are too long, but for an address alone; other directives hold prose."""
    return [
        line
        for block in FENCED.finditer(text)
        if not block["language"].startswith("{") or block["language"].startswith("{code-block}")
        for line in block["body"].splitlines()
        if len(line) > COLUMNS and not re.fullmatch(r"https://\S+", line)
    ]


def test_wide_lines_finds_code_and_passes_prose() -> None:
    wide, fence = "x" * 89, "```"
    text = f"{fence}python\n{wide}\n{wide[1:]}\n{fence}\n{wide}\n{fence}{{note}}\n{wide}\n{fence}\n"
    assert wide_lines(text) == [wide]
    assert not wide_lines(f"{fence}text\nhttps://{wide}\n{fence}\n")
    assert wide_lines(f"{fence}{{code-block}} python\n{wide}\n{fence}\n  {fence}sh\n{wide}\n  {fence}\n") == [wide] * 2


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))]
)
def test_code_fits_the_page(page: str) -> None:
    assert not wide_lines((ROOT / page).read_text("utf-8"))


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*/*.md")))
def test_lists_and_tables_have_one_line_per_item(page: str) -> None:
    assert not layout_faults((ROOT / page).read_text("utf-8"))
