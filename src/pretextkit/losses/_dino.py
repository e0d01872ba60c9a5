"""DINO: self-distillation without labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pretextkit._validation import check_float
from pretextkit.errors import ShapeError
from pretextkit.losses._swav import check_views

__all__ = ["dino_loss"]


def dino_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    center: Tensor,
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Tensor:
    """Compute the cross entropy of the student's outputs, where the teacher's outputs of another view are the targets.

    Subtracting the center prevents that one output wins for all images, and the lower temperature of the teacher that
    all outputs are equal (Caron et al. 2021, arXiv 2104.14294). The loss is computed in fp32 (or fp64) even under
    autocast. Unlike in lightly, the center is an argument, and the loss does not move it.

    Args:
        student: ``n k`` for each view, the global views first.
        teacher: ``n k`` for each global view, in the same order; no gradient reaches it.
        center: ``k``, the running mean of the teacher's outputs.
        student_temperature: Divisor of the student's outputs.
        teacher_temperature: Divisor of the teacher's outputs, smaller than the student's.

    Returns:
        ``()``, the mean over images and pairs of different views; ``log k`` if all outputs are equal.

    Raises:
        ShapeError: The outputs differ in shape, there are fewer than two views, or the center is not ``k``.
        DataError: The outputs are not of a floating-point dtype.
        OptionError: A temperature is not positive, or the teacher's is not below the student's.

    Example:
        >>> outputs = [torch.zeros(4, 8), torch.zeros(4, 8)]
        >>> dino_loss(outputs, outputs, torch.zeros(8))  # log 8
        tensor(2.0794)
    """
    warm = check_float("student_temperature", student_temperature, "(0, inf)", of=dino_loss)
    fix = "It sharpens the targets; at the student's temperature or above, outputs become uniform."
    cold = check_float("teacher_temperature", teacher_temperature, f"(0, {warm})", fix=fix, of=dino_loss)
    views = check_views(student, len(teacher), "outputs")
    targets = check_views([*teacher, student[0]], len(teacher), "outputs")[:-1]
    if center.shape != views[0].shape[1:]:
        raise ShapeError(
            f"a center of shape {tuple(views[0].shape[1:])}",
            got=f"shape {tuple(center.shape)}",
            fix="Keep the running mean of the teacher's outputs.",
        )
    with torch.autocast(views[0].device.type, enabled=False):
        predictions = [(view / warm).log_softmax(1) for view in views]
        probabilities = [((target - center).detach() / cold).softmax(1) for target in targets]
        terms = [
            -(target * prediction).sum(1).mean()
            for own, target in enumerate(probabilities)
            for other, prediction in enumerate(predictions)
            if other != own
        ]
        return torch.stack(terms).mean()
