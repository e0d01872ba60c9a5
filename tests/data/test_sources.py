from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler, TensorDataset

from pretextkit.batches import Labeled
from pretextkit.data import DatasetImages, ImageBatch, ImageSource, LoaderImages, TensorImages, as_source
from pretextkit.errors import DataError, ShapeError
from pretextkit.functional import pretrain
from pretextkit.models import SmallCNN
from pretextkit.tasks import Rotation

# The pixels of these images are their small numbers.
pytestmark = pytest.mark.filterwarnings("ignore:The brightest pixel:pretextkit.errors.DataWarning")


def numbered(n: int, channels: int = 3, side: int = 4) -> Tensor:
    """Images whose every pixel is their index."""
    return torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, channels, side, side).contiguous()


def numbers(batches: Iterator[ImageBatch]) -> list[list[int]]:
    """Read the numbers of images from their pixels, which must agree within an image."""
    found = []
    for batch in batches:
        flat = batch.images.flatten(1)
        assert (flat == flat[:, :1]).all()
        found.append(flat[:, 0].tolist())
    return found


class Items(Dataset[Any]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield torch.zeros(3, 4, 4)


orders = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=5)


@given(orders)
def test_tensor_batches_follow_the_order(order: list[list[int]]) -> None:
    source = TensorImages(numbered(10), torch.arange(10) - 1)
    batches = list(source.batches([torch.tensor(rows) for rows in order]))
    assert numbers(iter(batches)) == order
    assert [batch.labels.tolist() for batch in batches if batch.labels is not None] == [
        [row - 1 for row in rows] for rows in order
    ]
    assert all(batch.images.dtype == torch.uint8 for batch in batches)


@given(orders)
def test_dataset_batches_follow_the_order(order: list[list[int]]) -> None:
    source = DatasetImages(TensorDataset(numbered(10), torch.arange(10)))
    batches = list(source.batches([torch.tensor(rows) for rows in order]))
    assert numbers(iter(batches)) == order
    assert [batch.labels.tolist() for batch in batches if batch.labels is not None] == order


def test_workers_give_same_batches() -> None:
    order = torch.split(torch.arange(10), 4)
    source = DatasetImages(TensorDataset(numbered(10), torch.arange(10)), workers=2)
    assert numbers(source.batches(order)) == [rows.tolist() for rows in order]


def test_no_source_touches_the_global_generator() -> None:
    state = torch.get_rng_state()
    for source in (TensorImages(numbered(4)), DatasetImages(Items(*numbered(4)))):
        list(source.batches(torch.split(torch.arange(4), 2)))
    assert torch.equal(state, torch.get_rng_state())


class Draws(Dataset[Tensor]):
    """Noise images, drawn in the process that reads the dataset."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(1, 2, 2)


def test_random_dataset_repeats_only_within_epoch() -> None:
    source = DatasetImages(Draws(), workers=1)
    first, second = [torch.arange(4)], [torch.arange(4).flip(0)]
    a, b, c = (next(source.batches(order)).images for order in (first, second, first))
    assert torch.equal(a, c)
    assert not torch.isin(b, a).any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_source_gives_float32(dtype: torch.dtype) -> None:
    images = torch.full((2, 1, 4, 4), 0.5, dtype=dtype)
    order = [torch.tensor([0])]
    for source in (TensorImages(images), DatasetImages(Items(*images)), LoaderImages(DataLoader(Items(*images)))):
        assert next(source.batches(order)).images.dtype == torch.float32


def test_memory_mapped_arrays_are_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", numbered(6).permute(0, 2, 3, 1).numpy())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    source = as_source(mapped)
    assert isinstance(source, TensorImages)
    assert source.images.data_ptr() == mapped.ctypes.data
    assert numbers(source.batches([torch.tensor([5, 2])])) == [[5, 2]]


def test_batches_are_copies_of_input() -> None:
    images = numbered(3)
    batch = next(TensorImages(images).batches([torch.tensor([0, 1, 2])]))
    batch.images.zero_()
    assert images[2].min() == 2


def test_tensor_source_checks_images() -> None:
    with pytest.raises(DataError, match="Divide by 255"):
        TensorImages(torch.full((2, 3, 4, 4), 255.0))
    with pytest.raises(ShapeError, match="2 labels for 3 images"):
        TensorImages(numbered(3), [0, 1])
    bad = Items(torch.zeros(3, 4, 4), torch.full((3, 4, 4), torch.nan))
    source = DatasetImages(bad)
    with pytest.raises(DataError, match="NaN pixels, first in image 1"):
        next(source.batches([torch.tensor([0, 1])]))
    with pytest.raises(DataError, match="NaN pixels"):
        list(LoaderImages(DataLoader(bad)).batches([torch.tensor([0]), torch.tensor([1])]))


def test_dataset_items_may_be_tensors_arrays_or_pil() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    picture = Image.fromarray(pixels)
    items = Items(
        (torch.from_numpy(pixels).permute(2, 0, 1), 0, "more"), (pixels, np.int64(1)), [picture, torch.tensor(2)]
    )
    batch = next(DatasetImages(items).batches([torch.arange(3)]))
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1, 2]
    assert all(torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1)) for image in batch.images)
    gray = next(DatasetImages(Items(pixels[..., 0], Image.fromarray(pixels[..., 0]))).batches([torch.arange(2)]))
    assert gray.labels is None
    assert gray.images.shape == (2, 1, 4, 4)
    assert torch.equal(gray.images[0], gray.images[1])


@pytest.mark.parametrize(
    ("items", "error", "text"),
    [
        (
            (torch.zeros(3, 4, 4), torch.zeros(3, 5, 4)),
            ShapeError,
            r"Expected images c h w of one size in a dataset, but got \(3, 4, 4\) and \(3, 5, 4\). Resize",
        ),
        (
            ({"image": 1},),
            DataError,
            "Expected an image as a tensor c h w, an array h w c or h w, or a PIL image, but got int. Let the data",
        ),
        ((torch.zeros(4, 4),), ShapeError, r"h w \(array\), but got shape \(4, 4\). Add the channel"),
        ((np.zeros((3, 4, 4), np.uint8),), ShapeError, r"but got shape \(3, 4, 4\)"),
        (((torch.zeros(3, 4, 4), 0.5),), DataError, "Expected integer labels, but got torch.float32"),
        (((torch.zeros(3, 4, 4), "cat"),), DataError, "Expected integer labels"),
    ],
)
def test_wrong_dataset_item_raises_error(items: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        next(DatasetImages(Items(*items)).batches([torch.arange(len(items))]))


def test_error_of_worker_process_keeps_type() -> None:
    with pytest.raises(ShapeError, match=r"but got shape \(4, 4\). Add the channel in the dataset: image\[None\]."):
        next(DatasetImages(Items(torch.zeros(4, 4)), workers=1).batches([torch.tensor([0])]))


def test_dataset_without_index_raises_data_error() -> None:
    stream: Any = Stream()
    with pytest.raises(
        DataError, match=r"Expected a map-style dataset, with __len__ and __getitem__, but got Stream. Read"
    ):
        DatasetImages(stream)
    with pytest.raises(DataError, match=r"Expected at least one image, but got an empty Items. Check where it looks."):
        DatasetImages(Items())


@given(n=st.integers(1, 12), own=st.integers(1, 7), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_loader_batches_follow_loader_order_and_size(n: int, own: int, sizes: list[int]) -> None:
    source = LoaderImages(DataLoader(TensorDataset(numbered(n), torch.arange(n)), batch_size=own))
    assert (len(source), source.batch_size) == (n, own)
    batches = list(source.batches([torch.zeros(size, dtype=torch.int64) for size in sizes]))
    endless = [i % n for i in range(sum(sizes))]
    starts = np.cumsum([0, *sizes])
    expected = [endless[start : start + size] for start, size in zip(starts, sizes, strict=False)]
    assert numbers(iter(batches)) == expected
    assert [batch.labels.tolist() for batch in batches if batch.labels is not None] == expected


def test_loader_source_reads_each_image_once() -> None:
    loader = DataLoader(TensorDataset(numbered(10), torch.arange(10)), batch_size=3, shuffle=True)
    source = LoaderImages(loader)
    seen = [i for batch in numbers(source.batches(torch.split(torch.arange(len(source)), 4))) for i in batch]
    assert sorted(seen) == list(range(10))


def test_loader_source_counts_images() -> None:
    data = TensorDataset(numbered(10))
    assert len(LoaderImages(DataLoader(data, batch_size=4, drop_last=True))) == 8
    assert len(LoaderImages(DataLoader(data, batch_size=4, sampler=[1, 2, 3]))) == 3
    own = LoaderImages(DataLoader(data, batch_sampler=[[0, 1], [2]]))
    assert (len(own), own.batch_size) == (10, None)
    plain = DataLoader(data, batch_sampler=BatchSampler(SequentialSampler(data), 4, True))
    assert len(LoaderImages(plain)) == 8


def test_unusable_loader_raises_data_error() -> None:
    with pytest.raises(
        DataError, match="Expected a DataLoader that knows how many images it has, but got one over Stream"
    ):
        LoaderImages(DataLoader(Stream()))
    with pytest.raises(DataError, match=r"Expected at least one image, but got an empty DataLoader. Check its dataset"):
        LoaderImages(DataLoader(Items(torch.zeros(3, 4, 4)), batch_size=2, drop_last=True))
    with pytest.raises(
        DataError, match=r"Expected at least one batch, but got a DataLoader without any. Check its sampler"
    ):
        next(LoaderImages(DataLoader(Items(torch.zeros(3, 4, 4)), batch_sampler=[])).batches([torch.arange(1)]))
    items: Any = Items({"image": "text"})
    with pytest.raises(DataError, match=r"Expected an image as a tensor c h w, .* but got str"):
        next(LoaderImages(DataLoader(items)).batches([torch.arange(1)]))


class Own(ImageSource):
    def __len__(self) -> int:
        return 1

    def batches(self, order: Any) -> Iterator[ImageBatch]:
        return iter(())


def test_as_source_gives_matching_source(tmp_path: Path) -> None:
    images = numbered(4)
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (4, 4), (1, 1, 1)).save(tmp_path / "folder" / "a.png")
    np.savez(tmp_path / "set.npz", train_images=images.permute(0, 2, 3, 1).numpy(), train_labels=[0, 1, 2, 3])
    own = Own()
    assert as_source(own) is own
    cases: list[tuple[Any, type[ImageSource], int]] = [
        (images, TensorImages, 4),
        (images.numpy(), TensorImages, 4),
        ((images, [0, 1, 2, 3]), TensorImages, 4),
        ([images.numpy(), np.arange(4)], TensorImages, 4),
        (Labeled(images, torch.arange(4)), TensorImages, 4),
        (TensorDataset(images), DatasetImages, 4),
        (Items(*images), DatasetImages, 4),
        (DataLoader(TensorDataset(images)), LoaderImages, 4),
        (tmp_path / "folder", DatasetImages, 1),
        (str(tmp_path / "folder"), DatasetImages, 1),
        (tmp_path / "set.npz", TensorImages, 4),
    ]
    for given_images, kind, count in cases:
        source = as_source(given_images)
        assert (type(source), len(source)) == (kind, count), given_images
    labeled = next(as_source(tmp_path / "set.npz").batches([torch.tensor([3, 0])]))
    assert labeled.labels is not None
    assert labeled.labels.tolist() == [3, 0]
    assert (labeled.images[0] == 3).all()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("target", [0.5, "cat", {"boxes": torch.zeros(2, 4)}, torch.zeros(4, 4)])
def test_without_labels_ignores_any_targets(target: Any, workers: int) -> None:
    data = Items(*((image, target) for image in numbered(4)))
    order = [torch.tensor([0, 1]), torch.tensor([2, 3])]
    for given_images in (data, DatasetImages(data), DataLoader(data, 2), LoaderImages(DataLoader(data, 2))):
        source = as_source(given_images, labels=False, workers=workers)
        batches = list(source.batches(order))
        assert numbers(iter(batches)) == [[0, 1], [2, 3]]
        assert all(batch.labels is None for batch in batches)
        assert isinstance(source, LoaderImages) == isinstance(given_images, DataLoader | LoaderImages)


def test_pretrain_ignores_targets() -> None:
    task = Rotation(SmallCNN())
    boxes = Items(*((image, {"boxes": torch.rand(2, 4)}) for image in torch.rand(4, 3, 32, 32)))
    assert pretrain(task, boxes, steps=1, batch_size=4, device="cpu", progress=False).steps == 1


class OwnLabeled(TensorImages):
    without_labels = ImageSource.without_labels  # type: ignore[assignment]


def test_without_labels_wraps_other_sources() -> None:
    images, labels = numbered(2), torch.arange(2)
    own = OwnLabeled(images, labels)
    cases: list[Any] = [images, (images, labels), [images, torch.rand(2)], (images.numpy(), [{}, {}]), own]
    for given_images in cases:
        source = as_source(given_images, labels=False)
        assert len(source) == 2
        (batch,) = source.batches([torch.tensor([1, 0])])
        assert numbers(iter([batch])) == [[1, 0]]
        assert batch.labels is None
    assert own.labels is not None, "the caller's source keeps its own"
    labeled = TensorImages(images, labels)
    as_source(labeled, labels=False)
    assert labeled.labels is not None


def test_as_source_refuses_two_image_tensors() -> None:
    with pytest.raises(ShapeError, match=r"Expected labels of shape \(b,\)"):
        as_source([numbered(4), numbered(4)], labels=False)


def test_as_source_reads_train_folder(tmp_path: Path) -> None:
    for split, count in (("train", 2), ("test", 1)):
        (tmp_path / split / "cat").mkdir(parents=True)
        for i in range(count):
            Image.new("L", (4, 4)).save(tmp_path / split / "cat" / f"{i}.png")
    assert len(as_source(tmp_path)) == 2


def test_num_workers_reach_dataset() -> None:
    source = as_source(Items(*numbered(2)), workers=3)
    assert isinstance(source, DatasetImages)
    assert source.workers == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_as_source_reads_array_layouts(channels: int) -> None:
    pixels = torch.arange(2 * channels * 5 * 4, dtype=torch.uint8).view(2, channels, 5, 4)
    last = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    for array in (last, pixels.numpy(), *([pixels[:, 0].numpy()] if channels == 1 else [])):
        source = as_source(array)
        assert torch.equal(next(source.batches([torch.arange(2)])).images, pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_as_source_refuses_single_color_image(channels: int) -> None:
    array = np.zeros((6, 5, channels), np.uint8)
    with pytest.raises(ShapeError) as caught:
        as_source(array)
    assert caught.value.text == (
        f"Expected images n h w c, n h w or n c h w, but got shape (6, 5, {channels}), which may be one image h w c. "
        "Pass array[None] for one image, or array[..., None] for gray images n h w."
    )
    for remedy, shape in ((array[None], (1, channels, 6, 5)), (array[..., None], (6, 1, 5, channels))):
        source = as_source(remedy)
        assert isinstance(source, TensorImages)
        assert source.images.shape == shape


@pytest.mark.parametrize(
    "array", [np.zeros((2, 4, 4, 3), np.uint8)[::-1], np.zeros((2, 4, 4, 3), ">f4"), np.zeros((2, 4, 4, 3), "<f8")]
)
def test_as_source_converts_unshareable_arrays(array: np.ndarray[Any, Any]) -> None:
    assert len(as_source(array)) == 2


def test_as_source_of_wrong_type_raises_error(tmp_path: Path) -> None:
    for wrong in (3, None, {"images": 1}, [1, 2, 3]):
        with pytest.raises(
            DataError, match=r"Expected images as a tensor n c h w, an array .* ImageSource, but got \w+\. "
        ):
            as_source(wrong)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="Add the missing axis"):
        as_source(torch.zeros(3, 4, 4))
    with pytest.raises(DataError, match=r"Expected an array of numbers, but got dtype <U1. Pass numbers"):
        as_source(np.full((2, 4, 4), "a"))
    with pytest.raises(
        DataError, match=r"Expected labels beside a tensor, an array, .*, but got labels beside Own, which decides"
    ):
        as_source(Own(), [0])
    with pytest.raises(
        DataError, match=r"Expected the path of a folder of images, of an image file or .*, but got .*nowhere.*Check"
    ):
        as_source(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(DataError, match="Put image files in a folder and pass the folder"):
        as_source(tmp_path / "a.txt")


def test_in_order_reads_each_image_once() -> None:
    images = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1).expand(7, 1, 4, 4)
    loader = DataLoader(TensorDataset(images), batch_size=2)
    for source in (TensorImages(images), DatasetImages(TensorDataset(images)), LoaderImages(loader)):
        batches = list(source.in_order(3))
        assert [len(batch.images) for batch in batches] == [3, 3, 1]
        assert torch.equal(torch.cat([batch.images for batch in batches]), images)
