"""What user code returns: backbones, heads, reconstructions, errors, reductions, augmentations, tasks (section 12)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.errors import OptionError, PretextkitError, TrainingWarning
from pretextkit.functional import (
    extract_features,
    freeze_and_finetune,
    patch_anomaly_score,
    pretrain,
    reconstruction_anomaly_score,
    segmentation_probe,
)
from pretextkit.models import LinearHead
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

IMAGES, LABELS = random_images(16, size=16), torch.arange(16) % 2
DATA = IMAGES, LABELS
MASKS = (IMAGES[:, 0] > 0.5).long()


class Through(nn.Module):
    """A linear layer, and a function of its output."""

    def __init__(self, inputs: int, outputs: int, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(inputs, outputs), function

    def forward(self, inputs: Tensor) -> Any:
        return self.function(self.linear(inputs.flatten(1)))


def finetune(backbone: Any, head: Any, trainable: Any = "none") -> Any:
    return freeze_and_finetune(
        backbone, head, DATA, DATA, epochs=1, trainable=trainable, device="cpu", precision="fp32", progress=False
    )


@pytest.mark.parametrize("trainable", ["none", "all"])
@pytest.mark.parametrize(
    "function",
    [
        lambda h: h[:, :, None, None],
        lambda h: h[:, :, None, None].expand(-1, -1, 3, 3),
        lambda h: h[:, None].expand(-1, 5, -1),
    ],
    ids=["b d 1 1", "maps", "tokens"],
)
def test_finetuning_takes_what_the_probe_takes(function: Any, trainable: Any) -> None:
    def weights(function: Any) -> list[Tensor]:
        torch.manual_seed(0)
        backbone, head = Through(768, 4, function), nn.Linear(4, 2)
        finetune(backbone, head, trainable)
        return [*backbone.parameters(), *head.parameters()]

    for one, other in zip(weights(function), weights(lambda h: h), strict=True):
        torch.testing.assert_close(one, other)


BAD_FEATURES: dict[str, Any] = {
    "pair": lambda h: (h, h),
    "none": lambda h: None,
    "dict": lambda h: {"features": h},
    "numpy": lambda h: h.detach().numpy(),
    "vector": lambda h: h[:, 0],
    "scalar": lambda h: h.sum(),
    "first row": lambda h: h[:1],
    "five axes": lambda h: h[:, :, None, None, None],
    "no width": lambda h: h[:, :0],
    "complex": lambda h: h.to(torch.complex64),
    "NaN": lambda h: h * float("nan"),
}


@pytest.mark.parametrize("kind", BAD_FEATURES)
def test_bad_features_are_refused_everywhere(kind: str) -> None:
    for trainable in ("none", "all"):
        with pytest.raises(PretextkitError):
            finetune(Through(768, 4, BAD_FEATURES[kind]), nn.Linear(4, 2), trainable)
    with pytest.raises(PretextkitError, match="layer 'last'"):
        extract_features(Through(768, 4, BAD_FEATURES[kind]), IMAGES, precision="fp32")


@pytest.mark.parametrize("trainable", ["none", "all"])
@pytest.mark.parametrize("kind", ["pair", "none", "numpy", "vector", "scalar", "first row", "five axes", "complex"])
def test_bad_logits_are_refused_and_name_the_head(kind: str, trainable: Any) -> None:
    with pytest.raises(PretextkitError, match="head"):
        finetune(Through(768, 4, lambda h: h), Through(4, 2, BAD_FEATURES[kind]), trainable)


def test_head_of_another_width_names_both_widths() -> None:
    with pytest.raises(
        PretextkitError, match=r"a head for features b d of width 4, .*a head for features of 8"
    ) as caught:
        finetune(Through(768, 4, lambda h: h), nn.Linear(8, 2))
    assert "LinearHead(4, 2)" in caught.value.fix
    finetune(Through(768, 4, lambda h: h), LinearHead(4, 2))


@pytest.mark.parametrize("module", [lambda x: x, None, LinearHead])
def test_head_that_is_no_module_is_refused(module: Any) -> None:
    with pytest.raises(OptionError, match=r"head to be an nn\.Module"):
        finetune(nn.Flatten(), module)


@pytest.mark.parametrize(
    "reconstruct",
    [
        lambda x: None,
        lambda x: (x, x),
        lambda x: x.numpy(),
        lambda x: (255 * x).byte(),
        lambda x: x.to(torch.complex64),
        lambda x: x * float("nan"),
    ],
)
def test_bad_reconstructions_are_refused(reconstruct: Any) -> None:
    with pytest.raises(PretextkitError, match="reconstructions"):
        reconstruction_anomaly_score(reconstruct, IMAGES)


@pytest.mark.parametrize(
    "error",
    [
        lambda a, b: None,
        lambda a, b: 1.0,
        lambda a, b: (a - b).mean(1).numpy(),
        lambda a, b: (a - b).mean(1) > 0,
        lambda a, b: (a - b).mean(1).long(),
        lambda a, b: (a - b).mean(1) * float("nan"),
    ],
)
def test_bad_error_maps_are_refused(error: Any) -> None:
    with pytest.raises(PretextkitError, match="error maps from error"):
        reconstruction_anomaly_score(nn.Identity(), IMAGES, error=error)


@pytest.mark.parametrize(
    "reduction",
    [
        lambda m: None,
        lambda m: m.flatten(1).max(1),
        lambda m: m.mean((1, 2)).tolist(),
        lambda m: m.mean((1, 2)).numpy(),
        lambda m: m.sum((1, 2)).long(),
        lambda m: m.mean((1, 2)) * float("nan"),
    ],
)
def test_bad_scores_are_refused(reduction: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: reconstruction_anomaly_score(nn.Identity(), IMAGES, reduction=reduction),
        lambda: patch_anomaly_score(nn.AvgPool2d(4), IMAGES, IMAGES, reduction=reduction),
    ]
    for score in calls:
        with pytest.raises(PretextkitError, match="scores from reduction"):
            score()


@pytest.mark.parametrize("function", [lambda x: x[:1], lambda x: x * float("nan")])
def test_bad_maps_are_refused(function: Any) -> None:
    with pytest.raises(PretextkitError):
        patch_anomaly_score(function, IMAGES, IMAGES)
    with pytest.raises(PretextkitError):
        segmentation_probe(function, (IMAGES, MASKS), (IMAGES, MASKS), steps=2)


@pytest.mark.parametrize(
    "head",
    [
        lambda channels, classes: None,
        lambda channels, classes: nn.Linear(channels, classes),
        lambda channels, classes: nn.Conv2d(channels, classes + 1, 1),
        lambda channels, classes: nn.Conv2d(channels, 1, 1),
    ],
)
def test_bad_segmentation_heads_are_refused(head: Any) -> None:
    with pytest.raises(PretextkitError, match="head"):
        segmentation_probe(nn.Identity(), (IMAGES, MASKS), (IMAGES, MASKS), steps=2, head=head)


def train(augment: Any = None, function: Any = None) -> Any:
    class Task(pk.tasks.Rotation[pk.Backbone]):
        def forward(self, batch: Any) -> Any:
            output = super().forward(batch)
            return output if function is None else function(output)

    task = Task(TinyBackbone())
    return pretrain(task, IMAGES, steps=2, batch_size=8, device="cpu", progress=False, augment=augment)


@pytest.mark.parametrize(
    "augment",
    [
        lambda x, g: None,
        lambda x, g: (x, x),
        lambda x, g: x[:1],
        lambda x, g: x[0],
        lambda x, g: x.numpy(),
        lambda x, g: torch.cat([x, x], 1),
        lambda x: x,
        3,
    ],
)
def test_bad_augmentations_are_refused(augment: Any) -> None:
    with pytest.raises(PretextkitError):
        train(augment)
    with pytest.raises(PretextkitError):
        freeze_and_finetune(TinyBackbone(), nn.Linear(64, 2), DATA, epochs=1, augment=augment, progress=False)


@pytest.mark.parametrize("augment", [lambda x, g: 255 * x, lambda x, g: (x - 0.5) / 0.2])
def test_augmentation_out_of_range_is_reported(augment: Any) -> None:
    with pytest.warns(TrainingWarning, match=r"augment returned images with values from .* expect \[0, 1\]"):
        train(augment)
    with pytest.warns(TrainingWarning, match="augment returned"):
        freeze_and_finetune(TinyBackbone(), nn.Linear(64, 2), DATA, epochs=1, augment=augment, progress=False)


@pytest.mark.parametrize(
    "augment",
    [
        lambda x, g: x + 0.1 * torch.randn(x.shape, generator=g),
        lambda x, g: (255 * x).byte(),
        lambda x, g: x.double(),
        lambda x, g: x[:, :1],
        lambda x, g: x[:, :, :12, :12],
    ],
)
def test_usual_augmentations_give_no_warning(augment: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(augment)


@pytest.mark.parametrize(
    "function",
    [
        lambda o: None,
        lambda o: o.loss,
        lambda o: (o.loss, {}),
        lambda o: {"loss": o.loss},
        lambda o: pk.TaskOutput(1.0, {}),  # type: ignore[arg-type]
        lambda o: pk.TaskOutput(o.loss.to(torch.complex64), {}),
        lambda o: pk.TaskOutput(o.loss, None),  # type: ignore[arg-type]
        lambda o: pk.TaskOutput(o.loss, {"a": 1.0}),  # type: ignore[dict-item]
        lambda o: pk.TaskOutput(o.loss, {"a": torch.ones(3)}),
    ],
)
def test_bad_task_outputs_are_refused(function: Any) -> None:
    with pytest.raises(PretextkitError, match=r"TaskOutput|metric"):
        train(function=function)
