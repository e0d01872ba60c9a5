"""The collapse of each method of joint embedding, planted: the part that keeps images apart is removed.

Heads are removed as well, because they could collapse in place of the backbone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit import tasks
from pretextkit.contracts import Backbone
from pretextkit.errors import CollapseWarning
from pretextkit.functional import pretrain
from pretextkit.losses import _swav as swav_file
from pretextkit.losses import negative_cosine_similarity
from pretextkit.tasks import MomentumCopy, PrototypeHead, RunningMean, _barlow_twins, _moco_v3, _nnclr
from pretextkit.testing import TinyBackbone, toy_images

Patch = pytest.MonkeyPatch
IMAGES = toy_images(64, generator=Generator().manual_seed(0))


def train(task: Any, epochs: int = 10) -> Any:
    return pretrain(task, IMAGES, epochs=epochs, batch_size=32, learning_rate=0.01, device="cpu", progress=False)


def without_heads(task: Any) -> Any:
    """Let the loss see the features; a momentum copy equals the backbone."""
    task.projector = nn.Identity()
    if hasattr(task, "predictor"):
        task.predictor = nn.Identity()
    if hasattr(task, "target"):
        task.target = MomentumCopy(task.backbone, task.projector, momentum=0)
    return task


def similarity(one: Tensor, other: Tensor, **_: Any) -> Tensor:
    return negative_cosine_similarity(one, other)


class Attracted(tasks.SimSiam[Backbone]):
    """SimSiam without its stop-gradient."""

    def forward(self, batch: Any) -> pk.TaskOutput:
        z_a, z_b = self.features(batch).chunk(2)
        return pk.TaskOutput((z_a - z_b).square().mean(), {})


def byol_without_predictor(patch: Patch) -> Any:
    return without_heads(tasks.BYOL(TinyBackbone()))


def simsiam_without_stop_gradient(patch: Patch) -> Any:
    return without_heads(Attracted(TinyBackbone()))


def moco_without_negatives(patch: Patch) -> Any:
    patch.setattr(_moco_v3, "info_nce_loss", similarity)
    return without_heads(tasks.MoCoV3(TinyBackbone()))


def nnclr_without_negatives(patch: Patch) -> Any:
    patch.setattr(_nnclr, "info_nce_loss", similarity)
    return without_heads(tasks.NNCLR(TinyBackbone(), projection_dim=64, queue=64))


def barlow_twins_without_normalization(patch: Patch) -> Any:
    """Squared distance: equal dimensions, and nothing that gives them a variance."""
    patch.setattr(_barlow_twins, "barlow_twins_loss", lambda a, b, **_: (a - b).square().sum(1).mean())
    return without_heads(tasks.BarlowTwins(TinyBackbone()))


def vicreg_without_variance(patch: Patch) -> Any:
    return without_heads(tasks.VICReg(TinyBackbone(), variance_weight=0, covariance_weight=0))


def swav_without_equal_clusters(patch: Patch) -> Any:
    patch.setattr(swav_file, "sinkhorn", lambda scores, epsilon, **_: (scores.detach() / epsilon).softmax(1))
    task = tasks.SwAV(TinyBackbone())
    task.head = PrototypeHead(64, 32)  # type: ignore[assignment]
    return task


def dino_without_centering(patch: Patch) -> Any:
    task = tasks.DINO(TinyBackbone())
    task.head = PrototypeHead(64, 32)  # type: ignore[assignment]
    task.teacher = MomentumCopy(task.backbone, task.head, momentum=0)
    task.center = RunningMean(32)
    patch.setattr(task.center, "commit", task.center._pending.clear)
    return task


def lejepa_without_gaussian(patch: Patch) -> Any:
    return without_heads(tasks.LeJEPA(TinyBackbone(), sigreg_weight=0))


PLANTS: dict[str, Callable[[Patch], Any]] = {
    "barlow-twins": barlow_twins_without_normalization,
    "byol": byol_without_predictor,
    "dino": dino_without_centering,
    "lejepa": lejepa_without_gaussian,
    "moco-v3": moco_without_negatives,
    "nnclr": nnclr_without_negatives,
    "simsiam": simsiam_without_stop_gradient,
    "swav": swav_without_equal_clusters,
    "vicreg": vicreg_without_variance,
}


@pytest.mark.parametrize("name", PLANTS)
def test_planted_collapse_is_reported_with_its_cause(name: str, monkeypatch: Patch) -> None:
    torch.manual_seed(0)
    with pytest.warns(CollapseWarning, match="all images have nearly the same features.*term that keeps images apart"):
        result = train(PLANTS[name](monkeypatch))
    assert result.history.last["spread"] < 0.01


@pytest.mark.parametrize("name", PLANTS)
def test_healthy_run_of_the_same_length_gives_no_warning(name: str) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        result = train(pk.pretext_tasks.create(name, TinyBackbone()))
    assert result.history.last["spread"] > 0.02


def test_swav_without_equal_clusters_uses_one_prototype(monkeypatch: Patch) -> None:
    torch.manual_seed(0)
    with pytest.warns(CollapseWarning):
        collapsed = train(swav_without_equal_clusters(monkeypatch)).history.last["prototypes_used"]
    monkeypatch.undo()
    torch.manual_seed(0)
    assert collapsed < 1.5 < 2.5 < train(tasks.SwAV(TinyBackbone(), prototypes=32)).history.last["prototypes_used"]


def test_dino_metrics_tell_both_collapses(monkeypatch: Patch) -> None:
    """One output for all images without centering; equal outputs if the teacher is as warm as the student."""
    torch.manual_seed(0)
    with pytest.warns(CollapseWarning):
        assert train(dino_without_centering(monkeypatch)).history.last["outputs_used"] < 1.5
    warm = tasks.DINO(TinyBackbone(), outputs=32)
    warm.cold = 10.0  # the constructor refuses it
    monkeypatch.setattr("pretextkit.tasks._dino.dino_loss", lambda student, *_, **__: student[0].sum() * 0)
    output = warm.step(IMAGES, Generator().manual_seed(0))
    assert output.metrics["teacher_entropy"].item() == pytest.approx(math.log(32), abs=0.01)
