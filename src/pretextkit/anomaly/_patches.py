"""Patches: where an image has features that no normal image has anywhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from pretextkit._evaluation_mode import evaluation_mode, module_device
from pretextkit._validation import check_int
from pretextkit.anomaly._error_maps import resize_maps
from pretextkit.anomaly._neighbors import nearest_distances
from pretextkit.anomaly._reading import image_batches
from pretextkit.anomaly._reduction import Reduction, resolve_reduction
from pretextkit.anomaly._scores import AnomalyScores
from pretextkit.data import as_source
from pretextkit.errors import ShapeError
from pretextkit.evaluation._features import Layers, Model
from pretextkit.evaluation._maps import capture_maps

__all__ = ["patch_anomaly_score"]


def patch_anomaly_score(
    backbone: Model,
    normal: Any,
    images: Any,
    *,
    layers: Layers = "last",
    k: int = 1,
    memory_bank_size: int = 16_384,
    reduction: Reduction = "max",
    batch_size: int = 64,
    seed: int = 0,
) -> AnomalyScores:
    """Score every place of an image by the distance of its features to the nearest of any normal image.

    Maps of the chosen layers are smoothed over 3x3 places, brought to the largest one's size and put side by side, as
    in PatchCore (Roth et al. 2022, arXiv 2106.08265). The memory is a random part of the normal patches, as many of
    each image, in place of its greedy choice. Middle layers see small defects, and know enough of their surroundings.

    Args:
        backbone: A ``SpatialBackbone``, any module with layers that give maps, or a function that gives maps.
        normal: Normal images: tensor ``n c h w``, numpy array, ``Dataset``, ``DataLoader`` or a folder's path.
        images: Likewise, to be scored.
        layers: As for :func:`~pretextkit.functional.extract_features`.
        k: Neighbors whose distance is averaged.
        memory: Normal patches to remember, but at least one of each image.
        reduction: From a map to a score, as for :func:`reconstruction_anomaly_score`.
        batch_size: Images at a time.
        seed: Of the choice of patches.

    Returns:
        A score for each image and a map of the image's size.

    Raises:
        UnknownNameError: The backbone has no layer, or there is no reduction, of that name.
        OptionError: ``k``, ``memory_bank_size`` or ``batch_size`` is below 1.
        ShapeError: A layer does not give maps, or normal images have others than those to score.

    Example:
        >>> normal, images = torch.zeros(4, 3, 16, 16), torch.zeros(2, 3, 16, 16)
        >>> images[1, :, :4, :4] = 1.0
        >>> result = patch_anomaly_score(torch.nn.AvgPool2d(4), normal, images)
        >>> result.scores.argmax().item(), result.maps.shape, divmod(result.maps[1].argmax().item(), 16)
        (1, torch.Size([2, 16, 16]), (0, 0))
    """
    reduce = resolve_reduction(reduction)
    k, memory_bank_size = (
        check_int("k", k, of=patch_anomaly_score),
        check_int("memory_bank_size", memory_bank_size, of=patch_anomaly_score),
    )
    generator = Generator().manual_seed(check_int("seed", seed, at_least=None, of=patch_anomaly_score))
    device = module_device(backbone)
    maps = []
    with evaluation_mode(backbone), capture_maps(backbone, layers) as read:
        source = as_source(normal)
        share = max(1, memory_bank_size // len(source))
        known = torch.cat(
            [
                _choose(_side_by_side(read(inputs)), share, generator)
                for inputs in image_batches(source, batch_size, device, patch_anomaly_score)
            ]
        )
        for inputs in image_batches(images, batch_size, device, patch_anomaly_score):
            places = _side_by_side(read(inputs))
            if places.shape[1] != known.shape[1]:
                raise ShapeError(
                    f"maps of {known.shape[1]} channels, as normal images have",
                    got=f"{places.shape[1]}",
                    fix="Let the backbone give maps b d h w with the same d for all images.",
                )
            height, width = places.shape[2:]
            distances = nearest_distances(known, places.permute(0, 2, 3, 1).flatten(0, 2), k)
            maps.append(resize_maps(distances.view(-1, height, width), inputs).cpu())
    found = torch.cat(maps)
    return AnomalyScores(reduce(found), found)


def _side_by_side(layers: dict[str, Tensor]) -> Tensor:
    """Smooth maps and join them as ``b d h' w'``, of the largest one's size."""
    smooth = [nn.functional.avg_pool2d(each, 3, 1, 1, count_include_pad=False) for each in layers.values()]
    size = max((tuple(each.shape[2:]) for each in smooth), key=lambda size: size[0] * size[1])
    return torch.cat(
        [nn.functional.interpolate(each, size, mode="bilinear", align_corners=False) for each in smooth], 1
    )


def _choose(maps: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw ``count`` places of each of ``b d h w``, as rows of features; all where there are fewer."""
    places = maps.flatten(2).transpose(1, 2)
    which = torch.rand(places.shape[:2], generator=generator).argsort(1)[:, :count].to(maps.device)
    return places.gather(1, which[..., None].expand(-1, -1, places.shape[2])).flatten(0, 1)
