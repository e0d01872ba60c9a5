"""Errors for what is no usable network, each with its cause."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pretextkit._modules._weights import modules_behind, tensors_of
from pretextkit._modules._wrappers import is_scripted
from pretextkit.errors import DataError, OptionError, PretextkitError

__all__ = [
    "check_model",
    "explain_complex_weights",
    "network_name",
    "not_built",
    "refuse_meta",
    "refuse_task",
    "refuse_traced_training",
]


def check_model(model: Any) -> None:
    """Check that a model is a module or a function, and no task, name or class.

    Raises:
        OptionError: It is something else.

    Example:
        >>> check_model(nn.Linear(2, 2))
    """
    refuse_task(model, "a module or a function from images to features")
    if isinstance(model, type) or not callable(model):
        fix = "Pass a backbone, for example pretextkit.backbones['resnet18']()."
        raise not_built(model, "a module or a function from images to features", fix)


def refuse_task(model: Any, expected: str) -> None:
    """Refuse a pretext task, which is a module of views, where a network of images is needed.

    Raises:
        OptionError: It is one.

    Example:
        >>> refuse_task(nn.Linear(2, 2), "a backbone")
    """
    if callable(getattr(model, "views", None)) and isinstance(getattr(model, "backbone", None), nn.Module):
        raise OptionError(expected, got=f"the task {type(model).__name__}", fix="Pass its backbone, task.backbone.")


def network_name(backbone: Any) -> str:
    """Return the class of a backbone, or of the network of torchvision or timm that it wraps, for an error.

    Example:
        >>> network_name(nn.Linear(2, 2))
        'Linear'
    """
    return type(getattr(backbone, "network", backbone)).__name__


def not_built(model: Any, expected: str, fix: str) -> OptionError:
    """Build the error for a name or a class in the place of a module; ``fix`` is the advice for anything else.

    Example:
        >>> print(not_built("resnet18", "a module", "").fix)
        Build it: pretextkit.backbones['resnet18']().
    """
    got = type(model).__name__
    if isinstance(model, type):
        got, fix = f"the class {model.__name__}", f"Build it: {model.__name__}()."
    elif isinstance(model, str):
        got, fix = f"the name {model!r}", f"Build it: pretextkit.backbones[{model!r}]()."
    return OptionError(expected, got=got, fix=fix, see="a-name-or-a-class-instead-of-an-object")


def refuse_meta(model: Any, what: str = "the model") -> None:
    """Refuse a model that has shapes, but no values, as on torch's device ``meta``.

    Raises:
        DataError: A weight or buffer is on the device ``meta``.

    Example:
        >>> refuse_meta(nn.Linear(2, 2))
    """
    if any(tensor.is_meta for tensor in tensors_of(model)):
        raise DataError(
            f"{what} to have weights with values",
            got="weights on the device 'meta', which has shapes only",
            fix="Build it on another device, or call to_empty(device='cpu') on it and load its weights.",
        )


_DROPOUTS = tuple(f"aten::{name}" for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"))


def refuse_traced_training(module: nn.Module) -> None:
    """Refuse a module that was traced or exported in training mode, because no mode ends its training.

    Tracing writes the mode into the graph: features of an image would depend on the other images of its batch
    (BatchNorm), or on chance (dropout).

    Raises:
        OptionError: A BatchNorm in the graph always uses the statistics of the batch, and has running ones; or a
            dropout is always on.

    Example:
        >>> refuse_traced_training(nn.BatchNorm1d(2))
    """
    for each in module.modules():
        if found := _training_in_graph(each):
            raise OptionError(
                "a network that can be set to evaluation mode",
                got=f"a graph of {getattr(each, 'original_name', type(each).__name__)} whose {found}, because it was "
                "traced in training mode",
                fix="Trace or export it after model.eval(): torch.jit.trace(model.eval(), images).",
            )


def _training_in_graph(module: nn.Module) -> str | None:
    """Describe the operation of a graph that is always in training mode."""
    if isinstance(module, torch.fx.GraphModule):
        calls = [(str(node.target), tuple(node.args)) for node in module.graph.nodes]
        norm = any("batch_norm" in target and arguments[5:6] == (True,) for target, arguments in calls)
        drop = any(
            "dropout" in target and arguments[1:2] != (0.0,) and arguments[2:3] == (True,)
            for target, arguments in calls
        )
    elif is_scripted(module) and (graph := getattr(module, "inlined_graph", None)) is not None:
        norms = [list(node.inputs()) for node in graph.findAllNodes("aten::batch_norm")]
        norm = any(each[5].toIValue() is True and each[3].type().kind() != "NoneType" for each in norms)
        drops = [list(node.inputs()) for name in _DROPOUTS for node in graph.findAllNodes(name)]
        drop = any(each[1].toIValue() != 0 and each[2].toIValue() is True for each in drops)
    else:
        return None
    if norm:
        return "BatchNorm always uses the statistics of the batch"
    return "dropout is always on" if drop else None


def explain_complex_weights(model: Any, error: Exception) -> None:
    """Raise an error about complex weights, if these are what made a model fail on images.

    Raises:
        DataError: The error is about complex numbers, and the model has complex weights.

    Example:
        >>> explain_complex_weights(nn.Linear(2, 2), RuntimeError("complex"))
    """
    if isinstance(error, PretextkitError) or "omplex" not in str(error):  # torch writes complex and ComplexFloat
        return
    dtypes = {weight.dtype for module in modules_behind(model) for weight in module.parameters() if weight.is_complex()}
    if dtypes:
        found = str(dtypes.pop())
        raise DataError(
            "a model that takes real images",
            got=f"weights of dtype {found}, which fail on them",
            fix=f"Convert in its forward: images.to({found}) before these weights, and .abs() after them.",
        ) from error
