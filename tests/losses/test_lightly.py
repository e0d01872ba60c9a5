"""Losses equal those of lightly; ``uv sync --group bench`` installs it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pretextkit import losses

from .joint_embedding import correlated, embeddings

lightly: Any = pytest.importorskip("lightly.loss", reason="lightly is not installed: use the dependency group bench")


def require_equal(ours: Tensor, theirs: Tensor, *arguments: Tensor) -> None:
    """Require equal values and gradients."""
    torch.testing.assert_close(ours, theirs.view(()), rtol=1e-5, atol=1e-6)
    for mine, other in zip(torch.autograd.grad(ours, arguments), torch.autograd.grad(theirs, arguments), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def pair(n: int = 8, d: int = 5) -> list[Tensor]:
    return [z.detach().float().requires_grad_() for z in correlated(n, d)]


def views(count: int, seed: int = 0) -> list[Tensor]:
    return [(0.3 * embeddings(6, 4, seed=seed + view)).detach().float().requires_grad_() for view in range(count)]


def test_negative_cosine_similarity() -> None:
    z = pair()
    require_equal(losses.negative_cosine_similarity(*z), lightly.NegativeCosineSimilarity()(*z), *z)


def test_barlow_twins() -> None:
    z = pair()
    require_equal(losses.barlow_twins_loss(*z), lightly.BarlowTwinsLoss()(*z), *z)


def test_vicreg() -> None:
    z = pair()
    require_equal(losses.vicreg_loss(*z), lightly.VICRegLoss()(*z), *z)


def test_info_nce_with_a_memory_bank() -> None:
    """Negatives are the bank only. Without a bank, lightly's loss is NT-Xent, and not this one."""
    z = pair()
    theirs = lightly.NTXentLoss(temperature=0.5, memory_bank_size=(7, 5))
    theirs(*z)  # fills the bank
    bank = theirs.memory_bank.bank.clone()
    require_equal(losses.info_nce_loss(z[0], z[1], bank if len(bank) == 7 else bank.T), theirs(*z), *z)


def test_nt_xent() -> None:
    z = pair()
    require_equal(losses.nt_xent_loss(*z), lightly.NTXentLoss(temperature=0.5)(*z), *z)


@pytest.mark.parametrize("local", [0, 2])
def test_swav(local: int) -> None:
    z = views(2 + local)
    require_equal(losses.swav_loss(z[:2], z[2:]), lightly.SwaVLoss()(z[:2], z[2:]), *z)


@pytest.mark.parametrize("local", [0, 2])
def test_dino(local: int) -> None:
    """The center is that of lightly before its loss has moved it."""
    student, teacher = views(2 + local), [each.detach() for each in views(2, seed=9)]
    theirs = lightly.DINOLoss(output_dim=4)
    theirs.center = embeddings(1, 1, 4, seed=20).detach().float() / 10
    ours = losses.dino_loss(student, teacher, theirs.center.flatten().clone())
    require_equal(ours, theirs(teacher, student), *student)


def test_sigreg() -> None:
    """lightly multiplies the statistic by the number of rows, and draws its own directions."""
    from lightly.loss.lejepa_loss import SIGReg

    z = embeddings(6, 4).detach().float().requires_grad_()
    theirs = SIGReg(num_vectors=9)
    directions = torch.randn(4, 9, generator=torch.Generator().manual_seed(3))
    theirs._generate_unit_vectors = lambda device, dtype, num_features: directions / directions.norm(dim=0)
    require_equal(6 * losses.sigreg_loss(z, directions), theirs(z), z)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_visreg(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The regularizer of lightly's loss, which draws its own directions."""
    from lightly.loss import visreg_loss as theirs

    z = embeddings(6, 4).detach().float().requires_grad_()
    directions = torch.randn(4, 9, generator=torch.Generator().manual_seed(3))
    ours = losses.visreg_loss(z, directions, shape_weight=weight)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: directions)
    shape = theirs.visreg_shape_loss(z, 9)
    require_equal(ours, theirs.visreg_center_loss(z) + theirs.visreg_scale_loss(z) + weight * shape, z)


def test_masked_mse() -> None:
    """lightly applies ``MSELoss`` to the masked patches alone."""
    predictions, targets = (embeddings(2, 5, 3, seed=seed).detach().float().requires_grad_() for seed in range(2))
    mask = torch.rand(2, 5, generator=torch.Generator().manual_seed(0)) < 0.6
    theirs = torch.nn.MSELoss()(predictions[mask], targets[mask])
    require_equal(losses.masked_mse(predictions, targets, mask), theirs, predictions, targets)
