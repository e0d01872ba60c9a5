"""Batched image transforms: pure functions, with random parameters drawn for each image."""

from pretextkit.views._augmentation import Augmentation, LightAugmentation
from pretextkit.views._color import color_jitter, random_grayscale, to_grayscale
from pretextkit.views._crop import random_horizontal_flip, random_resized_crop
from pretextkit.views._crop_and_recolor import CropAndRecolor
from pretextkit.views._mask import hide_pixels, mask_blocks, mask_center, mask_patches
from pretextkit.views._patches import cut_patches, drop_colors, standardize_patches
from pretextkit.views._rotate import all_rotations, rotate90
from pretextkit.views._strong import StrongAugmentation

__all__ = [
    "Augmentation",
    "CropAndRecolor",
    "LightAugmentation",
    "StrongAugmentation",
    "all_rotations",
    "color_jitter",
    "cut_patches",
    "drop_colors",
    "hide_pixels",
    "mask_blocks",
    "mask_center",
    "mask_patches",
    "random_grayscale",
    "random_horizontal_flip",
    "random_resized_crop",
    "rotate90",
    "standardize_patches",
    "to_grayscale",
]
