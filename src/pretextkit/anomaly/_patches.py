"""Score image patches by the distance of their features to a memory bank of normal patches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._fingerprint import function_name
from pretextkit._modules import check_model, module_device, refuse_meta
from pretextkit._validation import check_finite, check_int
from pretextkit.anomaly._error_maps import Reduction, resize_maps, resolve_reduction
from pretextkit.anomaly._neighbors import nearest_distances
from pretextkit.anomaly._scores import AnomalyScores, files_of, full_images, image_batches
from pretextkit.data import ImagesLike, as_source
from pretextkit.data._accepted_channels import retry_in_color
from pretextkit.data._collate import join_maps
from pretextkit.data._sources import ImageSource
from pretextkit.data._types import OnError, Size
from pretextkit.errors import ShapeError
from pretextkit.evaluation._features import Layers, Model
from pretextkit.inference._capture import capture_maps

__all__ = ["patch_anomaly_score"]

BATCH_SIZE = 64


def patch_anomaly_score(
    backbone: Model,
    normal: ImagesLike,
    images: ImagesLike,
    *,
    layers: Layers = "last",
    k: int = 1,
    memory_bank_size: int = 16_384,
    reduction: Reduction = "max",
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> AnomalyScores:
    """Score each patch of an image by the distance of its features to the nearest normal patches.

    Feature maps are smoothed over 3x3 positions, resized to the largest map and concatenated, as in PatchCore (Roth et
    al. 2022, arXiv 2106.08265). Unlike the paper's greedy coreset, the memory bank is a random sample with the same
    number of patches from each normal image. Middle layers detect small defects and still have context.

    Args:
        backbone: A ``SpatialBackbone``, any module with layers that give maps, or a function that gives maps.
        normal: Normal reference images: tensor ``n c h w``, numpy array, ``Dataset``, ``DataLoader`` or a folder's
            path.
        images: Images to score, from the same types of sources.
        layers: Layers, as for :func:`~pretextkit.functional.extract_features`.
        k: Number of neighbors whose distances are averaged.
        memory_bank_size: Number of normal patches to keep, at least one per image.
        reduction: Reduction of a map to a score, as for :func:`reconstruction_anomaly_score`.
        batch_size: Images per forward pass.
        seed: Seed of the random sample of patches.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        A score and a map ``h w`` for each image.

    Raises:
        UnknownNameError: The backbone has no layer of that name, or there is no reduction of that name.
        OptionError: ``k``, ``memory_bank_size`` or ``batch_size`` is below 1.
        ShapeError: A layer does not give maps, or maps of normal images and of images to score differ in channels.

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
    seed, batch_size = (
        check_int("seed", seed, at_least=None, of=patch_anomaly_score),
        check_int("batch_size", batch_size, of=patch_anomaly_score),
    )
    normal, images = full_images(normal, images, size=size, on_error=on_error)
    check_model(backbone)
    refuse_meta(backbone)
    device = module_device(backbone)

    def batches(source: ImageSource) -> Iterator[Tensor]:
        return image_batches(source, batch_size, device, of=patch_anomaly_score)

    with evaluation_mode(backbone), capture_maps(backbone, layers) as read:

        def fill_memory(source: ImageSource) -> Tensor:
            generator, per_image = Generator().manual_seed(seed), max(1, memory_bank_size // len(source))
            return torch.cat([_sample_patches(_join_maps(read(x)), per_image, generator) for x in batches(source)])

        memory_bank = retry_in_color(fill_memory, as_source(normal))
        check_finite(memory_bank, "features of normal images")
        maps = retry_in_color(
            lambda source: join_maps([_distance_maps(memory_bank, read(x), x, k).cpu() for x in batches(source)]),
            as_source(images),
        )
    return AnomalyScores(
        reduce(maps),
        maps,
        files_of(images),
        measure=f"distance of patches to the nearest normal patches ({function_name(reduction)})",
        by="patch_anomaly_score",
    )


def _distance_maps(memory_bank: Tensor, layers: dict[str, Tensor], inputs: Tensor, k: int) -> Tensor:
    """Measure the distance of each patch to the memory bank, ``b h w`` of the images."""
    patches = _join_maps(layers)
    check_finite(patches, "features of images to score")
    if patches.shape[1] != memory_bank.shape[1]:
        raise ShapeError(
            f"maps of {memory_bank.shape[1]} channels, as for normal images",
            got=f"{patches.shape[1]}",
            fix="Let the backbone give maps b d h w with the same d for all images.",
        )
    height, width = patches.shape[2:]
    distances = nearest_distances(memory_bank, patches.permute(0, 2, 3, 1).flatten(0, 2), k)
    return resize_maps(distances.view(-1, height, width), inputs)


def _join_maps(layers: dict[str, Tensor]) -> Tensor:
    """Smooth feature maps and concatenate them as ``b d h' w'``, at the size of the largest map."""
    smooth = [nn.functional.avg_pool2d(each, 3, 1, 1, count_include_pad=False) for each in layers.values()]
    size = max((tuple(each.shape[2:]) for each in smooth), key=lambda size: size[0] * size[1])
    return torch.cat(
        [nn.functional.interpolate(each, size, mode="bilinear", align_corners=False) for each in smooth], 1
    )


def _sample_patches(maps: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw ``count`` positions from each map of ``b d h w``, as rows of features; all positions if there are fewer."""
    patches = maps.flatten(2).transpose(1, 2)
    chosen = torch.rand(patches.shape[:2], generator=generator).argsort(1)[:, :count].to(maps.device)
    return patches.gather(1, chosen[..., None].expand(-1, -1, patches.shape[2])).flatten(0, 1)
