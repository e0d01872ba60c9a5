"""SwAV: predict the cluster of one view from another view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pretextkit._validation import check_float, check_int, check_rows
from pretextkit.distributed import current_rank, gather_rows
from pretextkit.errors import ShapeError
from pretextkit.losses._embeddings import in_full_precision

__all__ = ["check_views", "sinkhorn", "swav_loss"]


def swav_loss(
    global_scores: Sequence[Tensor],
    local_scores: Sequence[Tensor] = (),
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
) -> Tensor:
    """Compute the cross entropy of predicting the clusters of each global view from all other views.

    Clusters come from :func:`sinkhorn`, which uses all prototypes equally often and thereby prevents a collapse (Caron
    et al. 2020, arXiv 2006.09882). The loss is computed in fp32 (or fp64) even under autocast. When
    :func:`~pretextkit.functional.pretrain` runs on several processes, clusters are those of the full batch.

    Args:
        global_scores: ``n k`` for each global view: cosines of the embeddings with ``k`` prototypes.
        local_scores: ``n k`` for each local view; local views predict, and are not predicted.
        temperature: Divisor of the scores of predictions.
        epsilon: Divisor of the scores of clusters; smaller values give clusters without doubt.
        iterations: Iterations of :func:`sinkhorn`.

    Returns:
        ``()``, the mean over images and pairs of views; ``log k`` for random guesses.

    Raises:
        ShapeError: The scores differ in shape, or there are fewer than two views.
        DataError: The scores are not of a floating-point dtype.
        OptionError: ``temperature`` or ``epsilon`` is not positive, or there is no iteration.

    Example:
        >>> swav_loss([torch.zeros(4, 8), torch.zeros(4, 8)])  # log 8
        tensor(2.0794)
    """
    temperature = check_float("temperature", temperature, "(0, inf)", of=swav_loss)
    views = check_views([*global_scores, *local_scores], len(global_scores), "scores")
    with torch.autocast(views[0].device.type, enabled=False):
        predictions = [(view / temperature).log_softmax(1) for view in views]
        total = views[0].new_zeros(())
        for own, scores in enumerate(views[: len(global_scores)]):
            clusters = sinkhorn(scores, epsilon=epsilon, iterations=iterations)
            for other, log_probabilities in enumerate(predictions):
                if other != own:
                    total = total - (clusters * log_probabilities).sum(1).mean()
        return total / (len(global_scores) * (len(views) - 1))


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Assign images to prototypes, so that all prototypes have nearly the same number of images.

    The algorithm of Cuturi (2013, arXiv 1306.0895) as in SwAV, on logarithms and in fp32: ``exp(1 / 0.05)`` overflows
    in half precision. When :func:`~pretextkit.functional.pretrain` runs on several processes, the images of all
    processes share the prototypes.

    Args:
        scores: ``n k``, cosines of ``n`` embeddings with ``k`` prototypes.
        epsilon: Divisor of the scores; smaller values give assignments without doubt.
        iterations: How often prototypes and images are normalized in turn.

    Returns:
        ``n k``, each row sums to 1; without gradient.

    Raises:
        ShapeError: The scores are not ``n k``.
        DataError: The scores are not of a floating-point dtype.
        OptionError: ``epsilon`` is not positive, or there is no iteration.

    Example:
        >>> sinkhorn(torch.tensor([[1.0, 0.0], [0.9, 0.0]])).round(decimals=2)  # both prefer the first prototype
        tensor([[0.7300, 0.2700],
                [0.2700, 0.7300]])
    """
    check_rows(scores, "scores")
    epsilon = check_float("epsilon", epsilon, "(0, inf)", of=sinkhorn)
    iterations = check_int("iterations", iterations, of=sinkhorn)
    with torch.autocast(scores.device.type, enabled=False):
        logs = gather_rows(in_full_precision(scores)) / epsilon
        for _ in range(iterations):
            logs = logs.log_softmax(0).log_softmax(1)
        return logs.chunk(current_rank().world_size)[current_rank().rank].exp()


def check_views(views: Sequence[Tensor], targets: int, what: str) -> list[Tensor]:
    """Check the outputs ``n k`` of several views, and convert them to full precision.

    Args:
        views: Outputs of all views.
        targets: Number of views that are predicted.
        what: Plural noun for the outputs in the message.

    Raises:
        ShapeError: The shapes differ, no view is predicted, or there are fewer than two views.
        DataError: The outputs are not of a floating-point dtype.

    Example:
        >>> len(check_views([torch.eye(2), torch.eye(2)], 1, "scores"))
        2
    """
    shapes = {tuple(view.shape) for view in views}
    if len(views) < 2 or targets < 1 or len(shapes) > 1:
        raise ShapeError(
            f"{what} n k of at least two views, one of them global, all of the same shape",
            got=f"{targets} global of {len(views)} views, with shapes {sorted(shapes)}",
            fix="Pass one tensor for each view of the same images.",
        )
    for view in views:
        check_rows(view, what)
    return [in_full_precision(view) for view in views]
