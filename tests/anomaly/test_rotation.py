from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor, nn

from pretextkit.contracts import Backbone
from pretextkit.errors import OptionError, ShapeError
from pretextkit.functional import pretrain, rotation_anomaly_score
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images


class Corners(Backbone):
    """A backbone whose features are the first row of the image, after layers with training-time state."""

    feature_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.drop(self.norm(images))
        return out[:, 0, 0]


def test_scores_match_a_loop() -> None:
    images, task = random_images(5, size=8), Rotation(Corners())
    found = rotation_anomaly_score(task, images, batch_size=2)
    assert found.maps is None
    task.eval()
    for image, score in zip(images, found.scores, strict=True):
        losses = []
        for turns in range(4):
            logits = task.head(task.backbone(torch.rot90(image, turns, (1, 2))[None]))[0].tolist()
            losses.append(math.log(sum(map(math.exp, logits))) - logits[turns])
        assert score.item() == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_mean_score_equals_the_task_loss() -> None:
    images, task = random_images(6, size=8), Rotation(TinyBackbone(), augmentation=None).eval()
    assert rotation_anomaly_score(task, images).scores.mean().item() == pytest.approx(
        task.step(images, Generator()).loss.item(), rel=1e-5
    )


def test_task_state_is_restored() -> None:
    task = Rotation(Corners())
    task.head.eval()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    modes = [module.training for module in task.modules()]
    state = torch.get_rng_state()
    first = rotation_anomaly_score(task, random_images(5, size=8)).scores
    assert torch.equal(rotation_anomaly_score(task, random_images(5, size=8)).scores, first)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert [module.training for module in task.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.requires_grad
    assert all(weight.grad is None for weight in task.parameters())


@pytest.mark.filterwarnings("ignore:Perfect accuracy this early")  # the images are very simple
def test_symmetric_images_score_high_for_a_trained_task() -> None:
    generator = Generator().manual_seed(1)
    normal = 0.2 * torch.rand(96, 3, 16, 16, generator=generator)
    normal[:, :, :6] += 0.7  # a light sky
    anomalous = 0.2 * torch.rand(16, 3, 16, 16, generator=generator)
    anomalous[:, :, :, 5:11] += 0.7  # a light stripe down the middle: upside down it is the same
    with torch.random.fork_rng():
        torch.manual_seed(0)
        task = Rotation(TinyBackbone())
    pretrain(task, normal[:64], steps=40, batch_size=16, learning_rate=0.01, device="cpu", progress=False)
    held_out = rotation_anomaly_score(task, normal[64:]).scores
    assert rotation_anomaly_score(task, anomalous).scores.min() > held_out.max()


def test_invalid_input_is_refused() -> None:
    task = Rotation(TinyBackbone())
    with pytest.raises(ShapeError, match="Expected square images b c h h, but got shape"):
        rotation_anomaly_score(task, torch.rand(2, 3, 8, 9))
    with pytest.raises(OptionError) as caught:
        rotation_anomaly_score(task, random_images(2, size=8), batch_size=0)
    assert caught.value.text == "Expected batch_size to be an integer >= 1, but got 0. The default is 256."
