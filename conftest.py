"""Names that doctests use without an import, and profiles of Hypothesis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

# No deadlines, because the machine may be busy. Examples are fixed, so one commit has one result; only the nightly
# profile draws new ones.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", settings.get_profile("untimed"), max_examples=2000)
settings.register_profile("steady", settings.get_profile("untimed"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(autouse=True)
def _doctest_setup(doctest_namespace: dict[str, Any]) -> Iterator[None]:
    doctest_namespace["torch"] = torch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_flush_denormal(False)  # compiled code sets it, and other tests of the process would round differently
