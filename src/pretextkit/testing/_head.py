"""Conformance checks of heads."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pretextkit.contracts import Head
from pretextkit.testing._cases import generator, global_seed, same
from pretextkit.testing._runner import NONE, Check, bind, require, run_checks

__all__ = ["check_head", "head_checks"]


@dataclass(frozen=True)
class HeadCase:
    """Head under test, with the shape of its features."""

    make: Callable[[], Head]
    feature_shape: tuple[int, ...]

    def head(self, seed: int = 0) -> Head:
        """Make the head in train mode."""
        with global_seed(seed):
            head = self.make()
        require(isinstance(head, Head), f"Expected the factory to build a Head, but got a {type(head).__name__}.")
        return head.train()

    def features(self, b: int = 6) -> Tensor:
        """Draw ``b`` rows of features."""
        return torch.randn(b, *self.feature_shape, generator=generator(0))


def output_keeps_rank_and_batch(case: HeadCase) -> None:
    """Features ``b d`` give ``b k`` and ``b d h w`` give ``b c h w``; only b changes the shape of the output."""
    head = case.head()
    shapes = {b: tuple(_output(head, case.features(b)).shape) for b in (2, 3, 5)}
    for b, shape in shapes.items():
        require(shape[:1] == (b,), f"{b} rows of features give an output of shape {shape}.")
        require(
            len(shape) == 1 + len(case.feature_shape),
            f"Features of rank {1 + len(case.feature_shape)} give shape {shape}.",
        )
        require(shape[1:] == shapes[2][1:], f"2 rows give shape {shapes[2]}, but {b} rows give {shape}.")


def output_is_finite_and_varies(case: HeadCase) -> None:
    """Outputs are finite and differ between rows."""
    output = _output(case.head(), case.features())
    require(bool(output.isfinite().all()), "The output is not finite.")
    require(not same(output[:-1], output[1:], tolerance=1e-6), "Different features give the same output.")


def features_are_unchanged(case: HeadCase) -> None:
    """The head does not change its features in place."""
    features = case.features()
    before = features.clone()
    _output(case.head(), features)
    require(torch.equal(features, before), "The head changed its features in place; other heads may need them.")


def eval_rows_are_independent(case: HeadCase) -> None:
    """In eval mode, the output of a row does not depend on the other rows."""
    head, features = case.head().eval(), case.features()
    alone = torch.cat([_output(head, row[None]) for row in features])
    require(
        same(alone, _output(head, features), tolerance=1e-4),
        "The output of a row depends on the other rows in eval mode.",
    )


def gradient_flows_through(case: HeadCase) -> None:
    """Every trainable parameter and the features have a gradient."""
    head, features = case.head(), case.features().requires_grad_()
    output: Tensor = head(features)
    torch.autograd.backward(output, torch.randn(output.shape, generator=generator(1)))
    require(features.grad is not None and bool(features.grad.any()), "No gradient reaches the features.")
    idle = [
        name
        for name, parameter in head.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    require(not idle, f"The output does not depend on {idle[:5]}.")


def state_dict_round_trip(case: HeadCase) -> None:
    """A new head with the same state dict gives a bit-identical output."""
    head, other, features = case.head(), case.head(seed=1), case.features()
    _output(head, features)  # updates BatchNorm statistics, if the head has any
    other.load_state_dict(head.state_dict())
    ours, theirs = _output(head.eval(), features), _output(other.eval(), features)
    require(torch.equal(ours, theirs), "The output differs after load_state_dict.")


def copies_agree(case: HeadCase) -> None:
    """Pickled and deep-copied heads give a bit-identical output."""
    head, features = case.head().eval(), case.features()
    output = _output(head, features)
    for how, twin in (("pickling", pickle.loads(pickle.dumps(head))), ("copy.deepcopy", copy.deepcopy(head))):
        require(torch.equal(_output(twin, features), output), f"The output differs after {how}.")


def _output(head: Head, features: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = head(features)
    return output


CHECKS = (
    output_keeps_rank_and_batch,
    output_is_finite_and_varies,
    features_are_unchanged,
    eval_rows_are_independent,
    gradient_flows_through,
    state_dict_round_trip,
    copies_agree,
)


def head_checks(
    make: Callable[[], Head], *, feature_shape: tuple[int, ...], expected_failures: Mapping[str, str] = NONE
) -> list[Check]:
    """List the checks of a head, for :func:`parametrize_checks` or to run them one by one.

    Args:
        make: Builds a new head with new weights.
        feature_shape: Shape of the features of one image: ``(d,)``, or ``(d, h, w)`` for a decoder.
        expected_failures: Names of checks that must fail, with the reason of each.

    Raises:
        UnknownNameError: A key of ``expected_failures`` is not the name of a check.

    Example:
        >>> from pretextkit import heads
        >>> head_checks(lambda: heads["linear"](64, 10), feature_shape=(64,))[0].name
        'output_keeps_rank_and_batch'
    """
    return bind(CHECKS, HeadCase(make, feature_shape), expected_failures)


def check_head(
    make: Callable[[], Head], *, feature_shape: tuple[int, ...], expected_failures: Mapping[str, str] = NONE
) -> None:
    """Run every check of a head.

    Args:
        make: Builds a new head with new weights.
        feature_shape: Shape of the features of one image: ``(d,)``, or ``(d, h, w)`` for a decoder.
        expected_failures: Names of checks that must fail, with the reason of each.

    Raises:
        ConformanceError: A check failed, or a check in ``expected_failures`` passed; the message lists all.
        UnknownNameError: A key of ``expected_failures`` is not the name of a check.

    Example:
        >>> from pretextkit import heads
        >>> check_head(lambda: heads["linear"](64, 10), feature_shape=(64,))
    """
    run_checks(head_checks(make, feature_shape=feature_shape, expected_failures=expected_failures))
