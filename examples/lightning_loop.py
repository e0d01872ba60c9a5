"""Pretrain under Lightning. The generator is in the checkpoint, so that a resumed run draws new views.

python examples/lightning_loop.py --steps 200
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning
import torch

import pretextkit as pk


class Pretraining(lightning.LightningModule):  # type: ignore[misc]  # Any where Lightning is not installed
    def __init__(self, task: pk.PretextTask[Any]) -> None:
        super().__init__()
        self.task, self.generator = task, torch.Generator().manual_seed(0)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self.task.step(batch[0], self.generator).loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.task.after_step()  # momentum copies and queues

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.task.parameters(), lr=1e-3)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["generator"] = self.generator.get_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.generator.set_state(checkpoint["generator"].cpu())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("out/lightning_loop"))
    args = parser.parse_args()
    images = pk.data.load("sample").train.images  # n c h w, uint8
    module = Pretraining(pk.tasks.SimCLR(pk.backbones["torchvision/resnet18"]()))
    module.task.backbone.normalization.measure(images)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), 64, shuffle=True)
    options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "default_root_dir": args.out}
    trainer = lightning.Trainer(max_steps=args.steps, enable_checkpointing=False, **options)
    trainer.fit(module, loader)
    trainer.save_checkpoint(args.out / "run.ckpt")
    resumed = lightning.Trainer(max_steps=args.steps + 1, enable_checkpointing=False, **options)
    resumed.fit(module, loader, ckpt_path=args.out / "run.ckpt", weights_only=False)


if __name__ == "__main__":
    main()
