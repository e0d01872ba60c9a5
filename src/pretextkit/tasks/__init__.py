"""Built-in pretext tasks, one a file."""

from pretextkit.tasks.autoencoder import Autoencoder
from pretextkit.tasks.colorization import Colorization
from pretextkit.tasks.context_encoder import CentreBlock, ContextEncoder, HoleShape, RandomBlocks
from pretextkit.tasks.denoising import Corruption, Denoising, GaussianNoise, HiddenPatches
from pretextkit.tasks.jigsaw import Jigsaw, distant_permutations
from pretextkit.tasks.jigsaw_context import JigsawContext
from pretextkit.tasks.patches import PatchLayout, PatchTask
from pretextkit.tasks.rotation import Rotation
from pretextkit.tasks.simclr import SimCLR

__all__ = [
    "Autoencoder",
    "CentreBlock",
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
