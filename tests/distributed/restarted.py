"""Program for torchrun: a run that is restarted after one of its processes was killed.

``torchrun --nproc-per-node 2 --max-restarts 1 restarted.py FOLDER``: in the first attempt, the second process is killed
after five steps. Without torchrun, the program does the same run on one process.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Generator

from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.training import _pretrain
from pretextkit.training._loop import train

FATAL, STEPS = 5, 8


class Fragile(Rotation):
    """Rotation that kills the second process of the first attempt."""

    steps = 0

    def after_step(self) -> None:
        self.steps += 1
        second_of_the_first = (os.environ.get("RANK"), os.environ.get("TORCHELASTIC_RESTART_COUNT")) == ("1", "0")
        if second_of_the_first and self.steps == FATAL:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    several = "TORCHELASTIC_RUN_ID" in os.environ
    if several:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    task = Fragile(TinyBackbone(), augmentation=None)
    images = toy_images(32, size=16, generator=Generator().manual_seed(0))
    with patch.object(_pretrain, "train", partial(train, checkpoint_seconds=-1.0)):  # a checkpoint after every step
        result = _pretrain.pretrain(
            task,
            images,
            steps=STEPS,
            batch_size=8,
            device="cpu",
            precision="fp32",
            progress=False,
            checkpoint=folder / "run",
        )
    if os.environ.get("RANK", "0") == "0":
        torch.save({"weights": task.state_dict(), "resumed_at": result.resumed_at}, folder / "ended.pt")
    if several:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
