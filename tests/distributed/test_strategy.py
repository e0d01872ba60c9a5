from __future__ import annotations

import pytest
import torch
from torch import nn

from pretextkit.distributed import Rank
from pretextkit.distributed._group import ALONE, ProcessGroup
from pretextkit.distributed._strategy import DataParallel, SingleProcess, choose_strategy


@pytest.mark.parametrize(("processes", "kind"), [(1, SingleProcess), (2, DataParallel)])
def test_choose_strategy_depends_on_the_number_of_processes(processes: int, kind: type) -> None:
    group = ProcessGroup(Rank(0, processes), torch.device("cpu"))
    assert type(choose_strategy(nn.Linear(2, 2), group)) is kind


def test_single_process_changes_nothing() -> None:
    module = nn.Linear(2, 2)
    strategy = choose_strategy(module)
    state, tensor = {"module": module.state_dict()}, torch.ones(2)
    assert strategy.wrap(module) is module
    assert strategy.gather_state(state) is state
    assert strategy.full_tensor(tensor) is tensor
    assert not strategy.saves_together
    with strategy.full_weights(), strategy.gradient_sync(last=False):
        strategy.begin_step()


def test_group_of_one_process_does_not_communicate() -> None:
    ALONE.barrier()
    ALONE.check_same_run({"seed": 0})
    ALONE.check_different_images(torch.zeros(1))
    assert ALONE.is_alone
    assert ALONE.is_first
    assert ALONE.broadcast_object(lambda: "made") == "made"
    assert ALONE.mean_values({"loss": 0.5}) == {"loss": 0.5}
    assert ALONE.all_reduce_max(3) == 3
