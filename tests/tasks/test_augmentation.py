"""Views of every task with an augmentation are the views of augmented images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import pretextkit as pk
from pretextkit.errors import OptionError, ShapeError
from pretextkit.functional import reconstruction_anomaly_score, rotation_anomaly_score
from pretextkit.testing import TinyBackbone
from pretextkit.testing._cases import same
from pretextkit.views import LightAugmentation
from pretextkit.views._augmentation import augmented
from tests.helpers import generator, random_images

AUGMENTED = (
    pk.tasks.Autoencoder,
    pk.tasks.Colorization,
    pk.tasks.ContextEncoder,
    pk.tasks.Denoising,
    pk.tasks.Jigsaw,
    pk.tasks.JigsawContext,
    pk.tasks.Rotation,
)


def make(kind: Any, **options: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(TinyBackbone(), **options)


def darken(images: Tensor, draws: Generator) -> Tensor:
    return images * torch.rand(len(images), 1, 1, 1, generator=draws)


@pytest.mark.parametrize("kind", AUGMENTED)
@pytest.mark.parametrize("augmentation", ["default", LightAugmentation(flip=0.5), darken])
def test_views_are_those_of_augmented_images(kind: Any, augmentation: Any) -> None:
    images = random_images(4, size=40)
    task = make(kind) if augmentation == "default" else make(kind, augmentation=augmentation)
    plain = make(kind, augmentation=None)
    draws = generator(3)
    expected = plain.views(augmented(task.augmentation, images, draws), draws)
    assert same(task.views(images, generator(3)), expected)
    assert not same(plain.views(images, generator(3)), expected)


@pytest.mark.parametrize("kind", AUGMENTED)
def test_default_augmentation_is_light(kind: Any) -> None:
    default = LightAugmentation(jitter=0.0) if kind is pk.tasks.Colorization else LightAugmentation()
    assert make(kind).augmentation == default


@pytest.mark.parametrize("kind", [*AUGMENTED, pk.tasks.SimCLR])
def test_default_augmentation_never_flips(kind: Any) -> None:
    assert make(kind).augmentation.flip == 0


def test_rotations_of_an_image_share_crop_and_colors() -> None:
    batch = make(pk.tasks.Rotation).views(random_images(3), generator())
    for label, turned in enumerate(batch.images.chunk(4)):
        torch.testing.assert_close(torch.rot90(turned, -label, (2, 3)), batch.images[:3], rtol=0, atol=0)


def test_pairs_of_an_image_share_crop_and_colors() -> None:
    """Each image has one gray, which the augmentation moves: all its patches have the moved one."""
    task = make(pk.tasks.JigsawContext, augmentation=darken)
    task.remove_shortcuts = lambda patches, draws: patches
    images = torch.ones(5, 3, 40, 40)
    batch = task.views(images, generator())
    levels = torch.cat((batch.center, batch.neighbor), 3).reshape(5, -1)
    assert torch.equal(levels.amin(1), levels.amax(1))
    assert len(set(levels[:, 0].tolist())) == 5


def test_colorization_keeps_the_true_colors() -> None:
    """Crops of one color have this color."""
    colors = random_images(6, size=1).expand(6, 3, 24, 24)
    batch = make(pk.tasks.Colorization).views(colors, generator())
    torch.testing.assert_close(batch.target, colors)


@pytest.mark.parametrize("kind", AUGMENTED)
@pytest.mark.parametrize(
    ("wrong", "got"), [(False, "False"), (LightAugmentation, "the class LightAugmentation"), ("crop", "'crop'")]
)
def test_augmentation_that_is_no_function_is_refused(kind: Any, wrong: Any, got: str) -> None:
    with pytest.raises(OptionError) as caught:
        make(kind, augmentation=wrong)
    assert caught.value.text == (
        f"Expected augmentation to be a function of (images, generator), or None, but got {got}. "
        "Pass pretextkit.views.LightAugmentation() or another function; None leaves augmentation out."
    )


def test_augmentation_that_loses_images_is_refused() -> None:
    with pytest.raises(ShapeError, match="Expected 4 images b c h w from augment"):
        make(pk.tasks.Rotation, augmentation=lambda images, draws: images[:2]).views(random_images(4), generator())


def test_anomaly_scores_see_the_images_themselves() -> None:
    images = random_images(6, size=24)
    scores = [
        rotation_anomaly_score(make(pk.tasks.Rotation, **options), images) for options in ({}, {"augmentation": None})
    ]
    assert torch.equal(scores[0].scores, scores[1].scores)
    made = [make(pk.tasks.Autoencoder, **options) for options in ({}, {"augmentation": None})]
    first, second = (reconstruction_anomaly_score(task.reconstruct, images).scores for task in made)
    assert torch.equal(first, second)
