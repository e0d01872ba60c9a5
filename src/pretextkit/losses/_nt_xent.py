"""NT-Xent: the normalized temperature-scaled cross entropy of SimCLR."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pretextkit._chunks import row_chunks
from pretextkit._validation import check_float, check_floats, check_rows
from pretextkit.distributed import current_rank, gather_rows
from pretextkit.errors import PretextkitError, ShapeError

__all__ = ["nt_xent_loss"]


def nt_xent_loss(z_a: Tensor, z_b: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Compute the cross entropy of matching each embedding to its other view among 2n - 1 candidates.

    The loss of SimCLR (Chen et al. 2020, arXiv 2002.05709, equation 1), computed in fp32 (or fp64) even under autocast.
    Loss and gradient are computed together, for a few rows of the similarity matrix at a time. Memory therefore grows
    linearly with the batch size. The loss can be differentiated once.

    When :func:`~pretextkit.functional.pretrain` runs on several processes, candidates come from all processes. The mean
    over processes of the returned losses is the loss of the full batch, and the same holds for the gradient.

    Args:
        z_a: ``n d``, embeddings of one view; normalized inside the function.
        z_b: ``n d``, embeddings of the other view; row ``i`` shows the same image as row ``i`` of ``z_a``.
        temperature: Divisor of the similarities; smaller values weight the nearest negatives more.

    Returns:
        ``()``, the mean over the 2n rows.

    Raises:
        ShapeError: The embeddings do not have the same shape ``n d``, or there is a single pair, without negatives.
        DataError: The embeddings are not of a floating-point dtype.
        OptionError: The temperature is not positive.
        PretextkitError: A second derivative is requested (``create_graph=True``).

    Example:
        >>> z = torch.eye(4)
        >>> nt_xent_loss(z, z, temperature=0.5)  # log(e^2 + 6 e^0) - 2
        tensor(0.5944)
    """
    if z_a.ndim != 2 or z_a.shape != z_b.shape:
        raise ShapeError(
            "two embeddings of the same shape n d",
            got=f"{tuple(z_a.shape)} and {tuple(z_b.shape)}",
            fix="Embed both views of the same images.",
        )
    rank, processes = current_rank()
    if len(z_a) * processes < 2:
        raise ShapeError(
            "a batch of at least 2 images, because other images are the negatives",
            got=len(z_a),
            fix="Increase the batch size, and drop a last batch of one image.",
        )
    check_rows(z_a, "embeddings")
    check_floats(z_b, "embeddings")
    temperature = check_float("temperature", temperature, "(0, inf)", fix="Usual values are 0.07 to 0.5.")
    with torch.autocast(z_a.device.type, enabled=False):
        z = torch.cat([z_a, z_b])
        z = nn.functional.normalize(z if z.dtype == torch.float64 else z.float())
        loss: Tensor = _NTXent.apply(gather_rows(z), rank * len(z), len(z), temperature)
    return loss


class _NTXent(torch.autograd.Function):
    """Mean cross entropy of some rows of ``z z^T / temperature`` without the diagonal; ``z`` is ``m d``, normalized.

    The rows ``first`` to ``first + rows`` belong to this process: one view of its images, then the other view.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, first: int, rows: int, temperature: float) -> Tensor:
        partner = first + torch.arange(rows, device=z.device).roll(rows // 2)
        gradient = torch.zeros_like(z)
        total = z.new_zeros(())
        for chunk in row_chunks(rows, len(z), z.device):
            index, own = torch.arange(len(chunk), device=z.device), first + chunk
            logits = z[own] @ z.T / temperature
            logits[index, own] = -torch.inf
            positive = logits[index, partner[chunk]]
            normalizer = logits.logsumexp(1)
            total += (normalizer - positive).sum()
            slope = logits.sub_(normalizer[:, None]).exp_()  # d loss / d logits
            slope[index, partner[chunk]] -= 1
            gradient[own] += slope @ z
            gradient.addmm_(slope.T, z[own])
        ctx.save_for_backward(gradient / (rows * temperature))
        return total / rows

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        if torch.is_grad_enabled():  # once_differentiable misses this case, and second derivatives would be wrong
            raise PretextkitError(
                "nt_xent_loss can be differentiated only once.",
                fix="Remove create_graph=True, or compute the loss with torch operations.",
            )
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None, None
