"""Figures of images in a report: worst errors, neighbors, embedding, highest and lowest scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device
from pretextkit.inference import Classifier
from pretextkit.plots import embedding, nearest_neighbors
from pretextkit.plots._figures import draw_image, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["class_names_of", "embedding_of", "grid", "histogram", "neighbors_of", "sample_features", "worst_errors"]

SHOWN, COLUMNS, BINS = 12, 6, 40
MOST_POINTS = 1000
"""Images in an embedding, and among which neighbors are searched."""


def grid(images: Tensor, captions: Sequence[str]) -> Figure:
    """Draw images ``n c h w`` in rows, with a caption below each."""
    rows = -(-len(images) // COLUMNS)
    drawn = new_figure(1.5 * min(COLUMNS, len(images)), 1.75 * rows)
    for place, (image, caption) in enumerate(zip(as_float(images), captions, strict=True), 1):
        axes = drawn.add_subplot(rows, min(COLUMNS, len(images)), place)
        draw_image(axes, image)
        axes.set_xlabel(caption, fontsize="small")
    return drawn


def histogram(scores: Tensor, name: str) -> Figure:
    """Draw how many images have each score of a name."""
    drawn = new_figure(5, 2.8)
    axes = drawn.add_subplot()
    finite = scores[scores.isfinite()].float().cpu()
    axes.hist(finite.numpy(), min(BINS, max(5, len(finite) // 4)), color="tab:blue", alpha=0.75)
    axes.set_xlabel(f"{name} (higher is more anomalous)")
    axes.set_ylabel("images")
    axes.locator_params("y", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    return drawn


def worst_errors(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Find the wrong predictions with the highest probabilities.

    Args:
        probabilities: ``n k``.
        targets: True labels ``n``.

    Returns:
        Numbers of at most twelve images, and their predicted labels.

    Example:
        >>> worst_errors(torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), torch.tensor([0, 0, 0]))
        (tensor([2, 1]), tensor([1, 1]))
    """
    sure, predicted = probabilities.max(1)
    wrong = torch.nonzero(predicted != targets)[:, 0]
    worst = wrong[sure[wrong].argsort(descending=True, stable=True)][:SHOWN]
    return worst, predicted[worst]


def class_names_of(names: Sequence[str], labels: Tensor) -> list[str]:
    """Name labels, by their numbers where there is no name.

    Example:
        >>> class_names_of(["cat"], torch.tensor([0, 1]))
        ['cat', '1']
    """
    return [names[label] if label < len(names) else str(label) for label in labels.tolist()]


def sample_features(classifier: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the features of at most 1,000 images, evenly spaced; return their numbers and features ``n d``."""
    rows = torch.linspace(0, len(images) - 1, min(len(images), MOST_POINTS)).long()
    device = module_device(classifier)
    with evaluation_mode(classifier):
        parts = [classifier.features(images[part].to(device)).float().cpu() for part in torch.split(rows, 128)]
    return rows, torch.cat(parts)


def embedding_of(features: Tensor, labels: Tensor, names: Sequence[str]) -> Figure:
    """Draw the two principal components of features."""
    return embedding(features, labels, names)


def neighbors_of(images: Tensor, features: Tensor, labels: Tensor, names: Sequence[str]) -> Figure:
    """Draw six images beside their nearest neighbors among the others."""
    queries = torch.linspace(0, len(images) - 1, min(6, len(images) // 2)).long()
    others = torch.ones(len(images), dtype=torch.bool)
    others[queries] = False
    return nearest_neighbors(
        images[queries],
        images[others],
        features[queries],
        features[others],
        query_labels=labels[queries],
        database_labels=labels[others],
        class_names=names,
        k=min(6, int(others.sum())),
    )
