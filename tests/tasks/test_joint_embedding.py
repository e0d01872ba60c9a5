"""The tasks of joint embedding: their losses, heads, momentum copies and known traps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

import pretextkit as pk
from pretextkit.batches import MultiViews
from pretextkit.errors import OptionError
from pretextkit.functional import pretrain
from pretextkit.tasks import (
    BYOL,
    DINO,
    NNCLR,
    BarlowTwins,
    LeJEPA,
    MoCoV3,
    MomentumCopy,
    MultiCrop,
    SimSiam,
    SwAV,
    VICReg,
)
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.views import CropAndRecolor
from tests.helpers import require_exact_resume

Task = pk.PretextTask[Any, Any]
IMAGES = toy_images(16, size=16, generator=Generator().manual_seed(0))
SMALL: dict[str, dict[str, Any]] = {
    "barlow-twins": {"projection_dim": 16},
    "byol": {"projection_dim": 16, "hidden_dim": 16},
    "dino": {"projection_dim": 16, "hidden_dim": 16, "outputs": 12},
    "lejepa": {"projection_dim": 8, "hidden_dim": 16, "directions": 8},
    "moco-v3": {"projection_dim": 16, "hidden_dim": 16},
    "nnclr": {"projection_dim": 16, "hidden_dim": 16, "queue": 12},
    "simsiam": {"projection_dim": 16, "predictor_dim": 8},
    "swav": {"projection_dim": 16, "hidden_dim": 16, "prototypes": 6},
    "vicreg": {"projection_dim": 16},
}
COPIES = {"byol": "target", "moco-v3": "target", "dino": "teacher"}


def make(name: str, seed: int = 0, **options: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return pk.pretext_tasks[name](TinyBackbone(), **{**SMALL[name], **options})


def run(task: Task, **options: Any) -> Any:
    fixed: dict[str, Any] = {"batch_size": 8, "device": "cpu", "precision": "fp32", "progress": False}
    return pretrain(task, IMAGES, **{**fixed, "steps": 4, **options})


def batch_of(task: Task, n: int = 8) -> Any:
    return task.views(IMAGES[:n], Generator().manual_seed(1))


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return F.cosine_similarity(one, other, dim=1).mean()


def cross_entropy(queries: Tensor, keys: Tensor) -> Tensor:
    scores = F.normalize(queries) @ F.normalize(keys).T / 0.2
    return -scores.log_softmax(1).diagonal().mean()


def two_views(task: Any) -> tuple[Tensor, ...]:
    """Compute projections and predictions of both views, whose BatchNorm has the statistics of both."""
    z = task.projector(task.backbone(torch.cat(batch_of(task)))).detach()
    return (*z.chunk(2), *task.predictor(z).detach().chunk(2))


def each_view(task: Any) -> tuple[Tensor, ...]:
    """Compute projections and predictions; BatchNorm of the heads has the statistics of one view."""
    z_a, z_b = (task.projector(rows).detach() for rows in task.backbone(torch.cat(batch_of(task))).chunk(2))
    return z_a, z_b, task.predictor(z_a).detach(), task.predictor(z_b).detach()


def test_byol_is_the_squared_distance_to_the_copy() -> None:
    task = make("byol")
    _, _, p_a, p_b = two_views(task)
    t_a, t_b = task.target(torch.cat(batch_of(task))).chunk(2)
    distances = [(F.normalize(p) - F.normalize(t)).square().sum(1).mean() for p, t in ((p_a, t_b), (p_b, t_a))]
    torch.testing.assert_close(task(batch_of(task)).loss, torch.stack(distances).mean(), rtol=1e-4, atol=1e-5)


def test_simsiam_compares_each_prediction_with_the_other_view() -> None:
    task = make("simsiam")
    z_a, z_b, p_a, p_b = each_view(task)
    torch.testing.assert_close(task(batch_of(task)).loss, -(cosine(p_a, z_b) + cosine(p_b, z_a)) / 2)


def test_moco_finds_the_copys_embedding_of_the_other_view() -> None:
    task = make("moco-v3")
    _, _, q_a, q_b = two_views(task)
    k_a, k_b = task.target(torch.cat(batch_of(task))).chunk(2)
    torch.testing.assert_close(task(batch_of(task)).loss, (cross_entropy(q_a, k_b) + cross_entropy(q_b, k_a)) / 2)


def test_nnclr_replaces_one_view_by_its_neighbor() -> None:
    task = make("nnclr")
    z_a, z_b, p_a, p_b = two_views(task)
    rows = task.queue.rows
    near_a, near_b = (rows[(F.normalize(z) @ rows.T).argmax(1)] for z in (z_a, z_b))
    torch.testing.assert_close(task(batch_of(task)).loss, (cross_entropy(near_a, p_b) + cross_entropy(near_b, p_a)) / 2)


@pytest.mark.parametrize("name", ["barlow-twins", "vicreg"])
def test_decorrelating_tasks_pass_their_options(name: str) -> None:
    task = make(name)
    z_a, z_b = task.projector(task.backbone(torch.cat(batch_of(task)))).detach().chunk(2)
    losses: dict[str, Callable[..., Tensor]] = {
        "vicreg": pk.losses.vicreg_loss,
        "barlow-twins": lambda a, b: pk.losses.barlow_twins_loss(a, b) / 16,
    }
    expected = losses[name](z_a, z_b)
    torch.testing.assert_close(task(batch_of(task)).loss, expected)


def outputs(task: Any, head: nn.Module) -> list[Tensor]:
    """Compute the outputs of four views one after another; fixed BatchNorm makes this equal one forward pass."""
    return [head(task.backbone(view)).detach() for views in batch_of(task) for view in views]


def test_swav_and_dino_compare_all_views() -> None:
    swav = make("swav").eval()
    scores = outputs(swav, swav.head)
    torch.testing.assert_close(swav(batch_of(swav)).loss, pk.losses.swav_loss(scores[:2], scores[2:]))
    dino = make("dino").eval()
    student = outputs(dino, dino.head)
    torch.testing.assert_close(dino(batch_of(dino)).loss, pk.losses.dino_loss(student, student[:2], torch.zeros(12)))


def test_lejepa_compares_views_with_the_mean_of_global_views() -> None:
    task = make("lejepa").eval()
    z = torch.stack(outputs(task, task.projector))
    invariance = (z - z[:2].mean(0)).square().mean()
    sigreg = torch.stack([pk.losses.sigreg_loss(view, task._directions()) for view in z]).mean()
    found = task(batch_of(task))
    torch.testing.assert_close(found.loss, invariance + 5 * sigreg)
    torch.testing.assert_close(found.metrics["sigreg"], sigreg)


def test_lejepa_draws_new_directions_in_each_step() -> None:
    task = make("lejepa")
    first = task._directions()
    assert torch.equal(task._directions(), first)
    task.after_step()
    assert not torch.equal(task._directions(), first)


@pytest.mark.parametrize("name", COPIES)
def test_copy_moves_after_the_optimizer_step(name: str) -> None:
    """The copy follows the new weights, not those with which the loss was computed."""
    task = make(name)
    teacher: MomentumCopy = getattr(task, COPIES[name])
    before = [each.clone() for each in teacher.parameters()]
    run(task, steps=1, optimizer="sgd", learning_rate=0.5)
    student = [*task.backbone.parameters(), *(task.head if name == "dino" else task.projector).parameters()]
    expected = [0.99 * old + 0.01 * new.detach() for old, new in zip(before, student, strict=True)]
    torch.testing.assert_close([each.detach() for each in teacher.parameters()], expected)
    assert any((old - new).abs().max() > 1e-4 for old, new in zip(before, student, strict=True))


@pytest.mark.parametrize("name", COPIES)
def test_no_gradient_flows_through_the_copy(name: str) -> None:
    task = make(name)
    task(batch_of(task)).loss.backward()
    assert all(each.grad is None for each in getattr(task, COPIES[name]).parameters())
    assert all(each.grad is not None for each in task.backbone.parameters())


@pytest.mark.parametrize("name", ["byol", "moco-v3", "nnclr", "simsiam"])
def test_predictor_has_batch_norm_in_its_hidden_layer_only(name: str) -> None:
    kinds = [type(layer) for layer in make(name).predictor.layers]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]


@pytest.mark.parametrize(("name", "ends"), [("byol", False), ("moco-v3", True), ("simsiam", True), ("nnclr", True)])
def test_projector_ends_in_batch_norm_as_in_the_paper(name: str, ends: bool) -> None:
    *_, last = make(name).projector.modules()
    assert isinstance(last, nn.BatchNorm1d) is ends
    assert not ends or not last.affine


def test_simsiam_targets_get_no_gradient() -> None:
    """With a constant predictor nothing depends on the backbone; without the stop-gradient the targets would."""
    task = make("simsiam")
    with torch.no_grad():
        task.predictor.layers[3].weight.zero_()
    task(batch_of(task)).loss.backward()
    assert all(not each.grad.any() for each in task.backbone.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_resumed_run_is_bit_exact(name: str, tmp_path: Path) -> None:
    require_exact_resume(lambda seed: make(name, seed), IMAGES, tmp_path)


@pytest.mark.parametrize("name", ["byol", "simsiam", "dino"])
def test_accumulated_run_equals_one_batch(name: str) -> None:
    """Tasks without a comparison of images: weights, copies and centers are the same after three steps."""
    states = []
    for parts in (1, 2, 4):
        task = make(name)
        frozen(task)
        run(task, accumulate=parts, steps=3, optimizer="sgd", learning_rate=0.05)
        states.append(task.state_dict())
    for state in states[1:]:
        for key, value in states[0].items():
            torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-5, msg=key)


def frozen(module: nn.Module) -> None:
    """Replace BatchNorm, which depends on the batch, by GroupNorm."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d):
            trains = child.affine and child.weight.requires_grad
            setattr(module, name, nn.GroupNorm(1, child.num_features, affine=child.affine).requires_grad_(trains))
        frozen(child)


def test_multi_crop_makes_views_of_two_sizes() -> None:
    crop = MultiCrop(global_views=3, local_views=1, local_crop=CropAndRecolor(crop_scale=(0.1, 0.2), side=0.25))
    batch = crop(IMAGES, Generator().manual_seed(0))
    assert isinstance(batch, MultiViews)
    assert [view.shape[2] for view in batch.global_views] == [16, 16, 16]
    assert [view.shape[2] for view in batch.local_views] == [4]
    assert not torch.equal(batch.global_views[0], batch.global_views[1])


@pytest.mark.parametrize("name", ["dino", "lejepa", "swav"])
def test_global_views_alone_suffice(name: str) -> None:
    output = make(name, augmentation=MultiCrop(local_views=0)).step(IMAGES, Generator().manual_seed(0))
    assert output.loss.isfinite()


def test_dino_refuses_a_teacher_that_is_no_sharper() -> None:
    with pytest.raises(OptionError, match=r"^Expected teacher_temperature to be a number in \(0, 0\.1\), but got 0\.2"):
        DINO(TinyBackbone(), teacher_temperature=0.2)


def test_dino_center_is_the_mean_of_the_copys_outputs() -> None:
    task = make("dino")
    targets = copy.deepcopy(task.teacher)(torch.cat(batch_of(task).global_views))
    task(batch_of(task))
    assert not task.center.mean.any()
    task.after_step()
    torch.testing.assert_close(task.center.mean, 0.1 * targets.mean(0))


@pytest.mark.parametrize("name", sorted(SMALL.keys() - {"dino", "lejepa", "swav"}))
def test_augmentation_may_be_any_function(name: str) -> None:
    task = make(name, augmentation=lambda images, generator: images)
    a, b = batch_of(task)
    assert torch.equal(a, IMAGES[:8])
    assert torch.equal(b, IMAGES[:8])
    with pytest.raises(OptionError, match=r"^Expected augmentation to be a function of \(images, generator\)"):
        make(name, augmentation=3)


def test_classes_are_exported() -> None:
    registered = {pk.pretext_tasks[name] for name in SMALL}
    assert registered == {BYOL, DINO, NNCLR, BarlowTwins, LeJEPA, MoCoV3, SimSiam, SwAV, VICReg}


def test_joint_embedding_reads_more_images_than_other_tasks() -> None:
    joint = {"simclr", "byol", "simsiam", "moco-v3", "barlow-twins", "vicreg", "nnclr", "swav", "dino", "lejepa"}
    for name in (name for name in pk.pretext_tasks if pk.pretext_tasks[name].__module__.startswith("pretextkit.")):
        assert pk.pretext_tasks[name].recommended.images_to_read == (1_000_000 if name in joint else 200_000), name
