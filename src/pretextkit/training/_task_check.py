"""Whether an object is a pretext task that can train."""

from __future__ import annotations

from typing import Any

from torch import nn

from pretextkit._modules import is_parallel_wrapper, unwrap
from pretextkit.contracts import PretextTask
from pretextkit.errors import OptionError
from pretextkit.registries import pretext_tasks

__all__ = ["check_task"]


def check_task(task: Any) -> None:
    """Refuse what is no pretext task; the result of ``torch.compile`` is looked into.

    Raises:
        OptionError: It is a name, a class, a backbone or something else.

    Example:
        >>> check_task("rotation")
        Traceback (most recent call last):
            ...
        pretextkit.errors.OptionError: Expected a pretext task, but got the name 'rotation'. Build it: ...
    """
    inner = unwrap(task)
    got, fix = f"a {type(task).__name__}", "Pass a task around the backbone, such as pretextkit.tasks.SimCLR(backbone)."
    if is_parallel_wrapper(task):
        fix = "Pass the task inside, task.module: pretrain itself trains on several GPUs, under torchrun."
    elif isinstance(task, type):
        got = f"the class {task.__name__}"
        fix = f"Build it: {task.__name__}(backbone)." if issubclass(task, PretextTask) else fix
    elif isinstance(task, str):
        name = task if task in pretext_tasks else "simclr"
        got, fix = f"the name {task!r}", f"Build it: pretextkit.pretext_tasks[{name!r}](backbone)."
    elif isinstance(inner, PretextTask):
        if isinstance(getattr(inner, "backbone", None), nn.Module):
            return
        got, fix = f"{got} without a backbone", "Call super().__init__(backbone) in its __init__."
    raise OptionError("a pretext task", got=got, fix=fix, see="a-name-or-a-class-instead-of-an-object")
