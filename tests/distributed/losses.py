"""Program of the test of losses on several processes.

    python losses.py FOLDER RANK PROCESSES

computes each loss of a slice of the batch and the gradient of the slice, and saves them in the folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor

from pretextkit import losses
from pretextkit.distributed import Rank, collective_scope

Z = torch.randn(2, 8, 6, generator=Generator().manual_seed(0), dtype=torch.float64)
Z[1] += Z[0]
CENTER = torch.linspace(-1, 1, 6, dtype=torch.float64)
DIRECTIONS = torch.randn(6, 5, generator=Generator().manual_seed(1), dtype=torch.float64)
MASK = torch.rand(8, 3, generator=Generator().manual_seed(2)) < 0.4

Loss = Callable[[Tensor, Tensor, slice], Tensor]
LOSSES: dict[str, Loss] = {
    "barlow_twins_loss": lambda a, b, rows: losses.barlow_twins_loss(a, b),
    "dino_loss": lambda a, b, rows: losses.dino_loss([a, b], [b.detach(), a.detach()], CENTER),
    "info_nce_loss": lambda a, b, rows: losses.info_nce_loss(a, b),
    "info_nce_loss of negatives": lambda a, b, rows: losses.info_nce_loss(a, b, DIRECTIONS.T),
    "masked_mse": lambda a, b, rows: losses.masked_mse(a.view(-1, 3, 2), b.view(-1, 3, 2), MASK[rows]),
    "negative_cosine_similarity": lambda a, b, rows: losses.negative_cosine_similarity(a, b),
    "nt_xent_loss": lambda a, b, rows: losses.nt_xent_loss(a, b),
    "sigreg_loss": lambda a, b, rows: losses.sigreg_loss(a, DIRECTIONS) + losses.sigreg_loss(b, DIRECTIONS),
    "sinkhorn": lambda a, b, rows: (losses.sinkhorn(a / 5) * b).sum(1).mean() + 0 * a.sum(),
    "swav_loss": lambda a, b, rows: losses.swav_loss([a / 5, b / 5]),
    "vicreg_loss": lambda a, b, rows: losses.vicreg_loss(a, b),
    "visreg_loss": lambda a, b, rows: losses.visreg_loss(a, DIRECTIONS) + losses.visreg_loss(b, DIRECTIONS),
}


def computed(rank: int, processes: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Compute the loss and the gradient of the rows of one process."""
    count = Z.shape[1] // processes
    rows = slice(rank * count, (rank + 1) * count)
    found = {}
    for name, loss in LOSSES.items():
        z = Z[:, rows].clone().requires_grad_()
        with collective_scope(Rank(rank, processes)):
            value = loss(z[0], z[1], rows)
        found[name] = value.detach(), torch.autograd.grad(value, z)[0]
    return found


if __name__ == "__main__":
    folder, rank, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    torch.save(computed(rank, processes), folder / f"{rank}.pt")
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):  # destroying the group may never end
        torch.distributed.barrier()
        os._exit(0)
    torch.distributed.destroy_process_group()
