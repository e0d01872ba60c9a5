"""Sources, checks and splits of arbitrary input: the documented result, or a pretextkit error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pretextkit import data
from pretextkit._validation import check_classes
from pretextkit.data._image_conversion import channels_second, image_tensor
from pretextkit.data._resizing import resize_and_crop

from .strategies import answer, any_tensors, images, seeds

pytestmark = pytest.mark.filterwarnings("ignore:The brightest pixel:pretextkit.errors.DataWarning")

labelings = st.lists(st.integers(-2, 5), max_size=30)
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text("abc", max_size=4),
    st.lists(st.one_of(st.integers(), st.floats(), st.text("ab", max_size=2), st.none()), max_size=4),
    st.lists(st.lists(st.integers(), max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    any_tensors(5),
)


@given(x=any_tensors())
def test_check_images_any_value_passes_or_raises(x: Tensor) -> None:
    good = (
        x.ndim == 4
        and x.numel() > 0
        and (x.dtype == torch.uint8 or (x.is_floating_point() and bool(((x >= -1e-4) & (x <= 1 + 1e-4)).all())))
    )
    source = answer(data.TensorImages, x)
    assert source is None or good
    if good and x.shape[1] in (1, 3):  # with other channels than these, the last axis may look like the channels
        assert source is not None


@given(x=st.one_of(any_tensors(), images()), labels=anything)
def test_source_returns_its_images(x: Tensor, labels: Any) -> None:
    source = answer(data.as_source, x, labels)
    if source is not None:
        (batch,) = source.in_order(max(1, len(x)))
        torch.testing.assert_close(batch.images, x if x.dtype == torch.uint8 else x.float())
        assert (batch.labels is None) == (labels is None or labels is False)
    everything = answer(partial(data.as_source, labels=False), (x, labels))
    if everything is not None:
        assert len(everything) == len(x)


@given(x=anything)
def test_as_source_of_other_types_raises_error(x: Any) -> None:
    source = answer(data.as_source, x)
    assert source is None or isinstance(x, Tensor)


@given(x=st.one_of(any_tensors(), images(square=True)), batch=st.integers(1, 4))
def test_dataset_and_loader_match_tensor_source(x: Tensor, batch: int) -> None:
    x = x.detach()
    if x.ndim == 0:
        return
    full = answer(data.as_source, x)
    for kind in (TensorDataset(x), DataLoader(TensorDataset(x), batch_size=batch)):
        read = answer(lambda kind=kind: [part.images for part in data.as_source(kind).in_order(2)])
        if full is not None:
            assert read is not None
            torch.testing.assert_close(torch.cat(read), x if x.dtype == torch.uint8 else x.float())


@given(x=any_tensors(5))
def test_any_array_gives_source_or_error(x: Tensor) -> None:
    if x.dtype == torch.bfloat16:
        return
    array = x.detach().numpy()
    source = answer(data.as_source, array)
    if source is not None:
        assert len(source) == len(array)
        (batch,) = source.in_order(len(array))
        assert batch.images.numel() == array.size
    item = answer(image_tensor, array)
    assert item is None or item.ndim == 3


@given(labels=anything, count=st.integers(0, 6))
def test_check_labels_any_value_passes_or_raises(labels: Any, count: int) -> None:
    checked = answer(data.check_labels, labels, count)
    if checked is not None:
        assert checked.shape == (count,)
        assert checked.dtype == torch.int64
        assert int(checked.min()) >= -1 if count else True


SPLITS: dict[str, Callable[..., Any]] = {
    "keep_labels": data.keep_labels,
    "stratified_split": data.stratified_split,
    "stratified_subset": data.stratified_subset,
}


@pytest.mark.parametrize("name", SPLITS)
@given(labels=st.one_of(anything, labelings), number=st.one_of(st.integers(-3, 40), st.floats()), seed=seeds)
def test_split_any_labels_gives_split_or_error(name: str, labels: Any, number: Any, seed: int) -> None:
    if name != "stratified_split" and not isinstance(number, int):
        number = 3
    answer(SPLITS[name], labels, number, seed=seed)


@given(labels=labelings, count=st.integers(-3, 40), share=st.floats(0, 1), seed=seeds)
def test_splits_keep_their_promises(labels: list[int], count: int, share: float, seed: int) -> None:
    there = [i for i, label in enumerate(labels) if label >= 0]
    chosen = answer(data.stratified_subset, labels, count, seed=seed)
    if chosen is not None:
        assert len(set(chosen.tolist())) == count
        assert set(chosen.tolist()) <= set(there)
    kept = answer(data.keep_labels, labels, count, seed=seed)
    if kept is not None:
        assert int((kept >= 0).sum()) == count
        assert all(k in (-1, label) for k, label in zip(kept.tolist(), labels, strict=True))
    parts = answer(data.stratified_split, labels, share, seed=seed)
    if parts is not None:
        assert sorted([*parts[0].tolist(), *parts[1].tolist()]) == there


@given(labels=labelings)
def test_check_classes_counts_labels(labels: list[int]) -> None:
    count = answer(check_classes, torch.tensor(labels, dtype=torch.int64))
    there = {label for label in labels if label >= 0}
    assert count == (len(there) if len(there) > 1 and there == set(range(len(there))) else None)


@given(x=any_tensors())
def test_channels_second_moves_channels(x: Tensor) -> None:
    result = answer(channels_second, x)
    if result is not None:
        assert result.numel() == x.numel()


@given(x=images(), size=st.integers(1, 20))
def test_load_segmentation_scales_and_crops(x: Tensor, size: int) -> None:
    if len(x):
        pixels = (x.detach() * 255).byte()
        result = resize_and_crop(pixels, size)
        assert result.shape == (*x.shape[:2], size, size)
        assert bool(((pixels.amin() <= result) & (result <= pixels.amax())).all())


@given(content=st.binary(max_size=60), suffix=st.sampled_from((".npz", ".png", "")))
def test_any_file_gives_images_or_error(content: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("files") / f"file{suffix}"
    path.write_bytes(content)
    for function in (data.load, data.load_segmentation, data.as_source):
        assert answer(function, path) is None


names = st.sampled_from(("train_images", "train_labels", "test_images", "test_labels", "train_masks", "test_masks"))


@given(parts=st.dictionaries(names, any_tensors(4)))
def test_any_npz_gives_images_or_error(parts: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> None:
    path: Path = tmp_path_factory.mktemp("packs") / "pack.npz"
    arrays = {name: part.detach().numpy() for name, part in parts.items() if part.dtype != torch.bfloat16}
    numpy.savez(path, **arrays)  # type: ignore[arg-type]
    loaded = answer(data.load, path)
    if loaded is not None:
        assert loaded.train_images.ndim == 4
    answer(data.load_segmentation, path)
