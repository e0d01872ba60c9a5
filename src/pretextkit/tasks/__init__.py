"""Built-in pretext tasks, one a file."""

from pretextkit.tasks.jigsaw_context import JigsawContext, PatchLayout
from pretextkit.tasks.rotation import Rotation
from pretextkit.tasks.simclr import SimCLR

__all__ = ["JigsawContext", "PatchLayout", "Rotation", "SimCLR"]
