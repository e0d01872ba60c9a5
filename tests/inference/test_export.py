"""Exported networks: raw uint8 images of any batch size in, the same numbers out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretextkit.functional import Classifier
from pretextkit.models import LinearHead, ResNet18, SmallCNN
from tests.helpers import TORCH, generator

SIZE = 16


def pixels(count: int, channels: int = 3) -> Tensor:
    return torch.randint(256, (count, channels, SIZE, SIZE), dtype=torch.uint8, generator=generator(count))


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    names = ("cat", "dog", "owl", "fox")
    return {
        "small-cnn": SmallCNN(),
        "gray": SmallCNN(in_channels=1),
        "classifier": Classifier(SmallCNN(), LinearHead(256, 3), class_names=names, classes=torch.tensor([0, 2])),
        "stage": Classifier(SmallCNN(), LinearHead(512, 3), layers=[("stage3", 2)]),
        "two layers": Classifier(SmallCNN(), LinearHead(768, 3), layers=[("stage3", 2), ("stage4", 1)]),
        "inner layer": Classifier(SmallCNN(), LinearHead(64, 3), layers=[("stage2.0", 1)]),
    }


def moved(network: nn.Module) -> nn.Module:
    """Give a network other statistics than those of the constructor."""
    network(pixels(8))
    for module in network.modules():
        if type(module).__name__ == "InputNormalization":
            module.measure(pixels(8))  # type: ignore[operator]
    return network.eval()


@pytest.mark.filterwarnings("ignore:.*get_attr:UserWarning")  # torch 2.6 and older
@pytest.mark.parametrize("name", list(networks()))
def test_exported_program_gives_the_same_numbers(name: str) -> None:
    network = moved(networks()[name])
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (pixels(2),), dynamic_shapes=({0: batch},), strict=False).module()
    for count in (1, 5):
        torch.testing.assert_close(program(pixels(count)), network(pixels(count)), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(TORCH < (2, 7), reason="export to ONNX needs PyTorch 2.7")
@pytest.mark.parametrize("name", ["small-cnn", "classifier", "stage", "resnet18"])
def test_onnx_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    onnxruntime: Any = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = moved(ResNet18() if name == "resnet18" else networks()[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of onnxscript's own code
        torch.onnx.export(
            network,
            (pixels(2),),
            tmp_path / "network.onnx",
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    (images,) = session.get_inputs()
    assert (images.type, images.shape) == ("tensor(uint8)", ["batch", 3, SIZE, SIZE])
    for count in (1, 5):
        (found,) = session.run(None, {"images": pixels(count).numpy()})
        expected = network(pixels(count)).detach()
        assert (torch.from_numpy(found).isinf() == expected.isinf()).all()
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=0)
