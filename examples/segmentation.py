"""Segmentation: pretrain on unlabeled images, then fit a segmentation head on frozen feature maps.

    python examples/segmentation.py --data camvid.npz

``--data`` is any source of ``pretextkit.data.load_segmentation``: an ``.npz`` file, or a folder in the layout of Pascal
VOC. By default the embedded sample is segmented into garment and background by a threshold. ``--out`` receives a plot.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import pretextkit as pk
from pretextkit.data import SegmentationData, Segmented, load_segmentation
from pretextkit.functional import pretrain, segmentation_probe
from pretextkit.plots import segmentation


def sample() -> SegmentationData:
    """Label every pixel of the embedded sample as background (dark) or garment (bright)."""
    data = pk.data.load("sample")
    train, test = (
        Segmented(images, (images[:, 0] > 20).to(torch.uint8)) for images in (data.train_images, data.test_images[:100])
    )
    return SegmentationData("sample", train, None, test, ("background", "garment"), 255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load_segmentation, or sample")
    parser.add_argument("--task", default="rotation", choices=list(pk.pretext_tasks))
    parser.add_argument("--images", type=int, help="number of images to pretrain on; all by default")
    parser.add_argument("--labels", type=int, default=200, help="number of training images with masks")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of pretraining")
    parser.add_argument("--steps", type=int, default=200, help="steps of each fit of the head")
    parser.add_argument("--out", type=Path, default=Path("out/segmentation"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    data = sample() if options.data == "sample" else load_segmentation(options.data)
    print(data)
    labeled = Segmented(*(part[: options.labels] for part in data.train))
    masks = {}
    for name in ("random init", options.task):
        torch.manual_seed(0)
        backbone = pk.models.SmallCNN()
        backbone.normalization.measure(data.train.images)
        if name != "random init":
            task = pk.pretext_tasks.create(name, backbone)
            images = data.train.images[: options.images]
            print(pretrain(task, images, epochs=options.epochs, checkpoint=options.out / "checkpoint"))
        # The probe fits a head on every stage and chooses the stage on a split of the training images.
        result = segmentation_probe(
            backbone, labeled, data.test, layers="all", steps=options.steps, ignore_index=data.ignore_index
        )
        print(f"{name}: {result}")
        masks[name] = result.predictions[:4]

    images, truth = data.test.images[:4], data.test.masks[:4]
    figure = segmentation(images, truth, masks, data.class_names, ignore_index=data.ignore_index)
    figure.savefig(options.out / "segmentation.png")


if __name__ == "__main__":
    main()
