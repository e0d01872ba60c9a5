"""Every example and every experiment runs to its end in a short form, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"examples/quickstart.py"}
"""Programs that the package session runs, from the wheel."""

SHORT_FORMS: Mapping[str, tuple[str, ...]] = {
    "examples/accelerate_loop.py": ("--steps=2",),
    "examples/anomaly_detection.py": ("--epochs=1", "--images=300"),
    "examples/distributed_pretrain.py": ("--epochs=1", "--images=512", "--batch-size=128"),
    "examples/few_labels.py": ("--epochs=1", "--images=512", "--labels=50", "--steps=1"),
    "examples/fsdp_pretrain.py": ("--epochs=1", "--images=512", "--batch-size=128"),
    "examples/label_first.py": ("--images=300", "--epochs=1", "--labels=20", "--steps=2"),
    "examples/lightning_loop.py": ("--steps=2",),
    "examples/own_photos.py": ("--epochs=1", "--images=120", "--labels=30", "--steps=4"),
    "examples/plain_loop.py": ("--steps=2",),
    "examples/segmentation.py": ("--epochs=1", "--images=256", "--labels=50", "--steps=5"),
    "examples/shards_stream.py": ("--epochs=1", "--images=512", "--shards=2", "--workers=2"),
    "experiments/backbones_table.py": (
        "--backbones",
        "vit-tiny",
        "torchvision/resnet18",
        "timm/convnext_atto",
        "--sizes=32",
    ),
    "experiments/beside_lightly.py": (
        *("--data", "sample=sample", "--images=100", "--test=50", "--epochs=1", "--methods", "vicreg"),
        *("--sides", "pretextkit"),  # lightly is no dependency of the tests
    ),
    "experiments/camvid_segmentation.py": (
        *("--data=synthetic", "--tasks=rotation", "--views=4", "--crops=1", "--crop-size=48"),
        *("--steps=20", "--supervised-steps=10"),
    ),
    "experiments/cifar10_comparison.py": (
        *("--data=sample", "--tasks", "rotation", "simclr", "--views=4"),
        *("--images=128", "--seeds=0", "--finetune-steps=2"),
    ),
    "experiments/context_prediction.py": ("--data=sample", "--images=100", "--pairs=2", "--steps=2", "--measured=100"),
    "experiments/stronger_features.py": (
        *("--data", "sample=sample", "--images=300", "--read=300", "--labels=50", "--draws=0", "--whiten=200"),
        *("--widest=64", "--ideas", "rotation", "rotation and SimCLR together", "rotation, then SimCLR"),
    ),
    "experiments/defaults.py": (
        *("--data", "sample=sample", "--images=300", "--tasks", "rotation", "--variants", "batch x 2"),
        *("--labels", "50", "--read=300", "--no-finetune"),
    ),
    "experiments/defects.py": ("--data=synthetic", "--steps=2", "--tasks", "rotation", "CutPaste, segmentation"),
    "experiments/faces_anomaly.py": ("--data=sample", "--images=200", "--epochs=1", "--seeds=0"),
    "experiments/fashion_mnist_transfer.py": (
        *("--first=sample", "--second=sample", "--tasks", "rotation", "colorization"),
        *("--views=4", "--images=128", "--seeds=0"),
    ),
    "experiments/finetuning.py": (
        *("--data", "sample=sample", "--images=300", "--test=100", "--read=300", "--labels", "50", "--steps=2"),
        *("--draws", "0", "--variants", "default", "not averaged", "FixMatch, with the unlabeled images"),
    ),
    "experiments/images_table.py": ("--channels", "1", "5", "--tasks", "rotation", "colorization"),
    "experiments/label_selection.py": (
        *("--data=sample", "--images=400", "--epochs=1", "--labels", "10", "20", "--draws=1"),
        *("--methods", "random", "typiclust", "--finetune", "20", "--fixmatch", "20", "--trained-draws=1", "--steps=2"),
    ),
    "experiments/methods.py": (
        *("--data", "sample=sample", "--images=128", "--tasks", "rotation", "--views=1", "--labels"),
    ),
    "experiments/one_class.py": (
        *("--data=sample", "--classes", "0", "--images=200", "--epochs=1", "--reconstruction-epochs=1"),
    ),
    "experiments/probe_cost.py": ("--data=sample", "--labels", "50"),
    "experiments/penalty_choice.py": (*("--data=sample", "--epochs", "0", "--draws=1"),),
    "experiments/reconstruction_mitigations.py": (
        *("--data=sample", "--rows", "autoencoder", "residuals, contrast-normalized", "half the patches masked"),
        *("--images=128", "--held-out=128", "--views=2"),
    ),
    "experiments/svhn_few_labels.py": (
        *("--data=sample", "--labels", "100", "--main=100", "--seeds", "0", "--tasks", "none", "rotation"),
        *("--epochs=1", "--images=512", "--steps=2"),
    ),
    "experiments/svhn_rotation.py": ("--data=sample", "--stem=imagenet", "--epochs=1", "--images=512"),
    "experiments/why_28_percent.py": (
        *("--data=sample", "--labels=100", "--seeds", "0"),
        *("--epochs=1", "--small-epochs=1", "--images=256"),
    ),
}
"""The arguments with which each program takes seconds."""


def test_every_program_has_a_short_form() -> None:
    scripts = [path for folder in ("examples", "experiments") for path in (ROOT / folder).glob("*.py")]
    programs = {path.relative_to(ROOT).as_posix() for path in scripts if "__main__" in path.read_text("utf-8")}
    assert programs == set(SHORT_FORMS) | ELSEWHERE


@pytest.mark.slow
@pytest.mark.parametrize("script", SHORT_FORMS)
def test_program_runs_to_its_end(script: str, tmp_path: Path) -> None:
    command = [sys.executable, script, *SHORT_FORMS[script], "--out", str(tmp_path / "out")]
    environment = os.environ | {"MPLBACKEND": "Agg"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout[-2000:]}\n{run.stderr[-6000:]}"
