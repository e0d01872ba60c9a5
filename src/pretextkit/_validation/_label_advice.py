"""Advice for refused labels, masks and other numbers: code that is right for the refused value.

The text of an error names the variable by the role of the argument (``labels``, ``masks``). Tests take the code from
the message, evaluate it on the refused value, and compare the result with the right one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["class_masks_fix", "classes_fix", "floats_fix", "integers_fix", "masks_fix", "predictions_fix", "rows_fix"]


def integers_fix(values: Tensor, what: str) -> str:
    """Advise how to convert values that should be integers.

    Example:
        >>> integers_fix(torch.tensor([1.0, 2.0]), "labels")
        'Convert with labels.long().'
        >>> integers_fix(torch.tensor([0.5]), "labels")
        'Pass integers: these labels have fractions.'
    """
    if values.is_complex():
        return f"Pass real {what}."
    if values.dtype == torch.bool or (bool(values.isfinite().all()) and bool((values == values.round()).all())):
        return f"Convert with {what}.long()."
    if bool(values.isfinite().all()):
        return f"Pass integers: these {what} have fractions."
    return f"Replace NaN and infinity, then convert with {what}.long()."


def classes_fix(labels: Tensor) -> str:
    """Advise how to renumber labels that skip a class, alike for train and test.

    Example:
        >>> classes_fix(torch.tensor([1, 2, 3]))
        'If the classes are numbered from 1, subtract 1 for train and test: torch.where(labels > 0, labels - 1, -1).'
    """
    found = torch.unique(labels[labels >= 0])
    if int(found[0]) == 1 and int(found[-1]) == len(found):
        # Probes pass labeled rows only, so other rows may hold -1, which stays -1.
        return (
            "If the classes are numbered from 1, subtract 1 for train and test: "
            "torch.where(labels > 0, labels - 1, -1)."
        )
    return (
        "Renumber train and test with one table: classes = torch.cat([train_labels, test_labels]).unique(); "
        "labels = torch.where(labels < 0, -1, torch.searchsorted(classes[classes >= 0], labels))."
    )


def floats_fix(values: Tensor, what: str) -> str:
    """Advise how to convert values that should be real floats.

    Example:
        >>> floats_fix(torch.tensor([1]), "features")
        'Convert with features.float().'
    """
    if values.is_complex():
        return "Pass real numbers, for example both parts: torch.view_as_real(values).flatten(1)."
    name = what if what.isidentifier() else "values"
    return f"Convert with {name}.float()."


def rows_fix(shape: tuple[int, ...], what: str) -> str:
    """Advise how to bring features of another shape to ``n d``.

    Example:
        >>> rows_fix((8, 16, 4, 4), "features")
        'Average the maps: features.mean((2, 3)).'
    """
    if 0 in shape:
        return "Pass at least one row and one column."
    if len(shape) == 4:
        return f"Average the maps: {what}.mean((2, 3))."
    if len(shape) == 3:
        return f"Average the tokens b t d: {what}.mean(1)."
    if len(shape) == 1:
        return f"Add the missing axis: {what}[:, None] for one number for each image, {what}[None] for one image."
    return f"Pass {what} n d."


def masks_fix(masks: Any, images: Tensor) -> str:
    """Advise how to convert masks that do not give each pixel of ``images`` an integer class.

    Example:
        >>> masks_fix(torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8))
        'Remove the channel axis: masks[:, 0].'
    """
    import numpy

    if isinstance(masks, numpy.ndarray):
        return "Convert with torch.as_tensor(masks)."
    if not isinstance(masks, Tensor) or masks.is_complex():
        return "Pass a tensor of integers n h w."
    wanted, size = (len(images), *images.shape[2:]), tuple(images.shape[2:])
    if masks.ndim == 4 and (len(masks), *masks.shape[2:]) == wanted:
        single = masks.shape[1] == 1
        return "Remove the channel axis: masks[:, 0]." if single else "If they are one-hot, use masks.argmax(1)."
    if masks.is_floating_point():
        return _float_masks_fix(masks)
    same_ratio = masks.ndim == 3 and masks.shape[1] * size[1] == masks.shape[2] * size[0]
    if same_ratio and len(masks) == len(images):
        size_code = f"({size[0]}, {size[1]})"
        return (
            "Resize the masks to their images without mixing classes: torch.nn.functional.interpolate("
            f"masks[:, None].float(), {size_code}).long()[:, 0]."
        )
    if masks.ndim == 2 and len(images) == 1:
        return "Add the axis of the images: masks[None]."
    return "Give every pixel of every image one class."


def predictions_fix(predictions: Tensor, targets: Tensor) -> str:
    """Advise how to bring predictions and targets of a segmentation to ``n h w`` of equal shape.

    Example:
        >>> predictions_fix(torch.zeros(2, 5, 8, 8), torch.zeros(2, 8, 8))
        'Choose the class with the highest logit: predictions.argmax(1).'
    """
    if targets.ndim == 4 and targets.shape[1] == 1:
        return "Remove the channel axis: targets[:, 0]."
    if predictions.ndim == 4 and (len(predictions), *predictions.shape[2:]) == tuple(targets.shape):
        if predictions.shape[1] > 1:
            return "Choose the class with the highest logit: predictions.argmax(1)."
        return "Remove the channel axis: predictions[:, 0], after a threshold if they are probabilities."
    return "Upsample the logits to the masks before argmax."


def class_masks_fix(masks: Tensor) -> str:
    """Advise how to convert float masks ``n h w`` to classes.

    Example:
        >>> class_masks_fix(torch.tensor([[[0.0, 2.0]]]))
        'Convert with masks.long().'
        >>> class_masks_fix(torch.full((1, 2, 2), torch.nan))
        'Pass classes as integers: these masks have no value.'
    """
    return "Pass integers." if masks.is_complex() else _float_masks_fix(masks)


def _float_masks_fix(masks: Tensor) -> str:
    values = masks[masks.isfinite()].float()
    if not len(values):
        return "Pass classes as integers: these masks have no value."
    if len(values) == masks.numel() and bool((values == values.round()).all()):
        scaled = "" if float(values.max()) != 1 else " If 1 stands for 255, use (masks * 255).round().long()."
        return f"Convert with masks.long().{scaled}"
    bytes_ = values * 255
    if float(values.min()) >= 0 and float(values.max()) <= 1 and bool((bytes_ - bytes_.round()).abs().max() < 1e-3):
        return "Undo the division by 255: (masks * 255).round().long()."
    return "Pass classes as integers: these masks have fractions."
