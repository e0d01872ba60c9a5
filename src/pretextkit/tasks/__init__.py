"""Built-in pretext tasks, one per file."""

from pretextkit.tasks._autoencoder import Autoencoder
from pretextkit.tasks._barlow_twins import BarlowTwins
from pretextkit.tasks._byol import BYOL
from pretextkit.tasks._colorization import Colorization
from pretextkit.tasks._context_encoder import CenterBlock, ContextEncoder, HoleShape, RandomBlocks
from pretextkit.tasks._denoising import Corruption, Denoising, GaussianNoise, HiddenPatches
from pretextkit.tasks._dino import DINO
from pretextkit.tasks._distillation import Distillation
from pretextkit.tasks._jigsaw import Jigsaw, distant_permutations
from pretextkit.tasks._jigsaw_context import JigsawContext
from pretextkit.tasks._lejepa import LeJEPA
from pretextkit.tasks._mae import MAE
from pretextkit.tasks._moco_v3 import MoCoV3
from pretextkit.tasks._momentum import EmbeddingQueue, MomentumCopy, RunningMean
from pretextkit.tasks._multi_crop import MultiCrop, MultiViewTask
from pretextkit.tasks._nnclr import NNCLR
from pretextkit.tasks._patches import PatchLayout, PatchTask
from pretextkit.tasks._projection import ProjectionHead, PrototypeHead
from pretextkit.tasks._rotation import Rotation
from pretextkit.tasks._simclr import SimCLR
from pretextkit.tasks._simsiam import SimSiam
from pretextkit.tasks._swav import SwAV
from pretextkit.tasks._two_views import TwoViewTask
from pretextkit.tasks._vicreg import VICReg

__all__ = [
    "BYOL",
    "DINO",
    "MAE",
    "NNCLR",
    "Autoencoder",
    "BarlowTwins",
    "CenterBlock",
    "Colorization",
    "ContextEncoder",
    "Corruption",
    "Denoising",
    "Distillation",
    "EmbeddingQueue",
    "GaussianNoise",
    "HiddenPatches",
    "HoleShape",
    "Jigsaw",
    "JigsawContext",
    "LeJEPA",
    "MoCoV3",
    "MomentumCopy",
    "MultiCrop",
    "MultiViewTask",
    "PatchLayout",
    "PatchTask",
    "ProjectionHead",
    "PrototypeHead",
    "RandomBlocks",
    "Rotation",
    "RunningMean",
    "SimCLR",
    "SimSiam",
    "SwAV",
    "TwoViewTask",
    "VICReg",
    "distant_permutations",
]
