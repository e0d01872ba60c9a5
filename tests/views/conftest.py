from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Generator, Tensor

from pretextkit.views import _color as color


@pytest.fixture(autouse=True)
def unchanged_global_rng() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(params=["lowest", "highest"])
def extreme_factor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], float]:
    """Draw every strength of the color jitter at one end of its range, and return the function to that factor."""
    highest = request.param == "highest"

    def end(images: Tensor, low: float, high: float, generator: Generator) -> Tensor:
        return torch.full((len(images),), high if highest else low)

    monkeypatch.setattr(color, "uniform", end)
    return lambda strength: 1 + strength if highest else max(0.0, 1 - strength)
