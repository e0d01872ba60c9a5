"""From a folder of images to predictions with few labels: pretrain, choose what to label, label, train, predict.

    python examples/label_first.py --photos photos --labels 100

writes ``to_label.csv`` below ``--out`` and stops. Fill in its labels, as many as you like from the top, and repeat the
command: it goes on with a linear probe and FixMatch, and writes ``predictions.csv``. Without ``--photos``, the embedded
sample is written to a folder and labels itself, and a curve compares the choice with a random one.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

import pretextkit as pk
from pretextkit.functional import extract_features, fixmatch, linear_probe, pretrain, select_files, select_to_label
from pretextkit.plots import label_efficiency, selection


def accuracy(features: Tensor, truth: Tensor, rows: Tensor) -> float:
    """Probe with some labels and score all images; classes without a label count as errors."""
    known = torch.isin(truth, classes := torch.unique(truth[rows]))
    train, test = ((features[part], torch.searchsorted(classes, truth[part])) for part in (rows, known))
    return linear_probe(nn.Identity(), train, test).accuracy * known.float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of images; the embedded sample by default")
    parser.add_argument("--labels", type=int, default=100, help="number of images to label")
    parser.add_argument("--images", type=int, default=4000, help="images of the sample")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of pretraining")
    parser.add_argument("--steps", type=int, help="steps of FixMatch; chosen from the images by default")
    parser.add_argument("--out", type=Path, default=Path("out/label-first"))
    options = parser.parse_args()
    data, photos, table = pk.data.load("sample"), options.out / "photos", options.out / "to_label.csv"
    truth = data.train_labels[: options.images]
    photos.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate([] if options.photos else data.train_images[: options.images]):
        to_pil_image(image).save(photos / f"{number:04}.png")

    torch.manual_seed(0)
    backbone, photos = pk.models.SmallCNN(), options.photos or photos
    images = pk.data.as_source(pk.data.FolderImages(photos, labels=False)).in_memory().images
    print(pretrain(pk.tasks.SimCLR(backbone), images, epochs=options.epochs, checkpoint=options.out / "checkpoint"))
    if not table.exists():
        print(select_files(photos, backbone, options.labels, table))
    if not options.photos:  # the sample labels itself: 0012.png is image 12
        files = [row["file"] for row in csv.DictReader(table.open())]
        lines = [f"{file},{data.class_names[truth[int(Path(file).stem)]]}\n" for file in files]
        table.write_text("".join(["file,label\n", *lines]))
    labeled = pk.data.FolderImages(photos, labels=table)
    if not labeled.classes:
        return print(f"Fill in the labels in {table}, and repeat the command.")

    print("Linear probe, cross-validated on the labels:", linear_probe(backbone, labeled, layers="last"))
    features = extract_features(backbone, images)[0]["last"]
    matched = fixmatch(backbone, "linear", labeled, steps=options.steps)  # images without a label are unlabeled
    matched.classifier.save(options.out / "classifier.pt")
    predicted = matched.classifier.predict(photos)
    predicted.to_csv(options.out / "predictions.csv")
    print(matched, predicted, sep="\n")
    if not options.photos:
        right = [data.class_names[label] == name for label, name in zip(truth, predicted.classes, strict=True)]
        print(f"FixMatch: {sum(right) / len(right):.1%} of all images, with {len(files)} labels")
        chosen = {name: select_to_label(features, len(files), method=name) for name in ("typiclust", "random")}
        numbers = [number for number in (10, 20, 40, 70, 100, 200, 500) if number <= len(files)]
        curves = {k: {n: accuracy(features, truth, each.indices[:n]) for n in numbers} for k, each in chosen.items()}
        print("Linear probe:", curves)
        label_efficiency(curves).savefig(options.out / "curve.png")
        selection(chosen["typiclust"], images, features).savefig(options.out / "chosen.png")


if __name__ == "__main__":
    main()
