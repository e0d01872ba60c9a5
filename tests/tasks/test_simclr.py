from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from pretextkit import _chunks
from pretextkit.batches import TwoViews
from pretextkit.contracts import Backbone
from pretextkit.errors import ShapeError
from pretextkit.losses import alignment, uniformity
from pretextkit.tasks import SimCLR
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.views import CropAndRecolor, _crop_and_recolor
from tests.helpers import LargestTensor

STILL: dict[str, Any] = {"crop_scale": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grayscale": 0.0}
"""Options that leave only the aspect ratio random."""


class PixelFeatures(Backbone):
    """A backbone whose features are the pixels."""

    feature_dim = 4

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def fixed_task(z_a: Tensor, z_b: Tensor, temperature: float = 0.5) -> tuple[SimCLR, TwoViews]:
    """A task whose projections are the pixels of its views."""
    task = SimCLR(PixelFeatures(), temperature=temperature)
    task.head = nn.Identity()  # type: ignore[assignment]
    return task, TwoViews(*(z.view(len(z), 1, 1, -1) for z in (z_a, z_b)))


def projections(n: int = 6, d: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, d, generator=Generator().manual_seed(seed))
    return z[0], z[1] + z[0]


def some_images(n: int = 6) -> Tensor:
    return toy_images(n, generator=Generator().manual_seed(0))


def views(images: Tensor, seed: int = 0, **options: Any) -> TwoViews:
    task = SimCLR(PixelFeatures(), augmentation=CropAndRecolor(**options))
    return task.views(images, Generator().manual_seed(seed))


def naive(z_a: Tensor, z_b: Tensor, temperature: float) -> float:
    z = F.normalize(torch.cat([z_a, z_b]).double()).tolist()
    n, total = len(z_a), 0.0
    for i, row in enumerate(z):
        scores = [math.exp(sum(x * y for x, y in zip(row, other, strict=True)) / temperature) for other in z]
        total += math.log(sum(scores) - scores[i]) - math.log(scores[(i + n) % (2 * n)])
    return total / (2 * n)


def naive_top1(z_a: Tensor, z_b: Tensor) -> float:
    a, b = (F.normalize(z).tolist() for z in (z_a, z_b))
    correct = 0
    for i, row in enumerate(a):
        cosine = [sum(x * y for x, y in zip(row, other, strict=True)) for other in a + b]
        best = max((k for k in range(2 * len(a)) if k != i), key=cosine.__getitem__)
        correct += best == i + len(a)
    return correct / len(a)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_is_nt_xent_of_the_projections(temperature: float) -> None:
    task = SimCLR(TinyBackbone(), temperature=temperature)
    batch = task.views(some_images(), Generator().manual_seed(0))
    z_a, z_b = task.head(task.backbone(torch.cat(batch))).detach().chunk(2)
    assert task(batch).loss.item() == pytest.approx(naive(z_a, z_b, temperature), rel=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_metrics_match_loops(seed: int) -> None:
    z_a, z_b = projections(8, seed=seed)
    task, batch = fixed_task(z_a, z_b)
    metrics = task(batch).metrics
    assert metrics["top1"].item() == pytest.approx(naive_top1(z_a, z_b))
    torch.testing.assert_close(metrics["alignment"], alignment(z_a, z_b))
    torch.testing.assert_close(metrics["uniformity"], uniformity(z_a))


@pytest.mark.parametrize("entries", [1, 37, 100])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_do_not_depend_on_chunks(seed: int, entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z_a, z_b = projections(8, seed=seed)
    task, batch = fixed_task(z_a, z_b)
    expected = task(batch).metrics
    monkeypatch.setattr(_chunks, "_MAX_ENTRIES", entries)
    chunks = task(batch).metrics
    assert chunks["top1"].item() == pytest.approx(naive_top1(z_a, z_b))
    torch.testing.assert_close(chunks, expected)


def test_step_never_allocates_the_full_similarity_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_chunks, "_MAX_ENTRIES", 1024)
    task, batch = fixed_task(*projections(128))
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        task(batch)
    assert 0 < largest.numbers <= 1024


def test_top1_varies_over_seeds() -> None:
    shares = {naive_top1(*projections(8, seed=seed)) for seed in range(8)}
    assert len(shares) > 2


@pytest.mark.parametrize(
    ("z_a", "z_b", "expected"),
    [
        (torch.eye(4), torch.eye(4), {"top1": 1, "alignment": 0, "uniformity": -4}),
        (torch.eye(4), torch.eye(4).roll(1, 0), {"top1": 0, "alignment": 2, "uniformity": -4}),
        (torch.ones(4, 4), torch.ones(4, 4), {"top1": 0, "alignment": 0, "uniformity": 0}),
    ],
    ids=["found", "confused", "collapsed"],
)
def test_metrics_match_closed_forms(z_a: Tensor, z_b: Tensor, expected: dict[str, float]) -> None:
    task, batch = fixed_task(z_a, z_b)
    metrics = {name: value.item() for name, value in task(batch).metrics.items()}
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_nearer_views_of_other_images_count_as_errors() -> None:
    nearly = torch.tensor([[1.0, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    z_a = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    for here in (nearly, z_a):
        task, batch = fixed_task(z_a, here)
        assert task(batch).metrics["top1"] == 1
    task, batch = fixed_task(torch.cat([z_a, z_a[:1]]), torch.cat([nearly, torch.eye(4)[3:]]))
    assert task(batch).metrics["top1"] == 0.5  # rows 0 and 3 are nearest to each other, in the same view


def test_autocast_does_not_change_loss_and_metrics() -> None:
    """Cosines of 0.9990 and 0.9985 are equal in bfloat16."""
    angles = torch.tensor([[0.0, 0.0447], [0.0548, 0.5]])
    a, b = (torch.stack([column.cos(), column.sin(), 0 * column, 0 * column], 1) for column in angles.unbind(1))
    task, batch = fixed_task(a, b, temperature=0.05)
    expected = task(batch)
    assert expected.metrics["top1"] == 0.5
    with torch.autocast("cpu", torch.bfloat16):
        output = task(batch)
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected.loss)
    assert output.loss.item() == pytest.approx(naive(a, b, 0.05), rel=1e-5)
    for name, value in output.metrics.items():
        torch.testing.assert_close(value, expected.metrics[name], msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_top1_has_no_ties_under_autocast(dtype: torch.dtype) -> None:
    """Rounded cosines would tie with those of neighbors, and lose partners that are nearest by a small margin."""
    generator = Generator().manual_seed(0)
    z_a = torch.randn(64, 4, generator=generator)
    z_b = z_a + 0.1 * torch.randn(64, 4, generator=generator)
    z_a, z_b = z_a.to(dtype), z_b.to(dtype)
    task, batch = fixed_task(z_a, z_b)
    with torch.autocast("cpu", torch.bfloat16):
        assert task(batch).metrics["top1"].item() == pytest.approx(naive_top1(z_a.float(), z_b.float()))


def test_single_image_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        SimCLR(TinyBackbone()).step(some_images(1), Generator())
    assert caught.value.text == (
        "Expected a batch of at least 2 images, because other images are the negatives, but got 1. "
        "Increase the batch size, and drop a last batch of one image."
    )


def test_views_of_equal_images_differ() -> None:
    a, b = views(some_images(1).expand(16, -1, -1, -1))
    assert len(torch.unique(torch.cat([a, b]).flatten(1), dim=0)) == 32


def test_rows_of_both_views_show_the_same_image() -> None:
    """Images of one color differ only in that color."""
    colors = torch.rand(16, 3, 1, 1, generator=Generator().manual_seed(0)).expand(-1, -1, 8, 8)
    for view in views(colors, **{**STILL, "crop_scale": (0.2, 1.0), "flip": 0.5}):
        torch.testing.assert_close(view, colors, atol=1e-5, rtol=0)


def slopes(view: Tensor) -> Tensor:
    """Compute the slope of :func:`ramps` in the middle of each view; 1 for unchanged images."""
    width = view.shape[3]
    return (view[:, 0, 0, width // 2 + 1] - view[:, 0, 0, width // 2]) * width


def ramps(n: int) -> Tensor:
    return ((torch.arange(32) + 0.5) / 32).expand(n, 3, 32, 32)


@pytest.mark.parametrize("flip", [0.0, 0.3, 1.0])
def test_views_are_flipped_with_the_given_probability(flip: float) -> None:
    for view in views(ramps(400), **{**STILL, "flip": flip}):
        share = (slopes(view) < 0).float().mean().item()
        assert share == flip if flip in (0, 1) else abs(share - flip) < 0.1


def test_crops_have_the_given_scale() -> None:
    for view in views(ramps(400), **{**STILL, "crop_scale": (0.25, 0.36)}):
        assert slopes(view).min() >= 0.5 * math.sqrt(3 / 4) - 1e-3
        assert slopes(view).max() <= 0.6 * math.sqrt(4 / 3) + 1e-3
        assert slopes(view).std() > 0.02


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_jitter_is_relative_to_the_papers_strength(jitter: float) -> None:
    """Gray images of one value: only brightness, drawn from 1 +- 0.8 jitter, changes them, four times out of five."""
    gray = torch.full((800, 3, 4, 4), 0.5)
    for view in views(gray, **{**STILL, "jitter": jitter}):
        factors = view[:, 0, 0, 0] / 0.5
        assert factors.min().item() == pytest.approx(1 - 0.8 * jitter, abs=0.03)
        assert factors.max().item() == pytest.approx(1 + 0.8 * jitter, abs=0.03)
        changed = ((factors - 1).abs() > 1e-4).float().mean().item()
        assert changed == pytest.approx(0.8 if jitter else 0, abs=0.05)


@pytest.mark.parametrize("grayscale", [0.0, 0.2, 1.0])
def test_views_are_gray_with_the_given_probability(grayscale: float) -> None:
    red = torch.tensor([0.8, 0.2, 0.1]).view(1, 3, 1, 1).expand(800, 3, 4, 4)
    for view in views(red, **{**STILL, "grayscale": grayscale}):
        share = ((view[:, 0] - view[:, 2]).abs().amax((1, 2)) < 1e-4).float().mean().item()
        assert share == grayscale if grayscale in (0, 1) else abs(share - grayscale) < 0.06


def test_jitter_keeps_the_papers_proportions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def spy(images: Tensor, *, generator: Generator, **strengths: float) -> Tensor:
        calls.append(strengths)
        return images

    monkeypatch.setattr(_crop_and_recolor, "color_jitter", spy)
    views(some_images(), jitter=0.5)
    assert calls == [pytest.approx({"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1})] * 2


def test_projection_has_the_given_width() -> None:
    task = SimCLR(TinyBackbone(), projection_dim=24)
    assert task.head(torch.zeros(2, 64)).shape == (2, 24)
    assert SimCLR(TinyBackbone()).head(torch.zeros(2, 64)).shape == (2, 128)
