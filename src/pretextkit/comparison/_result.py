"""Result of a comparison, as plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from pretextkit._atomic import write_json
from pretextkit._display import Displayed
from pretextkit._starting_point import KEY
from pretextkit.contracts import Backbone
from pretextkit.errors import DataError, reason
from pretextkit.evaluation._linear_probe import LayerScore
from pretextkit.metrics._classification import ClassReport

__all__ = ["Comparison", "ComparisonRun"]

Measure = Literal["linear", "linear_last", "knn", "linear_balanced", "knn_balanced"]


@dataclass(frozen=True)
class ComparisonRun:
    """Results of one method under one seed; accuracies are measured on test."""

    method: str
    """``"random init"``, ``"supervised"``, or the name of a task."""
    seed: int
    linear: float
    """Accuracy of the linear probe at the layers that it chose on train."""
    layer: str
    """Layers of ``linear``."""
    linear_last: float
    """Accuracy of the linear probe at the last stage, averaged over the full map."""
    layers: Mapping[str, LayerScore]
    """Layer name to scores of the linear probe, for every layer."""
    knn: float
    """Accuracy of the nearest-neighbor probe."""
    finetuned: Mapping[int, float]
    """Number of labels to accuracy after fine-tuning on them."""
    steps: int
    """Training steps."""
    images: int
    """Images read by the training."""
    views_seen: float
    """Pixels that the training sent through the backbone, in full images."""
    seconds: float
    """Wall-clock time of the training in seconds, without evaluation."""
    peak_memory: int | None
    """Peak memory in bytes with the evaluation, of tensors on a GPU or of the process; None if unavailable."""
    training: Mapping[str, float]
    """Loss and metrics in the last row of the training history."""
    linear_report: ClassReport | None = None
    """Recall and precision of each class with the linear probe; None in runs that an earlier version saved."""
    knn_report: ClassReport | None = None
    """Recall and precision of each class with the nearest-neighbor probe; None in runs of an earlier version."""
    finetuned_reports: Mapping[int, ClassReport] = field(default_factory=dict)
    """Number of labels to recall and precision of each class after fine-tuning on them."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the training, of the probes and of each fine-tuning; empty in runs of an earlier version.

    ``"starts from"`` says which trained weights the backbone had before, and is missing for random weights.
    """

    @property
    def linear_balanced(self) -> float:
        """Balanced accuracy of the linear probe; NaN in runs of an earlier version."""
        return math.nan if self.linear_report is None else self.linear_report.balanced_accuracy

    @property
    def knn_balanced(self) -> float:
        """Balanced accuracy of the nearest-neighbor probe; NaN in runs of an earlier version."""
        return math.nan if self.knn_report is None else self.knn_report.balanced_accuracy

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data that ``json`` can write."""
        reports = {
            "linear_report": self.linear_report and self.linear_report.to_dict(),
            "knn_report": self.knn_report and self.knn_report.to_dict(),
            "finetuned_reports": {count: report.to_dict() for count, report in self.finetuned_reports.items()},
        }
        return asdict(self) | {"layers": {name: score._asdict() for name, score in self.layers.items()}} | reports

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ComparisonRun:
        """Build a run from the data of :meth:`to_dict`, also after a round trip through JSON."""
        return cls(
            **{
                **values,
                "layers": {name: LayerScore(**score) for name, score in values["layers"].items()},
                "finetuned": {int(labels): accuracy for labels, accuracy in values["finetuned"].items()},
                "linear_report": _read_report(values.get("linear_report")),
                "knn_report": _read_report(values.get("knn_report")),
                "finetuned_reports": {
                    int(labels): ClassReport.from_dict(report)
                    for labels, report in values.get("finetuned_reports", {}).items()
                },
            }
        )


@dataclass(frozen=True, repr=False)
class Comparison(Displayed):
    """Methods side by side; prints as a table of mean ± standard deviation over seeds.

    Example:
        >>> score = LayerScore(accuracy=0.6, validation=0.6, penalty=0.1, feature_dim=4, log_loss=1.0)
        >>> run = ComparisonRun(
        ...     "random init", 0, 0.6, "stage1", 0.6, {"stage1": score}, 0.5, {10: 0.3}, 0, 0, 0.0, 0.0, None, {}
        ... )
        >>> result = Comparison((run, ComparisonRun(**vars(run) | {"seed": 1, "linear": 0.8})), {})
        >>> result.accuracies("linear")
        {'random init': [0.6, 0.8]}
        >>> print(result)
        %                 Linear  Linear, last stage         kNN ...
        random init  70.0 ± 14.1          60.0 ± 0.0  50.0 ± 0.0 ...
    """

    runs: tuple[ComparisonRun, ...]
    """Runs, ordered by method and then by seed."""
    settings: Mapping[str, Any]
    """Data, backbone, budget and options, as numbers and strings."""

    def accuracies(self, measure: Measure = "linear") -> dict[str, list[float]]:
        """Map methods to accuracies, one for each seed; the input of :func:`pretextkit.plots.comparison`."""
        return {row: [getattr(run, measure) for run in runs] for row, runs in self._runs_by_method().items()}

    def label_efficiency(self) -> dict[str, dict[int, list[float]]]:
        """Map methods and numbers of labels to accuracies after fine-tuning, one for each seed.

        The result is the input of :func:`pretextkit.plots.label_efficiency`.
        """
        return {
            row: {labels: [run.finetuned[labels] for run in runs] for labels in runs[0].finetuned}
            for row, runs in self._runs_by_method().items()
        }

    def table(self) -> list[list[str]]:
        """Return a header and a row for each method: accuracies in percent, and the cost of the training.

        If a run starts from trained weights, a last column says from which.
        """
        rows = self._runs_by_method()
        finetuned = self.label_efficiency()
        header = ["%", "Linear", "Linear, last stage", "kNN"]
        header += [f"Fine-tuned, {labels:,} labels" for labels in next(iter(finetuned.values()))]
        header += ["Images", "Views", "Training, s", "Peak memory, MB"]
        starts = {
            row: ", ".join(dict.fromkeys(run.settings.get(KEY, "") for run in runs)) for row, runs in rows.items()
        }
        header += ["Starts from"] if any(starts.values()) else []
        lines = []
        for row, runs in rows.items():
            peaks = [run.peak_memory for run in runs if run.peak_memory is not None]
            lines.append(
                [
                    row,
                    _percent([run.linear for run in runs]),
                    _percent([run.linear_last for run in runs]),
                    _percent([run.knn for run in runs]),
                    *(_percent(accuracies) for accuracies in finetuned[row].values()),
                    f"{mean(run.images for run in runs):,.0f}",
                    f"{mean(run.views_seen for run in runs):,.0f}",
                    f"{mean(run.seconds for run in runs):,.0f}",
                    f"{max(peaks) / 1e6:,.0f}" if peaks else "",
                    *([starts[row] or Backbone.starts_from] if any(starts.values()) else []),
                ]
            )
        return [header, *lines]

    def display_line(self) -> str:
        """Return the methods and the number of runs."""
        return f"{', '.join(self._runs_by_method())}; {len(self.runs)} run{'' if len(self.runs) == 1 else 's'}"

    def display_table(self) -> list[list[str]]:
        """Return the table of :meth:`table`."""
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Convert settings, table and runs to plain data that ``json`` can write."""
        runs = [run.to_dict() for run in self.runs]
        return {"settings": dict(self.settings), "table": self.table(), "runs": runs}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """Build a comparison from the data of :meth:`to_dict`, also after a round trip through JSON.

        Raises:
            DataError: ``values`` are other data.
        """
        try:
            return cls(tuple(ComparisonRun.from_dict(run) for run in values["runs"]), dict(values["settings"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "the data of Comparison.to_dict",
                got=reason(error),
                fix="Read the comparison.json that compare(save=...) wrote.",
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the data of :meth:`to_dict` to a JSON file, atomically."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Comparison:
        """Read a file of :meth:`save`.

        Raises:
            DataError: The file holds other data.
        """
        return cls.from_dict(json.loads(Path(path).read_text("utf-8")))

    def __str__(self) -> str:
        table = self.table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *(map(str.rjust, line[1:], widths[1:]))]).rstrip() for line in table
        )

    def _runs_by_method(self) -> dict[str, list[ComparisonRun]]:
        rows: dict[str, list[ComparisonRun]] = {}
        for run in self.runs:
            rows.setdefault(run.method, []).append(run)
        return rows


def _read_report(values: Mapping[str, Any] | None) -> ClassReport | None:
    return None if values is None else ClassReport.from_dict(values)


def _percent(fractions: Sequence[float]) -> str:
    text = f"{100 * mean(fractions):.1f}"
    return f"{text} ± {100 * stdev(fractions):.1f}" if len(fractions) > 1 else text
