"""Your own few labels and many unlabeled images: pretrain on all, then train a classifier with the labels.

    python examples/few_labels.py --data photos --labels 200

``--data`` is any source of ``pretextkit.data.load``; a folder has one folder of images for each class, below ``train``
and ``test``. Only ``--labels`` of the training labels are used. The example prints the test accuracy of a linear probe
and of fine-tuning, after pretraining and from random weights: pretraining is worth its time if it beats random weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import pretextkit as pk
from pretextkit.functional import freeze_and_finetune, linear_probe, pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load")
    parser.add_argument("--size", type=int, help="resize the images to this many pixels")
    parser.add_argument("--task", default="rotation", choices=list(pk.pretext_tasks))
    parser.add_argument("--labels", type=int, default=200, help="number of labeled training images")
    parser.add_argument("--images", type=int, help="number of images to pretrain on; all by default")
    parser.add_argument("--epochs", type=int, help="epochs of pretraining; chosen from the images by default")
    parser.add_argument("--steps", type=int, help="steps of fine-tuning; chosen from the labels by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/few-labels"))
    options = parser.parse_args()

    data = pk.data.load(options.data, size=options.size)
    print(data)
    images = data.train_images[: options.images]
    chosen = pk.data.stratified_subset(data.train_labels, options.labels, seed=options.seed)  # all classes are present
    labeled = (data.train_images[chosen], data.train_labels[chosen])

    for pretrained in (False, True):
        torch.manual_seed(options.seed)
        backbone = pk.backbones["small-cnn"]()
        backbone.normalization.measure(images)
        if pretrained:
            task = pk.pretext_tasks[options.task](backbone)
            # An interrupted run continues from the checkpoint when the command is repeated.
            folder = options.out / "checkpoint"
            print(pretrain(task, images, epochs=options.epochs, seed=options.seed, checkpoint=folder))

        # The probe does not change the backbone. It chooses layers and penalty on the labeled images.
        probe = linear_probe(backbone, labeled, data.test)
        tuned = freeze_and_finetune(backbone, "linear", labeled, data.test, steps=options.steps, seed=options.seed)
        name = options.task if pretrained else "random init"
        print(f"{name}: linear probe {probe.accuracy:.1%} ({probe.layer}), fine-tuned {tuned.accuracy:.1%}")

    options.out.mkdir(parents=True, exist_ok=True)
    tuned.classifier.save(options.out / "classifier.pt")
    print(f"The fine-tuned classifier is in {options.out / 'classifier.pt'}")


if __name__ == "__main__":
    main()
