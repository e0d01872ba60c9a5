"""Built-in pretext tasks, one per file."""

from pretextkit.tasks._autoencoder import Autoencoder
from pretextkit.tasks._colorization import Colorization
from pretextkit.tasks._context_encoder import CenterBlock, ContextEncoder, HoleShape, RandomBlocks
from pretextkit.tasks._denoising import Corruption, Denoising, GaussianNoise, HiddenPatches
from pretextkit.tasks._jigsaw import Jigsaw, distant_permutations
from pretextkit.tasks._jigsaw_context import JigsawContext
from pretextkit.tasks._patches import PatchLayout, PatchTask
from pretextkit.tasks._rotation import Rotation
from pretextkit.tasks._simclr import SimCLR

__all__ = [
    "Autoencoder",
    "CenterBlock",
    "Colorization",
    "ContextEncoder",
    "Corruption",
    "Denoising",
    "GaussianNoise",
    "HiddenPatches",
    "HoleShape",
    "Jigsaw",
    "JigsawContext",
    "PatchLayout",
    "PatchTask",
    "RandomBlocks",
    "Rotation",
    "SimCLR",
    "distant_permutations",
]
