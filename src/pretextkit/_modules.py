"""Modules inside wrappers, and the device and dtype of their weights."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from pretextkit.errors import DataError, OptionError, PretextkitError

__all__ = [
    "as_input",
    "check_model",
    "copied",
    "eager_execution",
    "explain_complex_weights",
    "is_parallel_wrapper",
    "is_scripted",
    "module_device",
    "module_dtype",
    "modules_behind",
    "network_name",
    "not_built",
    "refuse_meta",
    "refuse_task",
    "refuse_traced_training",
    "unwrap",
]

_PARALLEL = (nn.DataParallel, DistributedDataParallel)


def unwrap(model: Any) -> Any:
    """Return the network inside wrappers that call it unchanged.

    Wrappers are the result of ``torch.compile``, ``DataParallel``, ``DistributedDataParallel`` and ``AveragedModel``,
    also one inside another. Anything else is returned as it is.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> unwrap(nn.DataParallel(network)) is network, unwrap(network) is network
        (True, True)
    """
    while isinstance(model, nn.Module):
        if _is_compiled(model):
            model = model._modules["_orig_mod"]
        elif isinstance(model, (*_PARALLEL, AveragedModel)):
            model = model.module
        else:
            break
    return model


def copied(module: nn.Module) -> nn.Module:
    """Copy the network of a module, so that training the module later leaves the copy as it is.

    What cannot be copied is returned itself: sharded weights, and modules with functions, such as hooks, that hold
    modules, because a copy would call those of the original.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> copied(nn.DataParallel(network)).weight is network.weight
        False
    """
    if any(map(_has_functions_of_modules, module.modules())):
        return module
    try:
        return copy.deepcopy(unwrap(module))  # type: ignore[no-any-return]
    except Exception:  # any type of error, from modules of users and of torch
        return module


def _has_functions_of_modules(module: nn.Module) -> bool:
    """Whether an attribute or a hook of a module is a function that holds a module."""
    hooks = (value for name, value in vars(module).items() if name.endswith("_hooks") and isinstance(value, dict))
    functions = [*vars(module).values(), *(hook for each in hooks for hook in each.values())]
    return any(
        isinstance(f, FunctionType | functools.partial) and any(True for _ in modules_behind(f)) for f in functions
    )


def is_parallel_wrapper(model: Any) -> bool:
    """Return whether a module, perhaps compiled, is ``DataParallel`` or ``DistributedDataParallel``.

    Example:
        >>> is_parallel_wrapper(nn.DataParallel(nn.Linear(2, 2)))
        True
    """
    while isinstance(model, nn.Module) and _is_compiled(model):
        model = model._modules["_orig_mod"]
    return isinstance(model, _PARALLEL)


def is_scripted(model: Any) -> bool:
    """Return whether a module is the result of ``torch.jit.script`` or ``torch.jit.trace``.

    Example:
        >>> is_scripted(nn.ReLU())
        False
    """
    return isinstance(model, torch.jit.ScriptModule)


def module_device(model: Any) -> torch.device:
    """Return the device of a model's weights, also of modules inside a function; the CPU if there are no weights.

    Example:
        >>> module_device(torch.nn.Linear(2, 2, device="meta").forward)
        device(type='meta')
    """
    for tensor in _tensors(model):
        return tensor.device
    return torch.device("cpu")


def module_dtype(model: Any) -> torch.dtype:
    """Return the dtype in which a model takes its input: that of its weights, also of modules inside a function.

    Models without floating-point weights, and models whose weights have several dtypes, take float32: the latter
    convert their input themselves.

    Example:
        >>> module_dtype(nn.Linear(2, 2).double()), module_dtype(nn.Flatten())
        (torch.float64, torch.float32)
    """
    weights = {w.dtype for m in modules_behind(model) for w in m.parameters() if w.is_floating_point()}
    return weights.pop() if len(weights) == 1 else torch.float32


def as_input(values: Tensor, module: nn.Module) -> Tensor:
    """Convert floats to the dtype of a module's weights, except under autocast, which converts by itself.

    Example:
        >>> as_input(torch.ones(1), nn.Linear(1, 1).double()).dtype, as_input(torch.ones(1), nn.Linear(1, 1)).dtype
        (torch.float64, torch.float32)
    """
    first = next((weight.dtype for weight in module.parameters() if weight.is_floating_point()), torch.float32)
    if not values.is_floating_point() or first == values.dtype or torch.is_autocast_enabled(values.device.type):
        return values
    return values.to(module_dtype(module))


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
    if any(tensor.is_meta for tensor in _tensors(model)):
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


def eager_execution(model: Any) -> AbstractContextManager[Any]:
    """Return a context in which a compiled model runs its Python code, and with it the hooks on inner layers.

    Example:
        >>> with eager_execution(nn.Linear(2, 2)):
        ...     pass
    """
    compiled = any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())
    compiled = compiled or any(_is_compiled(module) for module in model.modules())
    set_stance = getattr(torch.compiler, "set_stance", None)  # from torch 2.6
    return set_stance("force_eager") if compiled and set_stance else nullcontext()


def _is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` returned the module; the class itself is in a package that is slow to import."""
    return not is_scripted(model) and "_orig_mod" in model._modules


def _tensors(model: Any) -> Iterator[Tensor]:
    for module in modules_behind(model):
        yield from module.parameters()
        yield from module.buffers()


def modules_behind(function: Any) -> Iterator[nn.Module]:
    """Find the modules in a callable's owner, bound arguments, closure and globals.

    Other modules, such as those in a list, are found when they are called.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> [module is network for module in modules_behind(lambda images: network(images))]
        [True]
    """
    seen: set[int] = set()
    queue = [function]
    while queue:
        one = queue.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module):
            yield one
        elif isinstance(one, functools.partial):
            queue += [one.func, *one.args, *one.keywords.values()]
        elif isinstance(one, MethodType):
            queue += [one.__self__, one.__func__, *getattr(one.__self__, "__dict__", {}).values()]
        elif isinstance(one, FunctionType):
            queue += [cell.cell_contents for cell in one.__closure__ or () if cell != CellType()]  # empty: raises
            queue += [one.__globals__[name] for name in one.__code__.co_names if name in one.__globals__]
            queue += [*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
        elif callable(one) and isinstance(type(one).__call__, FunctionType):
            queue += [type(one).__call__, *getattr(one, "__dict__", {}).values()]
