"""SIGReg: how far embeddings are from an isotropic Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._validation import check_float, check_int, check_rows
from pretextkit.distributed import gather_rows
from pretextkit.errors import ShapeError
from pretextkit.losses._embeddings import in_full_precision

__all__ = ["check_directions", "sigreg_loss"]


def sigreg_loss(z: Tensor, directions: Tensor, *, knots: int = 17, limit: float = 3.0) -> Tensor:
    """Compute the distance of embeddings from a standard Gaussian, along random directions.

    Along each direction, the characteristic function of the embeddings is compared with that of the standard normal
    distribution (the Epps-Pulley statistic; Balestriero & LeCun 2025, arXiv 2511.08544). Unlike in the paper and in
    lightly, the statistic is not multiplied by the number of rows: its scale, and with it the learning rate, does not
    depend on the batch size.

    The loss is computed in fp32 (or fp64) even under autocast. When :func:`~pretextkit.functional.pretrain` runs on
    several processes, the characteristic function is that of the full batch, and so is the gradient.

    Args:
        z: ``n d``, embeddings as they are: their scale matters.
        directions: ``d s``, random directions, of any length; the same on all processes.
        knots: Points at which the characteristic functions are compared.
        limit: Largest of these points.

    Returns:
        ``()``, the mean over the ``s`` directions; 0 for a standard Gaussian of many rows.

    Raises:
        ShapeError: The embeddings are not ``n d``, or the directions not ``d s``.
        DataError: The embeddings are not of a floating-point dtype.
        OptionError: There are fewer than 2 knots, or the limit is not positive.

    Example:
        >>> z, directions = torch.zeros(8, 2), torch.eye(2)
        >>> sigreg_loss(z, directions)  # 2 times the integral of (1 - exp(-t² / 2))² exp(-t² / 2)
        tensor(0.4020)
    """
    check_rows(z, "embeddings")
    check_directions(directions, z.shape[1])
    knots = check_int("knots", knots, at_least=2, of=sigreg_loss)
    limit = check_float("limit", limit, "(0, inf)", of=sigreg_loss)
    with torch.autocast(z.device.type, enabled=False):
        z = gather_rows(in_full_precision(z))
        points = torch.linspace(0, limit, knots, device=z.device, dtype=z.dtype)
        angles = (z @ nn.functional.normalize(directions.to(z.dtype), dim=0))[..., None] * points
        gaussian = (-points.square() / 2).exp()
        errors = (angles.cos().mean(0) - gaussian).square() + angles.sin().mean(0).square()
        return 2 * torch.trapezoid(errors * gaussian, points).mean()


def check_directions(directions: Tensor, width: int) -> None:
    """Check that directions are ``d s`` with d = ``width``.

    Raises:
        ShapeError: They have another shape.

    Example:
        >>> check_directions(torch.randn(8, 256), 8)
    """
    check_rows(directions, "directions")
    if len(directions) != width:
        raise ShapeError(
            f"directions {width} s, as long as the embeddings are wide",
            got=f"shape {tuple(directions.shape)}",
            fix="Draw them with torch.randn(d, s).",
        )
