"""Every function that reads image files takes ``size`` and ``on_error``, and both do what they say."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pretextkit import functional
from pretextkit.errors import DataError, OptionError
from pretextkit.functional import (
    compare,
    fixmatch,
    freeze_and_finetune,
    linear_probe,
    near_duplicates,
    nearest_neighbors,
    select_to_label,
)
from pretextkit.testing import TinyBackbone

EXEMPT = {
    "segmentation_probe": "its images are a tensor of the size of their masks",
    "views_per_image": "reads a few images of any source, and no file by itself",
}
QUICK: dict[str, Any] = {"device": "cpu", "progress": False}


def test_every_function_of_images_takes_size_and_on_error() -> None:
    lacking = set()
    for name in functional.__all__:
        function = getattr(functional, name)
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters
        kinds = " ".join(str(each.annotation) for each in parameters.values())
        if ("ImagesLike" in kinds or "LabeledLike" in kinds) and not {"size", "on_error"} <= set(parameters):
            lacking.add(name)
    assert lacking == set(EXEMPT)


class Seen(TinyBackbone):
    """A backbone that records the sides and the number of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.sides: set[int] = set()

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.sides.add(images.shape[-1])
        return super().stages(images)


def write_folder(root: Path, *, shift: int) -> Path:
    """Write two classes of four images of noise, and a damaged file in each."""
    random = torch.Generator().manual_seed(shift)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            pixels = torch.randint(256, (24, 24, 3), generator=random, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / name / f"{number}.png")
        content = (root / name / "0.png").read_bytes()
        (root / name / "broken.png").write_bytes(content[: len(content) // 2])
    return root


def probed(backbone: Any, train: Any, test: Any, **options: Any) -> int:
    return linear_probe(backbone, train, test, penalties=[1.0], **options).label_count


def finetuned(backbone: Any, train: Any, test: Any, **options: Any) -> int:
    result = freeze_and_finetune(backbone, "linear", train, test, steps=1, augment=None, **QUICK, **options)
    return int(result.classifier.trained["images"])


def compared(backbone: Any, train: Any, test: Any, **options: Any) -> int:
    budget: dict[str, Any] = {"epochs": 1, "batch_size": 4, "label_fractions": ()}
    result = compare(["rotation"], lambda: backbone, train, test, **budget, **QUICK, **options)
    return int(result.runs[-1].images)


def searched(backbone: Any, train: Any, test: Any, **options: Any) -> int:
    return len(nearest_neighbors(backbone, train, test, k=1, **options))


def paired(backbone: Any, train: Any, test: Any, **options: Any) -> int:
    return len(near_duplicates(backbone, train, test, threshold=0, **options).files)


def matched(backbone: Any, train: Any, test: Any, **options: Any) -> int:
    budget: dict[str, Any] = {"steps": 1, "batch_size": 4, "unlabeled_batch_size": 4, "augment": None}
    result = fixmatch(backbone, "linear", train, test, **budget, **QUICK, **options)
    return int(result.classifier.trained["images"])


def selected(backbone: Any, train: Any, test: Any, **options: Any) -> int:
    return len(select_to_label(train, 2, backbone=backbone, method="random", **options).files)


CALLS = [probed, finetuned, compared, searched, paired, matched, selected]


@pytest.mark.filterwarnings("ignore::pretextkit.errors.TrainingWarning", "ignore::pretextkit.errors.DataWarning")
@pytest.mark.parametrize("call", CALLS)
def test_damaged_files_are_skipped_and_images_resized(call: Callable[..., int], tmp_path: Path) -> None:
    train, test = write_folder(tmp_path / "train", shift=0), write_folder(tmp_path / "test", shift=1)
    backbone = Seen()
    assert call(backbone, train, test, size=12, on_error="skip") == 8
    assert backbone.sides == {12}


@pytest.mark.parametrize("call", CALLS)
def test_damaged_file_is_an_error_that_names_the_option(call: Callable[..., int], tmp_path: Path) -> None:
    train, test = write_folder(tmp_path / "train", shift=0), write_folder(tmp_path / "test", shift=1)
    with pytest.raises(DataError, match=r'on_error="skip"'):
        call(Seen(), train, test, size=12)


@pytest.mark.parametrize("call", CALLS)
def test_file_options_beside_tensors_are_refused(call: Callable[..., int]) -> None:
    part = (torch.rand(8, 3, 12, 12), torch.arange(8) % 2)
    with pytest.raises(OptionError, match="Expected size beside the path of a folder"):
        call(Seen(), part, part, size=12)
