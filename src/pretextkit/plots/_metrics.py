"""Meaning of metrics on an axis: the better direction, and the metrics that are baselines of others."""

from __future__ import annotations

from typing import Literal

__all__ = ["BASELINES", "better_direction", "label_of"]

HIGHER = {"accuracy", "agreement", "cosine", "outputs_used", "prototypes_used", "psnr", "psnr_hidden", "top1"}
LOWER = {
    *("alignment", "color_error", "invariance", "labeled_loss", "loss", "mse", "mse_border", "mse_hidden"),
    *("sigreg", "uniformity", "unlabeled_loss"),
}
COLLAPSED = {"spread": 0, "rankme": 1}
"""Value of collapsed features; more is not always better."""

BASELINES = {
    "color_error_of_gray": "color_error",
    "mse_of_mean": "mse",
    "psnr_input": "psnr",
    "psnr_mean": "psnr_hidden",
}
"""Metrics of a prediction without knowledge, and the metrics that must become better than they are."""


def better_direction(metric: str) -> Literal["higher", "lower"] | None:
    """Look up the better direction of a metric of a built-in task; None for a baseline, or if neither is better.

    A part of a metric, such as ``accuracy_90``, has the direction of the metric.

    Example:
        >>> better_direction("accuracy_90"), better_direction("loss"), better_direction("mse_of_mean")
        ('higher', 'lower', None)
    """
    if metric in BASELINES:
        return None
    names = {metric, metric.partition("_")[0]}
    return "higher" if names & HIGHER else "lower" if names & LOWER else None


def label_of(metric: str) -> str:
    """Write the label of an axis.

    Example:
        >>> label_of("loss"), label_of("spread"), label_of("teacher_entropy")
        ('loss (lower is better)', 'spread (0 if collapsed)', 'teacher_entropy')
    """
    direction = better_direction(metric)
    if direction is None:
        return f"{metric} ({COLLAPSED[metric]} if collapsed)" if metric in COLLAPSED else metric
    return f"{metric} ({direction} is better)"
