"""Answers of sources: order, splitting, batch size, fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, TensorDataset

from pretextkit.data import DatasetImages, ImageSource, LoaderImages, StreamImages, TensorImages
from pretextkit.data._collate import ImageBatch, rebatch
from pretextkit.errors import OptionError

IMAGES = torch.arange(10 * 3 * 4, dtype=torch.uint8).view(10, 3, 2, 2)


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(IMAGES)


def loader(**options: Any) -> LoaderImages:
    return LoaderImages(DataLoader(TensorDataset(IMAGES), batch_size=4, **options))


@pytest.mark.parametrize(
    ("source", "decides_order", "splits_itself", "fixed_order", "batch_size"),
    [
        (TensorImages(IMAGES), False, False, False, None),
        (DatasetImages(TensorDataset(IMAGES)), False, False, False, None),
        (loader(), True, False, True, 4),
        (loader(shuffle=True), True, False, False, 4),
        (StreamImages(Stream(), length=10), True, True, False, None),
    ],
)
def test_source_answers_for_itself(
    source: ImageSource, decides_order: bool, splits_itself: bool, fixed_order: bool, batch_size: int | None
) -> None:
    for each in (source, source.without_labels(), ImageSource.without_labels(source)):
        assert each.decides_order is decides_order
        assert each.splits_itself is splits_itself
        assert each.fixed_order is fixed_order
        assert each.preferred_batch_size == batch_size
        assert (each.fingerprint() is None) is decides_order
        assert each.copied_generator is None
        each.check_unsplit()


def test_fingerprint_is_that_of_the_first_images() -> None:
    same = DatasetImages(TensorDataset(IMAGES)).fingerprint()
    assert TensorImages(IMAGES).fingerprint() == same
    assert TensorImages(IMAGES.flip(0)).fingerprint() != same


def test_check_unsplit_refuses_a_distributed_sampler() -> None:
    data = TensorDataset(IMAGES)
    source = loader(sampler=DistributedSampler(data, num_replicas=2, rank=0))
    for each in (source, ImageSource.without_labels(source)):
        with pytest.raises(OptionError, match="the same full loader on every process"):
            each.check_unsplit()


@pytest.mark.parametrize("labels", [None, torch.arange(10)])
def test_in_memory_reads_all_images_and_labels(labels: Tensor | None) -> None:
    tensors = TensorImages(IMAGES, labels)
    assert tensors.in_memory() is tensors
    data = TensorDataset(IMAGES) if labels is None else TensorDataset(IMAGES, labels)
    found = DatasetImages(data).in_memory()
    assert torch.equal(found.images, IMAGES)
    assert (found.labels is None) if labels is None else torch.equal(found.labels, labels)  # type: ignore[arg-type]


def test_rebatch_cuts_and_joins_until_the_stream_ends() -> None:
    numbers = torch.arange(9)
    stream = iter([ImageBatch(IMAGES[:4], numbers[:4]), ImageBatch(IMAGES[4:9], numbers[4:])])
    batches = [batch.labels.tolist() for batch in rebatch(stream, [3, 5, 3, 3]) if batch.labels is not None]
    assert batches == [[0, 1, 2], [3, 4, 5, 6, 7], [8]]
