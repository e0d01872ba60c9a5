"""Objectives of the training loop: what trains, how a batch is prepared, and its loss."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import as_input, explain_complex_weights, module_device, module_dtype, unwrap
from pretextkit._validation import check_image_batch, check_tensor, described
from pretextkit.contracts import PretextTask, TaskOutput
from pretextkit.distributed._sharding import has_sharded_part
from pretextkit.errors import DataError, OptionError, PretextkitError, ShapeError, TrainingWarning
from pretextkit.training._collapse import batch_norm_warmed_up, detect_collapse, feature_quality
from pretextkit.training._hardware import Precision, resolve_precision
from pretextkit.training._monitors import Finding
from pretextkit.training._optim import parameter_groups

__all__ = [
    "Augmentation",
    "ClassifierObjective",
    "HeadObjective",
    "Objective",
    "TaskObjective",
    "only_classes",
    "takes_images",
]

Augmentation = Callable[[Tensor, Generator], Tensor]
"""From images ``b c h w`` and a generator to augmented images."""


class Objective(ABC):
    """A module and its loss on a batch."""

    module: nn.Module

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
        self.augment, self.monitor_batch_size = augment, monitor_batch_size
        self.collapsed = self.explained = self.checked = False

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
        return {"augment": None if self.augment is None else getattr(self.augment, "__qualname__", repr(self.augment))}

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


class ClassifierObjective(Objective):
    """A classifier whose head trains, with some modules of its backbone.

    Args:
        classifier: Module with a ``backbone`` and a ``head``.
        trained: Modules of the backbone that train.
        augment: Augmentation of the images, if any.
        classes: Labels with training images, in ascending order; no other class is predicted.
        layer_decay: Factor on the learning rate for each layer further from the head.
        class_weights: Weight of each class in the loss; equal weights by default.
    """

    def __init__(
        self,
        classifier: nn.Module,
        trained: Sequence[nn.Module],
        augment: Augmentation | None,
        classes: Tensor,
        layer_decay: float,
        class_weights: Tensor | None = None,
    ) -> None:
        self.module: Any = classifier
        self.class_weights = class_weights
        self.trained, self.augment, self.classes, self.layer_decay = trained, augment, classes, layer_decay
        self.checked = False
        backbone: nn.Module = classifier.get_submodule("backbone")
        for weight in backbone.parameters():  # TorchScript has no requires_grad_ of modules
            weight.requires_grad_(False)
        for module in trained:
            for weight in module.parameters():
                weight.requires_grad_(True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = parameter_groups(self.module.head)
        for depth, layer in enumerate(reversed(_layers(self.module.backbone)), 1):
            scale = self.layer_decay**depth
            groups += [{**group, "scale": scale} for group in parameter_groups(layer)]
        return groups

    def train_mode(self) -> None:
        self.module.eval()
        self.module.head.train()
        for module in self.trained:
            module.train()

    def precision(self, precision: Precision, device: torch.device) -> str:
        """Resolve the precision; a backbone and a head of two dtypes run without autocast, each in its own."""
        parts = {module_dtype(part) for part in (self.module.backbone, self.module.head)}
        if len(parts) == 1:
            return resolve_precision(precision, device, *parts)
        return resolve_precision("fp32" if precision == "auto" else precision, device)

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        assert labels is not None
        if self.augment is not None:
            images = augmented(self.augment, images, generator)
            if not self.checked:
                self.checked = True
                warn_of_range(images)
        return images, labels

    def loss(self, batch: Any) -> TaskOutput:
        images, labels = batch
        return _cross_entropy(self.module(images), labels, self.classes, self.class_weights)

    def head_loss(self, features: Tensor, labels: Tensor) -> TaskOutput:
        """Compute the loss of the features that the head gets."""
        return _cross_entropy(self.module.head(features), labels, self.classes, self.class_weights)


class HeadObjective(Objective):
    """A head on precomputed features.

    Args:
        head: From features ``b d`` to logits ``b k``.
        classes: Labels with training images, in ascending order; no other class is predicted.
        class_weights: Weight of each class in the loss; equal weights by default.
    """

    def __init__(self, head: nn.Module, classes: Tensor, class_weights: Tensor | None = None) -> None:
        self.module, self.classes, self.class_weights = head, classes, class_weights

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.module)

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        return images, labels

    def loss(self, batch: Any) -> TaskOutput:
        features, labels = batch
        features = as_input(features, self.module)
        return _cross_entropy(self.module(features), labels, self.classes, self.class_weights)


def augmented(augment: Augmentation, images: Tensor, generator: Generator) -> Tensor:
    """Augment images, and check that as many images ``b c h w`` come back.

    Raises:
        ShapeError: ``augment`` returned something other than a tensor ``b c h w`` of as many images.
        DataError: The images are neither uint8 nor floating-point.

    Example:
        >>> augmented(lambda images, generator: images.flip(3), torch.rand(2, 3, 4, 4), Generator()).shape
        torch.Size([2, 3, 4, 4])
    """
    output: Any = augment(images, generator)
    if not isinstance(output, Tensor) or output.ndim != 4 or len(output) != len(images):
        raise ShapeError(
            f"{len(images)} images b c h w from augment",
            got=described(output),
            fix="Return one augmented image for each image, as one tensor.",
        )
    check_image_batch(output)
    return as_float(output)


def warn_of_range(images: Tensor) -> None:
    """Warn if augmented images are far from [0, 1]; a little noise beyond it is usual.

    Example:
        >>> warn_of_range(torch.tensor([-0.3, 1.4]))
    """
    low, high = (value.item() for value in torch.aminmax(images.detach()))
    if low < -0.75 or high > 1.75:
        fix = "divide by 255" if high > 20 else "leave the normalization to the backbone, which has its own"
        warnings.warn(
            f"augment returned images with values from {low:.3g} to {high:.3g}, but backbones and views expect [0, 1]: "
            f"{fix}.",
            TrainingWarning,
            stacklevel=2,
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


def only_classes(logits: Tensor, classes: Tensor) -> Tensor:
    """Set the logits of all other classes to -inf, so that they have no probability.

    Args:
        logits: ``b k``.
        classes: Labels that stay.

    Returns:
        ``b k``.

    Example:
        >>> only_classes(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0, 1]))
        tensor([[1., 2., -inf]])
    """
    absent = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    absent[classes.to(logits.device)] = False
    return logits.masked_fill(absent, float("-inf"))


def _cross_entropy(outputs: Tensor, labels: Tensor, classes: Tensor, class_weights: Tensor | None) -> TaskOutput:
    logits = check_tensor(outputs, "logits b k from the head", "Return one tensor from its forward.").float()
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ShapeError(
            f"logits b k of {len(labels)} images from the head",
            got=f"shape {tuple(logits.shape)}",
            fix="Let the head return one row of logits for each row of features.",
        )
    count = int(classes[-1]) + 1
    if logits.shape[1] < count:
        raise DataError(
            f"at most {logits.shape[1]} classes, because the head has {logits.shape[1]} outputs",
            got=f"{count} classes",
            fix="Give the head one output for each class.",
        )
    logits = only_classes(logits, classes)
    if class_weights is None:
        loss = nn.functional.cross_entropy(logits, labels)
    else:  # a mean over images, equal for any division of the batch; torch divides by the weights of the batch
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        loss = (losses * class_weights.to(losses.device)[labels]).mean()
    return TaskOutput(loss, {"accuracy": (logits.detach().argmax(1) == labels).float().mean()})


def _layers(backbone: nn.Module) -> list[nn.Module]:
    """List the layers of a backbone from input to output: the children of the first module that branches."""
    children = [child for child in backbone.children() if next(child.parameters(), None) is not None]
    direct = next(backbone.parameters(recurse=False), None) is not None
    if direct or not children:
        return [backbone]
    return _layers(children[0]) if len(children) == 1 else children
