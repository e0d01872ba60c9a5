"""Checks of functions that the caller passes, and of what they return."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit.errors import DataError, OptionError, ShapeError

__all__ = ["check_callable", "check_features", "check_finite", "check_tensor", "described"]


def described(value: object) -> str:
    """Describe a value for an error: the shape of a tensor, else the type.

    Example:
        >>> described(torch.zeros(2, 3)), described((1, 2)), described(None)
        ('shape (2, 3)', 'tuple', 'NoneType')
    """
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def check_callable(name: str, function: Any, *arguments: str) -> None:
    """Check that an option is a function that takes some positional arguments; the function is not called.

    A function without a signature, such as one written in C, passes.

    Args:
        name: Name of the option.
        function: The function.
        arguments: Names of the arguments that it is called with.

    Raises:
        OptionError: It is not callable, or takes other arguments.

    Example:
        >>> check_callable("augment", lambda images, generator: images, "images", "generator")
    """
    call = f"a function of ({', '.join(arguments)})"
    if not callable(function):
        raise OptionError(f"{name} to be {call}", got=type(function).__name__, fix="Pass a function.")
    called = function.forward if isinstance(function, nn.Module) else function  # modules have calls of any arguments
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        advice = "Change the arguments of the function."
        if _takes(signature, arguments[0]) and name.isidentifier():
            advice = f"Pass a function around it: lambda {', '.join(arguments)}: {name}({arguments[0]})."
        see = "a-transform-of-torchvision-as-augment" if arguments == ("images", "generator") else ""
        got = f"a function of {signature}"
        raise OptionError(f"{name} to be {call}", got=got, fix=advice, see=see) from None


def _takes(signature: inspect.Signature, *arguments: str) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def check_tensor(output: Any, what: str, fix: str) -> Tensor:
    """Check that a function of the caller returned a tensor of real floating-point numbers.

    Args:
        output: What the function returned.
        what: Noun phrase for the tensor, with the function that returned it.
        fix: Sentence that says what to return instead of another type.

    Raises:
        ShapeError: It is not a tensor.
        DataError: The dtype is not a real floating-point one.

    Example:
        >>> check_tensor(torch.ones(2), "scores from reduction", "Return a tensor.")
        tensor([1., 1.])
    """
    if not isinstance(output, Tensor):
        raise ShapeError(f"a tensor of {what}", got=described(output), fix=fix)
    if not output.is_floating_point():
        convert = "Return its .abs() or .real." if output.is_complex() else "Convert it with .float()."
        raise DataError(f"{what} of a floating-point dtype", got=str(output.dtype), fix=convert)
    return output


def check_finite(values: Tensor, what: str, fix: str = "Check the model's weights.") -> None:
    """Check that a function of the caller returned no NaN and no infinity.

    Args:
        values: Of any shape.
        what: Plural noun for the values, with the function that returned them.
        fix: Sentence that says what to do.

    Raises:
        DataError: A value is NaN or infinite.

    Example:
        >>> check_finite(torch.ones(2), "scores from reduction")
    """
    if not values.isfinite().all():
        raise DataError(f"finite {what}", got="NaN or inf", fix=fix)


def check_features(output: Any, count: int, what: str, *, pool: int = 1, finite: bool = True) -> Tensor:
    """Convert the output of a network to features ``b d``, and check it.

    Maps are averaged over a grid and flattened, and tokens are averaged. Integers and bools become float32.

    Args:
        output: Features ``b d``, tokens ``b t d`` or maps ``b d h w`` (also ``b d 1 1``).
        count: Number of images ``b``.
        what: The layer or module in errors, such as ``layer 'last'``.
        pool: Side of the grid over which maps are averaged; at most the side of the map.
        finite: Whether to look for NaN and infinity, which waits for the device.

    Returns:
        ``b d``.

    Raises:
        ShapeError: The output is no tensor, or has another shape.
        DataError: Features are complex, NaN or infinite.

    Example:
        >>> check_features(torch.ones(2, 3, 1, 1), 2, "the backbone").shape
        torch.Size([2, 3])
    """
    features = _flatten(output, pool, what)
    if finite:
        check_finite(features, f"features from {what}")
    if features.shape[1] == 0:
        raise ShapeError(
            f"at least one feature from {what}", got=f"shape {tuple(features.shape)}", fix="Choose another layer."
        )
    if features.shape[0] != count:  # len() would fix the batch of an exported network
        raise ShapeError(
            f"features of {count} images from {what}",
            got=f"shape {tuple(features.shape)}",
            fix="Choose another layer, or keep the images as the first dimension.",
        )
    return features


def _flatten(output: Any, side: int, what: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise ShapeError(
            f"a tensor of features from {what}",
            got=type(output).__name__,
            fix=f"Wrap the model in a {'function' if what.startswith('layer') else 'module'} that returns one tensor.",
        )
    if output.is_complex():
        raise DataError(f"real features from {what}", got=str(output.dtype), fix="Return .abs(), or .real and .imag.")
    if not output.is_floating_point():
        output = output.float()
    if output.ndim == 4:
        side = min(side, *output.shape[2:])  # a map has no finer grid than its own pixels
        with torch.autocast(output.device.type, enabled=False):
            return nn.functional.adaptive_avg_pool2d(output.float(), side).flatten(1)
    if output.ndim == 3:
        output = output.mean(1)
    if output.ndim == 2:
        features: Tensor = output
        return features
    raise ShapeError(
        f"features b d, tokens b t d or maps b d h w from {what}",
        got=f"shape {tuple(output.shape)}",
        fix="Choose another layer, or flatten its output.",
    )
