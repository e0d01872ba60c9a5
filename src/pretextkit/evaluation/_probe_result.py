"""Result of a linear probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from pretextkit._display import Displayed
from pretextkit._starting_point import KEY, starts_note
from pretextkit.inference._classifier import Classifier
from pretextkit.metrics._classification import ClassReport, wilson_interval
from pretextkit.models.heads import LinearHead

__all__ = ["LayerScore", "ProbeResult"]


class LayerScore(NamedTuple):
    """Scores of the linear classifier on one layer, or on the sum of some."""

    accuracy: float
    """Accuracy on test; without test, on held-out parts of train."""
    validation: float
    """Accuracy on held-out parts of train; weighted by the class weights."""
    penalty: float
    """Chosen L2 penalty; of a sum, the penalty of its first layer."""
    feature_dim: int
    """Width ``d`` of the features."""
    log_loss: float
    """Log loss on held-out parts of train, by which layer and penalty are chosen; weighted by the class weights."""


@dataclass(frozen=True, repr=False)
class ProbeResult(Displayed):
    """Result of a linear probe."""

    accuracy: float
    """Accuracy on test of the chosen layer; without test, its cross-validated accuracy."""
    layer: str
    """Chosen layer; names joined by ``+`` are layers whose classifiers are averaged."""
    layers: Mapping[str, LayerScore]
    """Layer name to scores, for every candidate."""
    last: str
    """Name of the last layer, averaged over its map or the smallest grid asked for."""
    predictions: Tensor = field(repr=False)
    """Predicted labels ``n`` of the chosen layer, on test or held out from train."""
    probabilities: Tensor = field(repr=False)
    """Predicted probabilities ``n k`` of the classes, on test or held out from train."""
    targets: Tensor = field(repr=False)
    """True labels ``n`` of the same images."""
    head: LinearHead = field(repr=False)
    """Classifier from raw features of ``layer`` to logits; a class without training images has -inf."""
    classifier: Classifier = field(repr=False)
    """Copy of the backbone, chosen layers and head, to predict the classes of images, and to save.

    A function, and a module that cannot be copied, stay the caller's.
    """
    class_report: ClassReport = field(repr=False)
    """Recall and precision of each class."""
    label_count: int
    """Number of labeled training images."""
    rule: str
    """Held-out score by which layer and penalty are chosen; empty where too few labels share a class."""
    cross_validated: bool
    """Whether the scores are of held-out training images, without test."""
    seconds: float = field(repr=False)
    """Wall-clock time in seconds, extraction included."""

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes."""
        return self.class_report.balanced_accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, from the number of scored images (Wilson)."""
        return self.class_report.interval

    def display_table(self) -> list[list[str]]:
        """Return the scores of each layer."""
        rows = [
            [name, f"{100 * each.accuracy:.1f}", f"{100 * each.validation:.1f}", f"{each.feature_dim}"]
            for name, each in self.layers.items()
        ]
        return [["Layer", "Accuracy, %", "Accuracy on held-out parts of train, %", "Features"], *rows]

    def __str__(self) -> str:
        count = len(self.targets)
        kind = "linear probe, cross-validated" if self.cross_validated else "linear probe"
        labels = f"{self.label_count:,} labels"
        many = len(self.layers) > 1
        choice = f"chosen from {len(self.layers)} candidates by {self.rule} on {labels}" if many else f"from {labels}"
        if many and not self.rule:
            choice = f"the last layer, as too few of the {labels} share a class to choose by"
        text = f"{kind}: {self.class_report.accuracy_text} at {self.layer}, {choice}"
        note = starts_note(self.classifier.trained.get(KEY))
        if not many or self.last == self.layer:
            return text + note
        accuracy = self.layers[self.last].accuracy
        low, high = wilson_interval(round(accuracy * count), count)
        return f"{text}; last layer ({self.last}) {accuracy:.1%} ({100 * low:.1f}-{100 * high:.1f}){note}"
