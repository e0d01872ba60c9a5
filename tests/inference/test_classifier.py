"""Classifiers: one kind of object for every layer and head, and predictions of any images."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from pretextkit.data import FolderImages
from pretextkit.data._image_format import ImageFormat
from pretextkit.errors import DataError, DataWarning, ShapeError
from pretextkit.evaluation._features import extract_features
from pretextkit.functional import Classifier, Predictions
from pretextkit.models import LinearHead, SmallCNN
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images


def classifier(names: tuple[str, ...] = ("cat", "dog", "owl"), **options: object) -> Classifier:
    torch.manual_seed(0)
    backbone = TinyBackbone()
    return Classifier(backbone, LinearHead(64, 3), class_names=names, **options)  # type: ignore[arg-type]


def write_photos(root: Path, count: int = 5) -> list[Path]:
    paths = []
    for number in range(count):
        path = root / f"photo {number}.png"
        pixels = (random_images(1, size=(20 + number, 30), seed=number)[0] * 255).byte()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
        paths.append(path)
    return paths


@pytest.mark.parametrize(("layer", "pool", "width"), [("stage2", 1, 64), ("stage3", 2, 512), ("stage2.0", 1, 64)])
def test_head_gets_the_features_of_extract_features(layer: str, pool: int, width: int) -> None:
    backbone, images = SmallCNN().eval(), random_images(5, size=16)
    made = Classifier(backbone, LinearHead(width, 2), layers=[(layer, pool)])
    expected = extract_features(backbone, images, layers=[layer], pool=pool, precision="fp32").layers[layer]
    torch.testing.assert_close(made.features(images), expected)
    assert torch.equal(made(images), made.head(made.features(images)))


def test_head_gets_layers_one_after_the_other() -> None:
    backbone, images = SmallCNN().eval(), random_images(5, size=16)
    made = Classifier(backbone, LinearHead(512 + 256, 2), layers=[("stage3", 2), ("stage4", 1)])
    parts = [
        extract_features(backbone, images, layers=[name], pool=side, precision="fp32").layers[name]
        for name, side in (("stage3", 2), ("stage4", 1))
    ]
    torch.testing.assert_close(made.features(images), torch.cat(parts, 1))


def test_uint8_images_give_the_logits_of_floats_for_any_module() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    made = Classifier(network, LinearHead(4, 2))
    torch.testing.assert_close(made(images), made(images / 255))


def test_rows_of_predict_proba_sum_to_one_and_equal_softmax() -> None:
    made, images = classifier(), random_images(7, size=16)
    probabilities = made.predict_proba(images, batch_size=3)
    made.eval()
    torch.testing.assert_close(probabilities, made(images).softmax(1).detach())
    torch.testing.assert_close(probabilities.sum(1), torch.ones(7))


def test_absent_and_unknown_classes_have_probability_zero() -> None:
    made = classifier(("cat", "dog", "owl", "fox"), classes=torch.tensor([0, 2]))  # the head has no output for foxes
    probabilities = made.predict_proba(random_images(6, size=16))
    assert probabilities.shape == (6, 4)
    assert (probabilities[:, [1, 3]] == 0).all()
    assert (probabilities[:, [0, 2]] > 0).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(6))


def test_outputs_without_a_class_are_left_out() -> None:
    assert classifier(("cat", "dog")).predict_proba(random_images(2, size=16)).shape == (2, 2)


def test_predict_names_the_most_probable_class() -> None:
    made, images = classifier(), random_images(6, size=16)
    found = made.predict(images, batch_size=4)
    highest = made.predict_proba(images).max(1)
    assert found.classes == tuple(("cat", "dog", "owl")[label] for label in highest.indices)
    assert torch.equal(found.probabilities, highest.values)
    assert found.files == ("0", "1", "2", "3", "4", "5")
    assert [row["file"] for row in found.rows] == list(found.files)


def test_prediction_leaves_mode_weights_and_random_state() -> None:
    made = classifier().train()
    before, state = {name: value.clone() for name, value in made.state_dict().items()}, torch.get_rng_state()
    made.predict(random_images(3, size=16))
    assert made.training
    assert made.head.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_folder_is_resized_as_in_training(tmp_path: Path) -> None:
    paths = write_photos(tmp_path)
    made = classifier(image_format=ImageFormat(16, 16, 3, "stretch"))
    found = made.predict(tmp_path)
    assert found.files == tuple(map(str, paths))
    folder = FolderImages(tmp_path, size=16, fit="stretch")
    reference = torch.stack([folder[number][0] for number in range(5)])
    assert torch.equal(found.probabilities, made.predict(reference).probabilities)
    assert torch.equal(made.predict(FolderImages(tmp_path, size=9, fit="pad")).probabilities, found.probabilities)


def test_list_of_files_and_subset_keep_their_paths(tmp_path: Path) -> None:
    paths = write_photos(tmp_path)
    made = classifier(image_format=ImageFormat(16, 16, 3))
    everything = made.predict(tmp_path)
    some = made.predict([str(paths[3]), paths[1]])  # of different sizes
    assert some.files == (str(paths[3]), str(paths[1]))
    torch.testing.assert_close(some.probabilities, everything.probabilities[[3, 1]])
    part = made.predict(Subset(FolderImages(tmp_path, size=16), [4, 0]))
    assert part.files == (str(paths[4]), str(paths[0]))
    torch.testing.assert_close(part.probabilities, everything.probabilities[[4, 0]])
    assert made.predict(paths[2]).files == (str(paths[2]),)


def test_every_kind_of_images_gives_the_same_probabilities() -> None:
    made, images = classifier(image_format=ImageFormat(16, 16, 3)), random_images(5, size=16)
    expected = made.predict_proba(images)
    dataset = TensorDataset(images, torch.zeros(5, dtype=torch.int64))
    for each in (images.numpy(), (images, torch.zeros(5)), dataset, DataLoader(dataset, batch_size=2), list(images)):
        torch.testing.assert_close(made.predict_proba(each), expected)


def test_shuffled_loader_gives_no_files(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)
    folder = FolderImages(tmp_path, size=16)
    made = classifier()
    assert made.predict(DataLoader(folder)).files == tuple(map(str, folder.paths))
    with pytest.warns(DataWarning, match="The DataLoader shuffles"):
        assert made.predict(DataLoader(folder, shuffle=True)).files == ("0", "1", "2")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_get_the_channels_of_training(channels: int) -> None:
    seen: list[int] = []

    class Seeing(TinyBackbone):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.shape[1])
            return super().forward(images)

    made = Classifier(Seeing(), LinearHead(64, 2), image_format=ImageFormat(16, 16, channels))
    for other in (1, 3):
        made.predict(torch.randint(256, (2, other, 20, 24), dtype=torch.uint8))
        made.predict(random_images(2, channels=other, size=(16, 16)))
    assert set(seen) == {channels}


def test_images_are_stretched_if_the_format_says_so() -> None:
    made = classifier(image_format=ImageFormat(12, 16, 3, "stretch"))
    images = random_images(2, size=(24, 24))
    expected = nn.functional.interpolate(images, (12, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(made.predict_proba(images), made.predict_proba(expected))


def test_damaged_file_is_skipped_on_request(tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 3)
    paths[1].write_bytes(b"no image")
    made = classifier(image_format=ImageFormat(16, 16, 3))
    with pytest.raises(DataError, match="photo 1"):
        made.predict(tmp_path)
    assert made.predict(tmp_path, on_error="skip").files == (str(paths[0]), str(paths[2]))


def test_batches_bound_the_images_in_a_pass() -> None:
    sizes: list[int] = []

    class Counting(TinyBackbone):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            return super().forward(images)

    Classifier(Counting(), LinearHead(64, 2)).predict(random_images(10, size=16), batch_size=4)
    assert sizes == [4, 4, 2]


def test_head_of_maps_is_refused() -> None:
    class Maps(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features[:, :, None]

    with pytest.raises(ShapeError, match="logits b k"):
        Classifier(TinyBackbone(), Maps()).predict(random_images(2, size=16))


def test_table_goes_to_csv_and_pandas(tmp_path: Path) -> None:
    found = Predictions(("é, 1.png", "b.png"), torch.tensor([1, 0]), torch.tensor([0.75, 0.5]), ("cat", "dög"))
    found.to_csv(tmp_path / "new" / "predictions.csv")
    with (tmp_path / "new" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"file": "é, 1.png", "class": "dög", "probability": "0.75"},
            {"file": "b.png", "class": "cat", "probability": "0.5"},
        ]
    frame = pytest.importorskip("pandas").DataFrame(found.rows)
    assert list(frame.columns) == ["file", "class", "probability"]
    assert frame["class"].tolist() == ["dög", "cat"]
    assert repr(found) == "Predictions(2 images, 2 classes)"


def test_long_table_is_cut_when_printed() -> None:
    found = Predictions(tuple(map(str, range(30))), torch.zeros(30, dtype=torch.int64), torch.ones(30), ("cat",))
    assert str(found).splitlines()[-1] == "… 20 more"
    assert len(str(found).splitlines()) == 12
