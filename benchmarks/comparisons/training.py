"""Training steps of SimCLR, compared with bare steps on a fixed batch and with lightly and its loader."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

import pretextkit as pk
from comparisons.synthetic import synthetic_images
from comparisons.timing import Comparison, Effort, Row, race, require_close
from comparisons.views import SCALE, STRENGTH
from pretextkit._seeding import derived_generator
from pretextkit.functional import pretrain
from pretextkit.losses import nt_xent_loss
from pretextkit.training import resolve_precision
from pretextkit.views import CropAndRecolor

BACKBONES: dict[str, Callable[[], pk.Backbone]] = {
    "small-cnn": pk.models.SmallCNN,
    "resnet18, small stem": pk.models.ResNet18,
    "resnet18, ImageNet stem": lambda: pk.models.ResNet18(stem="imagenet"),
}


def new_task(backbone: str) -> pk.tasks.SimCLR:
    torch.manual_seed(0)
    view = CropAndRecolor(jitter=STRENGTH, crop_scale=SCALE)
    return pk.tasks.SimCLR(BACKBONES[backbone](), augmentation=view)


def bare_step(task: pk.tasks.SimCLR, views: Any) -> Callable[[], Tensor]:
    """Return a training step on a fixed batch, in the precision and memory format of pretrain."""
    task = task.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(task.parameters(), 1e-3, fused=True)
    dtype = {"bf16": torch.bfloat16}.get(resolve_precision("auto", torch.device("cpu")))

    def step() -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss: Tensor = task(views).loss
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    return step


def first_views(task: pk.tasks.SimCLR, images: Tensor) -> Any:
    """Return the views of the first step of ``pretrain`` on these images."""
    order = torch.randperm(len(images), generator=derived_generator(0, "order", 0))
    return task.views(images[order].float() / 255, derived_generator(0, "views", 0))


def beside_bare_step(backbone: str, effort: Effort) -> Row:
    """Check that the loss of the first step of ``pretrain`` is equal, then race epochs."""
    batch, steps = (64, 32) if backbone.startswith("resnet18") else (256, 32)
    batch, steps = effort.of(batch, 16), effort.of(steps, 2)
    images = synthetic_images(batch * steps, 32)
    task = new_task(backbone)
    twin = copy.deepcopy(task)
    for one in (task, twin):
        one.backbone.normalization.measure(images)
    step = bare_step(twin, first_views(task, images[:batch]))
    first = pretrain(copy.deepcopy(task), images[:batch], steps=1, batch_size=batch, progress=False)
    checked = require_close("first loss", first.history.last["loss"], step().item(), 1e-3)
    row = race(
        lambda: pretrain(task, images, epochs=1, batch_size=batch, progress=False),
        lambda: [step() for _ in range(steps)],
        effort,
        rounds=5,
    )
    rate = batch * steps
    return {**row, "images_per_second": rate / row["our_seconds"], "loss_distance": checked}


class PilImages(Dataset[Any]):
    """PIL images, the format of torchvision's CIFAR10 in lightly's examples."""

    def __init__(self, images: Tensor, transform: Any) -> None:
        from torchvision.transforms.functional import to_pil_image

        self.images, self.transform = [to_pil_image(image) for image in images], transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.images[index]), 0


def lightly_loop(task: pk.tasks.SimCLR, images: Tensor, batch: int) -> Callable[[], None]:
    """Train like lightly's examples: its transform and loss, a DataLoader with two workers, fp32, a handwritten loop.

    Both sides train the same network; views, loader, loss and loop differ. The workers persist between epochs.
    """
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(
        input_size=images.shape[-1], cj_strength=STRENGTH, min_scale=SCALE[0], gaussian_blur=0.0, normalize=None
    )
    dataset = PilImages(images, transform)
    loader = DataLoader(dataset, batch_size=batch, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)
    loss_function = NTXentLoss(temperature=task.temperature)
    optimizer = torch.optim.AdamW(task.parameters(), 1e-3)
    task.train()

    def epoch() -> None:
        for views, _ in loader:
            z_a, z_b = (task.head(task.backbone(view)) for view in views)
            loss = loss_function(z_a, z_b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def beside_lightly(backbone: str, effort: Effort) -> Row:
    """Compare the losses of the same projections (within 1e-4), then race epochs on the same images."""
    from lightly.loss import NTXentLoss

    batch, steps = (64, 16) if "small stem" in backbone else (128, 32)
    batch, steps = effort.of(batch, 16), effort.of(steps, 2)
    images = synthetic_images(batch * steps, 32)
    task = new_task(backbone)
    z_a, z_b = (torch.randn(batch, 128, generator=Generator().manual_seed(seed)) for seed in (0, 1))
    checked = require_close(
        "loss",
        nt_xent_loss(z_a, z_b, temperature=task.temperature).item(),
        NTXentLoss(temperature=task.temperature)(z_a, z_b).item(),
        tolerance=1e-4,
    )
    twin = copy.deepcopy(task)
    for one in (task, twin):
        one.backbone.normalization.measure(images)
    row = race(
        lambda: pretrain(task, images, epochs=1, batch_size=batch, progress=False),
        lightly_loop(twin, images, batch),
        effort,
        rounds=5,
    )
    return {**row, "images_per_second": batch * steps / row["our_seconds"], "loss_distance": checked}


COMPARISONS = [
    *(
        Comparison(
            f"epoch of pretrain, SimCLR, {backbone}", "the bare step", partial(beside_bare_step, backbone), bound
        )
        for backbone, bound in (
            ("small-cnn", 0.88),
            ("resnet18, small stem", 0.95),
            ("resnet18, ImageNet stem", 0.95),
        )
    ),
    *(
        Comparison(
            f"epoch of SimCLR, {backbone}", "lightly, its loader, 2 workers", partial(beside_lightly, backbone), bound
        )
        for backbone, bound in (("resnet18, ImageNet stem", 1.5), ("resnet18, small stem", 2.0))
    ),
]
