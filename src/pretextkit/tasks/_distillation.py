"""Distillation: predict the features of a frozen teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import torch
from torch import Generator, Tensor, nn

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._fingerprint import digest
from pretextkit._modules import check_model, module_device, module_dtype, modules_behind, refuse_meta
from pretextkit._validation import check_callable, check_features
from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, PretextTask, TaskOutput
from pretextkit.errors import OptionError, ShapeError, reason
from pretextkit.losses import negative_cosine_similarity
from pretextkit.models.heads import LinearHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._momentum import RunningMean
from pretextkit.views import Augmentation, CropAndRecolor

__all__ = ["Distillation"]

SIDES = (32, 64, 28, 96, 128, 224, 256, 299, 384)
"""Sides of the images of the dry run, in the order of trial."""


@register_pretext_task("distillation")
class Distillation(PretextTask[TwoViews, BackboneT]):
    """Predict the features that a frozen teacher computes of the same view.

    A linear layer maps the features of the backbone to those of the teacher, so that their widths may differ (Romero et
    al. 2015, arXiv 1412.6550). Teacher and backbone see the same augmented view, because a teacher is consistent then
    (Beyer et al. 2022, arXiv 2106.05237). The mean of the teacher's features over all images, a running one, is
    subtracted first: features after a ReLU differ little in direction otherwise.

    The teacher is no part of the task: it does not train, has no place in checkpoints, and stays on its device, to
    which views are copied. Its weights are named in the identity of a run, so that no run is resumed with another
    teacher.

    Not suited to a teacher that knows less about such images than a short pretraining: its mistakes are learned,
    too.

    Metrics: ``top1``, the fraction of predictions whose nearest features of the teacher, among those of the batch, are
    those of the same view; ``cosine``, the mean similarity of predictions and features.

    Args:
        backbone: Backbone to train.
        teacher: Any module or function from images ``b c h w`` in [0, 1] to features ``b d``; it normalizes and resizes
            them itself. One that is a module runs in evaluation mode.
        loss: From predictions and the teacher's centered features, each ``n d``, to a scalar. Squared error of features
            of unit length is twice one plus the default, over ``d``.
        augmentation: From images and a generator to one view of each image.

    Raises:
        OptionError: The teacher fails on a black image, or shares weights with the backbone.

    Example:
        >>> from pretextkit.models import ResNet18, SmallCNN
        >>> task = Distillation(SmallCNN(), teacher=ResNet18())
        >>> task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).loss <= 1
        tensor(True)
    """

    steps: Tensor

    def __init__(
        self,
        backbone: BackboneT,
        *,
        teacher: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor] = negative_cosine_similarity,
        augmentation: Augmentation = CropAndRecolor(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone)
        check_callable("augmentation", augmentation, "images", "generator")
        check_callable("loss", loss, "predictions", "targets")
        self.augmentation, self.loss = augmentation, loss
        taken = getattr(getattr(backbone, "normalization", None), "channels", 3)
        self.teacher = Teacher(teacher, channels=(taken, 3, 1) if taken not in (1, 3) else (3, 1))
        self.teacher_weights = self.teacher.digest()
        own = {id(weight) for weight in backbone.parameters()}
        if any(id(weight) in own for weight in self.teacher.tensors()):
            raise OptionError(
                "a teacher that shares no weights with the backbone",
                got="the same weights, which train",
                fix="Pass a copy: copy.deepcopy(backbone).",
            )
        self.head = LinearHead(backbone.feature_dim, self.teacher.width)
        self.center = RunningMean(self.teacher.width)
        self.register_buffer("steps", torch.tensor(0))

    @final
    def views(self, images: Tensor, generator: Generator) -> TwoViews:
        """Make one view of each image ``b c h w``, for the backbone and for the teacher."""
        view = self.augmentation(images, generator)
        return TwoViews(view, view)

    def forward(self, batch: TwoViews) -> TaskOutput:
        predictions = self.head(self.backbone(batch.a)).float()
        features = self.teacher(batch.b).float()
        targets = features - self._mean_of_steps()
        self.center.add(features)
        return TaskOutput(self.loss(predictions, targets), similarities(predictions.detach(), targets))

    def _mean_of_steps(self) -> Tensor:
        """Return the running mean without the zeros with which it begins: those would teach the mean."""
        share = 1 - self.center.momentum**self.steps
        return self.center.mean.float() / share.clamp(min=1e-6)

    def after_step(self) -> None:
        self.center.commit()
        self.steps += 1


def similarities(predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Measure how well predictions ``n d`` find their targets: ``top1`` and ``cosine``.

    Example:
        >>> similarities(torch.eye(2), torch.ones(2, 2))
        {'top1': tensor(0.5000), 'cosine': tensor(0.7071)}
    """
    with torch.autocast(predictions.device.type, enabled=False):
        cosines = nn.functional.normalize(predictions) @ nn.functional.normalize(targets).T
    own = torch.arange(len(cosines), device=cosines.device)
    return {"top1": (cosines.argmax(1) == own).float().mean(), "cosine": cosines.diagonal().mean()}


class Teacher:
    """A function from images to features that never trains.

    It is no module, so that a task that holds it neither trains nor saves its weights.

    Args:
        function: Module or function from images ``b c h w`` to features ``b d``.
        channels: Numbers of channels of the images of a dry run, in the order of trial.

    Raises:
        OptionError: It is neither, or fails on a black image of every usual size.
    """

    def __init__(self, function: Callable[[Tensor], Any], channels: Sequence[int] = (3, 1)) -> None:
        check_model(function)
        refuse_meta(function, "the teacher")
        self.function = function
        self.width = self._dry_run(channels)

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features ``b d`` of images ``b c h w``, without gradient, on the device of the images.

        Raises:
            ShapeError: The features have another width than in the dry run.
        """
        features = self._features(images)
        if features.shape[1] != self.width:
            raise ShapeError(
                f"{self.width} features from the teacher, as of its first image",
                got=features.shape[1],
                fix="Return features whose number does not depend on the image, for example maps.mean((2, 3)).",
            )
        return features.to(images.device)

    def tensors(self) -> Iterator[Tensor]:
        """List the weights and buffers of all modules behind the function."""
        for module in modules_behind(self.function):
            yield from (*module.parameters(), *module.buffers())

    def digest(self) -> str:
        """Hash the weights and buffers."""
        return digest(self.tensors())

    def _features(self, images: Tensor) -> Tensor:
        with evaluation_mode(self.function):
            output = self.function(images.to(module_device(self.function), module_dtype(self.function)))
        return check_features(output, len(images), "the teacher", finite=False)

    def _dry_run(self, channels: Sequence[int]) -> int:
        first: Exception | None = None
        for count in channels:
            for side in SIDES:
                try:
                    return self._features(torch.zeros(1, count, side, side)).shape[1]
                except Exception as error:  # noqa: PERF203 - of any kind, from a function of the caller
                    first = first or error
        assert first is not None
        raise OptionError(
            "a teacher that maps images b c h w to features b d",
            got=f"{reason(first)} for a black image",
            fix="Pass a function that resizes first: lambda images: network(nn.functional.interpolate(images, 224)).",
        ) from first
