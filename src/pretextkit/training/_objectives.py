"""Objectives of the training loop: what trains, how a batch is prepared, and its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._fingerprint import function_name
from pretextkit._modules import as_input, explain_complex_weights, module_device, module_dtype, unwrap
from pretextkit._validation import described
from pretextkit.contracts import PretextTask, TaskOutput
from pretextkit.distributed._sharding import has_sharded_part
from pretextkit.errors import OptionError, PretextkitError, ShapeError, TrainingWarning, warn
from pretextkit.training._collapse import batch_norm_warmed_up, detect_collapse, feature_quality
from pretextkit.training._hardware import Precision, resolve_precision
from pretextkit.training._history import StepValues
from pretextkit.training._monitors import Finding, ShortcutMonitor
from pretextkit.training._optim import parameter_groups
from pretextkit.views._augmentation import Augmentation, augmented

__all__ = ["Objective", "TaskObjective", "takes_images", "warn_of_range"]


class Objective(ABC):
    """A module and its loss on a batch."""

    module: nn.Module
    usual_loss: float = 0.0
    """Loss from which a rise is measured where training begins below it, as from a solution."""
    chance_accuracy: float | None = None
    """Accuracy of random guesses; ``None`` for an objective without accuracy."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups; the ``scale`` of a group multiplies its learning rate."""

    @abstractmethod
    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        """Make the input of :meth:`loss`, without gradient and in full precision."""

    @abstractmethod
    def loss(self, batch: Any) -> TaskOutput:
        """Compute the loss and the metrics of a prepared batch."""

    def train_mode(self) -> None:
        """Set the modules that train to training mode."""
        self.module.train()

    def precision(self, precision: Precision, device: torch.device) -> str:
        """Resolve the precision: the dtype of the weights, if it is not float32."""
        return resolve_precision(precision, device, module_dtype(self.module))

    def identity(self) -> dict[str, Any]:
        """Return options, beside those of the module, that a resumed run must share."""
        return {}

    def augmentation(self) -> str | None:
        """Name the augmentation of the images; ``None`` without."""
        return None

    def on_steps(self, steps: Iterable[StepValues]) -> list[Finding]:
        """Look at the numbers of some steps; return failures that only this kind of training can have."""
        return []

    def on_epoch(self) -> tuple[dict[str, float], list[Finding]]:
        """Measure the module at the end of an epoch; return metrics and failures."""
        return {}, []

    def after_step(self) -> None:  # noqa: B027 - most objectives need nothing
        """Update state that follows the weights, such as a momentum copy."""


class TaskObjective(Objective):
    """A pretext task, which makes its own targets.

    Args:
        task: The pretext task.
        augment: Augmentation before the task's views, if any.
        monitor_batch_size: Images on which the features are measured after each epoch.
    """

    def __init__(self, task: PretextTask[Any, Any], augment: Augmentation | None, monitor_batch_size: int) -> None:
        self.module: PretextTask[Any, Any] = task
        self.chance_accuracy = task.chance_accuracy
        self.augment, self.monitor_batch_size = augment, monitor_batch_size
        self.collapsed = self.explained = self.checked = False
        self.shortcut = ShortcutMonitor()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.module)

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        self.latest = images
        if self.augment is not None:
            images = augmented(self.augment, images, generator)
            if not self.checked:
                self.checked = True
                warn_of_range(images)
        return self.module.views(images, generator)

    def precision(self, precision: Precision, device: torch.device) -> str:
        """Resolve the precision; refuse float64 beside other dtypes, because no autocast joins them."""
        dtypes = {weight.dtype for weight in self.module.parameters() if weight.is_floating_point()}
        if torch.float64 in dtypes and len(dtypes) > 1:
            raise OptionError(
                "weights of one dtype in the task",
                got=" and ".join(sorted(map(str, dtypes))),
                fix="Convert the task, not its backbone alone: task.double() or task.float().",
            )
        return super().precision(precision, device)

    def loss(self, batch: Any) -> TaskOutput:
        try:
            output: TaskOutput = self.module(batch)
        except (RuntimeError, TypeError, AttributeError) as error:
            self._explain(error)
            raise
        return output

    def _explain(self, error: Exception) -> None:
        """Raise an error that names the backbone, if its output is what made the task fail."""
        explain_complex_weights(self.module, error)
        if isinstance(error, PretextkitError | torch.OutOfMemoryError) or self.explained:
            return
        self.explained = True
        backbone = self.module.backbone
        with evaluation_mode(backbone):
            try:
                output = backbone(self.latest[:2])
            except Exception:
                return
        check_backbone_output(backbone, output, len(self.latest[:2]), error)

    def identity(self) -> dict[str, Any]:
        return {"augment": function_name(self.augment)}

    def augmentation(self) -> str | None:
        """Name the augmentation of the call and that of the task, in the order in which they are applied."""
        both = (self.augment, getattr(self.module, "augmentation", None))
        return " and ".join(name for name in map(function_name, both) if name is not None) or None

    def on_steps(self, steps: Iterable[StepValues]) -> list[Finding]:
        """Look for an accuracy that is perfect too early: the views then show the answer."""
        return [finding for step in steps for finding in self.shortcut.on_step(step, len(self.latest))]

    def after_step(self) -> None:
        self.module.after_step()

    def on_epoch(self) -> tuple[dict[str, float], list[Finding]]:
        """Measure the features of the last batch; report a collapse once."""
        images = self.latest[: self.monitor_batch_size]
        features, quality = feature_quality(self.module.backbone, images)
        found: list[Finding] = []
        if not self.collapsed and batch_norm_warmed_up(self.module.backbone):
            found = detect_collapse(images, features, quality["spread"], quality["rankme"])
            self.collapsed = bool(found)
        return quality, found


def warn_of_range(images: Tensor) -> None:
    """Warn if augmented images are far from [0, 1]; a little noise beyond it is usual.

    Example:
        >>> warn_of_range(torch.tensor([-0.3, 1.4]))
    """
    low, high = (value.item() for value in torch.aminmax(images.detach()))
    if low < -0.75 or high > 1.75:
        fix = "divide by 255" if high > 20 else "leave the normalization to the backbone, which has its own"
        warn(
            f"augment returned images with values from {low:.3g} to {high:.3g}, but backbones and views expect [0, 1]: "
            f"{fix}.",
            TrainingWarning,
            see="values-outside-the-unit-interval",
        )


def takes_images(backbone: nn.Module, images: Tensor) -> bool:
    """Return whether a backbone computes features of images without an error; sharded weights are not tried.

    Example:
        >>> takes_images(nn.Conv2d(3, 1, 1), torch.zeros(2, 1, 4, 4))
        False
    """
    if has_sharded_part(backbone):
        return True
    with evaluation_mode(backbone):
        try:
            backbone(as_input(as_float(images[:2].to(module_device(backbone))), backbone))
        except Exception:
            return False
    return True


def check_backbone_output(backbone: nn.Module, output: Any, count: int, cause: Exception) -> None:
    """Raise if the output of a backbone does not keep its contract.

    Raises:
        ShapeError: It is not ``b d`` with ``d = feature_dim``.
    """
    width = getattr(backbone, "feature_dim", None)
    if isinstance(output, Tensor) and output.shape == (count, width):
        return
    raise ShapeError(
        f"features b {width} from {type(unwrap(backbone)).__name__}, whose feature_dim is {width}",
        got=described(output),
        fix="Return one vector for each image, for example maps.mean((2, 3)), and set feature_dim to its length.",
    ) from cause
