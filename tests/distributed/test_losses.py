"""Every loss of 2 and 4 processes (gloo, on the CPU) has the value and the gradient of the full batch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pretextkit.losses import __all__ as public

from . import losses
from .test_several_processes import finish

pytestmark = pytest.mark.xdist_group("serial")


@pytest.fixture(scope="module", params=[2, 4])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Tensor]]]:
    count, folder = request.param, tmp_path_factory.mktemp(f"losses{request.param}")
    logs = [folder / f"{rank}.log" for rank in range(count)]
    commands = [[sys.executable, losses.__file__, str(folder), str(rank), str(count)] for rank in range(count)]
    assert finish(commands, logs, seconds=300) == [0] * count, "\n".join(Path(log).read_text() for log in logs)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(count)]


@pytest.mark.parametrize("name", losses.LOSSES)
def test_mean_over_processes_equals_full_batch(name: str, parts: list[dict[str, list[Tensor]]]) -> None:
    value, gradient = losses.computed(0, 1)[name]
    values, gradients = zip(*(part[name] for part in parts), strict=True)
    torch.testing.assert_close(torch.stack(values).mean(), value)
    torch.testing.assert_close(torch.cat(gradients, 1) / len(parts), gradient)


def test_every_loss_is_tested() -> None:
    tested = {name.removesuffix(" of negatives") for name in losses.LOSSES}
    assert {name for name in public if name.endswith("_loss") and not name.startswith(("disc", "gen"))} <= tested
