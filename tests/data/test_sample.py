from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from pretextkit.data._sample import CLASS_NAMES, read_sample, read_tiles
from tests.helpers import load_script

FOLDER = files("pretextkit.data") / "fashion_mnist_sample"
ORIGINALS = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
SCRIPT = Path(__file__).parents[2] / "scripts" / "make_sample.py"

# SHA-256 of the pixels, tile after tile; also of the originals' first images of each class (test below).
PIXELS = {
    "train": "5ef1a9b93bb7234e4c6243bedba2f9a6b958bbf7fd03f2feebe3ed3301d2c005",
    "test": "80f041a1db53aeefce90d32bb6094e616abf55eed82a9c247b6c2a44a773acf7",
}


@pytest.fixture
def script() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("needs the script, which an installed package does not have")
    return load_script(SCRIPT)


@pytest.mark.parametrize(("split", "count"), [("train", 8000), ("test", 2000)])
def test_sample_has_published_pixels(split: str, count: int) -> None:
    tiles = read_tiles(split)
    assert tiles.shape == (count, 1, 28, 28)
    assert tiles.dtype == torch.uint8
    assert hashlib.sha256(tiles.numpy().tobytes()).hexdigest() == PIXELS[split]


@pytest.mark.parametrize("split", ["train", "test"])
def test_sample_tiles_are_row_major(split: str) -> None:
    with (FOLDER / f"{split}.png").open("rb") as file:
        sheet = Image.open(file)
        sheet.load()
    columns = sheet.width // 28
    tiles = read_tiles(split)
    for place in (0, 1, columns, len(tiles) - 1):
        left, top = place % columns * 28, place // columns * 28
        tile = sheet.crop((left, top, left + 28, top + 28))
        assert tiles[place].flatten().tolist() == list(tile.tobytes())


@pytest.mark.parametrize("split", ["train", "test"])
def test_sample_shuffle_keeps_labels(split: str) -> None:
    tiles, (images, labels) = read_tiles(split), read_sample(split)
    each = len(tiles) // 10
    assert labels.bincount().tolist() == [each] * 10
    for label in range(10):
        # The same images under each label, in any order.
        here = images[labels == label].flatten(1).long()
        there = tiles[label * each : (label + 1) * each].flatten(1).long()
        weights = torch.arange(784) ** 2 + 1
        assert torch.equal((here * weights).sum(1).sort().values, (there * weights).sum(1).sort().values)
    assert labels[:200].bincount(minlength=10).min() > 5


def test_sample_labels_match_class_names() -> None:
    images, labels = read_sample("train")
    mean = torch.stack([images[labels == label].float().mean(0)[0] for label in range(10)])
    names = dict(zip(CLASS_NAMES, mean, strict=True))
    assert names["Trouser"][20:, 13:15].mean() < names["Trouser"][20:, 9:11].mean()  # light between the legs
    assert names["Sandal"].mean() == min(image.mean() for image in names.values())
    assert names["Pullover"][8:24, 2:5].mean() > 3 * names["Dress"][8:24, 2:5].mean()  # sleeves
    assert names["Ankle boot"][5:10].mean() > 4 * names["Sneaker"][5:10].mean()  # shaft


def test_load_keeps_global_generator() -> None:
    state = torch.get_rng_state()
    first = read_sample("test")
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.images, read_sample("test").images)


def test_sample_size_and_license() -> None:
    paths = {path.name: path for path in FOLDER.iterdir()}
    assert set(paths) == {"train.png", "test.png", "LICENSE", "README.md"}
    assert sum(len(path.read_bytes()) for path in paths.values()) < 4 * 1024**2
    license = paths["LICENSE"].read_text()
    assert license.startswith("MIT License\n\nCopyright (c) 2017 Zalando SE\n")
    assert "The above copyright notice and this permission notice shall be included" in license


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_sample_script_reproduces_pixels(script: ModuleType) -> None:
    for split, (prefix, count, columns) in script.SPLITS.items():
        images = script.read_idx(ORIGINALS / f"{prefix}-images-idx3-ubyte.gz")
        labels = script.read_idx(ORIGINALS / f"{prefix}-labels-idx1-ubyte.gz")
        chosen = script.first_of_each_class(images, labels, count)
        assert torch.equal(torch.from_numpy(chosen)[:, None], read_tiles(split))
        with (FOLDER / f"{split}.png").open("rb") as file:
            assert Image.open(file).tobytes() == script.sheet(chosen, columns).tobytes()


def test_sample_has_first_images_of_each_class(script: ModuleType) -> None:
    labels = torch.tensor([label for _ in range(3) for label in reversed(range(10))]).numpy()
    images = torch.arange(30).view(30, 1, 1).numpy()
    chosen = script.first_of_each_class(images, labels, 2).flatten().tolist()
    assert chosen == [place for label in range(10) for place in (9 - label, 19 - label)]
