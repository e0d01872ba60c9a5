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
from pretextkit.evaluation._linear_probe import LayerScore

__all__ = ["Comparison", "ComparisonRun", "write_json"]

Measure = Literal["linear", "linear_last", "knn"]


@dataclass(frozen=True)
class ComparisonRun:
    """One way of training with one seed, measured; accuracies are on test."""

    method: str
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
    """Nearest-neighbor probe."""
    finetuned: Mapping[int, float]
    """Number of labels to accuracy after fine-tuning on these."""
    steps: int
    """Of the training, as all below."""
    images: int
    """Images read."""
    views_seen: float
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
    def from_dict(cls, values: Mapping[str, Any]) -> ComparisonRun:
        """Make a run of what :meth:`to_dict` gave, or of the same from a JSON file."""
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
        >>> run = ComparisonRun(
        ...     "random init", 0, 0.6, "stage1", 0.6, {"stage1": score}, 0.5, {10: 0.3}, 0, 0, 0.0, 0.0, None, {}
        ... )
        >>> result = Comparison((run, ComparisonRun(**vars(run) | {"seed": 1, "linear": 0.8})), {})
        >>> result.accuracies("linear")
        {'random init': [0.6, 0.8]}
        >>> print(result)
        %            Linear, best stage   Linear, last stage  kNN         ...
        random init  70.0 ± 14.1 (stage1)         60.0 ± 0.0  50.0 ± 0.0  ...
    """

    runs: tuple[ComparisonRun, ...]
    """Row by row, one for each seed."""
    settings: Mapping[str, Any]
    """Data, backbone, budget and options, in numbers and strings."""

    def accuracies(self, measure: Measure = "linear") -> dict[str, list[float]]:
        """Give each row's accuracies, one a seed, as :func:`pretextkit.plots.comparison` takes them."""
        return {row: [getattr(run, measure) for run in runs] for row, runs in self._rows().items()}

    def label_efficiency(self) -> dict[str, dict[int, list[float]]]:
        """Give accuracies after fine-tuning by row and number of labels, one a seed.

        :func:`pretextkit.plots.label_efficiency` takes them so.
        """
        return {
            row: {labels: [run.finetuned[labels] for run in runs] for labels in runs[0].finetuned}
            for row, runs in self._rows().items()
        }

    def table(self) -> list[list[str]]:
        """Lay out a header and a line for each row: accuracies in percent, and what the training cost."""
        rows = self._rows()
        finetuned = self.label_efficiency()
        header = ["%", "Linear, best stage", "Linear, last stage", "kNN"]
        header += [f"Fine-tuned, {labels:,} labels" for labels in next(iter(finetuned.values()))]
        header += ["Images", "Views", "Training, s", "Peak memory, MB"]
        lines = []
        for row, runs in rows.items():
            stages = ", ".join(sorted({run.layer for run in runs}))
            peaks = [run.peak_memory for run in runs if run.peak_memory is not None]
            lines.append(
                [
                    row,
                    f"{_percent([run.linear for run in runs])} ({stages})",
                    _percent([run.linear_last for run in runs]),
                    _percent([run.knn for run in runs]),
                    *(_percent(accuracies) for accuracies in finetuned[row].values()),
                    f"{mean(run.images for run in runs):,.0f}",
                    f"{mean(run.views_seen for run in runs):,.0f}",
                    f"{mean(run.seconds for run in runs):,.0f}",
                    f"{max(peaks) / 1e6:,.0f}" if peaks else "",
                ]
            )
        return [header, *lines]

    def to_dict(self) -> dict[str, Any]:
        """Give what ``json`` can write: the settings, the table, and every run."""
        runs = [run.to_dict() for run in self.runs]
        return {"settings": dict(self.settings), "table": self.table(), "runs": runs}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """Make a comparison of what :meth:`to_dict` gave, or of the same from a JSON file.

        Raises:
            DataError: ``values`` are something else.
        """
        try:
            return cls(tuple(ComparisonRun.from_dict(run) for run in values["runs"]), dict(values["settings"]))
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

    def _rows(self) -> dict[str, list[ComparisonRun]]:
        rows: dict[str, list[ComparisonRun]] = {}
        for run in self.runs:
            rows.setdefault(run.method, []).append(run)
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
