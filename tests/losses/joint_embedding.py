"""Embeddings and checks that the tests of joint-embedding losses share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

__all__ = ["correlated", "embeddings", "require_exact_in_half_precision", "require_gradients"]

Loss = Callable[..., Tensor]


def embeddings(*shape: int, seed: int = 0) -> Tensor:
    """Draw embeddings in float64, with gradient."""
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def correlated(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw embeddings of two similar views."""
    z_a, noise = embeddings(n, d, seed=seed).detach(), embeddings(n, d, seed=seed + 1).detach()
    return z_a.requires_grad_(), (z_a.detach() + noise / 2).requires_grad_()


def require_gradients(loss: Loss, *arguments: Tensor) -> None:
    """Require that the gradient of each argument matches finite differences."""
    assert torch.autograd.gradcheck(loss, arguments)
    for gradient in torch.autograd.grad(loss(*arguments), arguments):
        assert gradient.any()


def require_exact_in_half_precision(loss: Loss, *arguments: Tensor) -> None:
    """Require fp32 results from half-precision arguments, also under autocast."""
    for dtype in (torch.bfloat16, torch.float16):
        halves = [each.detach().to(dtype).requires_grad_() for each in arguments]
        exact = loss(*(half.detach().double() for half in halves))
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                found = loss(*halves)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)
            for half, gradient in zip(halves, torch.autograd.grad(found, halves), strict=True):
                assert gradient.dtype == half.dtype
                assert gradient.isfinite().all()
