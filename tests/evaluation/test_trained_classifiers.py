"""The classifiers of the probe and of fine-tuning are one kind of object, and predict what the results say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import IterableDataset

import pretextkit as pk
from pretextkit.data import FolderImages, StreamImages
from pretextkit.functional import Classifier, freeze_and_finetune, linear_probe
from pretextkit.models import LinearHead, SmallCNN
from tests.helpers import generator, random_images


def colored(count: int, size: int = 16) -> tuple[Tensor, Tensor]:
    """Images that are red, green or blue, with noise."""
    labels = torch.arange(count) % 3
    images = torch.randint(120, (count, 3, size, size), dtype=torch.uint8, generator=generator(count))
    images[torch.arange(count), labels] += 90
    return images, labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images, labels = colored(18, 20)
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = tmp_path / "photos" / ("rot", "grün", "blau")[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    "options",
    [
        {"layers": "last"},
        {"layers": ["stage3"], "pool": 2},
        {"layers": ["stage2", "stage3"], "pool": (1, 2)},
        {"layers": ["stage3 2x2 + stage4 + stage2 4x4"]},
        {"layers": ["stage3 + stage2"], "pool": (2, 1)},
    ],
)
def test_classifier_of_the_probe_repeats_its_predictions(options: dict[str, Any], tmp_path: Path) -> None:
    train, test = colored(30), colored(21)
    result = linear_probe(SmallCNN(), train, test, precision="fp32", **options)
    assert torch.equal(result.classifier.predict(test[0]).labels, result.predictions)
    torch.testing.assert_close(result.classifier.predict_proba(test[0]), result.probabilities, rtol=0, atol=1e-5)
    result.classifier.save(tmp_path / "a.pt")
    loaded = pk.load_classifier(tmp_path / "a.pt")
    torch.testing.assert_close(loaded.predict_proba(test[0]), result.classifier.predict_proba(test[0]))
    assert loaded.trained["by"] == "linear_probe"
    assert loaded.trained["images"] == 30


def test_classifier_of_the_probe_has_all_chosen_layers() -> None:
    images, labels = random_images(40, size=16), torch.arange(40) % 3
    torch.manual_seed(0)
    result = linear_probe(SmallCNN(), (images, labels), colored(12), precision="fp32")
    assert " + ".join(f"{layer} {side}x{side}" for layer, side in result.classifier.layers) == result.layer
    assert len(result.classifier.layers) > 1
    torch.testing.assert_close(result.classifier.predict_proba(colored(12)[0]), result.probabilities, rtol=0, atol=1e-5)


def test_classifier_of_the_probe_reads_a_folder_whose_first_images_are_gray(tmp_path: Path) -> None:
    images, _ = colored(40)
    for number, image in enumerate(images):
        path = tmp_path / ("a" if number < 20 else "b") / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels if number >= 20 else pixels[..., 0].copy()).save(path)
    classifier = linear_probe(
        SmallCNN(), FolderImages(tmp_path, size=16), (colored(4)[0], torch.arange(4) % 2), layers="last"
    ).classifier
    assert classifier.image_format is not None
    assert classifier.image_format.channels == 3
    assert classifier.predict(tmp_path).labels.tolist() == 20 * [0] + 20 * [1]


def test_probe_reads_a_stream_only_once() -> None:
    class Once(IterableDataset[tuple[Tensor, Tensor]]):
        def __init__(self) -> None:
            self.items = zip(*colored(30), strict=True)

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return self.items

    result = linear_probe(SmallCNN(), StreamImages(Once(), length=30), colored(21), layers="last")
    assert result.classifier.image_format is None
    assert torch.equal(result.classifier.predict(colored(21)[0]).labels, result.predictions)


def test_classifier_of_fine_tuning_repeats_its_predictions(tmp_path: Path) -> None:
    train, test = colored(30), colored(21)
    result = freeze_and_finetune(
        SmallCNN(), LinearHead(256, 3), train, test, trainable="all", epochs=2, device="cpu", precision="fp32",
        progress=False,
    )  # fmt: skip
    assert isinstance(result.classifier, Classifier)
    assert result.predictions is not None
    assert torch.equal(result.classifier.predict(test[0]).labels, result.predictions)
    result.classifier.save(tmp_path / "a.safetensors")
    loaded = pk.load_classifier(tmp_path / "a.safetensors")
    torch.testing.assert_close(loaded.predict_proba(test[0]), result.classifier.predict_proba(test[0]))


@pytest.mark.parametrize("kind", ["probe", "fine-tuned"])
def test_words_and_size_of_a_folder_are_kept(kind: str, folder: Path, tmp_path: Path) -> None:
    train = FolderImages(folder, size=12, fit="stretch")
    backbone = SmallCNN()
    if kind == "probe":
        classifier = linear_probe(backbone, train, layers="last").classifier
    else:
        classifier = freeze_and_finetune(
            backbone, LinearHead(256, 3), train, epochs=1, device="cpu", progress=False
        ).classifier
    classifier.save(tmp_path / "colors.pt")
    found = pk.load_classifier(tmp_path / "colors.pt").predict(folder)
    assert found.class_names == ("blau", "grün", "rot")
    assert found.files == tuple(map(str, train.paths))
    expected = classifier.predict(torch.stack([train[number][0] for number in range(len(train))]))
    torch.testing.assert_close(found.probabilities, expected.probabilities)
    wanted = classifier.image_format
    assert wanted is not None
    assert (wanted.height, wanted.fit) == (12, "stretch")


@pytest.mark.parametrize("kind", ["probe", "fine-tuned"])
def test_class_without_training_images_has_probability_zero(kind: str, folder: Path) -> None:
    (folder / "gelb").mkdir()
    with pytest.warns(UserWarning, match="gelb"):
        train = FolderImages(folder, size=12)
    if kind == "probe":
        classifier = linear_probe(SmallCNN(), train, layers="last").classifier
    else:
        head = LinearHead(256, 4)
        with torch.no_grad():
            head.linear.bias[1] = 50  # without the mask, the class without images would win
        classifier = freeze_and_finetune(SmallCNN(), head, train, epochs=1, device="cpu", progress=False).classifier
    probabilities = classifier.predict_proba(random_images(5, size=12))
    assert classifier.class_names == ("blau", "gelb", "grün", "rot")
    assert probabilities.shape == (5, 4)
    assert (probabilities[:, 1] == 0).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))


def test_probe_of_a_function_has_a_classifier() -> None:
    def means(images: Tensor) -> Tensor:
        return images.mean((2, 3))

    train = colored(30)
    result = linear_probe(means, train, colored(21))
    assert torch.equal(result.classifier.predict(colored(21)[0]).labels, result.predictions)


def test_probe_of_features_has_a_classifier_of_features() -> None:
    features, labels = torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)
    result = linear_probe(nn.Identity(), (features, labels))
    assert torch.equal(result.classifier(features).argmax(1), labels)
    assert result.classifier.image_format is None
