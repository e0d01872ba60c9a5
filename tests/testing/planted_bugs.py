"""Bugs planted in the toy tasks, and a table of the checks that detect these and the bugs in built-in tasks.

``python -m tests.testing.planted_bugs`` writes docs/explanation/planted-bugs.md in about three minutes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from pretextkit import Backbone, Recommended, TaskOutput
from pretextkit.batches import Labeled, Masked, TwoViews
from pretextkit.tasks import Autoencoder, Colorization, ContextEncoder
from pretextkit.testing import TinyBackbone, pretext_task_checks
from pretextkit.testing._runner import failure

from . import planted_in_built_in  # noqa: F401 - registers its bugs
from .own_tests import fails, own_tests
from .planted import BUGS, planted
from .toy_tasks import COMPARES, OFFSETS, ToyContext, ToyContrast, ToyInpainting, ToyMomentum, ToyRotation

UNCHANGED = ("views_draw_for_each_image", "views_use_the_generator")
EXEMPTED = {
    Autoencoder: UNCHANGED,
    Colorization: (*UNCHANGED, "accepts_gray_and_color"),
    ContextEncoder: tuple(COMPARES),
    ToyContrast: tuple(COMPARES),  # ToyMomentum too
}
"""Checks without meaning for a task: its views are not random, gray images have no colors to predict, or its loss
compares images or counts their hidden pixels.
"""


@planted("the mask is never applied", caught_by="hidden_pixels_change_no_prediction")
class MaskNeverApplied(ToyInpainting):
    def hide(self, images: Tensor, mask: Tensor) -> Tensor:
        return images


@planted("the loss counts visible pixels too", caught_by="loss_counts_hidden_pixels_only")
class LossOverAllPixels(ToyInpainting):
    def error(self, prediction: Tensor, batch: Masked) -> Tensor:
        return (prediction - batch.target).square().mean()


@planted("NT-Xent compares each row with itself", caught_by="nt_xent_equals_a_loop")
class UnmaskedDiagonal(ToyContrast):
    def similarities(self, z: Tensor) -> Tensor:
        return F.normalize(z) @ F.normalize(z).T / self.temperature


@planted("rows and columns of the patch grid are swapped", caught_by="neighbor_offsets_match_positions")
class WrongPatchIndex(ToyContext):
    def corner(self, cells: Tensor, position: Tensor) -> Tensor:
        return cells * (1 + OFFSETS[position].flip(1))


@planted("patches overlap by a few pixels", caught_by="borders_hold_no_shortcut")
class OverlappingPatches(ToyContext):
    growth = 4

    def cut(self, images: Tensor, corners: Tensor, size: int) -> Tensor:
        return super().cut(images, corners.clamp(max=images.shape[2] - size), size)


@planted("patches reach over the edge and are padded with black", caught_by="borders_hold_no_shortcut")
class PaddedPatches(ToyContext):
    def cut(self, images: Tensor, corners: Tensor, size: int) -> Tensor:
        return super().cut(F.pad(images, (1, 1, 1, 1)), corners, size)


@planted("all images of a batch share one draw", caught_by="views_draw_for_each_image")
class SharedDraw(ToyContrast):
    def view(self, images: Tensor, generator: Generator) -> Tensor:
        b, c, h, w = images.shape
        return super().view(images.reshape(1, b * c, h, w), generator).view(b, c, h, w)


@planted("the global RNG is used", caught_by="views_leave_global_rng_unchanged")
class GlobalRng(ToyContext):
    def draw(self, b: int, generator: Generator) -> Tensor:
        return torch.randint(8, (b,))


@planted("Python's random draws the positions", caught_by="views_repeat_under_one_seed")
class PythonRandom(ToyContext):
    def draw(self, b: int, generator: Generator) -> Tensor:
        return torch.tensor([random.randrange(8) for _ in range(b)])


@planted("views use a new generator with a constant seed", caught_by="views_use_the_generator")
class SeedIgnored(ToyContrast):
    def view(self, images: Tensor, generator: Generator) -> Tensor:
        return super().view(images, Generator().manual_seed(0))


@planted("views change their input in place", caught_by="views_leave_images_unchanged")
class InPlaceViews(ToyInpainting):
    def hide(self, images: Tensor, mask: Tensor) -> Tensor:
        return images.masked_fill_(mask, 0.5)


@planted("views read the backbone's parameters", caught_by="views_read_no_parameter")
class ViewsReadParameters(ToyContrast):
    def view(self, images: Tensor, generator: Generator) -> Tensor:
        return super().view(images, generator) + next(self.backbone.parameters()).mean()


@planted("reshaping mixes the images of a batch", caught_by="views_keep_images_separate")
class MixedImages(ToyContrast):
    def view(self, images: Tensor, generator: Generator) -> Tensor:
        b, c, h, w = images.shape
        return super().view(images.permute(1, 0, 2, 3).reshape(b, c, h, w), generator)


@planted("the backbone is detached", caught_by="backbone_gets_gradient")
class DetachedBackbone(ToyRotation):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images).detach()


@planted("labels are shuffled against the images", caught_by="loss_depends_on_targets")
class LabelsShuffled(ToyRotation):
    def label(self, turns: Tensor) -> Tensor:
        return turns.roll(1)


@planted("labels are the opposite rotation", caught_by="rotating_back_restores_the_image")
class LabelsOff(ToyRotation):
    def label(self, turns: Tensor) -> Tensor:
        return (4 - turns) % 4


@planted("rotations are interpolated and leave black corners", caught_by="borders_hold_no_shortcut")
class BlackCorners(ToyRotation):
    def turn(self, images: Tensor, turns: Tensor, generator: Generator) -> Tensor:
        angle = turns * torch.pi / 2 + 0.2 * (turns > 0) * torch.rand(len(turns), generator=generator)
        rows = torch.stack((angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle), 1)
        grid = F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid.to(images.dtype), align_corners=False)


@planted("the loss is not reduced", caught_by="loss_is_a_finite_scalar")
class LossPerRow(ToyRotation):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")


@planted("the loss is a sum", caught_by="loss_is_a_mean")
class LossIsASum(ToyRotation):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="sum")


@planted("softmax runs over the batch, not the classes", caught_by="cross_entropy_equals_a_loop")
class SoftmaxOverBatch(ToyRotation):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.nll_loss(logits.log_softmax(0), labels)


@planted("the loss is negated", caught_by="accuracy_rises")
class LossNegated(ToyRotation):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return -super().loss(logits, labels)


@planted("a gradient reversal remains", caught_by="learns_on_unseen_images")
class GradientReversed(ToyRotation):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = super().loss(logits, labels)
        return 2 * loss.detach() - loss


@planted("patches are divided by a standard deviation that may be 0", caught_by="accepts_extreme_images")
class DividesByZero(ToyContext):
    def cut(self, images: Tensor, corners: Tensor, size: int) -> Tensor:
        patches = super().cut(images, corners, size)
        return 0.5 + 0.2 * (patches - patches.mean((1, 2, 3), keepdim=True)) / patches.std((1, 2, 3), keepdim=True)


@planted("exp of similarities overflows at a low temperature", caught_by="loss_is_a_finite_scalar")
class Overflows(ToyContrast):
    temperature = 0.01

    def loss(self, z: Tensor) -> Tensor:
        scores = self.similarities(z).exp()
        return -(scores[torch.arange(len(z)), torch.arange(len(z)).roll(len(z) // 2)] / scores.sum(1)).log().mean()


@planted("no negatives: all features collapse to one point", caught_by="features_do_not_collapse")
class Collapses(ToyContrast):
    def loss(self, z: Tensor) -> Tensor:
        a, b = z.chunk(2)
        return (a - b).square().sum(1).mean()


@planted("a layer of the head is never used", caught_by="every_parameter_gets_gradient")
class UnusedLayer(ToyRotation):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.projector = nn.Linear(backbone.feature_dim, 8)


@planted("metrics carry the graph", caught_by="metrics_are_detached_scalars")
class MetricsWithGraph(ToyContrast):
    def metrics(self, z: Tensor) -> dict[str, Tensor]:
        return {"spread": z.std(0, correction=0).mean()}


@planted("state of the loss is no buffer and is not saved", caught_by="state_dict_round_trip")
class StateNotSaved(ToyContrast):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.center = torch.randn(32)

    def loss(self, z: Tensor) -> Tensor:
        return super().loss(z - self.center)


@planted("the momentum copy shares the weights", caught_by="copies_share_no_memory")
class CopySharesWeights(ToyMomentum):
    def make_copy(self) -> nn.ModuleList:
        return self.online()


@planted("the momentum copy is another module over the same memory", caught_by="copies_share_no_memory")
class CopySharesMemory(ToyMomentum):
    def make_copy(self) -> nn.ModuleList:
        lagging = super().make_copy()
        lagging.load_state_dict(self.online().state_dict(), assign=True)
        return lagging.requires_grad_(False)


@planted("the momentum copy is never updated", caught_by="copies_follow_after_step")
class CopyNeverMoves(ToyMomentum):
    def move(self, lagging: Tensor, leading: Tensor) -> None:
        lagging = lagging.lerp(leading, 1 - self.momentum)


@planted("after_step moves the weights towards the copy", caught_by="after_step_leaves_weights_unchanged")
class CopyLeads(ToyMomentum):
    def move(self, lagging: Tensor, leading: Tensor) -> None:
        leading.lerp_(lagging, 1 - self.momentum)


@planted("momentum weights of copy and original are swapped", caught_by="copy_is_the_moving_average")
class MomentumSwapped(ToyMomentum):
    def move(self, lagging: Tensor, leading: Tensor) -> None:
        lagging.lerp_(leading, self.momentum)


@planted("the loss ignores the second view", caught_by="loss_depends_on_targets")
class SecondViewForgotten(ToyMomentum):
    def forward(self, batch: TwoViews) -> TaskOutput:
        return super().forward(TwoViews(batch.a, batch.a))


@planted("oblong images fail inside torch", caught_by="accepts_or_refuses_oblong_images")
class OblongNotRefused(ToyRotation):
    def views(self, images: Tensor, generator: Generator) -> Labeled:
        turns = torch.randint(4, (len(images),), generator=generator)
        return Labeled(self.turn(images, turns, generator), self.label(turns))


@planted("small images fail inside torch", caught_by="accepts_or_refuses_small_images")
class SmallNotRefused(ToyContrast):
    def view(self, images: Tensor, generator: Generator) -> Tensor:
        return F.avg_pool2d(super().view(images, generator), 2)


@planted("only even batches work", caught_by="accepts_odd_batches")
class EvenBatchesOnly(ToyRotation):
    def features(self, images: Tensor) -> Tensor:
        halves = images.view(2, len(images) // 2, *images.shape[1:])
        return torch.cat([self.backbone(half) for half in halves])


@planted("the backbone gets only the blue channel", caught_by="accepts_gray_and_color")
class ColorOnly(ToyRotation):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images[:, 2:])


@planted("logits are divided by their deviation within the batch", caught_by="accepts_or_refuses_one_image")
class OneImageGivesNan(ToyRotation):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(logits / (logits.var(0) + 0.1).sqrt(), labels)


@planted("a float32 tensor is mixed with bfloat16", caught_by="accepts_bfloat16_autocast")
class Float32Only(ToyRotation):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        kept = torch.zeros(len(logits), 4)
        kept[torch.arange(len(logits))] = logits
        return super().loss(kept, labels)


@planted("views are made in float64", caught_by="views_are_float_tensors")
class DoubleViews(ToyContrast):
    def view(self, images: Tensor, generator: Generator) -> Tensor:
        return super().view(images.double(), generator)


@planted("views assume contiguous memory", caught_by="views_ignore_memory_layout")
class ContiguousOnly(ToyContrast):
    def view(self, images: Tensor, generator: Generator) -> Tensor:
        return super().view(images.view(-1).view(images.shape), generator)


@planted("forward normalizes its batch in place", caught_by="forward_leaves_batch_unchanged")
class InPlaceForward(ToyRotation):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images.sub_(images.mean()).add_(0.5))


@planted("the center of the logits moves in forward", caught_by="forward_moves_no_state")
class CenterMovesInForward(ToyRotation):
    center: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.register_buffer("center", torch.zeros(4))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.center = self.center.lerp(logits.detach().mean(0), 0.1)
        return super().loss(logits - self.center, labels)


@planted("after_step commits the last part of a batch only", caught_by="parts_leave_the_state_of_the_batch")
class LastPartOnly(ToyRotation):
    center: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.register_buffer("center", torch.zeros(4))
        self.seen = torch.zeros(4)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.seen = logits.detach().mean(0)
        return super().loss(logits - self.center, labels)

    def after_step(self) -> None:
        self.center = self.center.lerp(self.seen, 0.1)


@planted("the loss is divided by the number of labels that occur", caught_by="parts_have_the_gradient_of_the_batch")
class DividedByLabels(ToyRotation):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(logits, labels) / len(torch.unique(labels))


@planted("the recommended learning rate is far too high", caught_by="recommended_settings_are_usable")
class RateTooHigh(ToyRotation):
    recommended = Recommended(learning_rate=10.0)


@planted("a lambda cannot be pickled", caught_by="pickle_round_trip")
class HoldsLambda(ToyContrast):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.scale = lambda z: z / self.temperature


@planted("a closure keeps the first task's head", caught_by="deepcopy_is_independent")
class HoldsClosure(ToyRotation):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        head = self.head
        self.score: Callable[[Tensor], Tensor] = lambda features: head(features)

    def forward(self, batch: Labeled) -> TaskOutput:
        return TaskOutput(self.loss(self.score(self.features(batch.images)), batch.labels), {})


def caught_by_kit(task: type[Any]) -> list[str]:
    """List the checks of the kit that fail for ``task``, without the exemptions of its correct parent."""
    exempted = next((names for kind, names in EXEMPTED.items() if issubclass(task, kind)), ())
    checks = pretext_task_checks(lambda: unaugmented(task))
    return [check.name for check in checks if check.name not in exempted and failure(check)]


def caught_by_own_tests(task: type[Any]) -> list[str]:
    """List the own tests of the task that fail for ``task``."""
    return [test.__name__ for test in own_tests(task) if fails(test, build(task))]


def build(task: type[Any]) -> Any:
    """Make a task with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return unaugmented(task)


def unaugmented(task: type[Any]) -> Any:
    """Make a task whose views come from the images themselves, because the bugs compare both."""
    made = task(TinyBackbone())
    if hasattr(made, "augmentation"):
        made.augmentation = None
    return made


def page() -> str:
    """Run the full kit and the own tests of the task on every bug, and write the table."""
    rows, kit, own = [], 0, 0
    for task, (wrong, caught_by) in BUGS.items():
        by_kit, by_own = caught_by_kit(task), caught_by_own_tests(task)
        kit, own = kit + bool(by_kit), own + bool(by_kit or by_own)
        rows.append(f"| {task.__bases__[0].__name__}: {wrong} | {_names(by_kit, caught_by)} | {_names(by_own)} |")
    return "\n".join(
        [
            "# Planted bugs",
            "",
            "Written by `python -m tests.testing.planted_bugs`.",
            "",
            f"{len(BUGS)} bugs were planted in correct tasks, one at a time: in toy tasks, and in built-in tasks that",
            f"hide, shuffle, color or reconstruct. The kit detects {kit}; with the own tests of the tasks,",
            f"{own} are detected. The other bugs keep the contract, and training still works: only a test for the",
            "task can find a wrong target. Write such tests for your own task: a naive-loop twin of the loss, a",
            "closed-form value, a test of the target, and a test that hidden pixels do not change the prediction.",
            "",
            "| Bug | Failed checks of the kit | Failed own tests of the task |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _names(names: list[str], first: str = "") -> str:
    """List up to three names, beginning with ``first`` if the list has it."""
    ordered = sorted(names, key=lambda name: name != first)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"`{name}`" for name in ordered[:3]) + more or "none"


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(__file__).parents[2] / "docs" / "explanation" / "planted-bugs.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(), encoding="utf-8")
