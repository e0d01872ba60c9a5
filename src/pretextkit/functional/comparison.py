"""What a comparison found, as plain data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from pretextkit.errors import DataError
from pretextkit.functional.probe import LayerScore

__all__ = ["Comparison", "ComparisonCell", "write_json"]

Measure = Literal["linear", "linear_last", "knn"]


@dataclass(frozen=True)
class ComparisonCell:
    """One way of training with one seed, measured; accuracies are on test."""

    row: str
    """``"random init"``, ``"supervised"``, or a task's name."""
    seed: int
    linear: float
    """Linear probe at the layer that was best on a split of train."""
    layer: str
    """That layer."""
    linear_last: float
    """Linear probe at the last stage."""
    layers: Mapping[str, LayerScore]
    """Every layer."""
    knn: float
    """Nearest-neighbour probe."""
    finetuned: Mapping[int, float]
    """Number of labels to accuracy after fine-tuning on these."""
    steps: int
    """Of the training, as all below."""
    images: int
    """Images read."""
    views: float
    """Whole images' worth of pixels that the backbone saw."""
    seconds: float
    """Without evaluation."""
    peak_memory: int | None
    """Most bytes held at once by tensors on a GPU, or by the process elsewhere, evaluation included."""
    training: Mapping[str, float]
    """Loss and metrics, as in the last row of the history."""

    def to_dict(self) -> dict[str, Any]:
        """Give what ``json`` can write."""
        return asdict(self) | {"layers": {name: score._asdict() for name, score in self.layers.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ComparisonCell:
        """Make a cell of what :meth:`to_dict` gave, or of the same from a JSON file."""
        return cls(
            **{
                **values,
                "layers": {name: LayerScore(**score) for name, score in values["layers"].items()},
                "finetuned": {int(labels): accuracy for labels, accuracy in values["finetuned"].items()},
            }
        )


@dataclass(frozen=True)
class Comparison:
    """Ways of training side by side; prints as a table of mean ± standard deviation over seeds.

    Example:
        >>> score = LayerScore(accuracy=0.6, validation=0.6, penalty=0.1, feature_dim=4)
        >>> cell = ComparisonCell(
        ...     "random init", 0, 0.6, "stage1", 0.6, {"stage1": score}, 0.5, {10: 0.3}, 0, 0, 0.0, 0.0, None, {}
        ... )
        >>> result = Comparison((cell, ComparisonCell(**vars(cell) | {"seed": 1, "linear": 0.8})), {})
        >>> result.accuracies("linear")
        {'random init': [0.6, 0.8]}
        >>> print(result)
        %            Linear, best stage   Linear, last stage  kNN         ...
        random init  70.0 ± 14.1 (stage1)         60.0 ± 0.0  50.0 ± 0.0  ...
    """

    cells: tuple[ComparisonCell, ...]
    """Row by row, one for each seed."""
    settings: Mapping[str, Any]
    """Data, backbone, budget and options, in numbers and strings."""

    def accuracies(self, measure: Measure = "linear") -> dict[str, list[float]]:
        """Give each row's accuracies, one a seed, as :func:`pretextkit.plots.comparison` takes them."""
        return {row: [getattr(cell, measure) for cell in cells] for row, cells in self._rows().items()}

    def label_efficiency(self) -> dict[str, dict[int, list[float]]]:
        """Give accuracies after fine-tuning by row and number of labels, one a seed.

        :func:`pretextkit.plots.label_efficiency` takes them so.
        """
        return {
            row: {labels: [cell.finetuned[labels] for cell in cells] for labels in cells[0].finetuned}
            for row, cells in self._rows().items()
        }

    def table(self) -> list[list[str]]:
        """Lay out a header and a line for each row: accuracies in percent, and what the training cost."""
        rows = self._rows()
        finetuned = self.label_efficiency()
        header = ["%", "Linear, best stage", "Linear, last stage", "kNN"]
        header += [f"Fine-tuned, {labels:,} labels" for labels in next(iter(finetuned.values()))]
        header += ["Images", "Views", "Training, s", "Peak memory, MB"]
        lines = []
        for row, cells in rows.items():
            stages = ", ".join(sorted({cell.layer for cell in cells}))
            peaks = [cell.peak_memory for cell in cells if cell.peak_memory is not None]
            lines.append(
                [
                    row,
                    f"{_percent([cell.linear for cell in cells])} ({stages})",
                    _percent([cell.linear_last for cell in cells]),
                    _percent([cell.knn for cell in cells]),
                    *(_percent(accuracies) for accuracies in finetuned[row].values()),
                    f"{mean(cell.images for cell in cells):,.0f}",
                    f"{mean(cell.views for cell in cells):,.0f}",
                    f"{mean(cell.seconds for cell in cells):,.0f}",
                    f"{max(peaks) / 1e6:,.0f}" if peaks else "",
                ]
            )
        return [header, *lines]

    def to_dict(self) -> dict[str, Any]:
        """Give what ``json`` can write: the settings, the table, and every cell."""
        cells = [cell.to_dict() for cell in self.cells]
        return {"settings": dict(self.settings), "table": self.table(), "cells": cells}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """Make a comparison of what :meth:`to_dict` gave, or of the same from a JSON file.

        Raises:
            DataError: ``values`` are something else.
        """
        try:
            return cls(tuple(ComparisonCell.from_dict(cell) for cell in values["cells"]), dict(values["settings"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "what Comparison.to_dict gives",
                got=f"{type(error).__name__}: {error}",
                fix="Read the comparison.json that compare(save=...) wrote.",
            ) from error

    def save(self, path: str | Path) -> None:
        """Write :meth:`to_dict` as JSON."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Comparison:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: It is something else.
        """
        return cls.from_dict(json.loads(Path(path).read_text("utf-8")))

    def __str__(self) -> str:
        table = self.table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *(map(str.rjust, line[1:], widths[1:]))]).rstrip() for line in table
        )

    def _rows(self) -> dict[str, list[ComparisonCell]]:
        rows: dict[str, list[ComparisonCell]] = {}
        for cell in self.cells:
            rows.setdefault(cell.row, []).append(cell)
        return rows


def write_json(path: Path, values: Any) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(values, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _percent(shares: Sequence[float]) -> str:
    text = f"{100 * mean(shares):.1f}"
    return f"{text} ± {100 * stdev(shares):.1f}" if len(shares) > 1 else text
