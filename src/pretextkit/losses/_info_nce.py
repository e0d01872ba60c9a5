"""InfoNCE: the cross entropy of finding the key of each query."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._validation import check_float, check_rows
from pretextkit.distributed import current_rank, gather_rows
from pretextkit.errors import ShapeError
from pretextkit.losses._embeddings import check_batch, check_pair, in_full_precision

__all__ = ["info_nce_loss"]


def info_nce_loss(
    queries: Tensor, keys: Tensor, negatives: Tensor | None = None, *, temperature: float = 0.5
) -> Tensor:
    """Compute the cross entropy of finding the key of each query among other keys.

    Without ``negatives``, the keys of the other images in the batch are the wrong answers, as in MoCo v3 (Chen et al.
    2021, arXiv 2104.02057) and NNCLR (Dwibedi et al. 2021, arXiv 2104.14548). With ``negatives``, only they are, as in
    the first MoCo (He et al. 2020, arXiv 1911.05722) and in the ``NTXentLoss`` of lightly with a memory bank. Unlike
    :func:`nt_xent_loss`, queries are never compared with each other, and the loss has one direction.

    The loss is computed in fp32 (or fp64) even under autocast. When :func:`~pretextkit.functional.pretrain` runs on
    several processes, keys come from all processes. The mean over processes of the returned losses is the loss of the
    full batch, and the same holds for the gradient.

    Args:
        queries: ``n d``; normalized inside the function.
        keys: ``n d``; normalized inside the function. Row ``i`` is the right answer of query ``i``. Detach keys that
            come from a momentum copy.
        negatives: ``m d``, the wrong answers, such as a queue; normalized inside the function. None uses the keys of
            the other images.
        temperature: Divisor of the similarities; smaller values weight the nearest negatives more.

    Returns:
        ``()``, the mean over the queries.

    Raises:
        ShapeError: Queries and keys do not have the same shape ``n d``, the negatives have another width, or there is a
            single pair without negatives.
        DataError: The embeddings are not of a floating-point dtype.
        OptionError: The temperature is not positive.

    Example:
        >>> z = torch.eye(4)
        >>> info_nce_loss(z, z, temperature=0.5)  # log(e^2 + 3 e^0) - 2
        tensor(0.3408)
    """
    check_pair(queries, keys)
    temperature = check_float("temperature", temperature, "(0, inf)", fix="Usual values are 0.07 to 0.5.")
    if negatives is None:
        check_batch(queries, "other images are the negatives")
    else:
        check_rows(negatives, "negatives")
        if negatives.shape[1] != queries.shape[1]:
            raise ShapeError(
                f"negatives m {queries.shape[1]}, as wide as the queries",
                got=f"shape {tuple(negatives.shape)}",
                fix="Take the negatives from the network that embeds the keys.",
            )
    with torch.autocast(queries.device.type, enabled=False):
        q, k = (nn.functional.normalize(in_full_precision(z)) for z in (queries, keys))
        right = torch.arange(len(q), device=q.device)
        if negatives is None:
            logits = q @ gather_rows(k).T
            right = right + current_rank().rank * len(q)
        else:
            others = nn.functional.normalize(negatives.to(q.dtype))
            logits = torch.cat([(q * k).sum(1, keepdim=True), q @ others.T], 1)
            right = torch.zeros_like(right)
        return nn.functional.cross_entropy(logits / temperature, right)
