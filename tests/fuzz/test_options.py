"""Options of a wrong type or out of range: every function with numeric options raises a pretextkit error."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pretextkit import data, functional, losses, models, tasks, views
from pretextkit.errors import PretextkitError
from pretextkit.models import LinearHead
from pretextkit.testing import TinyBackbone, TinyTokenBackbone, toy_images

pytestmark = [
    pytest.mark.filterwarnings("ignore:With k=:pretextkit.errors.DataWarning"),  # tiny sets
    pytest.mark.filterwarnings("ignore:All .* test images are training images:pretextkit.errors.DataWarning"),
]


IMAGES = toy_images(12, generator=Generator().manual_seed(0))
LABELS = torch.arange(12) % 2
PAIR = (IMAGES, LABELS)
MASKS = LABELS.view(-1, 1, 1).expand(-1, 32, 32).clone()
MASKS[:, 16:] = 1 - MASKS[:, 16:]
EYE = torch.eye(4)
FOLDER = Path()


def tiny() -> TinyBackbone:
    return TinyBackbone()


def convolution() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.ReLU())


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(IMAGES)


def drawn(view: Callable[..., Tensor], **fixed: Any) -> Callable[..., Tensor]:
    return lambda **options: view(IMAGES, generator=Generator().manual_seed(0), **{**fixed, **options})


def calling(task: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    """Build a task and make a batch, because views check some of the options."""
    return lambda **options: task(tiny(), **{**fixed, **options}).views(IMAGES, Generator().manual_seed(0))


def with_shape(shape: Callable[..., Any]) -> Callable[..., Tensor]:
    return lambda **options: shape(**options)(IMAGES, Generator().manual_seed(0))


def training(run: Callable[..., Any], *arguments: Any, **fixed: Any) -> Callable[..., Any]:
    fixed |= {"device": "cpu", "progress": False, "batch_size": 12}
    return lambda **options: run(*(each() if each is tiny else each for each in arguments), **{**fixed, **options})


CALLS: dict[Any, Callable[..., Any]] = {
    functional.calibrate: lambda **options: functional.calibrate(torch.arange(99.0), **options),
    functional.compare: lambda **options: training(
        functional.compare,
        [],
        TinyBackbone,
        PAIR,
        PAIR,
        **({} if "views" in options else {"epochs": 1}),
        finetune_steps=1,
        label_fractions=[1.0],
    )(**options),
    functional.extract_features: lambda **options: functional.extract_features(tiny(), IMAGES, **options),
    functional.freeze_and_finetune: training(functional.freeze_and_finetune, tiny, LinearHead(64, 2), PAIR, epochs=1),
    functional.fixmatch: training(functional.fixmatch, tiny, "linear", PAIR, IMAGES, steps=1),
    functional.select_to_label: lambda **options: functional.select_to_label(IMAGES.flatten(1), **{"n": 4, **options}),
    functional.ProbCover: functional.ProbCover,
    functional.TypiClust: functional.TypiClust,
    functional.knn_probe: lambda **options: functional.knn_probe(tiny(), PAIR, **options),
    functional.linear_probe: lambda **options: functional.linear_probe(tiny(), PAIR, PAIR, **options),
    functional.mahalanobis_anomaly_score: lambda **options: functional.mahalanobis_anomaly_score(
        tiny(), IMAGES, IMAGES, **options
    ),
    functional.near_duplicates: lambda **options: functional.near_duplicates(tiny(), IMAGES, **options),
    functional.nearest_neighbors: lambda **options: functional.nearest_neighbors(tiny(), IMAGES, **options),
    functional.neighbor_anomaly_score: lambda **options: functional.neighbor_anomaly_score(
        tiny(), IMAGES, IMAGES, **options
    ),
    losses.barlow_twins_loss: lambda **options: losses.barlow_twins_loss(EYE, EYE, **options),
    losses.dino_loss: lambda **options: losses.dino_loss([EYE, EYE], [EYE, EYE], EYE[0], **options),
    losses.info_nce_loss: lambda **options: losses.info_nce_loss(EYE, EYE, **options),
    losses.sigreg_loss: lambda **options: losses.sigreg_loss(EYE, EYE, **options),
    losses.sinkhorn: lambda **options: losses.sinkhorn(EYE, **options),
    losses.swav_loss: lambda **options: losses.swav_loss([EYE, EYE], **options),
    losses.vicreg_loss: lambda **options: losses.vicreg_loss(EYE, EYE, **options),
    losses.visreg_loss: lambda **options: losses.visreg_loss(EYE, EYE, **options),
    functional.nt_xent_loss: lambda **options: functional.nt_xent_loss(EYE, EYE, **options),
    functional.patch_anomaly_score: lambda **options: functional.patch_anomaly_score(tiny(), IMAGES, IMAGES, **options),
    functional.pretrain: lambda **options: training(
        functional.pretrain, tasks.Rotation(tiny()), IMAGES, **({} if "steps" in options else {"epochs": 1})
    )(**options),
    functional.reconstruction_anomaly_score: lambda **options: functional.reconstruction_anomaly_score(
        torch.zeros_like, IMAGES, **options
    ),
    functional.rotation_anomaly_score: lambda **options: functional.rotation_anomaly_score(
        tasks.Rotation(tiny()), IMAGES, **options
    ),
    functional.segmentation_metrics: lambda **options: functional.segmentation_metrics(
        MASKS, MASKS, **{"classes": 2, **options}
    ),
    functional.segmentation_probe: lambda **options: functional.segmentation_probe(
        torch.nn.Identity(), (IMAGES, MASKS), (IMAGES, MASKS), **{"steps": 1, **options}
    ),
    functional.TopFraction: functional.TopFraction,
    data.TensorImages: lambda **options: data.TensorImages(IMAGES, **options),
    data.LoaderImages: lambda **options: data.LoaderImages(DataLoader(TensorDataset(IMAGES)), **options),
    data.DatasetImages: lambda **options: data.DatasetImages(TensorDataset(IMAGES), **options),
    data.ImageFormat: lambda **options: data.ImageFormat(**{"height": 8, "width": 8, "channels": 3, **options}),
    data.FolderImages: lambda **options: data.FolderImages(FOLDER, **options),
    data.StreamImages: lambda **options: data.StreamImages(Stream(), **{"length": 12, **options}),
    data.as_source: lambda **options: data.as_source(IMAGES, **options),
    data.keep_labels: lambda **options: data.keep_labels(LABELS, **{"count": 4, **options}),
    data.load: lambda **options: data.load(FOLDER, **options),
    data.load_segmentation: lambda **options: data.load_segmentation(FOLDER / "masks.npz", **options),
    data.stratified_split: lambda **options: data.stratified_split(LABELS, **{"fraction": 0.5, **options}),
    data.stratified_subset: lambda **options: data.stratified_subset(LABELS, **{"count": 4, **options}),
    views.color_jitter: drawn(views.color_jitter),
    views.cut_patches: lambda **options: views.cut_patches(IMAGES, 0 * LABELS, LABELS, **options),
    views.drop_colors: drawn(views.drop_colors),
    views.mask_blocks: drawn(views.mask_blocks),
    views.mask_center: lambda **options: views.mask_center(IMAGES, **options),
    views.mask_patches: drawn(views.mask_patches),
    views.random_grayscale: drawn(views.random_grayscale),
    views.random_horizontal_flip: drawn(views.random_horizontal_flip),
    views.random_resized_crop: drawn(views.random_resized_crop),
    views.CropAndRecolor: with_shape(views.CropAndRecolor),
    views.StrongAugmentation: with_shape(views.StrongAugmentation),
    views.LightAugmentation: with_shape(views.LightAugmentation),
    tasks.Autoencoder: calling(tasks.Autoencoder),
    tasks.BYOL: calling(tasks.BYOL),
    tasks.BarlowTwins: calling(tasks.BarlowTwins),
    tasks.CenterBlock: with_shape(tasks.CenterBlock),
    tasks.Colorization: calling(tasks.Colorization),
    tasks.ContextEncoder: calling(tasks.ContextEncoder),
    tasks.DINO: calling(tasks.DINO),
    tasks.Denoising: calling(tasks.Denoising),
    tasks.EmbeddingQueue: lambda **options: tasks.EmbeddingQueue(**{"size": 4, "dim": 2, **options}),
    tasks.GaussianNoise: with_shape(tasks.GaussianNoise),
    tasks.HiddenPatches: with_shape(tasks.HiddenPatches),
    tasks.Jigsaw: calling(tasks.Jigsaw, orders=8),
    tasks.JigsawContext: calling(tasks.JigsawContext),
    tasks.LeJEPA: calling(tasks.LeJEPA),
    tasks.MAE: lambda **options: tasks.MAE(TinyTokenBackbone(), **options),
    tasks.MoCoV3: calling(tasks.MoCoV3),
    tasks.MomentumCopy: lambda **options: tasks.MomentumCopy(torch.nn.Linear(2, 2), **options),
    tasks.MultiCrop: with_shape(tasks.MultiCrop),
    tasks.NNCLR: calling(tasks.NNCLR),
    tasks.PatchLayout: lambda **options: calling(
        tasks.JigsawContext, layout=tasks.PatchLayout(**{"patch": 8, "gap": 3, "jitter": 1, **options})
    )(),
    tasks.ProjectionHead: lambda in_dim=8, widths=4: tasks.ProjectionHead(in_dim, widths),
    tasks.PrototypeHead: lambda **options: tasks.PrototypeHead(**{"in_dim": 8, "prototypes": 4, **options}),
    tasks.RandomBlocks: with_shape(tasks.RandomBlocks),
    tasks.RunningMean: lambda **options: tasks.RunningMean(**{"dim": 2, **options}),
    tasks.SimCLR: calling(tasks.SimCLR),
    tasks.SimSiam: calling(tasks.SimSiam),
    tasks.SwAV: calling(tasks.SwAV),
    tasks.VICReg: calling(tasks.VICReg),
    tasks.distant_permutations: lambda **options: tasks.distant_permutations(**{"count": 4, **options}),
    models.PatchDiscriminator: models.PatchDiscriminator,
    models.ConvDecoder: lambda **options: models.ConvDecoder(**{"in_dim": 8, **options}),
    models.LinearHead: lambda **options: LinearHead(**{"in_dim": 8, "out_dim": 2, **options}),
    models.MLPHead: lambda **options: models.MLPHead(**{"in_dim": 8, "out_dim": 2, **options}),
    functional.ConvMapHead: lambda **options: functional.ConvMapHead(**{"feature_dim": 8, "classes": 2, **options}),
    functional.LinearMapHead: lambda **options: functional.LinearMapHead(**{"feature_dim": 8, "classes": 2, **options}),
    models.ResNet18: models.ResNet18,
    models.SmallCNN: models.SmallCNN,
    models.ViTTiny: models.ViTTiny,
    models.WrappedBackbone: lambda **options: models.WrappedBackbone(convolution(), None, **options),
    models.wrap: lambda **options: models.wrap(convolution(), **options),
}
"""Every public function that takes a number as an option, with good images and labels."""

ELSEWHERE = {
    functional.select_files: "its numbers are those of select_to_label",
    tasks.PatchTask: "abstract",
    data.check_labels: "a number that is not that of the labels is refused as such",
}
SIZE = "int | tuple[int, int] | None"
NUMBERS = {"int", "int | None", "float", "float | None"}
SEQUENCES = {
    "int | Sequence[int]",
    "Sequence[int]",
    "Sequence[float]",
    "tuple[float, float]",
    SIZE,
}
RESULTS = ("Result", "Settings", "Score", "Metrics", "Run", "Calibration", "DetectionMetrics", "Data", "Selection")
"""Endings of the names of result classes."""

WRONG: tuple[Any, ...] = ("3", "", b"3", None, True, [1], ["3"], [None], {"3": 3}, math.nan, 2.5, 1j, object())


def public(module: ModuleType) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield the functions and classes of a module, with the annotations of their numeric options."""
    for name in module.__all__:
        found = getattr(module, name)
        if not callable(found) or name.endswith(RESULTS):
            continue
        parameters = inspect.signature(found).parameters.values()
        kinds = {each.name: getattr(each.annotation, "__forward_arg__", each.annotation) for each in parameters}
        kinds = {key: SIZE if kind == "Size | None" else kind for key, kind in kinds.items()}
        yield found, {key: kind for key, kind in kinds.items() if kind in NUMBERS | SEQUENCES}


MODULES = (functional, data, views, losses, models, tasks)
FOUND = {found: options for module in MODULES for found, options in public(module) if options}
OPTIONS = [(found, name, kind) for found in CALLS for name, kind in FOUND[found].items()]
NAMES = [f"{found.__name__}-{name}" for found, name, _ in OPTIONS]


def allowed(name: str, kind: str, value: Any) -> bool:
    """Return whether the annotation of an option allows the type of a value; ranges are not checked."""
    if value is None:
        return "None" in kind
    kind = "int | Sequence[int]" if name == "pool" else kind
    integer = "float" not in kind
    if isinstance(value, list) and kind in SEQUENCES:
        return all(allowed(name, "int" if integer else "float", each) for each in value)
    if kind in SEQUENCES and not kind.startswith("int"):
        return False
    number = not isinstance(value, bool) and isinstance(value, int if integer else int | float)
    return number and not math.isnan(value)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Write the image folder and the file of masks that the calls read."""
    from PIL import Image

    global FOLDER
    FOLDER = tmp_path_factory.mktemp("images")
    for kind in ("cat", "dog"):
        (FOLDER / kind).mkdir()
        for number in range(5):
            Image.new("L", (16, 16)).save(FOLDER / kind / f"{number}.png")
    parts: dict[str, Any] = {"images": (IMAGES * 255).byte().permute(0, 2, 3, 1).numpy(), "masks": MASKS.numpy()}
    numpy.savez(
        FOLDER / "masks.npz", **{f"{part}_{key}": each for part in ("train", "test") for key, each in parts.items()}
    )


def test_every_function_with_numeric_options_is_tested() -> None:
    assert set(FOUND) == {*CALLS, *ELSEWHERE}


@pytest.mark.parametrize(("found", "name", "kind"), OPTIONS, ids=NAMES)
def test_option_of_wrong_type_raises_expected_got_fix(found: Any, name: str, kind: str) -> None:
    for value in WRONG:
        if allowed(name, kind, value):
            continue
        with pytest.raises(PretextkitError) as error:
            CALLS[found](**{name: value})
        text = str(error.value)
        assert text.startswith("Expected "), text
        assert text.endswith("."), text


@pytest.mark.parametrize("library", [numpy.float64, numpy.int64, numpy.array, torch.tensor])
@pytest.mark.parametrize("found", CALLS, ids=[found.__name__ for found in CALLS])
def test_options_accept_numbers_of_other_libraries(found: Any, library: Callable[[Any], Any]) -> None:
    """Each option gets its default, converted to a type of another library; 1 replaces slow defaults."""
    parameters = inspect.signature(found).parameters
    kinds: dict[Any, Any] = {numpy.float64: float, numpy.int64: int}
    kind = kinds.get(library, (int, float))
    given = {
        name: library(1 if name in ("epochs", "steps", "finetune_steps") else parameters[name].default)
        for name in FOUND[found]
        if isinstance(parameters[name].default, kind) and name != "pool"
    }
    if given:
        CALLS[found](**given)


def stated_default(text: str) -> str | None:
    """Find the default that an error text names."""
    found = re.search(r"[Tt]he default is (\(.*?\)|\S+?)[.;,]?(?: |$)", text)
    return found[1] if found else None


@pytest.mark.parametrize(("found", "name", "kind"), OPTIONS, ids=NAMES)
def test_error_names_default_of_signature(found: Any, name: str, kind: str) -> None:
    default = inspect.signature(found).parameters[name].default
    for value in ("3", -1, 0, math.inf, [], [-1]):
        text = error_text(CALLS[found], name, value)
        if f"Expected {name} " in text:  # distant_permutations names the option of Jigsaw
            assert stated_default(text) in (None, repr(default)), text


def error_text(call: Callable[..., Any], name: str, value: Any) -> str:
    try:
        call(**{name: value})
    except PretextkitError as error:
        return str(error)
    return ""


def test_patch_score_names_its_batch_size() -> None:
    text = r"^Expected batch_size to be an integer >= 1, but got 0\. The default is 64\. See"
    with pytest.raises(PretextkitError, match=text):
        functional.patch_anomaly_score(tiny(), IMAGES, IMAGES, batch_size=0)
