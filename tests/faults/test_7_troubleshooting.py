"""Errors that many people meet first: they name an example in the documents, and their advice is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import torchvision.transforms.v2
from torch import nn

import pretextkit as pk
from pretextkit import plots
from pretextkit.errors import TROUBLESHOOTING, PretextkitError
from pretextkit.functional import compare, extract_features, knn_probe, views_per_image
from pretextkit.models import LinearHead, SmallCNN
from pretextkit.tasks import Rotation, SimCLR
from pretextkit.testing import TinyBackbone
from pretextkit.training._monitors import SEE
from tests.helpers import ROOT, generator, random_images

from .test_7_followed import advised, finetune, fix_of, train, write

PAGE = (ROOT / TROUBLESHOOTING).read_text(encoding="utf-8")
NETWORK, NAME, DATA, TRANSFORM, FILE, LABELS = (
    "a-network-as-backbone",
    "a-name-or-a-class-instead-of-an-object",
    "a-data-set-where-a-tensor-is-needed",
    "a-transform-of-torchvision-as-augment",
    "a-file-that-cannot-be-decoded",
    "labels-that-do-not-fit",
)


def sections() -> dict[str, str]:
    """Map the anchors of the page, as MyST makes them, to the text of their sections."""
    found = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:]
    slugs = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in found[::2]]
    return dict(zip(slugs, found[1::2], strict=True))


def test_every_section_is_named_by_an_error_and_the_reverse() -> None:
    named = set()
    for path in Path(pk.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= {slug for slug in re.findall(r'"([a-z]+(?:-[a-z]+){2,})"', text) if slug in sections()}
        assert set(re.findall(r'\bsee="([^"]+)"', text)) <= set(sections())
    assert named == set(sections())


def photos(folder: Path) -> Path:
    write(folder, "a.png", "c.png")
    return folder


def test_every_training_warning_has_a_section() -> None:
    kinds = set()
    for path in (Path(pk.__file__).parent / "training").glob("*.py"):
        kinds |= set(re.findall(r'\bFinding\("([^"]+)"', path.read_text(encoding="utf-8")))
    assert set(SEE) == kinds
    assert set(SEE.values()) <= set(sections())


CALLS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "network": (lambda _: SimCLR(torchvision.models.resnet18()), NETWORK),
    "task by name": (lambda _: train("simclr"), NAME),
    "backbone by name": (lambda _: SimCLR("resnet18"), NAME),
    "data set": (
        lambda folder: SmallCNN().normalization.measure(pk.data.FolderImages(photos(folder))),  # type: ignore[arg-type]
        DATA,
    ),
    "transform": (
        lambda _: train(augment=torchvision.transforms.Compose([torchvision.transforms.RandomHorizontalFlip()])),
        TRANSFORM,
    ),
    "empty file": (lambda folder: pk.data.as_source(empty_file(folder)), FILE),
    "labels": (lambda folder: pk.data.FolderImages(photos(folder), labels=wrong_labels(folder)), LABELS),
}


def empty_file(folder: Path) -> Path:
    (photos(folder) / "b.jpg").write_bytes(b"")
    return folder


def wrong_labels(folder: Path) -> Path:
    table = folder / "labels.csv"
    table.write_text("file,class\nb1.jpg,cat\nb2.jpg,dog\n")
    return table


@pytest.mark.parametrize("name", CALLS)
def test_page_quotes_the_error_that_names_it(name: str, tmp_path: Path) -> None:
    call, section = CALLS[name]
    with pytest.raises(PretextkitError) as caught:
        call(tmp_path)
    text = str(caught.value)
    assert caught.value.see == section
    assert text.endswith(f" See {TROUBLESHOOTING}#{section}.")
    quoted = " ".join(sections()[section].split())
    shown = text.partition(f" {caught.value.fix}")[0].replace(f"{tmp_path}/", "").replace(str(tmp_path), "photos")
    quotes = re.findall(r"`(Expected .+?)`", quoted)
    assert shown.replace("photos/", "") in [quote.replace("photos/", "") for quote in quotes]


def test_error_without_a_section_ends_with_its_advice() -> None:
    assert str(PretextkitError("a number", got="text", fix="Pass 1.")) == "Expected a number, but got text. Pass 1."


@pytest.mark.parametrize("name", ["small-cnn", "resnet18"])
def test_name_of_a_backbone_is_built_as_advised(name: str) -> None:
    wrong: Any = name
    code = f"pretextkit.backbones[{name!r}]()"
    for call in (
        lambda: finetune(backbone=wrong),
        lambda: Rotation(wrong),
        lambda: knn_probe(wrong, (random_images(4), [0, 1, 0, 1])),
        lambda: pk.save_backbone(wrong, "never.pt"),
    ):
        assert isinstance(advised(call, code), pk.Backbone)


def test_class_of_a_backbone_is_built_as_advised() -> None:
    wrong: Any = SmallCNN
    for call in (lambda: finetune(backbone=wrong), lambda: extract_features(wrong, random_images(2))):
        assert isinstance(advised(call, "SmallCNN()", SmallCNN=SmallCNN), SmallCNN)


def test_class_of_a_head_is_built_as_advised() -> None:
    head = advised(lambda: finetune(LinearHead), "pretextkit.models.LinearHead(d, k)", d=64, k=2)
    assert finetune(head).classifier is not None


@pytest.mark.parametrize("call", [train, lambda task: views_per_image(task, random_images(8))])
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ("rotation", "pretextkit.pretext_tasks['rotation'](backbone)"),
        ("rotatoin", "pretextkit.pretext_tasks['simclr'](backbone)"),
        (Rotation, "Rotation(backbone)"),
        (TinyBackbone(), "pretextkit.tasks.SimCLR(backbone)"),
        (TinyBackbone, "pretextkit.tasks.SimCLR(backbone)"),
    ],
)
def test_task_is_built_as_advised(call: Callable[[Any], Any], wrong: Any, code: str) -> None:
    task = advised(lambda: call(wrong), code, backbone=TinyBackbone(), Rotation=Rotation)
    assert train(task) == 1


def test_factory_of_a_plain_network_is_wrapped_as_advised() -> None:
    wrong: Any = torchvision.models.resnet18
    parts = [(random_images(8, size=32, seed=seed), torch.arange(8) % 2) for seed in (0, 1)]
    options: Any = {"epochs": 1, "batch_size": 4, "device": "cpu", "progress": False}
    made = advised(
        lambda: compare(["rotation"], wrong, *parts, **options),
        "pretextkit.models.wrap(network)",
        network=torchvision.models.resnet18(),
    )
    assert isinstance(made, pk.Backbone)


def test_objects_among_tasks_are_described_in_a_word() -> None:
    part = (random_images(8), torch.arange(8) % 2)
    wrong: Any
    for wrong, word in ((SmallCNN(), "a SmallCNN"), (Rotation, "Rotation"), (None, "a NoneType")):
        with pytest.raises(PretextkitError, match=f"but got {word}. Name the task"):
            compare([wrong], TinyBackbone, part, part, epochs=1)


IMAGES = random_images(4)


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ((IMAGES, torch.arange(4)), "images[0]"),
        (pk.data.as_source(IMAGES), "images.in_memory().images"),
        (torch.utils.data.TensorDataset(IMAGES), "pretextkit.data.as_source(images).in_memory().images"),
        (IMAGES.numpy(), "torch.as_tensor(images)"),
    ],
    ids=["pair", "source", "dataset", "array"],
)
def test_images_become_a_tensor_as_advised(images: Any, code: str) -> None:
    features = torch.rand(4, 3)
    calls: list[Callable[[], Any]] = [
        lambda: SmallCNN()(images),
        lambda: Rotation(SmallCNN()).views(images, generator()),
        lambda: plots.nearest_neighbors(IMAGES, images, features, features),
        lambda: plots.nearest_neighbors(images, IMAGES, features, features),
    ]
    for call in calls:
        assert torch.equal(advised(call, code, images=images), IMAGES)


@pytest.mark.parametrize("plot", ["embedding", "nearest_neighbors"])
@pytest.mark.parametrize("wrong", ["features", "layers", "array", "backbone", "folder"])
def test_features_become_a_tensor_as_advised(plot: str, wrong: str) -> None:
    backbone = TinyBackbone()
    found = extract_features(backbone, IMAGES, layers=["stage1"], precision="fp32")
    rows = found.layers["stage1"]
    features, code, right = {
        "features": (found, "features.layers['stage1']", rows),
        "layers": (found.layers, "features['stage1']", rows),
        "array": (rows.numpy(), "torch.as_tensor(features)", rows),
        "backbone": (backbone, "pretextkit.functional.extract_features(backbone, images).layers['last']", None),
        "folder": (
            torch.utils.data.TensorDataset(IMAGES),
            "pretextkit.functional.extract_features(backbone, images).layers['last']",
            None,
        ),
    }[wrong]
    given: Any = features
    call: Callable[[], Any] = lambda: plots.embedding(given)  # noqa: E731 - one of two
    if plot == "nearest_neighbors":
        call = lambda: plots.nearest_neighbors(IMAGES, IMAGES, rows, given)  # noqa: E731
    tensor = advised(call, code, features=given, backbone=backbone, images=IMAGES)
    assert tensor.shape[0] == 4
    assert right is None or torch.equal(tensor, right)


TRANSFORMS: list[Any] = [
    torchvision.transforms.RandomHorizontalFlip(),
    torchvision.transforms.Compose([torchvision.transforms.RandomHorizontalFlip()]),
    torchvision.transforms.v2.RandomHorizontalFlip(),
]


@pytest.mark.parametrize("augment", TRANSFORMS, ids=["v1", "compose", "v2"])
@pytest.mark.parametrize("call", [train, finetune])
def test_transform_is_called_as_advised(augment: Any, call: Callable[..., Any]) -> None:
    code = "lambda images, generator: augment(images)"
    assert call(augment=advised(lambda: call(augment=augment), code, augment=augment))


def test_functions_of_two_arguments_are_no_false_alarm() -> None:
    class Flip(nn.Module):
        def forward(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return images.flip(3)

    assert train(augment=Flip()) == 1
    assert train(augment=lambda *both: both[0]) == 1


def test_function_of_three_arguments_gets_no_lambda() -> None:
    assert fix_of(lambda: train(augment=lambda a, b, c: a)) == "Change the arguments of the function."


def test_features_for_a_probe_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("pretextkit.sklearn")
    features, words = torch.eye(2).repeat(6, 1).numpy(), ["cat", "dog"] * 6
    wrong = sklearn.FinetuneClassifier(TinyBackbone())
    code = "ProbeClassifier(torch.nn.Identity())"
    right = advised(lambda: wrong.fit(features, words), code, ProbeClassifier=sklearn.ProbeClassifier)
    assert right.fit(features, words).predict(features).tolist() == words
