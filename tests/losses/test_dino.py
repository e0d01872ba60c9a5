from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pretextkit.errors import OptionError, ShapeError
from pretextkit.losses import dino_loss

from .joint_embedding import embeddings, require_exact_in_half_precision, require_gradients


def softmax(row: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def naive(student: list[Tensor], teacher: list[Tensor], center: Tensor) -> float:
    terms = []
    for own, target in enumerate(teacher):
        for other, view in enumerate(student):
            if own == other:
                continue
            for wanted, output in zip((target - center).tolist(), view.tolist(), strict=True):
                pairs = zip(softmax(wanted, 0.04), softmax(output, 0.1), strict=True)
                terms.append(-sum(w * math.log(o) for w, o in pairs))
    return sum(terms) / len(terms)


def outputs(views: int, n: int = 5, k: int = 4, seed: int = 0) -> list[Tensor]:
    return [(0.3 * embeddings(n, k, seed=seed + view)).detach().requires_grad_() for view in range(views)]


@pytest.mark.parametrize("local", [0, 2])
def test_loss_equals_a_loop(local: int) -> None:
    student, teacher, center = outputs(2 + local), outputs(2, seed=10), 0.1 * embeddings(4, seed=20).detach()
    assert dino_loss(student, teacher, center).item() == pytest.approx(naive(student, teacher, center), rel=1e-9)


def test_confident_and_uniform_outputs_match_closed_forms() -> None:
    confident = 100 * torch.eye(4)
    assert dino_loss([confident] * 2, [confident] * 2, torch.zeros(4)).item() == pytest.approx(0, abs=1e-6)
    assert dino_loss([torch.zeros(4, 4)] * 2, [confident] * 2, torch.zeros(4)).item() == pytest.approx(math.log(4))


def test_center_removes_what_all_images_share() -> None:
    """A teacher that always gives its first output tells nothing after centering."""
    constant = torch.tensor([[9.0, 0.0, 0.0]]).expand(5, 3)
    student = [torch.randn(5, 3, generator=torch.Generator().manual_seed(0))] * 2
    uniform = dino_loss(student, [torch.zeros(5, 3)] * 2, torch.zeros(3))
    torch.testing.assert_close(dino_loss(student, [constant] * 2, constant[0]), uniform)


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = outputs(2, seed=10)
    loss = dino_loss(outputs(2), teacher, torch.zeros(4))
    assert [*torch.autograd.grad(loss, teacher, allow_unused=True)] == [None, None]


def test_gradients_match_finite_differences() -> None:
    teacher = [each.detach() for each in outputs(2, seed=10)]
    require_gradients(lambda *student: dino_loss(student, teacher, torch.zeros(4)), *outputs(3))


def test_half_precision_is_exact() -> None:
    teacher = [each.detach().half() for each in outputs(2, seed=10)]
    require_exact_in_half_precision(lambda *student: dino_loss(student, teacher, torch.zeros(4)), *outputs(3))


def test_teacher_that_is_no_sharper_is_refused() -> None:
    with pytest.raises(OptionError) as caught:
        dino_loss(outputs(2), outputs(2), torch.zeros(4), teacher_temperature=0.1)
    assert caught.value.text == (
        "Expected teacher_temperature to be a number in (0, 0.1), but got 0.1. The default is 0.04. It sharpens the "
        "targets; at the student's temperature or above, outputs become uniform."
    )


def test_single_views_and_wrong_centers_are_refused() -> None:
    with pytest.raises(ShapeError, match="got 1 global of 1 views"):
        dino_loss(outputs(1), outputs(1), torch.zeros(4))
    with pytest.raises(ShapeError, match=r"^Expected a center of shape \(4,\), but got shape \(1, 4\)\."):
        dino_loss(outputs(2), outputs(2), torch.zeros(1, 4))
