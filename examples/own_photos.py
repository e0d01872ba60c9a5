"""From a folder of photos and a CSV file to predictions.

    python examples/own_photos.py                                 # photos made from the embedded sample
    python examples/own_photos.py --data data/tinyimagenet20.npz  # or from any source of pretextkit.data.load

The photos are made as untidy as people's folders are; then nine statements do the work, without any glue.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from untidy_folder import make_untidy_folder

import pretextkit as pk
from pretextkit.functional import freeze_and_finetune, linear_probe, pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load")
    parser.add_argument("--backbone", default="small-cnn", choices=list(pk.backbones))
    parser.add_argument("--images", type=int, default=2000, help="number of photos")
    parser.add_argument("--labels", type=int, default=100, help="number of photos with a label")
    parser.add_argument("--epochs", type=int, help="epochs of pretraining; chosen from the photos by default")
    parser.add_argument("--steps", type=int, help="steps of fine-tuning; chosen from the labels by default")
    parser.add_argument("--out", type=Path, default=Path("out/own-photos"))
    options = parser.parse_args()
    out = options.out
    make_untidy_folder(out, options.data, photos=options.images, labels=options.labels, new=options.images // 10)

    # A warning names the two rows of labels.csv whose photos are gone.
    photos = pk.data.FolderImages(out / "photos", labels=out / "labels.csv", on_error="skip")
    print(photos)

    torch.manual_seed(0)
    backbone = pk.backbones[options.backbone]()
    print(pretrain(pk.pretext_tasks["simclr"](backbone), photos, epochs=options.epochs, checkpoint=out / "run"))
    print(linear_probe(backbone, photos))  # cross-validated on the labels
    result = freeze_and_finetune(backbone, "linear", photos, steps=options.steps)
    print(result)
    result.classifier.save(out / "clothes.pt")

    # Another day, in another process:
    classifier = pk.load_classifier(out / "clothes.pt")
    predictions = classifier.predict(out / "new-photos")
    print(predictions)
    predictions.to_csv(out / "predictions.csv")


if __name__ == "__main__":
    main()
