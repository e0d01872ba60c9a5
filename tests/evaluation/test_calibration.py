"""Scale of logits, against a search by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Generator
from torch.nn.functional import cross_entropy

from pretextkit.evaluation._calibration import best_scale, log_loss


@pytest.mark.parametrize("sharpness", [0.3, 2.0, 30.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_scale_has_the_lowest_log_loss_of_many(sharpness: float, weighted: bool) -> None:
    generator = Generator().manual_seed(0)
    logits = sharpness * torch.randn(200, 4, generator=generator)
    labels = (logits / sharpness + torch.randn(200, 4, generator=generator)).argmax(1)
    weights = torch.rand(200, generator=generator) if weighted else torch.ones(200)
    scale = best_scale(logits, labels, weights)

    def loss(factor: float) -> float:
        losses = cross_entropy(factor * logits.double(), labels, reduction="none")
        return (weights.double() @ losses / weights.sum()).item()

    grid = [10 ** (power / 100) for power in range(-200, 1)]
    assert 0.01 <= scale <= 1.0
    assert loss(scale) <= min(map(loss, grid)) + 1e-6


def test_scale_of_sampled_labels_is_one_over_the_sharpness() -> None:
    generator = Generator().manual_seed(1)
    truth = torch.randn(20_000, 3, generator=generator)
    labels = torch.multinomial(truth.softmax(1), 1, generator=generator)[:, 0]
    assert best_scale(5 * truth, labels, torch.ones(20_000)) == pytest.approx(0.2, rel=0.05)


def test_right_predictions_are_never_made_more_sure() -> None:
    logits, labels = torch.eye(3), torch.arange(3)
    assert best_scale(logits, labels, torch.ones(3)) == 1.0


def test_images_without_weight_do_not_count() -> None:
    logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [-torch.inf, 0.0]])
    labels = torch.tensor([0, 0, 1, 0])
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert best_scale(logits, labels, weights) == best_scale(logits[:3], labels[:3], torch.ones(3))
    assert log_loss(logits, labels, weights)[3] == 0
