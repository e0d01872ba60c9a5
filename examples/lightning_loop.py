"""Pretrain under Lightning, stop, and resume from the checkpoint: python examples/lightning_loop.py --steps 200"""

import argparse
from typing import Any

import lightning
import torch

import pretextkit as pk


class Pretraining(lightning.LightningModule):  # type: ignore[misc]  # Any where Lightning is not installed
    def __init__(self, task: pk.PretextTask[Any]) -> None:
        super().__init__()
        self.task, self.generator = task, torch.Generator().manual_seed(0)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        seed = int(torch.randint(2**62, (), generator=self.generator)) + self.global_rank
        return pk.functional.run_step(self.task, batch[0], torch.Generator().manual_seed(seed)).loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.task.after_step()  # momentum copies and queues

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["generator"] = self.generator.get_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.generator.set_state(checkpoint["generator"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.task.parameters(), lr=1e-3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", default="out/lightning_loop")
    args = parser.parse_args()
    images = pk.data.load("sample").train.images  # n c h w, uint8
    task = pk.tasks.SimCLR(pk.backbones["torchvision/resnet18"]())
    task.backbone.normalization.measure(images)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), 64, shuffle=True)
    for until, begin in ((args.steps, None), (args.steps + 1, f"{args.out}/run.ckpt")):
        trainer = lightning.Trainer(max_steps=until, accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.fit(Pretraining(task), loader, ckpt_path=begin, weights_only=True)
        trainer.save_checkpoint(f"{args.out}/run.ckpt")
