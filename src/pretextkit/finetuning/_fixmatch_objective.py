"""Objective of FixMatch: labels, and confident predictions for unlabeled images, under an average of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from pretextkit._color import as_float
from pretextkit._fingerprint import digest, function_name
from pretextkit.contracts import TaskOutput
from pretextkit.data._collate import ImageBatch, in_color
from pretextkit.finetuning._objectives import ClassifierObjective, classification_loss
from pretextkit.inference._classifier import described_layers
from pretextkit.tasks import MomentumCopy
from pretextkit.training._hardware import Precision
from pretextkit.training._objectives import Objective
from pretextkit.views import Augmentation
from pretextkit.views._augmentation import augmented

__all__ = ["AveragedClassifier", "FixMatchBatch", "FixMatchObjective", "FixMatchRules", "consistency_loss", "draw_rows"]


class FixMatchBatch(NamedTuple):
    """Labeled images, and two views of unlabeled images."""

    images: Tensor
    """``b c h w``: augmented labeled images."""
    labels: Tensor
    """``b``."""
    weak: Tensor
    """``u c h w``: unlabeled images, little changed, whose predictions are the pseudo-labels."""
    strong: Tensor
    """``u c h w``: the same images, strongly changed."""


class AveragedClassifier(nn.Module):
    """A classifier that trains, and the average of its weights over the steps.

    In step ``t`` the average keeps ``min(momentum, (1 + t) / (10 + t))`` of its weights: a short run then forgets the
    weights of its beginning, too. Buffers, such as BatchNorm statistics, are those of the classifier.

    Args:
        classifier: The classifier.
        momentum: Largest share of the old weights that is kept in each step.

    Example:
        >>> averaged = AveragedClassifier(nn.Linear(1, 1), 0.999)
        >>> before = averaged.average.modules_copied[0].bias.clone()
        >>> _ = averaged.classifier.bias.data.add_(1.1)
        >>> averaged.follow()
        >>> averaged.average.modules_copied[0].bias - before  # 1 - 2/11 of the way
        tensor([0.9000])
    """

    steps: Tensor

    def __init__(self, classifier: nn.Module, momentum: float) -> None:
        super().__init__()
        self.classifier, self.momentum = classifier, momentum
        self.average = MomentumCopy(classifier, momentum=momentum)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average towards the weights of the classifier."""
        self.steps += 1
        step = int(self.steps)
        self.average.momentum = min(self.momentum, (1 + step) / (10 + step))
        self.average.follow(self.classifier)
        copy = self.average.modules_copied[0]
        for own, original in zip(copy.buffers(), self.classifier.buffers(), strict=True):
            own.copy_(original)

    def finish(self) -> None:
        """Give the classifier the weights of the average."""
        self.classifier.load_state_dict(self.average.modules_copied[0].state_dict())


@dataclass(frozen=True)
class FixMatchRules:
    """How FixMatch learns from labeled and unlabeled images together."""

    weak: Augmentation
    """Augmentation of unlabeled images for the pseudo-labels."""
    strong: Augmentation
    """Augmentation of unlabeled images that learn the pseudo-labels."""
    batch_size: int
    """Labeled images in a step."""
    threshold: float
    """Probability from which a prediction is a pseudo-label."""
    unlabeled_weight: float
    """Weight of the loss of the unlabeled images."""
    momentum: float
    """Momentum of the averaged weights."""


class FixMatchObjective(Objective):
    """A classifier that learns from labels and from its own confident predictions.

    Args:
        supervised: Objective of the classifier on labeled images, with their augmentation.
        images: Labeled images ``n c h w``.
        labels: Labels ``n``.
        names: Names of the classes by label.
        rules: How it learns from unlabeled images.
    """

    def __init__(
        self,
        supervised: ClassifierObjective,
        images: Tensor,
        labels: Tensor,
        names: Sequence[str],
        rules: FixMatchRules,
    ) -> None:
        self.supervised, self.images, self.labels, self.names = supervised, images, labels, names
        self.rules = rules
        self.averaged = AveragedClassifier(supervised.module, rules.momentum)
        self.module: nn.Module = self.averaged
        self.usual_loss = (1 + rules.unlabeled_weight) * supervised.usual_loss
        self.chance_accuracy = supervised.chance_accuracy

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.supervised.parameter_groups()

    def train_mode(self) -> None:
        self.averaged.average.eval()
        self.supervised.train_mode()

    def precision(self, precision: Precision, device: torch.device) -> str:
        return self.supervised.precision(precision, device)

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> FixMatchBatch:
        rows = draw_rows(len(self.labels), self.rules.batch_size, generator)
        known = as_float(self.images[rows].to(images.device))
        if known.shape[1] != images.shape[1]:
            known, images = (in_color(ImageBatch(each, None)).images for each in (known, images))
        known, targets = self.supervised.prepare_batch(known, self.labels[rows].to(images.device), generator)
        weak, strong = (augmented(view, images, generator) for view in (self.rules.weak, self.rules.strong))
        return FixMatchBatch(known, targets, weak, strong)

    def loss(self, batch: FixMatchBatch) -> TaskOutput:
        """Compute both losses in one forward pass, whose BatchNorm statistics are those of all images."""
        sizes = [len(batch.labels), len(batch.weak), len(batch.strong)]
        logits = self.averaged.classifier(torch.cat([batch.images, batch.weak, batch.strong]))
        classes = self.supervised.classes
        labeled = classification_loss(logits[: sizes[0]], batch.labels, classes, None, self.supervised.label_smoothing)
        _, weak, strong = logits.split(sizes)
        loss, sure, guesses = consistency_loss(weak.float(), strong.float(), self.rules.threshold)
        counts = guesses[sure].bincount(minlength=logits.shape[1]).float()
        metrics = {
            **labeled.metrics,
            "labeled_loss": labeled.loss.detach(),
            "unlabeled_loss": loss.detach(),
            "sure": sure.float().mean(),
            **{f"sure {self.names[label]}": counts[label] for label in classes.tolist()},
        }
        return TaskOutput(labeled.loss + self.rules.unlabeled_weight * loss, metrics)

    def after_step(self) -> None:
        self.averaged.follow()

    def augmentation(self) -> str | None:
        return ", ".join(
            str(function_name(each)) for each in (self.supervised.augment, self.rules.weak, self.rules.strong)
        )

    def identity(self) -> dict[str, Any]:
        return {
            "labeled images": digest([self.images, self.labels]),
            "labeled batch": self.rules.batch_size,
            "threshold": self.rules.threshold,
            "unlabeled weight": self.rules.unlabeled_weight,
            "label smoothing": self.supervised.label_smoothing,
            "augmentation": self.augmentation(),
            "layers": described_layers(self.supervised.module.layers),
        }


def consistency_loss(weak: Tensor, strong: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the loss of FixMatch on unlabeled images (Sohn et al. 2020, arXiv 2001.07685, equation 4).

    The loss is the mean, over all images, of the cross-entropy of the strong view with the class that is predicted for
    the weak view, where its probability reaches the threshold; it is 0 for other images. Weak views get no gradient.

    Args:
        weak: Logits ``u k`` of the weak views.
        strong: Logits ``u k`` of the strong views.
        threshold: Smallest probability of a pseudo-label.

    Returns:
        The loss, whether each image ``u`` is sure, and its predicted class ``u``.

    Example:
        >>> weak, strong = torch.tensor([[9.0, 0.0], [0.1, 0.0]]), torch.zeros(2, 2)
        >>> consistency_loss(weak, strong, 0.95)
        (tensor(0.3466), tensor([ True, False]), tensor([0, 0]))
    """
    confidence, guesses = weak.detach().softmax(1).max(1)
    sure = confidence >= threshold
    losses = nn.functional.cross_entropy(strong, guesses, reduction="none")
    return (losses * sure).mean(), sure, guesses


def draw_rows(count: int, size: int, generator: Generator) -> Tensor:
    """Draw ``size`` of ``count`` rows, each equally often up to one.

    Example:
        >>> draw_rows(2, 5, Generator().manual_seed(0)).bincount().sort().values
        tensor([2, 3])
    """
    orders = [torch.randperm(count, generator=generator) for _ in range(-(-size // count))]
    return torch.cat(orders)[:size]
