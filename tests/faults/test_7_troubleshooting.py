"""Errors that many people meet first: they name an example in the documents, and their advice is right."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
import torchvision.transforms.v2
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

import pretextkit as pk
from pretextkit import plots
from pretextkit.data import FolderImages, as_source
from pretextkit.errors import TROUBLESHOOTING, DataWarning, PretextkitError
from pretextkit.finetuning._fixmatch import _warn_of_unsure
from pretextkit.finetuning._score import warn_below_majority
from pretextkit.functional import compare, extract_features, knn_probe, pretrain, views_per_image
from pretextkit.inference._classifier import Classifier
from pretextkit.metrics._classification import class_report, warn_of_missed_classes
from pretextkit.models import LinearHead, ResNet18, SmallCNN, wrap
from pretextkit.tasks import Rotation, SimCLR
from pretextkit.testing import TinyBackbone
from pretextkit.training._checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from pretextkit.training._history import History
from pretextkit.training._monitors import SEE
from pretextkit.training._objectives import warn_of_range
from pretextkit.training._run_checkpoints import RunCheckpoints
from tests.helpers import ROOT, generator, random_images

from .test_2_compare import OPTIONS, TEST, Transformed
from .test_7_followed import advised, finetune, fix_of, train, write

PAGE = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
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
        lambda folder: SmallCNN().normalization.measure(FolderImages(photos(folder))),  # type: ignore[arg-type]
        DATA,
    ),
    "transform": (
        lambda _: train(augment=torchvision.transforms.Compose([torchvision.transforms.RandomHorizontalFlip()])),
        TRANSFORM,
    ),
    "empty file": (lambda folder: as_source(empty_file(folder)), FILE),
    "labels": (lambda folder: FolderImages(photos(folder), labels=wrong_labels(folder)), LABELS),
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


def given_sections(text: str, errors: bool = False) -> list[str]:
    """List the sections of the warnings that a file gives.

    Raises:
        AssertionError: A warning has no section.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        assert not (isinstance(node, ast.ImportFrom) and node.module == "warnings"), ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert errors or not called.startswith("warnings.warn"), f"no section: {ast.unparse(node)}"
        if called.rpartition(".")[2] == "warn" and not called.startswith("warnings."):
            (see,) = (each.value for each in node.keywords if each.arg == "see")
            assert isinstance(see, ast.Constant), f"unknown section: {ast.unparse(node)}"
            found.append(str(see.value))
    return found


@pytest.mark.parametrize(
    "code",
    ["warnings.warn('text', DataWarning)", "from warnings import warn", "warn('text')", "warn('text', see=section)"],
)
def test_warning_without_a_section_is_found(code: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        given_sections(code)
    assert given_sections("warn('text', see='a')\nerrors.warn('text', see='b')") == ["a", "b"]


def test_every_warning_names_a_section() -> None:
    found = []
    for path in Path(pk.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "_monitors.py":  # SEE has the sections
            text = text.replace('see=SEE.get(finding.kind, "")', 'see="a-loss-that-rises"')
        found += given_sections(text, errors=path.name == "errors.py")
    assert set(found) <= set(sections())
    assert set(found) - set(SEE.values()) == {section for _, section in WARNINGS.values()}


def oblong(folder: Path, width: int = 160) -> Path:
    folder.mkdir(parents=True)
    Image.new("RGB", (width, 64), (200, 0, 0)).save(folder / "a.png")
    return folder


def unread(folder: Path, name: str) -> Path:
    oblong(folder / "dog", 64)
    for number in range(2):
        path = folder / name / f"{number}.heic"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"heic")
    return folder


def deep(folder: Path) -> Path:
    folder.mkdir()
    for number in range(2):
        Image.fromarray(torch.full((8, 8), 4095).short().numpy().astype("uint16")).save(folder / f"{number}.png")
    return folder


def pets(folder: Path, *names: str) -> Path:
    for name in names:
        oblong(folder / name, 64)
    return folder


def labels_of_two(folder: Path) -> Path:
    table = folder / "labels.csv"
    table.write_text("file,class\na.png,cat\nb1.jpg,dog\n")
    return table


def empty_labels(folder: Path) -> Path:
    table = folder / "to_label.csv"
    table.write_text("file,label\n" + 30 * "a.png,\n")
    return table


def trained_network() -> nn.Module:
    network: nn.Module = torchvision.models.resnet18()
    network(torch.rand(4, 3, 32, 32))  # BatchNorm learns
    return network


def damaged(folder: Path) -> Path:
    for _ in range(2):
        path = save_checkpoint(folder, {}, {})
    path.write_bytes(path.read_bytes()[:-1])
    return folder


def larger(before: int, after: int) -> None:
    task = SimCLR(TinyBackbone())
    pretrain(task, random_images(8, size=before), steps=1, batch_size=8, device="cpu", progress=False)
    extract_features(task.backbone, random_images(2, size=after))


def noise(seed: int = 0) -> tuple[Tensor, Tensor]:
    return torch.randn(20, 64, generator=generator(seed)), torch.arange(20) % 2


def unsure(**numbers: float) -> History:
    return History(({"epoch": 1.0, "loss": 1.0, **{key.replace("_", " "): value for key, value in numbers.items()}},))


def full_disk() -> None:
    checkpoints: Any = SimpleNamespace(folder=Path("run"), interval=30.0)
    RunCheckpoints._report(checkpoints, OSError(28, "No space left on device"), 3, last=False)


def counted(right: int, wrong: int, other: int) -> Any:
    """Report on the class b, some of whose images are predicted as a, and on images of a that are predicted as a."""
    predictions = torch.tensor([1] * right + [0] * (wrong + other))
    return class_report(predictions, torch.tensor([1] * (right + wrong) + [0] * other), ("a", "b"))


def labels_of_two_cases(folder: Path) -> Path:
    table = folder / "labels.csv"
    table.write_text("file,class\na.png,cat\nc.png,Cat\n")
    return table


def mixed(folder: Path) -> Path:
    oblong(deep(folder) / "photo", 64)
    return folder


def predict(loader: Any) -> None:
    Classifier(TinyBackbone(), LinearHead(64, 2)).predict(loader)


INSIDE = ["cat/train", "cat/test", "dog/train", "dog/test"]
DARK, LOADER, SPLITS, CHECKPOINT, UNSURE = (
    "images-darker-or-brighter-than-expected",
    "rows-in-the-order-of-a-loader",
    "split-folders-and-class-folders",
    "a-damaged-checkpoint",
    "fixmatch-that-learns-from-few-images",
)
WARNINGS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "class not read": (lambda root: FolderImages(unread(root / "photos", "cat")), "files-that-are-not-read"),
    "files not read": (lambda root: FolderImages(unread(root / "photos", "dog")), "files-that-are-not-read"),
    "labels": (lambda root: FolderImages(photos(root / "photos"), labels=labels_of_two(root)), LABELS),
    "case": (lambda root: FolderImages(photos(root / "photos"), labels=labels_of_two_cases(root)), LABELS),
    "empty labels": (lambda root: FolderImages(photos(root / "photos"), labels=empty_labels(root)), LABELS),
    "folder beside splits": (
        lambda root: pk.data.load(pets(root / "pets", "train/cat", "train/dog", "test/cat", "unlabeled"), size=8),
        SPLITS,
    ),
    "splits within classes": (lambda root: FolderImages(pets(root / "pets", *INSIDE)), SPLITS),
    "crop": (lambda root: FolderImages(oblong(root / "photos"), size=32), "a-crop-that-removes-much"),
    "augment": (lambda _: warn_of_range(torch.tensor([0.0, 255.0])), "values-outside-the-unit-interval"),
    "dark files": (lambda root: FolderImages(deep(root / "scans")), DARK),
    "mixed depths": (lambda root: FolderImages(mixed(root / "mixed"), labels=False), DARK),
    "shuffled": (lambda _: predict(DataLoader(random_images(4), shuffle=True)), LOADER),  # type: ignore[arg-type]
    "dropped": (lambda _: predict(DataLoader(random_images(5), batch_size=3, drop_last=True)), LOADER),  # type: ignore[arg-type]
    "clipped": (
        lambda _: as_source(torch.tensor([0, 4095]).int().expand(4, 1, 8, 2), black=0, white=1000),
        DARK,
    ),
    "normalization": (lambda _: wrap(trained_network()), "weights-with-an-unknown-normalization"),
    "stem": (lambda _: ResNet18().eval()(torch.rand(1, 3, 112, 112)), "a-resnet-for-small-images"),
    "damaged": (lambda root: load_checkpoint(damaged(root / "run")), CHECKPOINT),
    "full disk": (lambda _: full_disk(), "a-checkpoint-that-cannot-be-written"),
    "bfloat16": (lambda _: train(SimCLR(TinyBackbone()).bfloat16()), "weights-in-half-precision"),
    "larger": (lambda _: larger(16, 32), "images-much-larger-than-those-of-the-training"),
    "shared": (lambda _: knn_probe(nn.Identity(), noise(), noise()), "test-images-that-are-training-images"),
    "leave one out": (
        lambda _: knn_probe(nn.Identity(), noise(), k=19, temperature=10.0),
        "leave-one-out-knn-below-chance",
    ),
    "missed": (lambda _: warn_of_missed_classes(counted(0, 20, 480), "Add images."), "a-class-without-a-single-hit"),
    "majority": (lambda _: warn_below_majority(counted(2, 68, 30)), "an-accuracy-below-the-most-frequent-class"),
    "unsure": (lambda _: _warn_of_unsure(unsure(sure=0.02, sure_cat=1, sure_dog=0), 500, 0.95), UNSURE),
    "unsure class": (lambda _: _warn_of_unsure(unsure(sure=0.5, sure_cat=9, sure_dog=0), 500, 0.95), UNSURE),
    "compare": (
        lambda _: compare([], TinyBackbone, Transformed(), TEST, **OPTIONS),
        "random-transforms-in-a-comparison",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_page_quotes_the_warning_that_names_it(name: str, tmp_path: Path) -> None:
    call, section = WARNINGS[name]
    with pytest.warns(UserWarning, match=TROUBLESHOOTING) as caught:
        call(tmp_path)
    (warning,) = caught
    assert Path(warning.filename).parent == Path(__file__).parent  # the line of the user, through any layers
    text = str(warning.message).replace(f"{tmp_path}/", "")
    assert text.endswith(f" See {TROUBLESHOOTING}#{section}.")
    assert any(text.startswith(quote) for quote in quotes(section))


def quotes(section: str) -> list[str]:
    """List the warnings that a section quotes; those of one word or of code are shorter."""
    found = re.findall(r"`([^`]+)`", " ".join(FENCE.sub("", sections()[section]).split()))
    return [each for each in found if each.count(" ") > 5 and not each.startswith("Expected")]


FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def test_every_warning_on_the_page_is_given() -> None:
    given = [section for _, section in WARNINGS.values()]
    assert {each: len(quotes(each)) for each in given} == {each: given.count(each) for each in given}


def test_reading_a_damaged_checkpoint_names_the_section(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=rf"previous\.pt is read\. See {TROUBLESHOOTING}#{CHECKPOINT}\."):
        assert read_checkpoint(damaged(tmp_path / "run")) is not None


def test_splits_within_classes_are_moved_as_the_page_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pets(tmp_path / "pets", *INSIDE)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(DataWarning, match="are read together"):
        FolderImages(root)
    (code,) = re.findall(r"```python\n(.*?)```", sections()[SPLITS], flags=re.DOTALL)
    exec(code, {})
    data = pk.data.load(root, size=8)
    assert (data.class_names, len(data.train_images), len(data.test_images)) == (("cat", "dog"), 2, 2)


def error_classes(of: type[PretextkitError] = PretextkitError) -> list[type[PretextkitError]]:
    """List the classes of errors, as far as they are those of the library."""
    found = [each for each in of.__subclasses__() if each.__module__.startswith("pretextkit.")]
    return found + [each for parent in found for each in error_classes(parent)]


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_every_class_of_errors_has_a_section(error: type[PretextkitError]) -> None:
    assert f"`{error.__name__}`" in sections()[error.section]
    assert str(error("A problem.")) == f"A problem. See {TROUBLESHOOTING}#{error.section}."
    assert str(error("A problem.", see=NETWORK)) == f"A problem. See {TROUBLESHOOTING}#{NETWORK}."


def test_sections_of_errors_are_for_the_classes_of_the_library() -> None:
    assert {each.__name__ for each in error_classes()} == {*pk.errors.__all__} - {
        *("PretextkitError", "CollapseWarning", "DataWarning", "TrainingWarning", "unknown_name")
    } | {"ConformanceError"}


def test_error_of_no_class_ends_with_its_advice() -> None:
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
        (as_source(IMAGES), "images.in_memory().images"),
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
