from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretextkit._validation import _images as module
from pretextkit.data import check_classes, check_images, check_labels
from pretextkit.errors import DataError, ShapeError


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_check_images_accepts_valid_images(channels: int, dtype: torch.dtype) -> None:
    check_images(torch.ones(2, channels, 5, 4, dtype=dtype))


@pytest.mark.parametrize(
    ("shape", "fix"),
    [
        ((2, 8, 8, 3), r"Put channels second: images.permute\(0, 3, 1, 2\)."),
        ((2, 8, 8, 1), r"Put channels second"),
        ((2, 24, 32, 4), r"Put channels second: images.permute\(0, 3, 1, 2\). If they are RGBA, also drop the alpha"),
        ((2, 64, 64, 13), r"Put channels second: images.permute\(0, 3, 1, 2\). See"),
        ((3, 8, 8), r"Add the missing axis: images\[None\] for one image c h w, images\[:, None\] for gray"),
        ((8, 8), r"Add the missing axes: images\[None, None\] for one gray image h w\."),
        ((8,), r"Pass images with channels second."),
    ],
)
def test_check_images_of_wrong_shape_names_fix(shape: tuple[int, ...], fix: str) -> None:
    with pytest.raises(ShapeError, match=r"Expected images b c h w, but got shape \(.*\)\. " + fix):
        check_images(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 3, 0, 8)])
def test_check_images_without_pixels_raises_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="Expected at least one image with at least one pixel, but got shape"):
        check_images(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64])
def test_check_images_of_other_dtype_raises_error(dtype: torch.dtype) -> None:
    text = rf"Expected images of dtype uint8 \(0 to 255\) or floating-point \(0 to 1\), but got {dtype}"
    with pytest.raises(DataError, match=text):
        check_images(torch.zeros(1, 3, 4, 4, dtype=dtype))


def test_check_images_of_array_raises_error() -> None:
    not_a_tensor: Any = np.zeros((1, 3, 4, 4))
    with pytest.raises(DataError, match="Expected a tensor of images b c h w, but got ndarray"):
        check_images(not_a_tensor)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.0, 255.0], r"values from 0 to 255\. Divide by 255: images / 255\. See"),
        ([0.0, 65535.0], r"values from 0 to 6\.55\de\+04\. Divide by .* format: images / 65535\. See"),
        ([-2.1, 2.4], r"values from -2\.1 to 2\.4\. Undo their normalization \(images \* std \+ mean\)"),
        ([-0.1, 0.5], r"values from -0\.1 to 0\.5\. Clamp what a transform overshot \(images.clamp\(0, 1\)\), or undo"),
        ([0.0, 1.01], r"values from 0 to 1\.01\. Clamp"),
        ([-0.1, 200.0], r"values from -0\.1 to 200\. Divide by 255"),
    ],
)
def test_check_images_outside_range_names_fix(values: list[float], text: str) -> None:
    with pytest.raises(DataError, match=r"Expected float images in \[0, 1\], but got " + text):
        check_images(torch.tensor(values).view(2, 1, 1, 1))


def test_check_images_allows_rounding() -> None:
    check_images(torch.tensor([-1e-6, 1 + 1e-6]).view(2, 1, 1, 1))


@pytest.mark.parametrize(("value", "kind"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")])
@pytest.mark.parametrize("image", [0, 6])
@pytest.mark.parametrize("chunk", [1 << 24, 3 * 16 * 2])
def test_check_images_names_non_finite_image(
    value: float, kind: str, image: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    images = torch.full((7, 3, 4, 4), 0.5)
    images[image, 1, 2, 3] = value
    with pytest.raises(DataError, match=f"Expected finite pixels, but got {kind} pixels, first in image {image}"):
        check_images(images)


def test_check_images_reports_range_of_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    with pytest.raises(DataError, match="values from 0 to 9"):
        check_images(torch.tensor([9.0, 0.0, 1.0]).view(3, 1, 1, 1))


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([2, -1, 0], dtype=torch.int32),
        np.array([2, -1, 0], np.int8),
        [2, -1, 0],
        (2, -1, 0),
        [torch.tensor(2), torch.tensor(-1), torch.tensor(0)],
        np.array([0, -1, 2], ">i4")[::-1],
    ],
)
def test_check_labels_gives_int64(labels: Any) -> None:
    checked = check_labels(labels, 3)
    assert checked.dtype == torch.int64
    assert checked.tolist() == [2, -1, 0]


def test_check_labels_reads_read_only_and_empty() -> None:
    array = np.arange(3)
    array.flags.writeable = False
    assert check_labels(array, 3).tolist() == [0, 1, 2]
    assert check_labels([], 0).dtype == torch.int64


@pytest.mark.parametrize(
    ("labels", "error", "text"),
    [
        ([0, 1, 0, 1], ShapeError, "Expected as many labels as images, but got 4 labels for 3 images"),
        ([0.0, 1.0, 2.0], DataError, "Expected integer labels, but got torch.float32. Convert with labels.long"),
        (torch.zeros(3, dtype=torch.complex64), DataError, "but got torch.complex64"),
        (
            ["cat", "dog", "cat"],
            DataError,
            "Expected integer labels, but got .*cat.* or map them: names = sorted",
        ),
        (np.array(["a", "b", "c"]), DataError, "Expected .*, but got dtype <U1"),
        (None, DataError, "Expected integer labels, but got None"),
        ([0, 1, -2], DataError, "Expected labels from 0 up, or -1 for unlabeled images, but got -2. Mark"),
        (
            [[[0]], [[1]], [[2]]],
            ShapeError,
            r"Expected labels of shape \(b,\), .* but got shape \(3, 1, 1\). Use segmentation_probe",
        ),
        (
            torch.ones(3, 3, dtype=torch.int64),
            ShapeError,
            r"several labels an image \(multi-label\) are not supported, but got shape \(3, 3\), which is not one-hot",
        ),
        (
            [0, 1],
            ShapeError,
            "Expected as many labels as images, but got 2 labels for 3 images. Pass one label for each",
        ),
    ],
)
def test_check_labels_of_wrong_values_raises_error(labels: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check_labels(labels, 3)


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=30))
def test_check_classes_counts_or_raises(labels: list[int]) -> None:
    known = {label for label in labels if label >= 0}
    if len(known) >= 2 and known == set(range(len(known))):
        assert check_classes(torch.tensor(labels)) == len(known)
    else:
        with pytest.raises(DataError):
            check_classes(torch.tensor(labels))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([-1, -1], "Expected labeled images, but got labels that are all -1. Label at least one image of each class."),
        ([3, 3, -1], "Expected at least 2 classes, but got class 3 only. Add images of another class."),
        (
            [1, 2, 5],
            "Expected labels 0 to 2 for 3 classes, but got labels up to 5 without 0, 3, 4. "
            "Renumber train and test with one table: classes = ",
        ),
        ([0, 9, 0], "but got labels up to 9 without 1, 2, 3, 4, 5, …. Renumber"),
    ],
)
def test_check_classes_of_unusable_labels_raises_error(labels: list[int], text: str) -> None:
    with pytest.raises(DataError) as caught:
        check_classes(torch.tensor(labels))
    assert text in str(caught.value)


@pytest.mark.parametrize("values", [[1, 2, 5], [4, -1, 7, 7, -1]])
def test_check_classes_message_remaps_labels(values: list[int]) -> None:
    labels = torch.tensor(values)
    with pytest.raises(DataError) as caught:
        check_classes(labels)
    code = caught.value.fix.removeprefix("Renumber train and test with one table: ").removesuffix(".")
    scope: dict[str, Any] = {"torch": torch, "labels": labels, "train_labels": labels, "test_labels": labels}
    exec(code, scope)
    assert check_classes(scope["labels"]) == len({value for value in values if value >= 0})
    assert (scope["labels"] < 0).tolist() == [value < 0 for value in values]


def test_check_classes_lists_huge_labels_quickly() -> None:
    with pytest.raises(DataError, match="without 1, 2, 3, 4, 5, …"):
        check_classes(torch.tensor([0, 2**60]))
