"""The normalized temperature-scaled cross entropy of SimCLR."""

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
    """Score how well each embedding finds its other view among all 2n - 1 others.

    The loss of SimCLR (Chen et al. 2020, arXiv 2002.05709, equation 1), computed in fp32 (or fp64) whatever the
    autocast. Loss and gradient are made together, a few rows of the similarity matrix at a time, so that memory grows
    with the batch and not with its square. It can be differentiated once.

    Where :func:`~pretextkit.functional.pretrain` runs on several processes, the others are those of all of them, and
    the mean over the processes of what each returns is the loss of the whole batch, with its gradient.

    Args:
        z_a: ``n d``: embeddings of one view; they are normalized here.
        z_b: ``n d``: embeddings of the other view, row by row.
        temperature: What similarities are divided by; smaller makes the nearest negatives count more.

    Returns:
        ``()``: mean over the 2n rows.

    Raises:
        ShapeError: The embeddings are not two equal ``n d``, or there is a single pair, which has no negatives.
        DataError: The embeddings are not of floats.
        OptionError: The temperature is not positive.
        PretextkitError: The gradient is to be differentiated in its turn (``create_graph=True``).

    Example:
        >>> z = torch.eye(4)
        >>> nt_xent_loss(z, z, temperature=0.5)  # log(e^2 + 6 e^0) - 2
        tensor(0.5944)
    """
    if z_a.ndim != 2 or z_a.shape != z_b.shape:
        raise ShapeError(
            "two embeddings of one shape n d",
            got=f"{tuple(z_a.shape)} and {tuple(z_b.shape)}",
            fix="Embed both views of the same images.",
        )
    rank, processes = current_rank()
    if len(z_a) * processes < 2:
        raise ShapeError(
            "a batch of at least 2 images, as the others are the negatives",
            got=len(z_a),
            fix="Raise the batch size, and drop a last batch of one.",
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
    """Mean cross entropy of some rows of ``z z^T / temperature`` without its diagonal; ``z``: ``m d``, normalized.

    The rows are this process's, ``first`` to ``first + rows``: one view of its images, then the other.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, first: int, rows: int, temperature: float) -> Tensor:
        partner = first + torch.arange(rows, device=z.device).roll(rows // 2)
        gradient = torch.zeros_like(z)
        total = z.new_zeros(())
        for chunk in row_chunks(rows, len(z), z.device):
            here, own = torch.arange(len(chunk), device=z.device), first + chunk
            logits = z[own] @ z.T / temperature
            logits[here, own] = -torch.inf
            positive = logits[here, partner[chunk]]
            normalizer = logits.logsumexp(1)
            total += (normalizer - positive).sum()
            slope = logits.sub_(normalizer[:, None]).exp_()  # d loss / d logits
            slope[here, partner[chunk]] -= 1
            gradient[own] += slope @ z
            gradient.addmm_(slope.T, z[own])
        ctx.save_for_backward(gradient / (rows * temperature))
        return total / rows

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        if torch.is_grad_enabled():  # once_differentiable lets this pass, and second derivatives would be wrong
            raise PretextkitError(
                "nt_xent_loss can be differentiated once.",
                fix="Leave create_graph=True out, or write the loss in torch.",
            )
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None, None
