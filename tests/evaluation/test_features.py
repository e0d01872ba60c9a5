from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from pretextkit.errors import DataError, OptionError, ShapeError, UnknownNameError
from pretextkit.functional import extract_features
from pretextkit.testing import TinyBackbone

IMAGES = torch.rand(10, 3, 32, 32, generator=Generator().manual_seed(0))


def extract(model: Any, images: Any = IMAGES, **options: Any) -> dict[str, Tensor]:
    return dict(extract_features(model, images, **{"precision": "fp32", **options}).layers)


def test_last_layer_equals_the_model_output() -> None:
    model = TinyBackbone().eval()
    with torch.no_grad():
        expected = model(IMAGES)
    found = extract(model, batch_size=3)
    assert list(found) == ["last"]
    torch.testing.assert_close(found["last"], expected)


def test_all_stages_equal_their_pooled_maps() -> None:
    model = TinyBackbone().eval()
    with torch.no_grad():
        stages = model.stages(IMAGES)
    found = extract(model, layers="all")
    assert list(found) == ["stage1", "stage2", "stage3"]
    for values, stage in zip(found.values(), stages, strict=True):
        torch.testing.assert_close(values, stage.mean((2, 3)))


def test_layers_by_name_of_torchvision_resnet() -> None:
    torch.manual_seed(0)
    model = resnet18().eval()
    found = extract(model, layers=["layer1", "layer3.0.bn1", "fc"], batch_size=4)
    with torch.no_grad():
        stem = model.maxpool(model.relu(model.bn1(model.conv1(IMAGES))))
        one = model.layer1(stem)
        block = model.layer3[0]
        inner = block.bn1(block.conv1(model.layer2(one)))
        fc = model(IMAGES)
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "layer1": (10, 64),
        "layer3.0.bn1": (10, 256),
        "fc": (10, 1000),
    }
    torch.testing.assert_close(found["layer1"], one.mean((2, 3)))
    # The ReLU of the block works in place on the output of bn1; the captured features precede it.
    assert (found["layer3.0.bn1"] < 0).any()
    torch.testing.assert_close(found["layer3.0.bn1"], inner.mean((2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["fc"], fc, rtol=1e-3, atol=1e-4)


def test_all_layers_of_a_module_are_its_called_children() -> None:
    torch.manual_seed(0)
    model = resnet18()
    model.unused = nn.Linear(2, 2)
    found = extract(model, IMAGES[:2], layers="all")
    names = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    assert list(found) == names
    assert not torch.equal(found["bn1"], found["relu"])


def test_hooks_are_removed_also_after_an_error() -> None:
    model = resnet18()
    extract(model, IMAGES[:2], layers=["layer1"])
    with pytest.raises(ShapeError):
        extract(model, IMAGES[:2, :, 0], layers=["layer1"])
    assert not any(module._forward_hooks for module in model.modules())


def test_functions_and_feature_input_are_accepted() -> None:
    torch.testing.assert_close(extract(lambda x: x.mean((2, 3)))["last"], IMAGES.mean((2, 3)))
    rows = torch.randn(5, 7)
    for data in (rows, rows.numpy(), (rows, torch.arange(5)), rows.double()):
        assert torch.equal(extract(nn.Identity(), data)["last"], rows)
    assert extract_features(nn.Identity(), (rows, [0, 1, -1, 0, 1])).labels.tolist() == [0, 1, -1, 0, 1]  # type: ignore[union-attr]
    assert extract_features(nn.Identity(), rows).labels is None


def test_tokens_are_averaged() -> None:
    tokens = extract(lambda x: x.flatten(2).transpose(1, 2))["last"]  # b t d
    torch.testing.assert_close(tokens, IMAGES.mean((2, 3)))


def test_pool_averages_maps_over_a_grid() -> None:
    model = TinyBackbone().eval()
    with torch.no_grad():
        maps = model.feature_map(IMAGES)  # 4x4
    quarters = torch.stack([maps[:, :, y : y + 2, x : x + 2].mean((2, 3)) for y in (0, 2) for x in (0, 2)], 2)
    torch.testing.assert_close(extract(model, pool=2)["last"], quarters.flatten(1))
    both = extract(model, pool=[1, 2])
    assert list(both) == ["last 1x1", "last 2x2"]
    torch.testing.assert_close(both["last 1x1"], maps.mean((2, 3)))
    torch.testing.assert_close(both["last 2x2"], quarters.flatten(1))
    assert extract(model, pool=9)["last"].shape == (10, 64 * 16)  # no finer than its own pixels


@pytest.mark.parametrize("kind", ["bytes", "array", "dataset", "loader"])
def test_features_are_equal_for_every_source(kind: str) -> None:
    pixels = (IMAGES * 255).round().byte()
    floats, labels = pixels.float() / 255, torch.arange(10)
    sources: dict[str, Any] = {
        "bytes": (pixels, labels),
        "array": (pixels.permute(0, 2, 3, 1).numpy(), np.arange(10)),
        "dataset": TensorDataset(floats, labels),
        "loader": DataLoader(TensorDataset(floats, labels), batch_size=4),
    }
    found = extract_features(lambda x: x.mean((2, 3)), sources[kind], batch_size=3)
    torch.testing.assert_close(found.layers["last"], floats.mean((2, 3)))
    assert found.labels is not None
    assert found.labels.tolist() == labels.tolist()


def test_features_are_float32_on_cpu_for_every_precision() -> None:
    model = TinyBackbone()
    full, half = extract(model)["last"], extract(model, precision="bf16")["last"]
    assert (half.dtype, half.device.type) == (torch.float32, "cpu")
    assert not torch.equal(full, half)
    torch.testing.assert_close(full, half, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("model", "options", "kind", "text"),
    [
        (
            resnet18(),
            {"layers": ["layer5"]},
            UnknownNameError,
            "Expected the name of a layer of ResNet, but got 'layer5'. Did you mean 'layer",
        ),
        (
            resnet18(),
            {"layers": "layer1"},
            UnknownNameError,
            "Expected the name of a choice of layers, but got 'layer1'. Known: last, all. "
            "Put the name of one layer into a list.",
        ),
        (
            lambda x: x,
            {"layers": "all"},
            OptionError,
            "Expected layers='last' for a function, but got 'all'. Pass an nn.Module to reach its inner layers.",
        ),
        (
            nn.ModuleDict({"used": nn.Flatten()}),
            {"layers": ["used"]},
            NotImplementedError,
            "Module",
        ),
        (
            resnet18(),
            {"layers": []},
            OptionError,
            "Expected a layer that returns a tensor, but got none with layers=[]. "
            "Pass names from dict(model.named_modules()), or layers='last'.",
        ),
        (
            nn.Flatten(),
            {"layers": "all"},
            OptionError,
            "Expected a layer that returns a tensor, but got none with layers='all'. ",
        ),
        (nn.Identity(), {"pool": 0}, OptionError, "Expected pool to be an integer >= 1, but got 0."),
        (nn.Identity(), {"pool": []}, OptionError, "Expected pool to be a sequence of at least 1 value, but got []."),
        (
            nn.Identity(),
            {"batch_size": 0},
            OptionError,
            "Expected batch_size to be an integer >= 1, but got 0.",
        ),
        (
            lambda x: x.mean(),
            {},
            ShapeError,
            "Expected features b d, tokens b t d or maps b d h w from layer 'last', but got shape (). "
            "Choose another layer, or flatten its output.",
        ),
        (
            lambda x: {"features": x},
            {},
            ShapeError,
            "Expected a tensor of features from layer 'last', but got dict. "
            "Wrap the model in a function that returns one tensor.",
        ),
        (
            lambda x: x.mean((2, 3)) / 0,
            {},
            DataError,
            "Expected finite features from layer 'last', but got NaN or inf. Check the model's weights.",
        ),
    ],
)
def test_extract_features_refuses_invalid_input(
    model: Any, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        extract(model, **options)
    assert str(caught.value).startswith(text)


def test_layer_that_does_not_run_is_named_in_the_error() -> None:
    model = resnet18()
    model.unused = nn.Linear(2, 2)
    with pytest.raises(OptionError) as caught:
        extract(model, IMAGES[:2], layers=["layer1", "unused"])
    assert caught.value.text == (
        "Expected layer 'unused' to run and return a tensor, but got no tensor from it. "
        "Name a layer that the model's forward calls."
    )


def test_empty_and_complex_features_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^Expected at least one feature from layer 'last', but got shape \(4, 0\)\."):
        extract_features(nn.Identity(), torch.zeros(4, 0))
    with pytest.raises(DataError, match=r"^Expected real features n d, but got torch\.complex64\."):
        extract_features(nn.Identity(), torch.zeros(4, 2, dtype=torch.complex64))


def test_features_with_wrong_count_or_width_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        extract(lambda x: x.mean((2, 3))[:1], batch_size=5)
    assert caught.value.text == (
        "Expected features of 5 images from layer 'last', but got shape (1, 3). "
        "Choose another layer, or keep the images as the first dimension."
    )
    with pytest.raises(ShapeError) as caught:
        extract(lambda x: x.mean((2, 3))[:, : len(x)], batch_size=8)
    assert caught.value.text == (
        "Expected the same layers and widths for every image, but got {'last': 2} after {'last': 3}. "
        "Resize the images to one size."
    )
