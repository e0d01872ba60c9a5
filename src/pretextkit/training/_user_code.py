"""What user code in the loop may change: callbacks, ``augment``, ``views``, ``forward`` and ``after_step``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pretextkit._modules import is_scripted
from pretextkit.errors import OptionError, TrainingWarning, warn
from pretextkit.training._monitors import Finding

__all__ = ["TrainedState", "check_trained_dtype"]


class TrainedState:
    """Modes, places and ``requires_grad`` of a module when its training begins.

    User code may change them by accident: a callback that validates leaves the task in evaluation mode, or on another
    device. Modes are put back before every forward pass. Moved weights are refused, and frozen ones are reported. The
    values of weights are not watched: a callback may set them.

    Args:
        module: The module that trains, in the modes in which it trains.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.modes = [(each, each.training) for each in module.modules() if hasattr(each, "training")]
        python = (each for each in module.modules() if not is_scripted(each))  # TorchScript keeps no such dictionary
        owners = ((owner, key, weight) for owner in python for key, weight in owner._parameters.items())
        self.first = next(((*each, *_place(each[2])) for each in owners if each[2] is not None), None)
        self.flags = self.flags_now()
        self.steps = 0
        self.suspects: list[tuple[str, nn.Parameter]] = []

    def restore_modes(self) -> None:
        """Put every module back into its mode."""
        for module, mode in self.modes:
            if module.training is not mode:
                module.training = mode

    def check_place(self) -> None:
        """Check that the first weight, and with it the module, is where it was.

        Raises:
            OptionError: The weight moved to another device or dtype.
        """
        if self.first is None:
            return
        owner, key, _, *place = self.first
        now = owner._parameters.get(key)
        if now is None or _place(now) != tuple(place):
            got = "weights that were removed" if now is None else " in ".join(map(str, _place(now)))
            raise OptionError(
                f"the weights to stay on {place[0]} in {place[1]} while they train",
                got=got,
                fix="A callback, augment or the task moved them. Let it move a copy: copy.deepcopy(task).",
            )

    def after_step(self) -> None:
        """Check the place, and look for weights that stay frozen; nothing is done per weight if there are none."""
        self.check_place()
        self.steps += 1
        if self.steps == 1:
            self.suspects = self._frozen()
        elif self.suspects:
            self.suspects = [(name, weight) for name, weight in self.suspects if not weight.requires_grad]

    def on_epoch(self) -> list[Finding]:
        """Report weights that were frozen at the last epoch's end, or the first step, and at every step since.

        Tasks whose parts take turns are not reported.
        """
        found = [_frozen_weights([name for name, _ in self.suspects])] if self.suspects and self.steps > 1 else []
        self.suspects = self._frozen()
        return found

    def changes(self, before: Mapping[int, tuple[str, bool]]) -> list[Finding]:
        """Report what callbacks did to the weights since ``before``."""
        now = self.flags_now()
        frozen = [name for key, (name, trains) in now.items() if not trains and before.get(key, ("", False))[1]]
        thawed = [name for key, (name, trains) in now.items() if trains and not before.get(key, ("", True))[1]]
        new = [name for key, (name, trains) in now.items() if trains and key not in before]
        found = [_frozen_weights(frozen)] if frozen else []
        late = [name for name in thawed if not self.flags.get(id(self.module.get_parameter(name)), ("", False))[1]]
        if late or new:
            text = (
                f"A callback {'replaced' if new else 'unfroze'} {_some(new or late)}, which the optimizer does not "
                "know: they will not train. Change the module before the call, and call pretrain or "
                "freeze_and_finetune once for each part of the training."
            )
            found.append(Finding("unknown weights", text))
        return found

    def flags_now(self) -> dict[int, tuple[str, bool]]:
        """Map the identity of each weight to its name and ``requires_grad``."""
        return {id(weight): (name, weight.requires_grad) for name, weight in self.module.named_parameters()}

    def _frozen(self) -> list[tuple[str, nn.Parameter]]:
        named = self.module.named_parameters()
        return [each for each in named if not each[1].requires_grad and self.flags.get(id(each[1]), ("", False))[1]]


def check_trained_dtype(module: nn.Module) -> None:
    """Refuse to train float16 weights, and warn of bfloat16 weights: small steps of the optimizer are lost in both.

    Raises:
        OptionError: A weight that trains is float16.

    Example:
        >>> check_trained_dtype(nn.Linear(2, 2))
    """
    dtypes = {weight.dtype for weight in module.parameters() if weight.requires_grad}
    if torch.float16 in dtypes:
        raise OptionError(
            "weights of dtype float32, bfloat16 or float64 to train",
            got="torch.float16",
            fix="Convert them with .float(). On a GPU, precision='fp16' computes in fp16 and keeps float32 weights.",
        )
    if torch.bfloat16 in dtypes:
        warn(
            "The weights that train are bfloat16, in which a step smaller than about a 256th of a weight is lost. "
            "Convert them with .float(): precision='bf16' computes in bf16 and keeps float32 weights.",
            TrainingWarning,
            see="weights-in-half-precision",
        )


def _place(weight: Tensor) -> tuple[torch.device, torch.dtype]:
    return weight.device, weight.dtype


def _frozen_weights(names: list[str]) -> Finding:
    text = (
        f"{_some(names)} stopped training: a callback, augment or the task set requires_grad to False. If this is on "
        "purpose, freeze before the call, and call pretrain or freeze_and_finetune once for each part of the training: "
        "a resumed run starts with the weights unfrozen."
    )
    return Finding("frozen", text)


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
