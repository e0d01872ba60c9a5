"""Weights in float16, bfloat16 or float64, another default dtype, and the device meta (section 14)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import pretextkit as pk
from pretextkit.errors import DataError, OptionError, PretextkitError, TrainingWarning
from pretextkit.functional import (
    compare,
    extract_features,
    feature_distance,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
    patch_anomaly_score,
    pretrain,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
    segmentation_probe,
)
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

pytestmark = [
    pytest.mark.filterwarnings("ignore:With k=:pretextkit.errors.DataWarning"),  # tiny sets
    pytest.mark.filterwarnings("ignore:All .* test images are training images:pretextkit.errors.DataWarning"),
]


IMAGES, LABELS = random_images(16, size=16), torch.arange(16) % 2
DATA, MASKED = (IMAGES, LABELS), (IMAGES, (IMAGES[:, 0] > 0.5).long())
DTYPES = [torch.float16, torch.bfloat16, torch.float64]


def plain(dtype: torch.dtype) -> nn.Module:
    """A network that does not convert its input."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).to(dtype)


@pytest.fixture(params=DTYPES, ids=str)
def default_dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_features_are_those_of_float32(dtype: torch.dtype) -> None:
    exact = extract_features(plain(torch.float32), IMAGES, precision="fp32").layers["last"]
    for model in (plain(dtype), nn.DataParallel(plain(dtype)), plain(dtype).forward):
        found = extract_features(model, IMAGES).layers["last"]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_probes_and_scores_work(dtype: torch.dtype) -> None:
    model, convolution = plain(dtype), nn.Conv2d(3, 3, 1).to(dtype)
    knn_probe(model, DATA)
    linear_probe(model, DATA, DATA)
    segmentation_probe(model, MASKED, MASKED, steps=2)
    assert patch_anomaly_score(model, IMAGES, IMAGES).scores.isfinite().all()
    assert reconstruction_anomaly_score(convolution, IMAGES).scores.isfinite().all()
    assert reconstruction_anomaly_score(lambda images: convolution(images), IMAGES).scores.isfinite().all()
    distance = feature_distance(model, layers="last")
    assert reconstruction_anomaly_score(nn.Identity(), IMAGES, error=distance).scores.isfinite().all()
    assert rotation_anomaly_score(pk.tasks.Rotation(TinyBackbone()).to(dtype), IMAGES).scores.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head_dtype", [torch.float32, torch.float64])
def test_frozen_backbone_of_any_dtype_is_finetuned(dtype: torch.dtype, head_dtype: torch.dtype) -> None:
    head = nn.Linear(8, 2).to(head_dtype)
    result = freeze_and_finetune(
        plain(dtype), head, DATA, DATA, trainable="none", epochs=1, device="cpu", progress=False
    )
    assert result.accuracy is not None
    assert head.weight.dtype == head_dtype


def test_float64_trains_in_float64() -> None:
    task = pk.tasks.SimCLR(TinyBackbone()).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = pretrain(task, IMAGES, steps=2, batch_size=8, device="cpu", progress=False)
    assert result.precision == "fp64"
    freeze_and_finetune(
        plain(torch.float64), nn.Linear(8, 2), DATA, epochs=1, trainable="all", device="cpu", progress=False
    )


def test_float16_does_not_train() -> None:
    task = pk.tasks.SimCLR(TinyBackbone()).half()
    with pytest.raises(OptionError, match=r"to train, but got torch.float16. Convert them with .float\(\)"):
        pretrain(task, IMAGES, steps=2, batch_size=8, device="cpu", progress=False)
    pretrain(task.float(), IMAGES, steps=2, batch_size=8, device="cpu", progress=False)


def test_bfloat16_trains_with_a_warning() -> None:
    with pytest.warns(TrainingWarning, match="a step smaller than about a 256th of a weight is lost"):
        pretrain(
            pk.tasks.SimCLR(TinyBackbone()).bfloat16(), IMAGES, steps=2, batch_size=8, device="cpu", progress=False
        )


def test_frozen_bfloat16_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        freeze_and_finetune(
            plain(torch.bfloat16), nn.Linear(8, 2), DATA, trainable="none", epochs=1, device="cpu", progress=False
        )


def test_float64_backbone_in_a_float32_task_is_refused() -> None:
    task = pk.tasks.SimCLR(TinyBackbone().double())
    with pytest.raises(OptionError, match=r"weights of one dtype in the task.*task.double\(\)"):
        pretrain(task, IMAGES, steps=2, batch_size=8, device="cpu", progress=False)
    pretrain(task.double(), IMAGES, steps=2, batch_size=8, device="cpu", progress=False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_that_the_weights_do_not_have_is_refused(precision: Any) -> None:
    with pytest.raises(OptionError, match=r"precision='auto' for weights of dtype torch\.float64"):
        knn_probe(plain(torch.float64), DATA, precision=precision)


def test_probes_do_not_depend_on_the_default_dtype(default_dtype: torch.dtype) -> None:
    with torch.random.fork_rng():
        backbone = plain(torch.float32)
    found = extract_features(backbone, IMAGES, precision="fp32").layers["last"]
    probe = linear_probe(backbone, DATA, DATA, precision="fp32")
    neighbors = knn_probe(backbone, DATA, precision="fp32")
    str(reconstruction_anomaly_score(nn.Identity(), IMAGES))
    torch.set_default_dtype(torch.float32)
    assert torch.equal(found, extract_features(backbone, IMAGES, precision="fp32").layers["last"])
    assert probe.layers == linear_probe(backbone, DATA, DATA, precision="fp32").layers
    assert neighbors.accuracy == knn_probe(backbone, DATA, precision="fp32").accuracy


def test_models_of_another_default_dtype_are_probed(default_dtype: torch.dtype) -> None:
    model = nn.Conv2d(3, 8, 3)
    assert model.weight.dtype == default_dtype
    linear_probe(model, DATA, DATA)
    segmentation_probe(model, MASKED, MASKED, steps=2)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: extract_features(model, IMAGES),
        lambda model: linear_probe(model, DATA, DATA),
        lambda model: segmentation_probe(model, MASKED, MASKED),
        lambda model: patch_anomaly_score(model, IMAGES, IMAGES),
        lambda model: reconstruction_anomaly_score(model, IMAGES),
        lambda model: freeze_and_finetune(model, nn.Linear(8, 2), DATA),
        lambda model: freeze_and_finetune(nn.Flatten(), model, DATA),
        lambda model: pretrain(pk.tasks.Rotation(TinyBackbone()).to("meta"), IMAGES, steps=1, progress=False),
        lambda model: rotation_anomaly_score(pk.tasks.Rotation(TinyBackbone()).to("meta"), IMAGES),
    ],
)
def test_weights_without_values_are_refused(call: Any) -> None:
    with pytest.raises(DataError, match="but got weights on the device 'meta', which has shapes only"):
        call(nn.Conv2d(3, 3, 1, device="meta"))


def test_module_of_two_dtypes_gets_float32() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 1).half(), nn.Conv2d(4, 4, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.two(self.one(images.half()).float())
            return maps

    assert extract_features(Mixed(), IMAGES, precision="fp32").layers["last"].isfinite().all()


@pytest.mark.filterwarnings("ignore:.*bfloat16:pretextkit.errors.TrainingWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_compare_works_in_the_dtype_of_the_backbone(dtype: torch.dtype) -> None:
    data = (random_images(24), torch.arange(24) % 2)
    options: dict[str, Any] = {"label_fractions": (0.5,), "finetune_steps": 1, "device": "cpu", "progress": False}
    result = compare(["rotation"], lambda: TinyBackbone().to(dtype), data, data, epochs=1, batch_size=8, **options)
    assert [run.method for run in result.runs] == ["random init", "supervised", "rotation"]


def test_compare_refuses_float16_weights() -> None:
    data = (random_images(24), torch.arange(24) % 2)
    with pytest.raises(PretextkitError, match="float16"):
        compare(["rotation"], lambda: TinyBackbone().half(), data, data, epochs=1, device="cpu", progress=False)


def complex_convolution() -> nn.Module:
    return nn.Conv2d(3, 4, 3, dtype=torch.complex64)


class ComplexBackbone(pk.Backbone):
    feature_dim = 4

    def __init__(self, convert: bool) -> None:
        super().__init__(in_channels=3)
        self.layer, self.convert = complex_convolution(), convert

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.layer(images.to(torch.complex64) if self.convert else images)
        return maps.abs().mean((2, 3))


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
@pytest.mark.parametrize(
    "call",
    [
        lambda precision: extract_features(complex_convolution(), IMAGES, precision=precision),
        lambda precision: extract_features(complex_convolution().forward, IMAGES, precision=precision),
        lambda precision: patch_anomaly_score(complex_convolution(), IMAGES, IMAGES),
        lambda precision: pretrain(
            pk.tasks.SimCLR(ComplexBackbone(False)), IMAGES, steps=1, batch_size=8, device="cpu", precision=precision
        ),
        lambda precision: freeze_and_finetune(ComplexBackbone(False), nn.Linear(4, 2), DATA, precision=precision),
        lambda precision: freeze_and_finetune(
            nn.Flatten(), nn.Linear(768, 2, dtype=torch.complex64), DATA, precision=precision, device="cpu"
        ),
    ],
)
def test_complex_weights_that_fail_are_named(call: Any, precision: Any) -> None:
    with pytest.raises(DataError, match=r"weights of dtype torch.complex64.*images.to\(torch.complex64\)"):
        call(precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_complex_weights_that_convert_work(precision: Any) -> None:
    """The advice, followed."""
    backbone = ComplexBackbone(True)
    assert extract_features(backbone, IMAGES, precision=precision).layers["last"].isfinite().all()
    task = pk.tasks.SimCLR(backbone)
    assert pretrain(task, IMAGES, steps=1, batch_size=8, device="cpu", precision=precision, progress=False).steps == 1
