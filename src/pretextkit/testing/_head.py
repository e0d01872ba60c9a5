"""The conformance kit for heads."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pretextkit.contracts import Head
from pretextkit.testing._cases import generator, same, seeded
from pretextkit.testing._runner import NONE, Check, bind, require, run_checks

__all__ = ["check_head", "head_checks"]


@dataclass(frozen=True)
class HeadCase:
    """A head under test, and the shape of what it takes."""

    make: Callable[[], Head]
    feature_shape: tuple[int, ...]

    def head(self, seed: int = 0) -> Head:
        """Make the head in train mode."""
        with seeded(seed):
            head = self.make()
        require(isinstance(head, Head), f"The factory makes a {type(head).__name__}, not a Head.")
        return head.train()

    def features(self, b: int = 6) -> Tensor:
        """Draw ``b`` rows of features."""
        return torch.randn(b, *self.feature_shape, generator=generator(0))


def output_keeps_rank_and_batch(case: HeadCase) -> None:
    """``b d`` gives ``b k`` and ``b d h w`` gives ``b c h w``; of the input, only b changes the output's shape."""
    head = case.head()
    shapes = {b: tuple(_output(head, case.features(b)).shape) for b in (2, 3, 5)}
    for b, shape in shapes.items():
        require(shape[:1] == (b,), f"{b} rows give an output of shape {shape}.")
        require(len(shape) == 1 + len(case.feature_shape), f"Rank {1 + len(case.feature_shape)} gives shape {shape}.")
        require(shape[1:] == shapes[2][1:], f"2 rows give shape {shapes[2]} and {b} rows {shape}.")


def output_is_finite_and_varies(case: HeadCase) -> None:
    """Outputs are finite and differ between rows."""
    output = _output(case.head(), case.features())
    require(bool(output.isfinite().all()), "The output is not finite.")
    require(not same(output[:-1], output[1:], tolerance=1e-6), "Different features give the same output.")


def features_are_left_alone(case: HeadCase) -> None:
    """The head changes nothing in the features it is given."""
    features = case.features()
    before = features.clone()
    _output(case.head(), features)
    require(torch.equal(features, before), "The features were changed in place; other heads may need them.")


def eval_rows_are_independent(case: HeadCase) -> None:
    """In eval mode a row's output does not depend on the other rows."""
    head, features = case.head().eval(), case.features()
    alone = torch.cat([_output(head, row[None]) for row in features])
    require(same(alone, _output(head, features), tolerance=1e-4), "A row's output changes with its batch in eval mode.")


def gradient_flows_through(case: HeadCase) -> None:
    """Every trainable parameter, and the features themselves, get gradient."""
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
    """A new head that loads the state dict gives a bit-identical output."""
    head, other, features = case.head(), case.head(seed=1), case.features()
    _output(head, features)  # moves BatchNorm statistics, if there are any
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
    features_are_left_alone,
    eval_rows_are_independent,
    gradient_flows_through,
    state_dict_round_trip,
    copies_agree,
)


def head_checks(
    make: Callable[[], Head], *, feature_shape: tuple[int, ...], expected_failures: Mapping[str, str] = NONE
) -> list[Check]:
    """List the checks of a head, for :func:`parametrize_checks` or to run one by one.

    Args:
        make: Makes a new head with new weights.
        feature_shape: What one image's features look like: ``(d,)``, or ``(d, h, w)`` for a decoder.
        expected_failures: Checks that may fail, each with the reason.

    Raises:
        UnknownNameError: ``expected_failures`` names no check.

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
        make: Makes a new head with new weights.
        feature_shape: What one image's features look like: ``(d,)``, or ``(d, h, w)`` for a decoder.
        expected_failures: Checks that may fail, each with the reason.

    Raises:
        ConformanceError: Lists every check that failed and why, and every exemption that is stale.
        UnknownNameError: ``expected_failures`` names no check.

    Example:
        >>> from pretextkit import heads
        >>> check_head(lambda: heads["linear"](64, 10), feature_shape=(64,))
    """
    run_checks(head_checks(make, feature_shape=feature_shape, expected_failures=expected_failures))
