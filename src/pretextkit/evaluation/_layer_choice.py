"""Choice of the layers that a linear probe reads, by held-out log loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pretextkit.evaluation._calibration import log_loss
from pretextkit.evaluation._layer_names import PLUS
from pretextkit.evaluation._logistic_classifier import LogisticProblem, Validated, predict_logits, standardize
from pretextkit.evaluation._probe_candidates import last
from pretextkit.models.heads import LinearHead

__all__ = ["Choice", "Heldout", "choose_layers"]

MEMBERS = 3
"""Largest number of layers whose classifiers are averaged."""


class Heldout(NamedTuple):
    """Held-out scores of the classifier on one kind of features, weighted by the class weights."""

    loss: float
    """Log loss."""
    accuracy: float
    """Accuracy."""
    plain_accuracy: float
    """Accuracy without the class weights."""
    penalty: float
    """Chosen penalty; the first one of an average."""


@dataclass(frozen=True)
class Choice:
    """Chosen layers, and the classifiers of all candidates."""

    name: str
    """Name of the chosen features."""
    candidates: Mapping[str, tuple[str, ...]]
    """Name of each candidate, the chosen one included, to the features whose classifiers it averages."""
    scores: Mapping[str, Heldout]
    """Held-out scores of each candidate."""
    heads: Mapping[str, LinearHead] = field(repr=False)
    """Classifier of each kind of features."""
    compared: bool = True
    """Whether held-out labels compared the candidates; if too few labels share a class, the last layer is taken."""

    def head(self) -> LinearHead:
        """Join the chosen classifiers into one of the concatenated features."""
        members = [self.heads[part].linear for part in self.candidates[self.name]]
        if len(members) == 1:
            return self.heads[self.candidates[self.name][0]]
        weight = torch.cat([member.weight for member in members], 1) / len(members)
        with torch.random.fork_rng(devices=[]):  # a new layer draws random initial weights
            head = LinearHead(weight.shape[1], weight.shape[0]).float().requires_grad_(False)
        head.linear.weight.copy_(weight)
        head.linear.bias.copy_(torch.stack([member.bias for member in members]).mean(0))
        return head

    def width(self, name: str) -> int:
        """Return the width of the features that a candidate reads."""
        return sum(self.heads[part].linear.in_features for part in self.candidates[name])

    def logits(self, features: Mapping[str, Tensor], name: str | None = None) -> Tensor:
        """Compute the logits ``n k`` of a candidate, by default the chosen one."""
        members = self.candidates[name or self.name]
        return _mean([predict_logits(self.heads[part], features[part]) for part in members])


def choose_layers(
    problem: LogisticProblem,
    features: Mapping[str, Tensor],
    candidates: Mapping[str, tuple[str, ...]],
    *,
    combine: bool,
    rows: Tensor | None = None,
) -> Choice:
    """Fit a classifier to every kind of features, and choose the candidate with the lowest held-out log loss.

    If fewer labels share a class with another than there are classes, they would choose by chance, and the last layer
    is taken.

    Args:
        problem: Labels, folds and penalties.
        features: Name to features ``n d``.
        candidates: Name of each candidate to the features whose classifiers it averages.
        combine: Average the classifiers of the best candidates, at most three: as many as lose at most one standard
            error of the log loss against the best number. The average of linear classifiers is linear.
        rows: Rows of the features that have the labels of the problem; all by default.

    Returns:
        The chosen candidate, and the classifiers of all.
    """
    solved: dict[str, Validated] = {}
    for name in dict.fromkeys(part for parts in candidates.values() for part in parts):
        solved[name] = problem.solve(standardize(features[name], name, rows))
    logits = {name: _mean([solved[part].logits for part in parts]) for name, parts in candidates.items()}
    every = dict(candidates)
    scores = {name: Heldout(*problem.score(logits[name]), solved[every[name][0]].penalty) for name in candidates}
    heads = {name: each.head for name, each in solved.items()}
    if int((problem.judged > 0).sum()) < len(problem.classes.present):
        return Choice(last(list(candidates)), every, scores, heads, compared=False)
    chosen = min(scores, key=lambda name: (scores[name].loss, -scores[name].accuracy))
    if combine:
        order = sorted(candidates, key=lambda name: scores[name].loss)[:MEMBERS]
        averages = [_mean([logits[name] for name in order[:count]]) for count in range(1, len(order) + 1)]
        count = _best_count(problem, averages)
        chosen = PLUS.join(order[:count])
        if count > 1:
            every[chosen] = tuple(part for name in order[:count] for part in candidates[name])
            scores[chosen] = Heldout(*problem.score(averages[count - 1]), scores[order[0]].penalty)
    return Choice(chosen, every, scores, heads)


def _best_count(problem: LogisticProblem, averages: Sequence[Tensor]) -> int:
    """Return the largest number of averaged classifiers that is within one standard error of the best number.

    Args:
        problem: Labels and weights of the held-out rows.
        averages: Held-out logits of the average of one classifier, of two, and so on.
    """
    labels = problem.labels[: len(problem.heldout)]
    losses = torch.stack([log_loss(each, labels, problem.judged) for each in averages])[:, problem.judged > 0]  # m n
    worse = losses - losses[losses.mean(1).argmin()]
    error = worse.std(1, correction=0) / math.sqrt(losses.shape[1])
    return int(torch.nonzero(worse.mean(1) <= error)[-1]) + 1


def _mean(logits: Sequence[Tensor]) -> Tensor:
    return logits[0] if len(logits) == 1 else torch.stack(list(logits)).mean(0)
