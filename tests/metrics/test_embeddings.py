from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from pretextkit import _chunks
from pretextkit.errors import ShapeError
from pretextkit.losses import alignment, feature_spread, rankme, uniformity
from tests.helpers import LargestTensor


def embeddings(n: int, d: int = 5, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, d, generator=Generator().manual_seed(seed), dtype=dtype)
    return z[0].requires_grad_(), z[1].requires_grad_()


@pytest.fixture(params=[1 << 22, 37, 1], ids=["at once", "chunks", "rows"])
def chunk_sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, in chunks of uneven length, and row by row."""
    monkeypatch.setattr(_chunks, "_MAX_ENTRIES", request.param)


def unit(row: Tensor) -> list[float]:
    length = math.sqrt(sum(x * x for x in row.tolist()))
    return [x / length for x in row.tolist()]


def squared_distance(one: Tensor, other: Tensor) -> float:
    return sum((x - y) ** 2 for x, y in zip(unit(one), unit(other), strict=True))


def test_alignment_and_uniformity_equal_loops() -> None:
    z_a, z_b = embeddings(7)
    pairs = [squared_distance(one, other) for one, other in zip(z_a, z_b, strict=True)]
    assert alignment(z_a, z_b).item() == pytest.approx(sum(pairs) / 7, rel=1e-5)
    close = [math.exp(-2 * squared_distance(z_a[i], z_a[j])) for i in range(7) for j in range(i)]
    assert uniformity(z_a).item() == pytest.approx(math.log(sum(close) / len(close)), rel=1e-5)


@pytest.mark.usefixtures("chunk_sizes")
@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("n", [2, 9])
def test_uniformity_in_chunks_equals_all_pairs_at_once(n: int, scale: float) -> None:
    z = 1 + scale * torch.randn(n, 5, generator=Generator().manual_seed(n))
    dense = F.pdist(F.normalize(z)).square().mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(z), dense, rtol=1e-5, atol=1e-6)


def test_uniformity_holds_no_matrix_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_chunks, "_MAX_ENTRIES", 512)
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        uniformity(embeddings(128, 2)[0])
    assert 0 < largest.numbers <= 512


def test_feature_spread_equals_a_loop() -> None:
    z, _ = embeddings(7, 3)
    columns = list(zip(*(unit(row) for row in z), strict=True))
    means = [sum(column) / 7 for column in columns]
    deviations = [
        math.sqrt(sum((x - mean) ** 2 for x in column) / 7) for column, mean in zip(columns, means, strict=True)
    ]
    assert feature_spread(z).item() == pytest.approx(sum(deviations) / 3 * math.sqrt(3), rel=1e-5)


def test_alignment_of_equal_opposite_and_orthogonal_views() -> None:
    z = torch.eye(4)
    assert alignment(z, 3 * z).item() == pytest.approx(0, abs=1e-6)
    assert alignment(z, -z).item() == pytest.approx(4)
    assert alignment(z, z.roll(1, 0)).item() == pytest.approx(2)


def test_uniformity_of_a_point_and_of_the_sphere() -> None:
    assert uniformity(torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-5)
    z = torch.randn(2000, 64, generator=Generator().manual_seed(0))
    assert uniformity(z).item() == pytest.approx(-4 + 8 / 64, abs=0.02)  # variance of 4 cos is 16/64, halved


def test_feature_spread_of_a_point_and_of_the_sphere() -> None:
    assert feature_spread(torch.ones(5, 3) * torch.arange(1, 6)[:, None]).item() == pytest.approx(0, abs=1e-5)
    z = torch.randn(4000, 64, generator=Generator().manual_seed(0))
    assert feature_spread(z).item() == pytest.approx(1, abs=0.01)
    assert feature_spread(10 + z).item() < 0.2


@pytest.mark.parametrize(
    "measure",
    [lambda z: alignment(z, z.flip(0)), uniformity, feature_spread, rankme],
    ids=["alignment", "uniformity", "spread", "rankme"],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_metrics_are_detached_fp32_scalars_under_autocast(
    measure: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    z = embeddings(6)[0].detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = measure(z)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert not value.requires_grad
    torch.testing.assert_close(value, measure(z.float()), rtol=1e-5, atol=1e-6)


def test_rankme_equals_the_entropy_of_singular_values() -> None:
    z, _ = embeddings(7, 3)
    values = torch.linalg.eigvalsh(z.detach().T @ z.detach()).sqrt().tolist()
    shares = [value / sum(values) for value in values]
    assert rankme(z).item() == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_rankme_of_orthogonal_directions_is_their_number(rank: int) -> None:
    directions, _ = torch.linalg.qr(torch.randn(16, rank, generator=Generator().manual_seed(0)))
    rows = torch.eye(rank).repeat(4, 1)
    assert rankme(rows @ directions.T).item() == pytest.approx(rank, rel=1e-4)
    assert rankme(1e-4 * rows @ directions.T).item() == pytest.approx(rank, rel=1e-4)


def test_rankme_of_degenerate_features() -> None:
    assert rankme(torch.ones(9, 4) * torch.arange(1, 10)[:, None]).item() == pytest.approx(1, abs=1e-3)
    assert rankme(torch.zeros(9, 4)).item() == 1
    assert rankme(torch.diag(torch.tensor([3.0, 1.0]))).item() == pytest.approx(4 / 3**0.75)  # fractions 3/4 and 1/4


@pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 3, 4, 4)])
def test_rankme_refuses_invalid_features(shape: tuple[int, ...]) -> None:
    fix = {1: "Add the missing axis: features[:, None]", 2: "Pass at least one", 4: "Average the maps: features.mean"}
    with pytest.raises(ShapeError) as error:
        rankme(torch.zeros(shape))
    assert str(error.value).startswith(f"Expected features n d, but got shape {shape}. {fix[len(shape)]}")
