"""Take one training step of every pretext task with every backbone, and table what works and what is refused.

    python experiments/backbones_table.py --out docs/figures/backbones.json

A cell says "works", or the number of the error. The teacher of distillation is a small-cnn. Images are 32x32 or 64x64
pixels of noise, because a step either runs or does not. Errors of any other kind than pretextkit's stop the script.
"""

from __future__ import annotations

import argparse
import copy
import functools
import warnings
from pathlib import Path

import torch
from _report import write_report

import pretextkit as pk

BACKBONES = (
    "small-cnn",
    "resnet18",
    "vit-tiny",
    "torchvision/resnet18",
    "torchvision/resnet50",
    "torchvision/mobilenet_v3_small",
    "timm/resnet18",
    "timm/convnext_atto",
    "timm/vit_tiny_patch16_224",
)


@functools.cache
def build(backbone: str) -> pk.Backbone:
    """Build a backbone once; each task gets a copy."""
    return pk.backbones.create(backbone)


def step(backbone: str, task: str, size: int) -> str:
    """Take a step on four images, backward pass included; return "works" or the reason of the refusal."""
    try:
        images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))
        needed = {"teacher": pk.models.SmallCNN()} if task == "distillation" else {}
        module = pk.pretext_tasks.create(task, copy.deepcopy(build(backbone)), **needed)
        output = module.train().step(images, torch.Generator().manual_seed(0))
        torch.autograd.backward(output.loss)
    except pk.errors.PluginError:
        raise  # timm is not installed, which says nothing of the backbone
    except pk.PretextkitError as error:
        return str(error)
    without = [name for name, weight in module.named_parameters() if weight.requires_grad and weight.grad is None]
    if without or not output.loss.isfinite():
        raise SystemExit(f"{task} of {backbone}: loss {float(output.loss)}, no gradient for {without}.")
    return "works"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, help="registered names")
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 64], help="sides of the images in pixels")
    parser.add_argument("--out", type=Path, default=Path("out/backbones.json"), help="the report, or a folder for it")
    args = parser.parse_args()
    warnings.simplefilter("error")
    tables = {}
    reasons: list[str] = []
    for size in args.sizes:
        rows = {}
        for task in pk.pretext_tasks:
            cells = []
            for backbone in args.backbones:
                result = step(backbone, task, size)
                if result != "works" and result not in reasons:
                    reasons.append(result)
                cells.append("works" if result == "works" else f"[{reasons.index(result) + 1}]")
                print(size, backbone, task, result, flush=True)
            rows[task] = cells
        tables[f"{size}x{size} pixels"] = {"corner": "Task", "columns": list(args.backbones), "rows": rows}
    tables["Reasons"] = {
        "corner": "Number",
        "columns": ["Error"],
        "rows": {f"[{number}]": [text] for number, text in enumerate(reasons, 1)},
    }
    path = args.out if args.out.suffix == ".json" else args.out / "backbones.json"
    write_report(path, "random pixels", tables=tables)


if __name__ == "__main__":
    main()
