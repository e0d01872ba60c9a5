"""Conformance of the tasks: every check is one test. The loss of DCL equals a loop."""

import math

import torch
from pretextkit_upside_down import dcl_loss

import pretextkit as pk
from pretextkit.testing import Check, TinyBackbone, parametrize_checks, pretext_task_checks

COMPARES = {"parts_have_the_gradient_of_the_batch": "compares the images of a batch"}


@parametrize_checks(pretext_task_checks(lambda: pk.pretext_tasks["upside-down"](TinyBackbone())))
def test_upside_down(check: Check) -> None:
    check.run()


@parametrize_checks(pretext_task_checks(lambda: pk.pretext_tasks["dcl"](TinyBackbone()), expected_failures=COMPARES))
def test_dcl(check: Check) -> None:
    check.run()


def test_dcl_loss_equals_a_loop() -> None:
    z = torch.nn.functional.normalize(torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)), dim=2)
    total = 0.0
    for own, other in ((0, 1), (1, 0)):
        for i in range(5):
            negatives = [float(z[own, i] @ z[view, j]) / 0.1 for view in range(2) for j in range(5) if j != i]
            total += math.log(sum(map(math.exp, negatives))) - float(z[own, i] @ z[other, i]) / 0.1
    assert abs(dcl_loss(z[0], z[1]).item() - total / 10) < 1e-4
