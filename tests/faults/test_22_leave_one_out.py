"""Fault 22: leave-one-out kNN with nearly all images as neighbors is below chance by design."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from torch import nn

from pretextkit.errors import DataWarning
from pretextkit.functional import knn_probe
from tests.helpers import generator


@pytest.mark.parametrize(("count", "classes", "k"), [(20, 2, 20), (20, 4, 20), (60, 3, 59), (200, 2, 199)])
def test_leave_one_out_below_chance_warns_and_names_k(count: int, classes: int, k: int) -> None:
    noise = torch.randn(count, 64, generator=generator()), torch.arange(count) % classes
    with pytest.warns(DataWarning, match="leave-one-out kNN is below chance by design") as caught:
        result = knn_probe(nn.Identity(), noise, k=k, temperature=10.0)
    assert result.accuracy < 1 / classes
    advised = re.search(r"Pass k=(\d+)", str(caught[0].message))
    assert advised is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        knn_probe(nn.Identity(), noise, k=int(advised[1]), temperature=10.0)


def test_healthy_and_separate_tests_do_not_warn() -> None:
    labels = torch.arange(20) % 2
    good = torch.eye(2).repeat(10, 1) + 0.1 * torch.randn(20, 2, generator=generator()), labels
    noise = torch.randn(20, 64, generator=generator()), labels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert knn_probe(nn.Identity(), good).accuracy == 1  # k=19 of 19, with information
        knn_probe(nn.Identity(), noise, k=3)  # few neighbors
        other = torch.randn(20, 64, generator=generator(1)), labels
        assert knn_probe(nn.Identity(), noise, other, k=5).accuracy > 0  # test images of their own
