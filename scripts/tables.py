"""Convert the measurements in docs/figures/*.json to Markdown tables; no number in the documents is typed by hand.

    python scripts/tables.py          # write docs/explanation/results.md and the tables in other documents
    python scripts/tables.py --check  # fail if one of them is out of date

NAME.json gets a section in results.md, with the figures NAME*.png. In README.md, docs/explanation and docs/how-to, the
markers ``<!-- table: NAME -->`` and ``<!-- end -->`` enclose a table of it; ``<!-- table: NAME, TITLE -->`` chooses one
of several, and ``<!-- value: NAME; TITLE; ROW; COLUMN -->`` and ``<!-- end -->`` enclose one cell.
``<!-- report: NAME -->`` and ``<!-- end -->`` enclose the full section, which is then absent from results.md.
An example, experiment or benchmark writes the JSON to ``--out``.

The key ``tables`` of a report maps titles to ``columns`` (names), ``rows`` (name to cells) and, unless it is ``%``,
``corner``. A cell is a fraction or a list of fractions, one for each seed, shown in percent; an integer or a text,
shown unchanged; or null.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).parents[1]
HEADING = """# All measurements, with the commands that repeat them

`python scripts/tables.py` writes this page from the JSON files in `docs/figures`, which the scripts in `examples/`,
`experiments/` and `benchmarks/` write. Each section names its file. Accuracies are in percent, on test images. [How
they are measured](protocol.md).
"""
QUESTIONS = {
    "backbones": "Which task works with which backbone?",
    "camvid-segmentation": "Which task helps to segment street scenes?",
    "camvid-segmentation-conv": "Segmentation of street scenes with a convolutional head",
    "cifar10-comparison": "Which task helps to classify photographs?",
    "context-prediction-camvid": "Relative patch location on street scenes, one change after the other",
    "context-prediction-tinyimagenet20": "Relative patch location on photographs, one change after the other",
    "decoding": "How fast are image files read?",
    "defaults-cifar10-short": "Are the defaults good on photographs, in a shorter training?",
    "defaults-svhn": "Are the defaults good on street digits?",
    "finetuning-svhn": "Does fine-tuning add to the linear probe?",
    "fixmatch-svhn": "How accurate is FixMatch with 100 labels on street digits?",
    "fixmatch-svhn-first-draw": "What does FixMatch add after rotation?",
    "fixmatch-svhn-more-draws": "What does FixMatch add after rotation, on two more draws?",
    "fixmatch-svhn-simclr": "What does FixMatch add after SimCLR?",
    "finetuning-svhn-all-labels": "How accurate is the same network with all labels of street digits?",
    "finetuning-svhn-longer": "Does FixMatch gain from a longer training on street digits?",
    "finetuning-pretrained": "Does a pretrained network gain from longer fine-tuning, or from the last layer?",
    "finetuning-labels-alone": "How accurate is training on the labels alone on street digits?",
    "finetuning-labels-alone-cifar10": "How accurate is training on the labels alone on photographs?",
    "finetuning-svhn-none": "How accurate was training on the labels alone with 600 steps?",
    "finetuning-batches": "How large should batches of a training on few labels alone be?",
    "finetuning-batches-pretrained": "How large should batches of a fine-tuning on few labels be, after pretraining?",
    "finetuning-few-digits": "Is fine-tuning on few labels of street digits better than the linear probe?",
    "finetuning-few-photographs": "Does fine-tuning on few labels of photographs reach the linear probe?",
    "finetuning-many-digits": "Does fine-tuning on 5,000 labels of street digits need a higher rate?",
    "finetuning-many-photographs": "Does fine-tuning on 5,000 labels of photographs need a higher rate?",
    "finetuning-layers": "Which layers should a head on random weights read?",
    "finetuning-steps": "How long must random weights train on few labels?",
    "finetuning-svhn-simclr": "Does fine-tuning add to the linear probe after SimCLR?",
    "defaults-svhn-short": "Are the defaults good on street digits, in a shorter training?",
    "defects": "Which score finds defects of magnetic tiles?",
    "faces-anomaly": "Which score tells faces from other images?",
    "fashion-mnist-all-labels": "Do photographs teach about clothes, with all labels?",
    "fashion-mnist-transfer": "Do features of photographs and of clothes transfer to each other?",
    "images": "Which channels and shapes work?",
    "label-selection": "Which images should get the first labels?",
    "label-selection-short": "Which images should get the first labels, by features of a short training?",
    "one-class-cifar10": "Which score finds other classes among photographs?",
    "one-class-fashion-mnist": "Which score finds other classes among clothes?",
    "beside-lightly": "Are the methods as good as those of lightly, and at what cost?",
    "methods-cifar10": "Which method of joint embedding is best on photographs?",
    "probe-cost": "What does a linear probe cost, from 100 to 50,000 labels?",
    "penalty-choice": "By which held-out score is the penalty of a linear probe chosen best?",
    "quickstart": "What does the quickstart print?",
    "rates-cifar10": "Which learning rate and batch suit joint embedding on photographs?",
    "reconstruction-mitigations": "What makes an autoencoder learn more about photographs?",
    "scaling-measured": "How much faster are two processes?",
    "speed": "How fast are the parts, beside other libraries?",
    "shorter-cifar10": "How much does SimCLR lose in a shorter training on photographs?",
    "stronger-svhn": "What raises the accuracy of frozen features of street digits?",
    "steady": "Do memory and speed stay constant in a long run?",
    "svhn-few-labels": "How much does pretraining help with few labels?",
    "svhn-rotation-small": "What does ResNet-18 learn from rotations of street digits?",
    "why-28-percent": "Why did a network trained on rotations score only 28 % on digits?",
}
"""Title of the section of each report."""

SENTENCE = 60
"""Longest cell of a column that stays in a table of several."""

MARKED = re.compile(r"(<!-- table: ([a-z0-9-]+)(?:, ([^>]+?))? -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_YET = "Not measured yet.\n"
VALUE = re.compile(r"(<!-- value: ([a-z0-9-]+); ([^;>]*); ([^;>]+); ([^;>]+?) -->)[^<]*(<!-- end -->)")
WHOLE = re.compile(r"(<!-- report: ([a-z0-9-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def percent(value: float | None) -> str:
    """Format a fraction as a percentage; None gives an empty text."""
    return "" if value is None else f"{100 * value:.1f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table with names and sentences on the left and numbers on the right.

    A column of sentences beside other columns becomes a list below the table, in which rows of one text share a line.
    Empty columns are left out.
    """
    longest = [max((len(row[column]) for row in rows), default=0) for column in range(len(header))]
    notes = [column for column in range(1, len(header)) if longest[column] > SENTENCE and len(header) > 2]
    kept = [column for column in range(len(header)) if column not in notes and (longest[column] or not rows)]
    rule = ["---" if column == 0 or longest[column] > SENTENCE else "---:" for column in kept]
    head = [
        re.sub(r"((?<=\w{4})/|(?<=[a-z]{4})_|(?<=_v3)_)(?=\w{2})", r"\1<wbr>", header[column]) for column in kept
    ]  # long names may break
    lines = [head, rule, *([row[column] for column in kept] for row in rows)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    for column in notes:
        alike: dict[str, list[str]] = {}
        for row in rows:
            alike.setdefault(row[column], []).append(row[0])
        text += f"\n{header[column].capitalize()}:\n\n"
        text += "".join(f"- {'; '.join(names)}: {each}\n" for each, names in alike.items() if each)
    return text


def layer_table(report: Mapping[str, Any]) -> str:
    """Format the report of experiments/svhn_rotation.py: layers before and after pretraining, chosen ones in bold."""
    columns = ("random_init", "rotation")

    def cell(column: str, layer: str) -> str:
        text = percent(report[column][layer])
        return f"**{text}**" if report[f"{column}_chosen"]["layer"] == layer else text

    rows = [[layer, *(cell(column, layer) for column in columns)] for layer in report["rotation"]]
    return markdown(["Layer, %", "Random init", "After rotation"], rows)


def cell_text(cell: Any) -> str:
    """Format fractions in percent, several seeds as mean and standard deviation, and other cells unchanged."""
    if isinstance(cell, list):
        spread = f" ± {100 * stdev(cell):.1f}" if len(cell) > 1 else ""
        return f"{100 * mean(cell):.1f}{spread}" if cell else ""
    return percent(cell) if cell is None or isinstance(cell, float) else str(cell)


def tables_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Format every table of a report, by title."""
    if "tables" in report:
        return {
            title: markdown(
                [one.get("corner", "%"), *one["columns"]],
                [[name, *map(cell_text, row)] for name, row in one["rows"].items()],
            )
            for title, one in report["tables"].items()
        }
    return {"": layer_table(report)}


def values_of(report: Mapping[str, Any]) -> dict[tuple[str, str, str], str]:
    """Format every cell of a report, by title, row and column."""
    return {
        (title, row, column): cell_text(cell)
        for title, table in report.get("tables", {}).items()
        for row, cells in table["rows"].items()
        for column, cell in zip(table["columns"], cells, strict=True)
    }


def section(name: str, report: Mapping[str, Any], plots: Sequence[str]) -> str:
    """Format the section of a report: command, data, versions, tables and figures."""
    facts = {
        "Images": report.get("data"),
        "seconds": round(report["seconds"]) if "seconds" in report else None,
        **{key: report.get(key) for key in ("backbone", "stem", "epochs", "labels", "seed", "seeds", "threads")},
        **report.get("environment", {}),
    }
    described = "; ".join(f"{key}: {value}" for key, value in facts.items() if value is not None)
    lines = []
    if "command" in report:
        lines += ["```bash", continued(report["command"]), "```", ""]
    lines += [f"{described}.", ""]
    for title, text in tables_of(report).items():
        lines += [*([f"**{title}**", ""] if title else []), text]
    if "rotation_accuracy_on_test" in report:
        lines += [f"Rotation accuracy on test images: {percent(report['rotation_accuracy_on_test'])} %.", ""]
    for plot in plots:
        lines += [f"![{Path(plot).stem}](../figures/{plot})", ""]
    return "\n".join(lines)


def continued(command: str, columns: int = 88) -> str:
    """Break a long command before its flags, or between the values of a long one; a shell reads the lines as one."""
    first, *flags = re.split(r" (?=--)", command)
    lines = [first]
    parts = (
        part for flag in flags for part in ([flag] if len(flag) < columns - 6 else map(shlex.quote, shlex.split(flag)))
    )
    for flag in parts:
        if len(lines[-1]) + len(flag) > columns - 3:
            lines.append(f"    {flag}")
        else:
            lines[-1] += f" {flag}"
    return " \\\n".join(lines)


def documents(root: Path) -> dict[Path, str]:
    """Return the expected content of each generated file.

    Raises:
        SystemExit: A document has a marker for a table or a cell that does not exist.
    """
    figures = root / "docs" / "figures"
    reports = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(figures.glob("*.json"))}
    tables = {name: tables_of(report) for name, report in reports.items()}
    sections = {
        name: section(name, report, [file.name for file in sorted(figures.glob(f"{name}*.png"))])
        for name, report in reports.items()
    }
    pages = {
        path: path.read_text("utf-8")
        for path in (
            root / "README.md",
            *sorted((root / "docs" / "explanation").glob("*.md")),
            *sorted((root / "docs" / "how-to").glob("*.md")),
            *sorted((root / "docs" / "tutorial").glob("*.md")),
        )
    }
    values = {name: values_of(report) for name, report in reports.items()}
    elsewhere = {name for text in pages.values() for _, name, _ in WHOLE.findall(text)}
    wanted = {}
    if left := [
        f"## {QUESTIONS.get(name, name)}\n\nFile: `{name}.json`.\n\n{text}"
        for name, text in sections.items()
        if name not in elsewhere
    ]:
        wanted[root / "docs" / "explanation" / "results.md"] = "\n".join([HEADING, *left])
    for path, text in pages.items():
        for _, name, title, _ in MARKED.findall(text):
            if title not in tables.get(name, {}):
                asked = f"{name!r}, {title!r}" if title else repr(name)
                raise SystemExit(f"{path.name} asks for the table {asked}, but docs/figures/{name}.json has it not.")
        if found := re.search(r"^ *<!-- value: [^>]*>", text, re.MULTILINE):
            raise SystemExit(f"{path.name}: a line that begins with a comment ends the paragraph: {found[0]}")
        for _, name, *cell, _ in VALUE.findall(text):
            if tuple(cell) not in values.get(name, {}):
                raise SystemExit(f"{path.name} asks for {cell}, but docs/figures/{name}.json has no such cell.")
        if any(marker.search(text) for marker in (MARKED, VALUE, WHOLE)) and path not in wanted:
            filled = MARKED.sub(lambda match: match[1] + tables[match[2]][match[3] or ""] + match[4], text)
            filled = VALUE.sub(
                lambda match: match[1] + values[match[2]][match[3], match[4], match[5]] + match[6], filled
            )
            wanted[path] = WHOLE.sub(lambda match: match[1] + sections.get(match[2], NOT_YET) + match[3], filled)
    return wanted


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check the tables under ``root``; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    check = parser.parse_args(arguments).check
    stale = [
        (path, text) for path, text in documents(root).items() if not path.exists() or path.read_text("utf-8") != text
    ]
    for path, text in stale:
        print(f"{'Out of date' if check else 'Written'}: {path.relative_to(root)}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
