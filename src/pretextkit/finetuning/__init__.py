"""Train a head and the backbone on labeled images, alone or with unlabeled images (FixMatch)."""

from pretextkit.finetuning._finetune import FinetuneResult, freeze_and_finetune
from pretextkit.finetuning._fixmatch import fixmatch
from pretextkit.finetuning._recipe import FinetuneSettings

__all__ = ["FinetuneResult", "FinetuneSettings", "fixmatch", "freeze_and_finetune"]
