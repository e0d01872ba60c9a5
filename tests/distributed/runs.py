"""Program of the tests of several processes, and of one process for comparison.

    python runs.py FOLDER RANK PROCESSES

runs everything as one of the processes, and saves the outcomes in the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed.fsdp
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import pretextkit as pk
from pretextkit.distributed import _gather, gather_rows
from pretextkit.distributed._sharding import gather_state
from pretextkit.errors import DataError, DivergenceError, OptionError
from pretextkit.functional import pretrain
from pretextkit.testing import TinyBackbone, TinyTokenBackbone, toy_images

Task = pk.PretextTask[Any, Any]
Outcome = dict[str, Any]

IMAGES = toy_images(24, generator=Generator().manual_seed(0))
NAMES = tuple(pk.pretext_tasks)
SHARDS = hasattr(torch.distributed.fsdp, "fully_shard")  # since torch 2.6


def without_batch_norm(module: nn.Module) -> None:
    """Replace BatchNorm by GroupNorm, because torch synchronizes BatchNorm on GPUs only."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            norm = nn.GroupNorm(1, child.num_features, affine=child.affine)
            if child.affine and not child.weight.requires_grad:
                norm.requires_grad_(False)  # a momentum copy
            setattr(module, name, norm)
        without_batch_norm(child)


def without_kinks(module: nn.Module) -> None:
    """Replace ReLU by GELU, because rounding near 0 changes ReLU's gradient."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU | nn.LeakyReLU):
            setattr(module, name, nn.GELU())
        without_kinks(child)


def make(name: str, seed: int = 0) -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = TinyTokenBackbone() if name == "mae" else TinyBackbone()
        options = {"teacher": TinyBackbone()} if name == "distillation" else {}
        task: Task = pk.pretext_tasks.create(name, backbone, **options)
    without_batch_norm(task)
    without_kinks(task)
    return task


def shard(task: Task) -> None:
    """Shard the weights over the processes, with a group for each stage except the first."""
    _, *stages = (module for module in task.backbone.modules() if isinstance(module, nn.Sequential))
    for stage in stages:
        torch.distributed.fsdp.fully_shard(stage)
    torch.distributed.fsdp.fully_shard(task)


def outcome(task: Task, images: Any = IMAGES, *, sharded: bool = False, **options: Any) -> Outcome:
    """Train for five steps; return the weights and the history."""
    if sharded:
        shard(task)
    defaults = {"steps": 5, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.1}
    fixed: dict[str, Any] = {"device": "cpu", "precision": "fp32", "progress": False}
    result = pretrain(task, images, **{**defaults, **fixed, **options})
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history.rows]
    weights = gather_state(task.state_dict(), keep=True) if sharded else task.state_dict()
    return {"weights": weights, "rows": rows} | {
        "resumed_at": result.resumed_at,
        "steps": result.steps,
        "extends": result.settings.extends,
    }


class Contrast(pk.PretextTask[pk.batches.TwoViews]):
    """Noisy views, a momentum copy of the weights, and a queue of its features of the last batch."""

    queue: Tensor

    def __init__(self) -> None:
        super().__init__(TinyBackbone())
        self.slow = TinyBackbone().requires_grad_(False)
        self.register_buffer("queue", torch.zeros(8, 64))

    def views(self, images: Tensor, generator: Generator) -> pk.batches.TwoViews:
        noise = torch.randn(images.shape, generator=generator)
        scale = torch.rand(len(images), 1, 1, 1, generator=generator)
        shift = torch.randint(5, (len(images),), generator=generator).view(-1, 1, 1, 1) / 50
        return pk.batches.TwoViews((images + scale * noise / 5).clamp(0, 1), (images + shift).clamp(0, 1))

    def forward(self, batch: pk.batches.TwoViews) -> pk.TaskOutput:
        keys = self.slow(batch.b)
        loss = pk.losses.nt_xent_loss(self.backbone(batch.a), keys) + self.queue.square().mean()
        self.queue.copy_(gather_rows(keys)[:8])
        return pk.TaskOutput(loss, {})

    def after_step(self) -> None:
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.backbone.parameters(), strict=True):
                slow.lerp_(fast, 0.1)


def with_batch_norm(**more: Any) -> Outcome:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = pk.tasks.SimCLR(TinyBackbone())
    without_kinks(task)
    task.double()  # division by deviations over few images magnifies the rounding of fp32
    return outcome(task, batch_size=16, precision="auto", **more)  # the variance of two images is too close to 0


def contrast() -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Contrast()


def adversarial() -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = pk.tasks.ContextEncoder(
            TinyBackbone(), discriminator=pk.models.PatchDiscriminator(), adversarial_weight=0.5
        )
    without_batch_norm(task)
    without_kinks(task)
    return task


def darkened(images: Tensor, generator: Generator) -> Tensor:
    return images * torch.rand(len(images), 1, 1, 1, generator=generator)


ADAMW: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 2e-4, "clip_norm": 0.1}
"""Short steps, because Adam's steps have full length even for gradients that are rounding noise."""
RUNS: dict[str, Callable[..., Outcome]] = {
    name: lambda name=name, **more: outcome(make(name), **more) for name in NAMES
}
RUNS |= {
    "adamw": lambda **more: outcome(make("rotation"), **ADAMW, **more),
    "lars": lambda **more: outcome(make("simclr"), optimizer="lars", **more),
    "with a discriminator": lambda **more: outcome(adversarial(), **more),
    "in parts": lambda **more: outcome(make("jigsaw"), accumulate=2, batch_size=16, **more),
    "augmented": lambda **more: outcome(make("rotation"), augment=darkened, **more),
    "dataset": lambda **more: outcome(make("simclr"), TensorDataset(IMAGES), workers=1, **more),
    "loader": lambda **more: outcome(make("simclr"), DataLoader(TensorDataset(IMAGES), 5, shuffle=True), **more),
    "momentum and queue": lambda **more: outcome(contrast(), **more),
}
"""Runs that must end alike on any number of processes."""


class Seen(pk.tasks.Rotation):
    """Records the images from which it makes views."""

    def __init__(self) -> None:
        super().__init__(TinyBackbone())
        self.images: list[Tensor] = []

    def views(self, images: Tensor, generator: Generator) -> pk.batches.Labeled:
        self.images.append(images)
        return super().views(images, generator)


class Shards(IterableDataset[Tensor]):
    """A stream of shards with three images."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __iter__(self) -> Iterator[Tensor]:
        for shard in pk.data.shards_for_this_worker(torch.split(IMAGES, 3)):
            yield from shard


class Same(Shards):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(IMAGES)


def local_slice(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
    """Return the gradient of the process's own loss alone, as many gathers do."""
    rank, count = ctx.rank
    return upstream.chunk(count)[rank], None


def planted_local_slice() -> Outcome:
    exact = _gather._GatherRows.backward
    _gather._GatherRows.backward = staticmethod(local_slice)  # type: ignore[method-assign]
    try:
        return outcome(make("simclr"))
    finally:
        _gather._GatherRows.backward = exact  # type: ignore[method-assign]


def refusal(run: Callable[[], Any]) -> str:
    try:
        run()
    except (DataError, DivergenceError, OptionError) as error:
        return error.text
    return "nothing was refused"


def stopped_and_resumed(folder: Path, rank: int) -> Outcome:
    """Stop all processes at step 2 by a signal to one, and resume."""
    task, done = make("simclr"), [0]

    def after_step() -> None:
        done[0] += 1
        if done[0] == 2 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    task.after_step = after_step  # type: ignore[method-assign]
    status = 0
    try:
        outcome(task, checkpoint=folder / "run")
    except SystemExit as stop:
        status = int(stop.code or 0)
    own = folder / f"nothing of {rank} is here"  # hosts may share no folder: only rank 0 has the checkpoint
    resumed = outcome(make("simclr", seed=1 + rank), checkpoint=folder / "run" if rank == 0 else own)
    return {**resumed, "status": status, "steps": done[0], "own folder": own.exists()}


def stopped_and_resumed_sharded(folder: Path, rank: int) -> Outcome:
    """Stop a sharded run after step 2; resume it sharded and unsharded."""
    task, done = make("rotation"), [0]

    def after_step() -> None:
        done[0] += 1
        if done[0] == 2 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    task.after_step = after_step  # type: ignore[method-assign]
    with suppress(SystemExit):
        outcome(task, sharded=True, checkpoint=folder / "sharded" if rank == 0 else None, **ADAMW)
    if rank == 0:
        shutil.copytree(folder / "sharded", folder / "full")
    found = {}
    for kind in ("sharded", "full"):
        checkpoint = folder / kind if rank == 0 else None
        found[kind] = outcome(make("rotation", seed=1), sharded=kind == "sharded", checkpoint=checkpoint, **ADAMW)
    return found


def diverged_in_one_part(rank: int) -> Outcome:
    """Plant infinity in the shard of one process after the last loss."""
    task = make("rotation")

    def after_step() -> None:
        with torch.no_grad():
            part: Any = next(task.backbone.parameters())
            if rank == 1:
                part.to_local().fill_(torch.inf)

    task.after_step = after_step  # type: ignore[method-assign]
    return outcome(task, sharded=True, steps=1)


def sharded_in_part() -> Outcome:
    task = make("rotation")
    torch.distributed.fsdp.fully_shard(task.backbone)
    return outcome(task)


def of_sharded(folder: Path, rank: int) -> Outcome:
    return {name: run(sharded=True) for name, run in RUNS.items()} | {
        "batch norm": with_batch_norm(sharded=True),
        "resumed": stopped_and_resumed_sharded(folder, rank),
        "refusals": [refusal(lambda: diverged_in_one_part(rank)), refusal(sharded_in_part)],
    }


class StopAtTwo(pk.callbacks.Callback):
    def on_step(self, status: pk.callbacks.RunStatus) -> None:
        if status.step == 2:
            raise pk.callbacks.StopTraining("two steps")


def stopped_by_callback_and_extended(folder: Path, rank: int) -> Outcome:
    """Stop all processes by a callback of rank 0, finish the run, and extend it."""
    own = folder / "callback" if rank == 0 else folder / f"none of {rank}"
    stopped = outcome(make("simclr"), checkpoint=own, callbacks=[StopAtTwo()])
    finished = outcome(make("simclr", seed=1 + rank), checkpoint=own)
    longer = outcome(make("simclr", seed=1 + rank), checkpoint=own, steps=8)
    started = outcome(make("simclr", seed=1 + rank), steps=1, init=folder / "callback")
    return {
        "stopped": stopped["resumed_at"] + stopped["steps"],
        "resumed_at": [finished["resumed_at"], longer["resumed_at"], started["resumed_at"]],
        "extends": longer["extends"],
        "weights": finished["weights"],
        "longer": longer["weights"],
        "started": started["weights"],
    }


def one_of_several(folder: Path, rank: int, processes: int) -> Outcome:
    found: Outcome = {name: run() for name, run in RUNS.items()}
    task = Seen()
    outcome(task, epochs=2, steps=None)
    found["seen"] = torch.cat(task.images)
    task = Seen()
    outcome(task, Shards(), epochs=2, steps=None, workers=1)
    found["streamed"] = torch.cat(task.images)
    found["own weights"] = outcome(make("rotation", seed=rank))
    found["local slice"] = planted_local_slice()
    rows: list[Any] = []
    outcome(make("rotation"), callbacks=[rows.append])
    found["callbacks"] = len(rows)
    found["stopped and extended"] = stopped_by_callback_and_extended(folder, rank)
    found["batch norm"] = with_batch_norm()
    found["resumed"] = stopped_and_resumed(folder, rank)
    found["sharded"] = of_sharded(folder, rank) if SHARDS else {}
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(pk.tasks.SimCLR(TinyBackbone()))  # type: ignore[no-untyped-call]
    found["refusals"] = [
        refusal(lambda: outcome(make("rotation"), seed=rank)),
        refusal(lambda: outcome(make("rotation"), batch_size=2 * processes - 1)),
        refusal(lambda: outcome(synchronized)),
        refusal(lambda: outcome(make("rotation"), Same())),
        refusal(lambda: outcome(make("rotation"), callbacks=[pk.callbacks.KeepBest("loss", best="lowest")])),
    ]
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    torch.save(one_of_several(folder, rank, processes), folder / f"{rank}.pt")
    if not SHARDS:  # before PyTorch 2.6, destroying the group may never end
        torch.distributed.barrier()
        os._exit(0)
    torch.distributed.destroy_process_group()
