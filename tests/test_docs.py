"""The code in the documents runs: every page's Python blocks, top to bottom, in a folder of their own.

Pages show settings that make sense for a user; ``SHORTER`` replaces what would take minutes. A replacement that no
longer finds its text fails, and so does a page that is not listed.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Generator

from pretextkit.testing import toy_images

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LOAD, SMALL = 'pk.data.load("sample")', "small_sample()"
SHORTER: Mapping[str, Mapping[str, str]] = {
    "README.md": {LOAD: SMALL, "epochs=2, batch_size=128": "steps=2, batch_size=16"},
    "docs/index.md": {LOAD: SMALL, "epochs=2": "steps=2, batch_size=8"},
    "docs/tutorial/first-pretraining.md": {
        LOAD: SMALL,
        "epochs=2, batch_size=128": "epochs=1, batch_size=100",
        "data.train_labels, 200": "data.train_labels, 50",
    },
    "docs/how-to/own-images.md": {
        "epochs=10, batch_size=64, workers=2": "steps=2, batch_size=4",
        "epochs=10, batch_size=64": "steps=2, batch_size=4",
        "epochs=10, batch_size=50": "steps=1, batch_size=50",
        "epochs=10": "steps=1",
    },
    "docs/how-to/few-labels.md": {
        LOAD: SMALL,
        "epochs=4, batch_size=128": "steps=2, batch_size=32",
        "head_epochs=20": "head_epochs=2",
        "epochs=50": "epochs=2",
    },
    "docs/how-to/segmentation.md": {
        LOAD: SMALL,
        "epochs=2, batch_size=128": "steps=2, batch_size=16",
        'layers="all")': 'layers="all", steps=2)',
    },
    "docs/how-to/compare.md": {
        LOAD: SMALL,
        "import pretextkit as pk\n": "import pretextkit as pk; from pretextkit.testing import TinyBackbone\n",
        '"small-cnn",': "TinyBackbone,",
        "views_per_image=16": "views_per_image=4, finetune_steps=1, batch_size=32, progress=False",
        "    seeds=[0, 1],\n    label_fractions=[0.01, 0.1, 1.0],": "    label_fractions=[0.01, 0.1, 1.0],",
        "    seeds=[0, 1],\n    save": "    save",
    },
    "docs/how-to/anomalies.md": {
        "data.train_images[data.train_labels == 9]": "data.train_images[data.train_labels == 9][:60]",
        "data.test_images[data.test_labels == 9]": "data.test_images[data.test_labels == 9][:10]",
        "data.test_images[data.test_labels != 9]": "data.test_images[data.test_labels != 9][:30]",
        "epochs=20, batch_size=64": "steps=2, batch_size=16",
        "epochs=5, batch_size=64": "steps=2, batch_size=8",
        "false_positive_rate=0.05": "false_positive_rate=0.2",
    },
    "docs/how-to/pictures.md": {
        LOAD: SMALL,
        "epochs=4, batch_size=64": "steps=2, batch_size=8",
        "epochs=6, batch_size=64": "steps=2, batch_size=8",
        "range(3)": "range(2)",
        "(20, 100, 500)": "(20, 50)",
        'layers="all").accuracy': "penalties=[0.01]).accuracy",
        "epochs=6, batch_size=32": "steps=2, batch_size=4",
        'layers=["stage2"])': 'layers=["stage2"], steps=2)',
    },
    "docs/how-to/torchvision.md": {},
    "docs/how-to/resume.md": {LOAD: SMALL, "epochs=8, batch_size=128": "steps=3, batch_size=16"},
    "docs/how-to/hardware.md": {LOAD: SMALL, "epochs=2, batch_size=256": "steps=2, batch_size=16"},
    "docs/how-to/several-processes.md": {
        LOAD: SMALL,
        "epochs=2, batch_size=256": "steps=2, batch_size=16",
        "epochs=1, batch_size=256": "steps=1, batch_size=16",
    },
    "docs/how-to/own-task.md": {LOAD: SMALL, "epochs=2, batch_size=128": "steps=2, batch_size=16"},
    "docs/how-to/plugin.md": {},
}
SLOW = {"docs/how-to/own-task.md"}  # runs the conformance kit


def small_sample() -> Any:
    """The first images of the sample in the shape that ``pk.data.load`` gives."""
    import pretextkit as pk

    data = pk.data.load("sample")
    parts = (data.train_images[:120], data.train_labels[:120], data.test_images[:50], data.test_labels[:50])
    return pk.data.ImageData("sample", *parts, data.class_names)


def code(page: str) -> str:
    """All Python blocks of a page, each on the lines that it has there, shortened."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        body = block[1].splitlines()
        lines[first : first + len(body)] = body
    source = "\n".join(lines)
    for long, short in SHORTER[page].items():
        assert long in source, f"{page} no longer has {long!r}"
        source = source.replace(long, short)
    return source


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are too small to share
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
    "page", [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in SHORTER]
)
def test_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pretextkit as pk

    monkeypatch.chdir(tmp_path)
    for registry in (pk.pretext_tasks, pk.backbones, pk.heads):  # what a page registers, it takes along
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    if "own-images" in page:
        write_photos(tmp_path / "photos")
    module = ModuleType("page")  # in sys.modules, as a script is: pickling looks classes up there
    module.__dict__["small_sample"] = small_sample
    monkeypatch.setitem(sys.modules, "page", module)
    exec(compile(code(page), page, "exec"), module.__dict__)


def test_every_page_with_code_is_listed() -> None:
    pages = [path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts]
    with_code = {path.relative_to(ROOT).as_posix() for path in pages if BLOCK.search(path.read_text("utf-8"))}
    assert with_code <= set(SHORTER)
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/how-to/*.md")} <= {
        *SHORTER,
        "docs/how-to/index.md",
    }


def test_blocks_keep_their_line_numbers() -> None:
    page = "docs/how-to/resume.md"
    lines = (ROOT / page).read_text("utf-8").splitlines()
    source = code(page).splitlines()
    number = lines.index("def run():")
    assert source[number] == "def run():"
    assert not any(line.startswith("#") for line in source)  # no heading slipped in


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "scripts" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_tables_are_those_of_the_committed_measurements(tables: ModuleType) -> None:
    assert tables.main(["--check"]) == 0


def write_report(root: Path) -> None:
    (root / "docs" / "figures").mkdir(parents=True)
    (root / "docs" / "explanation").mkdir()
    row = {"name": "random init", "linear_best": 0.81234, "linear_last": 0.7, "knn": 0.65, "linear_few": 0.5}
    report = {
        "rows": [row | {"best_stage": "stage2", "seconds": 12.3}],
        "few_labels": 200,
        "data": "10 images",
        "seed": 0,
    }
    (root / "docs" / "figures" / "quickstart.json").write_text(json.dumps(report | {"environment": {"torch": "2.4"}}))
    (root / "docs" / "figures" / "quickstart-bars.png").write_bytes(b"")
    (root / "README.md").write_text("# Title\n<!-- table: quickstart -->\nold\n<!-- end -->\nafter\n")


def test_tables_are_written_checked_and_found_stale(tables: ModuleType, tmp_path: Path, capsys: Any) -> None:
    write_report(tmp_path)
    assert tables.main(["--check"], tmp_path) == 1
    assert "Out of date: README.md" in capsys.readouterr().out
    assert not (tmp_path / "docs/explanation/results.md").exists()
    assert tables.main([], tmp_path) == 0
    table = (
        "| % | Linear, best stage | Linear, last stage | kNN | Linear, 200 labels | Training, s |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| random init | 81.2 (stage2) | 70.0 | 65.0 | 50.0 | 12 |\n"
    )
    results = (tmp_path / "docs/explanation/results.md").read_text()
    assert results.endswith(
        f"## quickstart\n\nImages: 10 images; seed: 0; torch: 2.4.\n\n{table}\n"
        "![quickstart-bars](../figures/quickstart-bars.png)\n"
    )
    assert (tmp_path / "README.md").read_text() == (
        f"# Title\n<!-- table: quickstart -->\n{table}<!-- end -->\nafter\n"
    )
    assert tables.main(["--check"], tmp_path) == 0


def test_a_table_without_measurements_is_named(tables: ModuleType, tmp_path: Path) -> None:
    write_report(tmp_path)
    (tmp_path / "docs/figures/quickstart.json").unlink()
    message = "README.md asks for the table 'quickstart', but docs/figures/quickstart.json has it not."
    with pytest.raises(SystemExit, match=re.escape(message)):
        tables.main(["--check"], tmp_path)
    assert "old" in (tmp_path / "README.md").read_text()


def test_layers_are_compared_and_the_chosen_ones_bold(tables: ModuleType) -> None:
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


def test_a_report_says_what_its_tables_are(tables: ModuleType, tmp_path: Path) -> None:
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
