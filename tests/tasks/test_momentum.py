from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn

from pretextkit.errors import OptionError, ShapeError
from pretextkit.tasks import EmbeddingQueue, MomentumCopy, RunningMean


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=Generator().manual_seed(seed))


def test_copy_equals_its_original_and_shares_no_memory() -> None:
    student = network()
    teacher = MomentumCopy(student)
    torch.testing.assert_close(teacher(rows(8, 3)), student(rows(8, 3)))
    assert teacher.modules_copied[0] is not student
    ours = {each.data_ptr() for each in student.parameters()}
    assert not ours & {each.data_ptr() for each in teacher.parameters()}
    assert not any(each.requires_grad for each in teacher.parameters())
    assert all(each.requires_grad for each in student.parameters())


def test_copy_has_no_gradient() -> None:
    x = rows(8, 3).requires_grad_()
    assert not MomentumCopy(network())(x).requires_grad


def test_copy_applies_several_modules_in_order() -> None:
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    torch.testing.assert_close(MomentumCopy(first, second)(rows(5, 3)), second(first(rows(5, 3))).detach())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_weights_follow_by_the_exponential_mean(momentum: float) -> None:
    student = network()
    teacher = MomentumCopy(student, momentum=momentum)
    expected = [each.detach().clone() for each in student.parameters()]
    for step in range(3):
        with torch.no_grad():
            for weight in student.parameters():
                weight.add_(step + 1.0)
        teacher.follow(student)
        expected = [
            momentum * e + (1 - momentum) * w.detach() for e, w in zip(expected, student.parameters(), strict=True)
        ]
    torch.testing.assert_close([each.detach() for each in teacher.parameters()], expected)


def test_copy_has_the_mode_of_its_owner() -> None:
    """In training, BatchNorm of the copy uses the statistics of its own batch."""
    owner = nn.ModuleDict({"teacher": MomentumCopy(network())})
    z = owner["teacher"](rows(64, 3))
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    assert not owner.eval()["teacher"](5 + rows(64, 3)).mean(0).abs().max() < 0.1


@pytest.mark.parametrize("momentum", [1, -0.1, "much"])
def test_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(
        OptionError, match=r"^Expected momentum to be a number in \[0, 1\), but got .*For example 0\.99"
    ):
        MomentumCopy(network(), momentum=momentum)


def test_queue_holds_the_newest_first_at_unit_length() -> None:
    queue = EmbeddingQueue(5, 3)
    queue.add(2 * rows(3, 3))
    queue.commit()
    queue.add(rows(4, 3, seed=1))
    queue.commit()
    expected = nn.functional.normalize(torch.cat([rows(4, 3, seed=1), rows(3, 3)[:1]]))
    torch.testing.assert_close(queue.rows, expected)


def test_queue_moves_in_commit_only_and_once_for_all_parts() -> None:
    z, queue, twin = rows(4, 3), EmbeddingQueue(6, 3), EmbeddingQueue(6, 3)
    twin.load_state_dict(queue.state_dict())
    before = queue.rows.clone()
    for part in z.chunk(2):
        queue.add(part)
        assert torch.equal(queue.rows, before)
    queue.commit()
    twin.add(z)
    twin.commit()
    assert torch.equal(queue.rows, twin.rows)
    queue.commit()  # nothing was added since
    assert torch.equal(queue.rows, twin.rows)


def test_queue_and_mean_ignore_evaluation() -> None:
    for state in (EmbeddingQueue(6, 3), RunningMean(3)):
        before = {name: value.clone() for name, value in state.state_dict().items()}
        state.eval().add(rows(4, 3))
        with torch.no_grad():
            state.train().add(rows(4, 3))
        state.commit()
        assert all(torch.equal(value, before[name]) for name, value in state.state_dict().items())


def test_queue_refuses_other_widths() -> None:
    with pytest.raises(ShapeError, match=r"^Expected embeddings n 3, but got shape \(2, 4\)\. Build the queue"):
        EmbeddingQueue(6, 3).add(rows(2, 4))


def test_running_mean_moves_once_for_all_parts() -> None:
    center, twin = RunningMean(3, momentum=0.9), RunningMean(3, momentum=0.9)
    for seed in range(2):
        for part in rows(6, 3, seed).chunk(3):
            center.add(part)
        center.commit()
        twin.add(rows(6, 3, seed))
        twin.commit()
    torch.testing.assert_close(center.mean, twin.mean)
    torch.testing.assert_close(center.mean, 0.09 * rows(6, 3).mean(0) + 0.1 * rows(6, 3, 1).mean(0))
