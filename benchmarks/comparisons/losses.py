"""NT-Xent with gradient: time compared with peers, and memory of very large batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from comparisons.timing import Comparison, Effort, Row, Unequal, extra_mib, in_child, race
from pretextkit.losses import nt_xent_loss

TEMPERATURE = 0.5
Loss = Callable[[Tensor, Tensor], Tensor]


def embeddings(batch: int) -> tuple[Tensor, Tensor]:
    """Draw correlated embeddings of two views, as early in training."""
    generator = Generator().manual_seed(0)
    z_a = torch.randn(batch, 128, generator=generator)
    z_b = z_a + torch.randn(batch, 128, generator=generator)
    return z_a.requires_grad_(), z_b.requires_grad_()


def gradient(loss: Loss, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, ...]:
    """Return the gradient of a loss with respect to both embeddings."""
    return torch.autograd.grad(loss(z_a, z_b), (z_a, z_b))


def ours(z_a: Tensor, z_b: Tensor) -> Tensor:
    return nt_xent_loss(z_a, z_b, temperature=TEMPERATURE)


def dense(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Compute the formula of the paper with the full matrix."""
    z = nn.functional.normalize(torch.cat([z_a, z_b]))
    logits = (z @ z.T / TEMPERATURE).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return nn.functional.cross_entropy(logits, torch.arange(len(z)).roll(len(z_a)))


def lightly_loss() -> Loss:
    from lightly.loss import NTXentLoss

    loss: Loss = NTXentLoss(temperature=TEMPERATURE)
    return loss


def metric_learning_loss() -> Loss:
    from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss

    loss: Loss = SelfSupervisedLoss(NTXentLoss(temperature=TEMPERATURE))
    return loss


def distance(found: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> float:
    """Return the distance of two gradients relative to the norm of the second."""
    one, other = torch.cat(found).double(), torch.cat(exact).double()
    return float((one - other).norm() / other.norm())


def measure(batch: int, peer: Callable[[], Loss], effort: Effort) -> Row:
    """Compare gradients with the formula in float64 (ours within 1e-6, theirs within 1e-4), then race."""
    batch = effort.of(batch, min(batch, 64))
    z_a, z_b = embeddings(batch)
    theirs = peer()
    exact = gradient(dense, *(z.detach().double().requires_grad_() for z in (z_a, z_b)))
    error = distance(gradient(ours, z_a, z_b), exact)
    their_error = distance(gradient(theirs, z_a, z_b), exact)
    if error > 1e-6 or their_error > 1e-4:
        raise Unequal(f"gradients differ from the float64 formula by {error:.2g} (ours) and {their_error:.2g} (theirs)")
    row = race(lambda: gradient(ours, z_a, z_b), lambda: gradient(theirs, z_a, z_b), effort, rounds=9)
    return {**row, "gradient_error": error, "their_gradient_error": their_error}


def peak(batch: int) -> Row:
    """Measure the memory of one loss and gradient in addition to the embeddings, and check some rows of the gradient.

    The check in float64 differentiates only the rows of the first images, each against all embeddings.
    """
    gradient(ours, *embeddings(16))  # allocates the memory of threads and kernels
    z_a, z_b = embeddings(batch)
    found: list[tuple[Tensor, ...]] = []
    memory = extra_mib(lambda: found.append(gradient(ours, z_a, z_b)))
    few = min(batch, 8)
    error = distance(tuple(part[:few] for part in found[0]), exact_rows(z_a, z_b, few))
    if error > 1e-6:
        raise Unequal(f"the gradient differs from the float64 formula by {error:.2g}")
    return {"batch": batch, "MiB": memory, "gradient error of 8 images": error}


def exact_rows(z_a: Tensor, z_b: Tensor, few: int) -> tuple[Tensor, ...]:
    """Return the exact gradient of the embeddings of the first images, computed in chunks of rows.

    The loss is a sum over rows and each row depends on every embedding, so all rows contribute.
    """
    leaves = [z[:few].detach().double().requires_grad_() for z in (z_a, z_b)]
    total = [torch.zeros_like(leaf) for leaf in leaves]
    count = 2 * len(z_a)
    for rows in torch.split(torch.arange(count), 512):
        z = torch.cat([leaves[0], z_a[few:].detach().double(), leaves[1], z_b[few:].detach().double()])
        z = nn.functional.normalize(z)
        logits = z[rows] @ z.T / TEMPERATURE
        logits = logits.masked_fill(torch.arange(count) == rows[:, None], -torch.inf)
        loss = nn.functional.cross_entropy(logits, (rows + len(z_a)) % count, reduction="sum") / count
        total = [part + more for part, more in zip(total, torch.autograd.grad(loss, leaves), strict=True)]
    return tuple(total)


def memory(effort: Effort) -> Row:
    """Measure each batch size in its own process."""
    points = [in_child(peak, effort.of(batch, batch // 64)) for batch in (4096, 8192, 16384)]
    return {"extra MiB": points[-1]["MiB"], "points": points}


PEERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "lightly": (lightly_loss, (256, 512, 1024, 2048)),
    "the dense formula": (lambda: dense, (256, 2048)),
    "pytorch-metric-learning": (metric_learning_loss, (128, 256)),  # its memory grows with the cube of the batch
}
COMPARISONS = [
    *(
        Comparison(f"NT-Xent with gradient, batch {batch}", name, partial(measure, batch, peer), 1.0)
        for name, (peer, batches) in PEERS.items()
        for batch in batches
    ),
    Comparison(
        "memory of NT-Xent with gradient, batch 16384",
        "4.3 GB for each matrix of the dense formula",
        memory,
        300.0,
        "extra MiB",
    ),
]
