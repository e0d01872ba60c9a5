"""Pretrain a ResNet-18 on the rotations of street digits and probe every stage for the digits.

    python experiments/svhn_rotation.py --data data/svhn.npz --stem small --epochs 3

``--data`` takes any source of ``pretextkit.data.load``: an ``.npz`` file with ``train_images`` and so on, a folder, or
``svhn``, which torchvision downloads. Repeat the command to resume a stopped run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from _report import write_report

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import linear_probe, pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="svhn")
    parser.add_argument("--stem", choices=["small", "imagenet"], default="small")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, help="number of images to pretrain on; all by default")
    parser.add_argument("--labels", type=int, default=732, help="number of labeled images for the probe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/svhn-rotation"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    data = pk.data.load(options.data)
    print(data)
    chosen = pk.data.stratified_subset(data.train_labels, options.labels, seed=options.seed)
    few = (data.train_images[chosen], data.train_labels[chosen])

    torch.manual_seed(options.seed)
    backbone = pk.models.ResNet18(stem=options.stem)
    backbone.normalization.measure(data.train_images)
    task = pk.tasks.Rotation(backbone)
    views = task.views(data.train_images[:8].float() / 255, torch.Generator())
    figure = plots.views(views, label_names=task.label_names)
    figure.savefig(options.out / f"svhn-rotation-{options.stem}-views.png")

    random_init = linear_probe(backbone, few, data.test, layers="all", pool=[1, 2])
    print(f"random init, {random_init}")
    result = pretrain(
        task,
        data.train_images[: options.images],
        epochs=options.epochs,
        batch_size=64,
        seed=options.seed,
        checkpoint=options.out / "run",
    )
    print(result)
    probe = linear_probe(backbone, few, data.test, layers="all", pool=[1, 2])
    print(f"rotation, {probe}")

    task.eval()
    with torch.no_grad():
        correct = 0.0
        for images in torch.split(data.test_images, 256):
            output = task.step(images.to(result.device), torch.Generator())
            correct += output.metrics["accuracy"].item() * len(images)
    held_out = correct / len(data.test_images)
    print(f"rotation accuracy on test images: {held_out:.1%}")
    write_report(
        options.out / f"svhn-rotation-{options.stem}.json",
        data,
        stem=options.stem,
        epochs=options.epochs,
        labels=options.labels,
        seed=options.seed,
        seconds=result.history.last["seconds"],
        rotation_accuracy_on_test=held_out,
        random_init={name: score.accuracy for name, score in random_init.layers.items()},
        rotation={name: score.accuracy for name, score in probe.layers.items()},
        random_init_chosen={"layer": random_init.layer, "accuracy": random_init.accuracy},
        rotation_chosen={"layer": probe.layer, "accuracy": probe.accuracy},
    )


if __name__ == "__main__":
    main()
