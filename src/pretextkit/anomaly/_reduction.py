"""From a map of errors to one score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from pretextkit._validation import check_float
from pretextkit.errors import ShapeError, unknown_name

__all__ = ["Reduction", "TopFraction", "resolve_reduction"]

ReductionName = Literal["mean", "max"]
Reduction = ReductionName | Callable[[Tensor], Tensor]
"""A name, or any function from maps ``n h w`` to scores ``n``, such as :class:`TopFraction`."""


@dataclass(frozen=True)
class TopFraction:
    """Average the highest pixels of a map.

    It finds defects that a mean over the image would drown, and does not hang on a single pixel as the maximum does.

    Args:
        fraction: Of the pixels, above 0 and up to 1; at least one pixel is taken.

    Raises:
        OptionError: ``fraction`` is out of range.

    Example:
        >>> TopFraction(0.5)(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([3.5000])
    """

    fraction: float = 0.01

    def __post_init__(self) -> None:
        check_float("fraction", self.fraction, "(0, 1]", fix="0.01 takes the highest hundredth of the pixels.")

    def __call__(self, maps: Tensor) -> Tensor:
        pixels = maps.flatten(1)
        return pixels.topk(max(1, int(pixels.shape[1] * self.fraction))).values.mean(1)


def resolve_reduction(reduction: Reduction) -> Callable[[Tensor], Tensor]:
    """Give the function that a name stands for, or the function itself, made to give one score for each map.

    Raises:
        UnknownNameError: There is no reduction of that name.

    Example:
        >>> resolve_reduction("max")(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([4.])
    """
    if reduction == "mean":
        return lambda maps: maps.flatten(1).mean(1)
    if reduction == "max":
        return lambda maps: maps.flatten(1).amax(1)
    if not callable(reduction):
        raise unknown_name(
            "reduction", reduction, get_args(ReductionName), "TopFraction(0.01) takes the highest pixels."
        )

    def reduce(maps: Tensor) -> Tensor:
        scores = reduction(maps)
        if scores.shape != maps.shape[:1]:
            raise ShapeError(
                f"a reduction that gives {len(maps)} scores for {len(maps)} maps",
                got=f"shape {tuple(scores.shape)}",
                fix="Reduce the last two axes: maps.amax((1, 2)).",
            )
        return scores

    return reduce
