from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.nn import functional as F

from pretextkit import _chunks
from pretextkit.errors import OptionError, PretextkitError, ShapeError
from pretextkit.losses import nt_xent_loss
from tests.helpers import LargestTensor

Loss = Callable[..., Tensor]


def embeddings(n: int, d: int = 5, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, d, generator=Generator().manual_seed(seed), dtype=dtype)
    return z[0].requires_grad_(), z[1].requires_grad_()


def naive(z_a: Tensor, z_b: Tensor, temperature: float) -> Tensor:
    """Equation 1 of Chen et al. 2020, one pair after another; differentiated by autograd."""
    z = [row / row.square().sum().sqrt() for row in (*z_a, *z_b)]
    n, terms = len(z_a), []
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        scores = [(z[i] * z[k]).sum() / temperature for k in range(2 * n)]
        others = torch.stack([scores[k].exp() for k in range(2 * n) if k != i])
        terms.append(others.sum().log() - scores[partner])
    return torch.stack(terms).mean()


def values_and_gradients(loss: Loss, z_a: Tensor, z_b: Tensor, **options: float) -> tuple[Tensor, ...]:
    value = 3 * loss(z_a, z_b, **options)  # a factor of 3 detects an ignored upstream gradient
    return (value.detach(), *torch.autograd.grad(value, (z_a, z_b)))


@pytest.fixture(params=[1 << 22, 37, 1], ids=["all", "chunks", "rows"])
def chunk_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute all rows at once, in chunks of uneven length, and row by row."""
    monkeypatch.setattr(_chunks, "_MAX_ENTRIES", request.param)


@pytest.mark.usefixtures("chunk_size")
@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.5, 2.0])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_loss_and_both_gradients_equal_a_loop(n: int, temperature: float) -> None:
    ours = values_and_gradients(nt_xent_loss, *embeddings(n), temperature=temperature)
    loop = values_and_gradients(naive, *embeddings(n), temperature=temperature)
    for one, other in zip(ours, loop, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


@pytest.mark.usefixtures("chunk_size")
def test_gradient_matches_finite_differences() -> None:
    z_a, z_b = embeddings(3, 4)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent_loss(a, b, temperature=0.3), (z_a, z_b))


@pytest.mark.usefixtures("chunk_size")
@pytest.mark.parametrize("n", [2, 5])
def test_equal_embeddings_give_the_loss_of_random_guesses(n: int) -> None:
    z = torch.ones(n, 3)
    assert nt_xent_loss(z, z).item() == pytest.approx(math.log(2 * n - 1), rel=1e-6)


@pytest.mark.usefixtures("chunk_size")
@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("n", [2, 6])
def test_orthogonal_pairs_match_the_closed_form(n: int, temperature: float) -> None:
    """A partner at cosine 1 and 2n - 2 others at 0: log(e^(1/T) + 2n - 2) - 1/T."""
    z = torch.eye(n)
    expected = math.log(math.exp(1 / temperature) + 2 * n - 2) - 1 / temperature
    assert nt_xent_loss(z, z, temperature=temperature).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_opposite_partners_match_the_closed_form() -> None:
    """All rows of a equal e and all rows of b equal -e: partner at -1, n - 1 others at 1 and n - 1 at -1."""
    z = torch.tensor([[1.0, 0.0]]).expand(4, -1)
    expected = math.log(3 * math.e + 4 / math.e) + 1
    assert nt_xent_loss(z, -z, temperature=1).item() == pytest.approx(expected, rel=1e-6)


@given(st.integers(2, 9), st.integers(1, 9), st.integers(0, 99))
def test_loss_is_invariant_to_view_order_and_scale(n: int, d: int, seed: int) -> None:
    z_a, z_b = embeddings(n, d, seed=seed)
    loss = nt_xent_loss(z_a, z_b)
    order = torch.randperm(n, generator=Generator().manual_seed(seed))
    scales = torch.rand(n, 1, generator=Generator().manual_seed(seed)) + 0.1
    for twin in (nt_xent_loss(z_b, z_a), nt_xent_loss(z_a[order], z_b[order]), nt_xent_loss(scales * z_a, 7 * z_b)):
        torch.testing.assert_close(twin, loss)


def test_wrong_pairing_increases_the_loss() -> None:
    z, _ = embeddings(8)
    assert nt_xent_loss(z, z.roll(1, 0)) > nt_xent_loss(z, z) + 0.5


def test_high_temperature_gives_the_loss_of_random_guesses() -> None:
    z_a, z_b = embeddings(5)
    assert nt_xent_loss(z_a, z_b, temperature=1e6).item() == pytest.approx(math.log(9), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("temperature", [0.05, 0.005])
def test_half_precision_is_exact_at_low_temperatures(dtype: torch.dtype, temperature: float) -> None:
    """exp(1 / 0.05) overflows in fp16: similarities are computed in fp32, even under autocast."""
    z_a, z_b = (z.detach().to(dtype).requires_grad_() for z in embeddings(16))
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent_loss(z_a, z_b, temperature=temperature)
    exact = naive(z_a.detach().double(), z_b.detach().double(), temperature)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-5)
    for gradient, z in zip(torch.autograd.grad(loss, (z_a, z_b)), (z_a, z_b), strict=True):
        assert gradient.dtype == z.dtype
        assert gradient.isfinite().all()
        assert gradient.any()


def test_one_view_can_be_detached() -> None:
    z_a, z_b = embeddings(4)
    (alone,) = torch.autograd.grad(nt_xent_loss(z_a, z_b.detach()), z_a)
    torch.testing.assert_close(alone, torch.autograd.grad(nt_xent_loss(z_a, z_b), (z_a, z_b))[0])
    assert not nt_xent_loss(z_a.detach(), z_b.detach()).requires_grad


def test_second_derivatives_are_refused() -> None:
    z_a, z_b = embeddings(4)
    with pytest.raises(PretextkitError) as caught:
        torch.autograd.grad(nt_xent_loss(z_a, z_b), z_a, create_graph=True)
    assert caught.value.text == (
        "nt_xent_loss can be differentiated only once. "
        "Remove create_graph=True, or compute the loss with torch operations."
    )


def test_embeddings_are_not_modified() -> None:
    z_a, z_b = embeddings(4)
    before = z_a.detach().clone(), z_b.detach().clone()
    nt_xent_loss(z_a, z_b).backward()  # type: ignore[no-untyped-call]
    assert torch.equal(z_a, before[0])
    assert torch.equal(z_b, before[1])


def test_zero_embeddings_give_finite_loss_and_gradient() -> None:
    z = torch.zeros(3, 4, requires_grad=True)
    loss = nt_xent_loss(z, z)
    assert loss.item() == pytest.approx(math.log(5))
    assert torch.autograd.grad(loss, z)[0].isfinite().all()


@pytest.mark.parametrize("length", [1e20, 1e30])
def test_lengths_that_overflow_count_as_zero(length: float) -> None:
    a, b = (each.detach() for each in embeddings(6, dtype=torch.float32))
    huge, zero = a.clone(), a.clone()
    huge[0] *= length / a[0].norm()
    zero[0] = 0
    torch.testing.assert_close(nt_xent_loss(huge, b), nt_xent_loss(zero, b))
    a[0] *= 1e18 / a[0].norm()
    assert (nt_xent_loss(a, b) - nt_xent_loss(zero, b)).abs() > 1e-3


@pytest.mark.parametrize(
    ("shape_a", "shape_b"), [((4, 2), (3, 2)), ((4, 2), (4, 3)), ((4,), (4,)), ((4, 2, 1), (4, 2, 1))]
)
def test_unequal_shapes_are_refused(shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        nt_xent_loss(torch.zeros(shape_a), torch.zeros(shape_b))
    assert caught.value.text == (
        f"Expected two embeddings of the same shape n d, but got {shape_a} and {shape_b}. "
        "Embed both views of the same images."
    )


@pytest.mark.parametrize("n", [0, 1])
def test_single_pair_is_refused(n: int) -> None:
    with pytest.raises(ShapeError) as caught:
        nt_xent_loss(torch.ones(n, 2), torch.ones(n, 2))
    assert caught.value.text == (
        f"Expected a batch of at least 2 images, because other images are the negatives, but got {n}. "
        "Increase the batch size, and drop a last batch of one image."
    )


@pytest.mark.parametrize("temperature", [0, -0.5, float("nan")])
def test_nonpositive_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(OptionError) as caught:
        nt_xent_loss(torch.ones(2, 2), torch.ones(2, 2), temperature=temperature)
    assert caught.value.text == (
        f"Expected temperature to be a number in (0, inf), but got {temperature}. Usual values are 0.07 to 0.5."
    )


def test_full_similarity_matrix_is_never_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_chunks, "_MAX_ENTRIES", 512)
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        nt_xent_loss(*(z[:64] for z in embeddings(64, 2)))
    assert 0 < largest.numbers <= 512


def test_normalization_matches_torch() -> None:
    z_a, z_b = embeddings(4, dtype=torch.float32)
    normal = F.normalize(z_a), F.normalize(z_b)
    torch.testing.assert_close(nt_xent_loss(*normal), nt_xent_loss(z_a, z_b))
