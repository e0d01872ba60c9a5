"""Advice about files, saved networks, heads and tasks: taken from the message, run, and right."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import Any, cast

import numpy
import pytest
import torch
import torchvision
from torch import nn

import pretextkit as pk
from pretextkit.data import as_source
from pretextkit.functional import Classifier, ProbCover, linear_probe, select_to_label
from pretextkit.losses import sigreg_loss
from pretextkit.models import SmallCNN
from pretextkit.tasks import MAE, Distillation, ProjectionHead, Rotation
from pretextkit.testing import TinyBackbone, TinyTokenBackbone

from .test_7_followed import advised, fix_of, train, write


def test_array_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    numpy.save(path, numpy.full((4, 9, 9, 3), 200, numpy.uint8))
    array = advised(lambda: as_source(path), "numpy.load(path)", path=path)
    assert as_source(array).in_memory().images.shape == (4, 3, 9, 9)


def test_column_of_labels(tmp_path: Path) -> None:
    write(tmp_path, "1.png", "2.png", "3.png")
    table = tmp_path / "table.csv"
    table.write_text("file,size,kind\n1.png,8,cat\n2.png,8,dog\n3.png,9,cat\n")
    fix = fix_of(lambda: as_source(tmp_path, labels=table))
    labels = re.search(r"labels=(pretextkit\.data\.CsvLabels\(.*?\)), or label=1\.$", fix)
    assert labels is not None, fix
    assert as_source(tmp_path, labels=eval(labels[1], {"pretextkit": pk})).class_names == ("8", "9")


def test_class_in_the_name_of_a_file(tmp_path: Path) -> None:
    write(tmp_path, "cat_1.png", "cat_2.png", "dog_1.png")
    named = advised(lambda: as_source(tmp_path, labels="folders"), "lambda path: path.stem.partition('_')[0]")
    assert as_source(tmp_path, labels=named).class_names == ("cat", "dog")


def test_size_beside_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    images = numpy.full((4, 9, 9, 3), 200, numpy.uint8)
    numpy.savez(path, train_images=images, train_labels=[0, 1, 0, 1], test_images=images, test_labels=[0, 1, 0, 1])
    fix = fix_of(lambda: as_source(path, size=8))
    found = re.search(r"pretextkit\.data\.load\('.*?', size=\.\.\.\)", fix)
    assert found is not None, fix
    assert eval(found[0].replace("...", "8"), {"pretextkit": pk}).train_images.shape == (4, 3, 8, 8)


def test_classifier_without_architecture(tmp_path: Path) -> None:
    path = tmp_path / "two.pt"
    made = Classifier(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    fix = fix_of(lambda: made.save(path))
    assert "weights_only=True" in fix
    made.save(path, weights_only=True)
    code = "load_classifier(path, into=Classifier(backbone, head))"
    assert code in fix
    names: dict[str, Any] = {"backbone": nn.Conv2d(3, 4, 3), "head": nn.Linear(4, 2), "path": path}
    names |= {"load_classifier": pk.load_classifier, "Classifier": Classifier}
    loaded = advised(lambda: pk.load_classifier(path), code, **names)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded.predict_proba(images), made.predict_proba(images))


def test_backbone_without_architecture(tmp_path: Path) -> None:
    path, made = tmp_path / "one.pt", SmallCNN()
    pk.save_backbone(made, path, weights_only=True)
    assert "load_backbone(path, into=...)" in fix_of(lambda: pk.load_backbone(path))
    loaded = pk.load_backbone(path, into=SmallCNN())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(images), made.eval()(images))


def test_file_of_a_backbone_is_no_classifier(tmp_path: Path) -> None:
    pk.save_backbone(SmallCNN(), tmp_path / "one.pt")
    path = repr(str(tmp_path / "one.pt"))
    code = f"load_backbone({path})"
    loaded = advised(lambda: pk.load_classifier(tmp_path / "one.pt"), code, load_backbone=pk.load_backbone)
    assert isinstance(loaded, SmallCNN)


def test_directions_of_sigreg() -> None:
    z = torch.rand(6, 4)
    directions = advised(lambda: sigreg_loss(z, torch.rand(3, 9)), "torch.randn(d, s)", d=4, s=9)
    assert sigreg_loss(z, directions).isfinite()


def test_widths_of_projection_head() -> None:
    code = "ProjectionHead(64, 512, 128)"
    head = advised(lambda: ProjectionHead(64, 0), code, ProjectionHead=ProjectionHead)
    assert head(torch.rand(2, 64)).shape == (2, 128)


def test_single_row_of_projection_head() -> None:
    head = ProjectionHead(4, 3, 2)
    assert "eval()" in fix_of(lambda: head(torch.rand(1, 4)))
    assert head.eval()(torch.rand(1, 4)).shape == (1, 2)


def test_width_of_a_teacher() -> None:
    task = Distillation(TinyBackbone(), teacher=lambda images: images.flatten(1))
    images = torch.rand(8, 3, 16, 16)
    call = lambda: task.step(images, torch.Generator())  # noqa: E731
    width = advised(call, "maps.mean((2, 3))", maps=images).shape[1]
    assert Distillation(TinyBackbone(), teacher=lambda images: images.mean((2, 3))).teacher.width == width


def test_teacher_of_the_same_weights() -> None:
    backbone = TinyBackbone()
    call = lambda: Distillation(backbone, teacher=backbone)  # noqa: E731
    teacher = advised(call, "copy.deepcopy(backbone)", copy=copy, backbone=backbone)
    assert train(Distillation(backbone, teacher=teacher)) == 1


def test_teacher_of_large_images() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 4))

    def teacher(images: torch.Tensor) -> torch.Tensor:
        raise ValueError("another size")

    call = lambda: Distillation(TinyBackbone(), teacher=teacher)  # noqa: E731
    code = "lambda images: network(nn.functional.interpolate(images, 224))"
    resized = advised(call, code, network=network, nn=nn)
    assert train(Distillation(TinyBackbone(), teacher=resized)) == 1


def test_backbone_of_a_masked_autoencoder() -> None:
    wrong: Any = TinyBackbone()
    assert train(MAE(advised(lambda: MAE(wrong), "pretextkit.models.ViTTiny()"))) == 1


def test_mask_of_a_masked_autoencoder() -> None:
    task, generator = MAE(TinyTokenBackbone()), torch.Generator()
    images = torch.rand(2, 3, 16, 16)
    batch = task.views(images, generator)
    batch.mask[0] = True
    code = "pretextkit.views.mask_patches(images, patch=4, generator=generator)"
    mask = advised(lambda: task(batch), code, images=images, generator=generator)
    assert task(batch._replace(mask=mask)).loss.isfinite()


@pytest.mark.parametrize("wrong", [{"epochs": 1, "steps": 1}, {"epochs": 0, "steps": None}])
def test_budget_of_training(wrong: dict[str, Any]) -> None:
    found = re.search(r"epochs=(\d+)\.$", fix_of(lambda: train(**wrong)))
    assert found is not None
    assert train(epochs=int(found[1]), steps=None) == 2 * int(found[1])


def test_recommended_settings_of_a_task() -> None:
    task = Rotation(TinyBackbone())
    for wrong in ({"learning_rate": 1e-3}, None):
        task.recommended = wrong  # type: ignore[misc, assignment]
        code = "pretextkit.Recommended(learning_rate=1e-3)"
        task.recommended = advised(lambda: train(task), code)  # type: ignore[misc]
        assert train(task) == 1


def test_augmentation_of_a_task() -> None:
    wrong: Any = "light"
    augmentation = advised(lambda: Rotation(TinyBackbone(), augmentation=wrong), "pretextkit.views.LightAugmentation()")
    assert train(Rotation(TinyBackbone(), augmentation=augmentation)) == 1


def test_unknown_model_of_torchvision() -> None:
    code = "torchvision.models.list_models(module=torchvision.models)"
    known = advised(lambda: pk.backbones["torchvision/resnet81"], code, torchvision=torchvision)
    assert "resnet18" in known


def test_numbers_of_a_callback() -> None:
    class Numbers(pk.callbacks.Callback):
        numbers: Any = (0.5,)

        def on_epoch(self, *_: Any) -> Any:
            return self.numbers

    callback = Numbers()
    code = "{'validation_accuracy': 0.5}"
    callback.numbers = advised(lambda: train(callbacks=[callback]), code)
    assert train(callbacks=[callback]) == 1


def test_images_of_a_report(tmp_path: Path) -> None:
    images, labels = torch.rand(12, 3, 32, 32), torch.arange(12) % 2
    probe = linear_probe(TinyBackbone(), (images[:8], labels[:8]), (images[8:], labels[8:]), layers="last")
    path = tmp_path / "probe.html"
    fix = fix_of(lambda: pk.report.write(probe, path, images=images))
    assert fix == "Pass images=test_images."
    assert "Features" in pk.report.write(probe, path, images=images[8:]).read_text("utf-8")


def test_mask_of_labeled_images() -> None:
    features, labels = torch.randn(9, 4), [-1, 0, 1, -1, -1, -1, -1, -1, 2]
    mask = advised(
        lambda: select_to_label(features, 2, labeled=[0.5, 1.5]), r"torch.as_tensor(labels) >= 0", labels=labels
    )
    assert not {1, 2, 8} & set(select_to_label(features, 2, labeled=mask).indices.tolist())


def test_method_of_selection() -> None:
    features = torch.randn(9, 4)
    fix = fix_of(lambda: select_to_label(features, 2, method=cast("Any", 3)))
    assert fix.endswith("such as ProbCover(radius=0.5).")
    assert len(select_to_label(features, 2, method=ProbCover(radius=0.5)).indices) == 2
    for name in re.findall(r"'([a-z+-]+)'", fix):
        assert len(select_to_label(features, 2, method=name).indices) == 2


def test_backbone_of_selection() -> None:
    images, backbone = torch.rand(9, 3, 32, 32), TinyBackbone()
    fix = fix_of(lambda: select_to_label(images, 2))
    assert fix.startswith("Pass backbone=backbone")
    assert len(select_to_label(images, 2, backbone=backbone).indices) == 2


def test_labels_of_files(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write(root, *(f"{number}.png" for number in range(6)))
    table = tmp_path / "labels.csv"
    table.write_text(
        "file,label\n" + "".join(f"{number}.png,{'cat' if number % 2 else 'dog'}\n" for number in range(6))
    )
    fix = fix_of(lambda: linear_probe(nn.Flatten(), root))
    code = re.search(r"FolderImages\(.*?\)", fix)
    assert code is not None, fix
    photos = eval(code[0].replace('"labels.csv"', "table"), {**vars(pk.data), "root": root, "table": table})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert linear_probe(nn.Flatten(), photos).label_count == 6
