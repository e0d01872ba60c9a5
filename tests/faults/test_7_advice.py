"""Every piece of code in an error is run on the input that raised it, and gives the right answer.

The code is taken from the message. An expression replaces the argument that it names (``images.float()`` replaces
``images``), and an assignment (``batch_size=8``) sets the argument. Then the call is repeated, up to three times,
because one mistake may hide another.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import torchvision
from torch import Tensor, nn

import pretextkit as pk
from pretextkit import functional, metrics, views
from pretextkit.contracts import InputNormalization
from pretextkit.errors import PretextkitError
from pretextkit.models import LinearHead, SmallCNN
from pretextkit.plots._figures import displayable
from pretextkit.views._lab import rgb_to_lab

SOURCE = Path(pk.__file__).parent
MODULES = {"torch": torch, "numpy": numpy, "torchvision": torchvision, "pretextkit": pk}
BUILTINS = {"min": min, "max": max, "len": len, "list": list}
CODE = re.compile(r"[\w\])]\(|\w\[|\w=[\w({\[]|\blabels - 1|images / 255")
"""Signs of code in a text; a fix with one of them needs a case or an exemption."""


def snippets(text: str, known: set[str]) -> list[ast.Module]:
    """Find the code in a text: longest parts that parse, do something, and use known names only."""
    return [tree for sentence in re.split(r"[.;] (?=[A-Z])", text) for tree in _snippets(sentence, known)]


def _snippets(text: str, known: set[str]) -> list[ast.Module]:
    found = []
    starts = [match.start() for match in re.finditer(r"(?<![\w.])[\w(\[{]", text)]
    while starts:
        start = starts.pop(0)
        for end in sorted({match.end() for match in re.finditer(r"[\w)\]}\"']", text[start:])}, reverse=True):
            tree = _code(text[start : start + end], known)
            if tree is not None:
                found.append(tree)
                starts = [each for each in starts if each >= start + end]
                break
    return found


def _code(text: str, known: set[str]) -> ast.Module | None:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    names = set(known)
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets
            if not isinstance(target, ast.Name):
                return None
            names.add(target.id)
        elif not isinstance(statement, ast.Expr) or isinstance(statement.value, ast.Name | ast.Constant | ast.Tuple):
            return None
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    named = any(isinstance(node, ast.Constant) and isinstance(node.value, str) for node in ast.walk(tree))  # no [0, 1]
    return tree if (used or named) and used <= names else None


def follow(tree: ast.Module, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments after the advice."""
    space = {**MODULES, **BUILTINS, **arguments}
    changed = dict(arguments)
    for statement in tree.body:
        code = ast.Module([statement], [])
        if isinstance(statement, ast.Assign):
            exec(compile(code, "advice", "exec"), space)
            name = statement.targets[0].id  # type: ignore[attr-defined]
            changed[name] = space[name]
        else:
            value = eval(compile(ast.Expression(statement.value), "advice", "eval"), space)  # type: ignore[attr-defined]
            order = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and node.id in arguments]
            if isinstance(statement.value, ast.List | ast.Dict):  # type: ignore[attr-defined]
                (name,) = set(arguments) & {"tasks"}
                changed[name] = value
                continue
            changed[min(order, key=lambda node: (node.lineno, node.col_offset)).id] = value
    return changed


@dataclass
class Case:
    """A mistake, and what is right."""

    name: str
    call: Callable[..., Any]
    arguments: dict[str, Any]
    right: Any
    """Result of the call after the advice; None accepts any result without an error."""
    pick: int = 0
    """Which piece of code the reader takes, where the text distinguishes several inputs."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Names in the reader's program that the advice may use."""


CASES: list[Case] = []


def case(name: str, call: Callable[..., Any], right: Any, pick: int = 0, extra: Any = None, **arguments: Any) -> None:
    CASES.append(Case(name, call, arguments, right, pick, extra or {}))


def source(images: Any) -> Tensor:
    """Read all images of a source as floats in [0, 1]."""
    batches = [batch.images for batch in pk.data.as_source(images).in_order(64)]
    joined = torch.cat(batches)
    return joined / 255 if joined.dtype == torch.uint8 else joined.float()


class Items(torch.utils.data.Dataset[Any]):
    """A dataset of equal items."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return self.item


def item(image: Any) -> Tensor:
    return source(Items(image))


torch.manual_seed(0)
BYTES = torch.randint(256, (4, 3, 8, 9), dtype=torch.uint8)
BYTES[0, 0, 0, 0] = 255
FLOATS = BYTES / 255
GRAY = FLOATS[:, :1]

# Dtypes of images.
case("bool images", source, (GRAY > 0.5).float(), images=GRAY > 0.5)
for dtype in (torch.int16, torch.int32, torch.int64, torch.uint16):
    case(f"bytes as {dtype}", source, FLOATS, images=BYTES.to(dtype))
    case(f"12 bits as {dtype}", source, BYTES.long() * 16 / 4095, images=(BYTES.long() * 16).to(dtype))
case("16 bits as int32", source, BYTES.long() * 257 / 65535, images=BYTES.int() * 257)
case("white of integers is 16", source, (BYTES // 16).float() / 15, 1, images=BYTES.long() // 16)
case("dark bytes as integers", source, (BYTES // 4).float() / 255, 0, images=BYTES.long() // 4)
case("signed integers", source, FLOATS, images=BYTES.to(torch.int16) - 128)
case("bytes for a grayscale view", views.to_grayscale, views.to_grayscale(FLOATS), images=BYTES)
case("int64 images for a view", views.all_rotations, views.all_rotations(FLOATS[..., :8]), images=BYTES[..., :8].long())
case("bool images for a view", views.all_rotations, None, images=GRAY[..., :8] > 0.5)
case("integers in a forward pass", lambda images: SmallCNN()(images).shape, (4, 256), images=BYTES.long())

# Ranges of float images.
case("floats 0 to 255", source, FLOATS, images=BYTES.float())
case("floats of 16 bits", source, BYTES.long() * 257 / 65535, images=BYTES.float() * 257)
case("floats of 17 levels", source, (BYTES // 15).float() / 17, 1, images=(BYTES // 15).float())
case("overshoot of a transform", source, (FLOATS * 1.1).clamp(0, 1), images=FLOATS * 1.1)
STD, MEAN = torch.tensor([0.2, 0.3, 0.25])[:, None, None], torch.tensor([0.5, 0.4, 0.45])[:, None, None]
case("normalized", source, FLOATS, images=(FLOATS - MEAN) / STD, extra={"std": STD, "mean": MEAN})

# Shapes of images.
case("channels last", source, FLOATS, images=FLOATS.permute(0, 2, 3, 1))
case("one image", source, FLOATS[:1], 0, images=FLOATS[0])
case("gray images", source, GRAY[:3], 1, images=GRAY[:3, 0])
case("four gray images", source, GRAY, images=GRAY[:, 0])
case("one image h w c", source, FLOATS[:1], images=FLOATS[0].permute(1, 2, 0))
case("one gray image", source, GRAY[:1], images=GRAY[0, 0])
case("flattened gray images", source, GRAY[:, :, :, :8], 1, images=GRAY[:, :, :, :8].flatten(1))
RGBA = torch.cat([FLOATS, torch.ones_like(GRAY)], 1)
adapt = InputNormalization(3).adapt
case("alpha", adapt, FLOATS, 0, images=RGBA)
case("four bands, near infrared last", adapt, FLOATS, 1, images=RGBA[:, [2, 1, 0, 3]])
case("alpha, channels last", source, FLOATS, 1, images=RGBA.permute(0, 2, 3, 1))
case("four bands, channels last", source, RGBA, 0, images=RGBA.permute(0, 2, 3, 1))
case("gray and alpha", adapt, GRAY.expand(-1, 3, -1, -1), 0, images=RGBA[:, [0, 3]])
case("six bands", adapt, FLOATS, -1, images=torch.cat([FLOATS, FLOATS], 1))
case("bands, channels last", InputNormalization(4).adapt, RGBA, images=RGBA.permute(0, 2, 3, 1))
case("video", source, FLOATS, images=FLOATS.view(2, 2, 3, 8, 9))
case("volume", source, FLOATS, images=FLOATS.view(2, 2, 3, 8, 9).movedim(1, 2))
case("one array h w c", lambda array: source(array), FLOATS[:1], array=FLOATS[0].permute(1, 2, 0).numpy())
case("gray arrays of width 3", lambda array: source(array), GRAY[:, :, :, :3], 1, array=GRAY[:, 0, :, :3].numpy())
case("one image for a view", views.all_rotations, views.all_rotations(FLOATS[:1, :, :, :8]), images=FLOATS[0, :, :, :8])
case("oblong images", lambda images: views.all_rotations(images).shape, (16, 3, 8, 8), images=FLOATS)
case("alpha in a grayscale view", views.to_grayscale, views.to_grayscale(FLOATS), images=RGBA)
case("gray and alpha in a grayscale view", views.to_grayscale, GRAY, images=RGBA[:, [0, 3]])
case("gray in Lab", rgb_to_lab, rgb_to_lab(GRAY.expand(-1, 3, -1, -1)), images=GRAY)
case("alpha in Lab", rgb_to_lab, rgb_to_lab(FLOATS), images=RGBA)
case("bytes in Lab", rgb_to_lab, rgb_to_lab(FLOATS), images=BYTES)
case("float turns", lambda turns: views.rotate90(FLOATS[..., :8], turns), FLOATS[..., :8], turns=torch.zeros(4))
case("bool turns", lambda turns: views.rotate90(FLOATS[..., :8], turns), FLOATS[..., :8], turns=torch.zeros(4).bool())

# Kinds of images.
case("list of batches", source, torch.cat([FLOATS, FLOATS, FLOATS]), images=[FLOATS, FLOATS, FLOATS])
case("array of objects", lambda array: source(array), FLOATS, array=numpy.empty(4, object))
for index, image in enumerate(FLOATS):
    CASES[-1].arguments["array"][index] = image.permute(1, 2, 0).numpy()
LONG = FLOATS.permute(0, 2, 3, 1).numpy().astype("longdouble")
case("array of long doubles", lambda array: source(array), FLOATS, array=LONG)
case("array where a tensor is needed", lambda images: pk.data.check_images(images), None, images=FLOATS.numpy())

# Items of a dataset.
PAIR = FLOATS[:1].expand(2, -1, -1, -1)
case("item h w c", item, PAIR, image=FLOATS[0].permute(1, 2, 0))
case("item h w", item, PAIR[:, :1], image=FLOATS[0, 0])
case("item array c h w", item, PAIR, image=FLOATS[0].numpy())
case("item with a batch axis", item, PAIR, image=FLOATS[:1])
case("item array of bands c h w", item, RGBA[:1].expand(2, -1, -1, -1), image=RGBA[0].numpy())
case("item of bands h w c", item, RGBA[:1].expand(2, -1, -1, -1), image=RGBA[0].permute(1, 2, 0))

# Labels.
case("labels of two tasks", pk.data.check_labels, torch.tensor([4, 5]), labels=torch.tensor([[4, 1], [5, 0]]))
case("float labels", pk.data.check_labels, torch.tensor([2, 0, 1]), labels=torch.tensor([2.0, 0.0, 1.0]))
case("-100 for unlabeled", pk.data.check_labels, torch.tensor([2, -1, 1]), labels=torch.tensor([2, -100, 1]))


def with_both(expression: str, labels: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Follow an expression in ``labels`` for train and for test, as the text says."""
    (tree,) = snippets(expression, {"torch", "labels", "train_labels", "test_labels"})
    space = {"train_labels": labels[0], "test_labels": labels[1]}
    train, test = (follow(tree, {"labels": each, **space})["labels"] for each in labels)
    return train, test


TRUE_TRAIN, TRUE_TEST = torch.tensor([0, 1, 2] * 20), torch.tensor([1, 2] * 10)


@pytest.mark.parametrize(
    "codes",
    [[1, 2, 3], [0, 2, 5], [7, 10, 3], [1, 2, 1000]],
    ids=["from 1", "gap", "out of order", "far"],
)
@pytest.mark.parametrize("unlabeled", [0, 5], ids=["labeled", "some unlabeled"])
@pytest.mark.parametrize("probe", ["knn", "linear", "finetune"])
def test_renumbering_gives_train_and_test_one_table(codes: list[int], unlabeled: int, probe: str) -> None:
    train_labels, test_labels = torch.tensor(codes)[TRUE_TRAIN], torch.tensor(codes)[TRUE_TEST]
    train_labels[:unlabeled] = test_labels[:unlabeled] = -1
    features = [nn.functional.one_hot(labels, 5).float() for labels in (TRUE_TRAIN, TRUE_TEST)]

    def ask(train_labels: Tensor, test_labels: Tensor) -> float:
        parts = tuple(zip(features, (train_labels, test_labels), strict=True))
        if probe == "knn":
            return functional.knn_probe(nn.Identity(), *parts, k=1).accuracy
        if probe == "linear":
            return functional.linear_probe(nn.Identity(), *parts).accuracy
        images = [part[0].view(-1, 1, 1, 5).expand(-1, 1, 2, 5).contiguous() for part in parts]
        result = functional.freeze_and_finetune(
            pk.backbones["small-cnn"](in_channels=1),
            LinearHead(256, 3),
            (images[0], train_labels),
            val=(images[1], test_labels),
            epochs=1,
            device="cpu",
            progress=False,
        )
        return float(result.classifier is not None)

    with pytest.raises(PretextkitError) as caught:
        ask(train_labels, test_labels)
    assert ask(*with_both(caught.value.fix, (train_labels, test_labels))) == 1.0


# Features, embeddings and scores.
FEATURES = torch.rand(6, 5)
case("maps", metrics.rankme, metrics.rankme(FEATURES), features=FEATURES[:, :, None, None].expand(-1, -1, 2, 2))
case("tokens", metrics.rankme, metrics.rankme(FEATURES), features=FEATURES[:, None].expand(-1, 3, -1))
case("one number for each image", lambda features: metrics.rankme(features), None, 0, features=FEATURES[:, 0])
case("features of integers", lambda features: metrics.rankme(features), None, features=(FEATURES * 9).long())
case(
    "complex features",
    lambda features: functional.extract_features(nn.Identity(), features)[0]["last"].shape,
    (6, 10),
    features=torch.complex(FEATURES, FEATURES),
)
case(
    "complex scores",
    lambda scores: functional.detection_metrics(scores, torch.full((3,), 9.0)).auroc,
    1.0,
    scores=torch.complex(FEATURES[:, 0], FEATURES[:, 1]),
)
case(
    "maps as scores",
    lambda scores: functional.detection_metrics(scores, torch.full((3,), 9.0)).auroc,
    1.0,
    scores=FEATURES[:, :, None],
)
IMAGES = torch.rand(3, 3, 8, 8)
TARGETS = torch.randint(3, (3, 8, 8))


def masks_of(masks: Any, images: Tensor = IMAGES) -> Tensor:
    from pretextkit._validation import check_masks

    check_masks(images, masks, "train")
    return torch.as_tensor(masks).long()


case("float masks", masks_of, TARGETS, masks=TARGETS.float())
case("masks divided by 255", masks_of, TARGETS, masks=TARGETS / 255)
case("binary float masks", masks_of, TARGETS.clamp(max=1), masks=TARGETS.clamp(max=1).float())
case("masks with a channel", masks_of, TARGETS, masks=TARGETS[:, None])
case("masks divided by 255 with a channel", masks_of, TARGETS, masks=(TARGETS / 255)[:, None])
case("one-hot masks", masks_of, TARGETS, masks=nn.functional.one_hot(TARGETS, 3).movedim(-1, 1))
case("arrays as masks", masks_of, TARGETS, masks=TARGETS.numpy())
case(
    "masks of half size",
    masks_of,
    TARGETS[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2),
    masks=TARGETS[:, ::2, ::2],
)


def pixel_accuracy(predictions: Tensor, targets: Tensor) -> float:
    return functional.segmentation_metrics(predictions, targets, 3).pixel_accuracy


LOGITS = nn.functional.one_hot(TARGETS, 3).movedim(-1, 1).float()
case("logits as predictions", pixel_accuracy, 1.0, predictions=LOGITS, targets=TARGETS)
case("targets with a channel", pixel_accuracy, 1.0, predictions=TARGETS, targets=TARGETS[:, None])
case("float predictions", lambda masks: pixel_accuracy(masks, TARGETS), 1.0, masks=TARGETS.float())
case("targets divided by 255", lambda masks: pixel_accuracy(TARGETS, masks), 1.0, masks=TARGETS / 255)


# Options: an assignment in the text is the option itself.
def train(task: Any = None, images: Any = None, **options: Any) -> int:
    task = task or pk.tasks.Rotation(SmallCNN(in_channels=1))
    images = torch.rand(10, 1, 8, 8) if images is None else images
    return functional.pretrain(task, images, **{"device": "cpu", "progress": False, "steps": 1, **options}).steps


case("batch larger than the set", train, 1, batch_size=64)
case("batch larger than the set, in parts", train, 1, batch_size=64, accumulate=3)
case("batch that parts do not divide", train, 1, batch_size=8, accumulate=3)
case("batch of text", train, 1, batch_size="8")
case("epochs of text", train, None, steps=None, epochs="1", batch_size=10)
case("no steps", train, None, steps=0, batch_size=10)


def probe(**options: Any) -> float:
    return functional.linear_probe(
        nn.Identity(),
        (torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)),
        (torch.eye(4), torch.arange(4)),
        **options,
    ).accuracy


case("penalty of zero", probe, 1.0, penalties=(0.0,))
case("penalties that are no sequence", probe, 1.0, penalties=1.0)


def compare(tasks: Any = ("rotation",), **options: Any) -> Any:
    from pretextkit.comparison._methods import build_methods

    return [method.name for method in build_methods(tasks, "small-cnn", None)][2:]  # type: ignore[arg-type]


case("one task name", compare, ["rotation"], tasks="rotation")
case("a class without a name", compare, ["rotation"], tasks=[pk.tasks.Rotation], extra={"Rotation": pk.tasks.Rotation})


def compare_options(**options: Any) -> None:
    labels = torch.arange(20) % 2
    data = (torch.rand(20, 1, 8, 8), labels), (torch.rand(20, 1, 8, 8), labels)
    given = {"batch_size": 4, "seeds": (0,), "device": "cpu", **options}
    if not {"epochs", "views_per_image"} & set(options):
        given["epochs"] = 1
    functional.compare([], Small, *data, label_fractions=(), finetune_steps=1, progress=False, **given)


class Small(pk.Backbone):
    """The smallest backbone, so that a comparison takes a moment."""

    feature_dim = 4

    def __init__(self, *, in_channels: int = 1) -> None:
        super().__init__(in_channels=in_channels)
        self.layer = nn.Conv2d(in_channels, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layer(self.normalization(images)).mean((2, 3))
        return features


case("compare without a budget", compare_options, None, epochs=None)
case("compare with epochs of text", compare_options, None, epochs="1")
case("compare with no views", compare_options, None, views_per_image=0)
case("compare with a seed of text", compare_options, None, seeds=("a",))
case("compare with seeds that are no sequence", compare_options, None, seeds=3)
case("compare with a seed twice", compare_options, None, seeds=(1, 1))
OBLONG = torch.rand(4, 8, 9, 7)
case("oblong bands in an array", lambda array: source(array), OBLONG.permute(0, 3, 1, 2), array=OBLONG.numpy())
case("one image beside white", lambda images: len(pk.data.as_source(images, white=2)), 1, images=torch.rand(3, 8, 9))
case(
    "discriminator of colors for bands",
    lambda in_channels: pk.models.PatchDiscriminator(in_channels)(torch.rand(2, 5, 8, 8)).shape,
    (2, 1, 1, 1),
    in_channels=3,
)
case("two channels to draw", lambda channels: displayable(RGBA[0], channels).shape, (8, 9, 3), channels=(0, 1))
case(
    "colorization of bands",
    lambda in_channels: pk.tasks.Colorization(SmallCNN(in_channels=in_channels)),
    None,
    in_channels=13,
)


def half(images: Tensor) -> Tensor:
    return images / 2


DRAW = torch.Generator().manual_seed(0)
case(
    "scale out of range", lambda **o: views.random_resized_crop(FLOATS, 4, generator=DRAW, **o), None, scale=(0.0, 2.0)
)
case("ratio of text", lambda **o: views.random_resized_crop(FLOATS, 4, generator=DRAW, **o), None, ratio=("a", "b"))
case("blocks of text", lambda **o: views.mask_blocks(FLOATS, generator=DRAW, **o), None, count="4")
case("side out of range", lambda **o: views.mask_blocks(FLOATS, generator=DRAW, **o), None, side=2.0)
case("fraction out of range", lambda **o: views.mask_patches(FLOATS, generator=DRAW, patch=2, **o), None, fraction=2.0)
case("patch of text", lambda **o: views.mask_patches(FLOATS, generator=DRAW, fraction=0.5, **o), None, patch="4")
ZERO = torch.zeros(4, dtype=torch.int64)
case("patch size of text", lambda size: views.cut_patches(torch.rand(4, 3, 16, 16), ZERO, ZERO, size), None, size="9")
case(
    "maps of a reduction",
    lambda maps: (
        functional.reconstruction_anomaly_score(lambda images: images / 2, FLOATS, reduction=lambda _: maps).scores
    ),
    torch.ones(4),
    maps=torch.ones(4, 8, 9),
)
case(
    "error maps with channels",
    lambda maps: functional.reconstruction_anomaly_score(half, FLOATS, error=lambda *_: maps).maps,
    torch.ones(4, 8, 9),
    maps=torch.ones(4, 3, 8, 9),
)


def evaluate(value: Any, right: Any) -> None:
    if isinstance(right, Tensor):
        assert torch.allclose(value, right.to(value.dtype), atol=1e-6)
    elif right is not None:
        assert (tuple(value) if isinstance(value, torch.Size) else value) == right


def attempt(case: Case, arguments: dict[str, Any]) -> PretextkitError | None:
    try:
        evaluate(case.call(**arguments), case.right)
    except PretextkitError as error:
        return error
    return None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_advice_gives_right_answer(case: Case) -> None:
    arguments, errors = dict(case.arguments), []
    for _ in range(3):
        error = attempt(case, arguments)
        if error is None:
            break
        errors.append(str(error))
        aliases = {"values": arguments.get("features"), "embeddings": arguments.get("features")}
        space = {**arguments, **case.extra, **{key: value for key, value in aliases.items() if value is not None}}
        found = snippets(error.fix, {*MODULES, *BUILTINS, *space})
        assert found, f"no code in: {error}"
        advised = follow(found[case.pick if len(found) > case.pick else 0], space)
        for alias in aliases:
            if alias in advised and advised[alias] is not space.get(alias):
                advised["features"] = advised[alias]
        arguments = {name: advised.get(name, value) for name, value in arguments.items()}
        arguments |= {name: value for name, value in advised.items() if name not in space}
    else:
        raise AssertionError(f"three times advised, and still refused: {errors}")
    assert errors, "the input is not refused"


Site = tuple[str, str]
"""File and function that raise an error."""

EXEMPT: dict[Site, str] = {
    # Code that no value of an argument replaces: a test follows the advice.
    ("_modules/_refusals.py", "refuse_meta"): "test_7_followed::test_weights_without_values",
    (
        "_modules/_refusals.py",
        "refuse_traced_training",
    ): "test_9_wrapped_networks::test_graph_of_evaluation_mode_has_the_features_of_the_network",
    ("_modules/_refusals.py", "explain_complex_weights"): "test_14_dtypes::test_complex_weights_that_convert_work",
    ("_modules/_refusals.py", "not_built"): "test_7_troubleshooting::test_name_of_a_backbone_is_built_as_advised",
    ("anomaly/_reconstruction.py", "_refuse_task"): "the tests of anomaly scores follow it",
    ("cli/_commands/_predict.py", "_check_order"): "a command, which the tests of the commands run",
    ("cli/_outputs.py", "check_file"): "the name of a file, or a command",
    ("evaluation/_labels.py", "labeled_rows"): "test_7_followed_files::test_labels_of_files",
    ("comparison/_folders.py", "read_folder"): "the folder of an earlier call of the reader",
    ("report/_sections.py", "scored"): "test_7_followed_files::test_images_of_a_report",
    ("selection/_select.py", "_labeled_rows"): "test_7_followed_files::test_mask_of_labeled_images",
    ("selection/_select.py", "_method"): "test_7_followed_files::test_method_of_selection",
    ("selection/_select.py", "select_to_label"): "test_7_followed_files::test_backbone_of_selection",
    ("_validation/_labels.py", "_integers"): "test_7_followed::test_text_labels_of_two_parts",
    ("_validation/_labels.py", "check_classes"): "test_7_advice::test_renumbering_gives_train_and_test_one_table",
    (
        "_validation/_outputs.py",
        "check_callable",
    ): "test_7_troubleshooting::test_transform_is_called_as_advised",
    ("_validation/_outputs.py", "_flatten"): "test_7_followed::test_complex_features_and_images",
    ("_validation/_outputs.py", "check_tensor"): "test_7_followed::test_integer_reconstructions",
    ("anomaly/_reconstruction.py", "_error_maps"): "test_7_followed::test_reconstruct_of_an_autoencoder",
    ("anomaly/_rotation.py", "rotation_anomaly_score"): "test_7_followed::test_rotation_task",
    (
        "comparison/_methods.py",
        "new_backbone",
    ): "test_7_troubleshooting::test_factory_of_a_plain_network_is_wrapped_as_advised",
    ("comparison/_methods.py", "new_module"): "test_7_followed::test_task_factory",
    ("comparison/_setup.py", "_check_options"): "test_7_followed::test_number_of_views",
    ("data/_as_source.py", "_as_tensor"): "test_7_followed::test_image_axis",
    ("data/_as_source.py", "_path_source"): "test_7_followed_files::test_array_in_a_file",
    ("data/_as_source.py", "_training_split"): "test_7_followed::test_folder_without_training_part",
    ("data/_collate.py", "_check_sizes"): "test_7_followed::test_sizes_of_images",
    ("data/_files.py", "_lone_split"): "test_3_splits::test_advice_for_splits_is_right_when_followed",
    ("data/_csv_labels.py", "_label_column"): "test_7_followed_files::test_column_of_labels",
    ("data/_file_labels.py", "_folder_labels"): "test_7_followed_files::test_class_in_the_name_of_a_file",
    ("data/_file_options.py", "refuse_file_options"): "test_7_followed_files::test_size_beside_an_archive",
    ("data/_folder.py", "to_file_pixels"): "test_7_followed::test_map_of_one_image",
    ("data/_image_conversion.py", "pil_tensor"): "test_7_followed::test_files_of_floats",
    ("data/_file_options.py", "check_opening"): "test_5_range::test_function_that_opens_files",
    ("data/_file_options.py", "checked_suffixes"): "test_5_range::test_suffixes_of_files",
    ("data/_image_conversion.py", "stored_tensor"): "test_5_range::test_colors_of_sixteen_bits",
    ("data/_load.py", "_from_folder"): "test_3_splits::test_advice_without_train_is_right_when_followed",
    ("data/_npz.py", "read_npz"): "test_7_followed::test_arrays_of_npz_file",
    ("data/_segmentation.py", "_from_npz"): "test_7_followed::test_arrays_of_npz_file",
    ("data/_segmentation.py", "as_segmented"): "test_7_followed::test_arrays_of_npz_file",
    ("data/_loader_images.py", "_count"): "test_7_followed::test_stream_length",
    ("data/_dataset_images.py", "__init__"): "test_7_followed::test_stream_length",
    ("data/_stream.py", "__init__"): "test_7_followed::test_stream_length",
    ("inference/_saving.py", "_built"): "test_7_followed_files::test_backbone_without_architecture",
    ("inference/_saving.py", "_require_buildable"): "test_7_followed_files::test_classifier_without_architecture",
    ("inference/_saving.py", "load_classifier"): "test_7_followed_files::test_file_of_a_backbone_is_no_classifier",
    ("inference/_capture.py", "read"): "test_7_followed::test_layers",
    ("inference/_capture.py", "read_maps"): "test_7_followed::test_layers",
    ("evaluation/_classes.py", "resolve_class_weights"): "test_7_followed::test_class_weights",
    ("evaluation/_features.py", "_check_grid"): "test_9_wrapped_networks::test_grid_without_a_map_is_refused",
    ("finetuning/_work.py", "check_fit"): "test_7_followed::test_head_width",
    ("losses/_nt_xent.py", "backward"): "test_7_followed::test_second_derivative",
    ("losses/_sigreg.py", "check_directions"): "test_7_followed_files::test_directions_of_sigreg",
    ("models/_libraries.py", "unknown_model"): "test_7_followed_files::test_unknown_model_of_torchvision",
    ("models/heads/_decoder.py", "__init__"): "test_7_followed::test_doublings_of_decoder",
    ("models/heads/_linear.py", "__init__"): "test_7_followed::test_sizes_of_heads",
    ("models/heads/_mlp.py", "__init__"): "test_7_followed::test_sizes_of_heads",
    ("plots/_inputs.py", "check_plotted_features"): "test_7_troubleshooting::test_features_become_a_tensor_as_advised",
    ("models/heads/_mlp.py", "require_two_rows"): "test_7_followed::test_single_row_of_batch_norm",
    ("plots/_views.py", "_rows"): "test_7_followed::test_views_to_plot",
    ("sklearn/_finetune_classifier.py", "_fitted"): "test_7_troubleshooting::test_features_for_a_probe_of_scikit_learn",
    ("sklearn/_installed.py", "require_sklearn"): "a command, and no code of Python",
    ("tasks/_context_encoder.py", "__init__"): "test_7_followed::test_discriminator",
    ("tasks/_jigsaw.py", "distant_permutations"): "test_7_followed::test_number_of_permutations",
    ("tasks/_distillation.py", "__call__"): "test_7_followed_files::test_width_of_a_teacher",
    ("tasks/_distillation.py", "__init__"): "test_7_followed_files::test_teacher_of_the_same_weights",
    ("tasks/_distillation.py", "_dry_run"): "test_7_followed_files::test_teacher_of_large_images",
    ("tasks/_mae.py", "__init__"): "test_7_followed_files::test_backbone_of_a_masked_autoencoder",
    ("tasks/_mae.py", "predict"): "test_7_followed_files::test_mask_of_a_masked_autoencoder",
    ("tasks/_projection.py", "__init__"): "test_7_followed_files::test_widths_of_projection_head",
    ("training/_settings.py", "_check_schedule"): "test_7_followed_files::test_budget_of_training",
    ("training/_settings.py", "_recommended"): "test_7_followed_files::test_recommended_settings_of_a_task",
    (
        "views/_augmentation.py",
        "augmented",
    ): "test_7_troubleshooting::test_transform_is_called_as_advised",
    ("views/_augmentation.py", "check_augmentation"): "test_7_followed_files::test_augmentation_of_a_task",
    ("training/_callbacks.py", "_add_numbers"): "test_7_followed_files::test_numbers_of_a_callback",
    ("training/_hardware.py", "_precision_of"): "test_7_followed::test_weights_converted_to_float",
    ("training/_hardware.py", "resolve_device"): "test_7_followed::test_device",
    ("training/_objectives.py", "precision"): "test_7_followed::test_task_of_two_dtypes",
    ("training/_optim.py", "build_optimizer"): "test_7_followed::test_frozen_task",
    ("training/_step.py", "_check_output"): "test_7_followed::test_output_of_a_task",
    ("training/_callbacks.py", "check_callbacks"): "test_7_followed::test_callbacks",
    ("training/_user_code.py", "check_place"): "test_7_followed::test_moved_task",
    ("training/_user_code.py", "check_trained_dtype"): "test_7_followed::test_weights_converted_to_float",
    # No call that can be repeated.
    ("data/_as_source.py", "_source"): "names the class of the reader's source, which takes the option",
    ("comparison/_cost.py", "views_per_image"): "a line in the forward of the reader's class",
    ("comparison/_result.py", "from_dict"): "names the file that another call wrote",
    ("data/_folder.py", "__init__"): "shows the name of a file and its error",
    ("data/_stream.py", "_parts"): "a line in the dataset of the reader; tests/data/test_stream.py divides the shards",
    ("data/_torchvision_sets.py", "_build"): "names files to download",
    ("distributed/_group.py", "current_group"): "a call at the start of a program of several processes",
    ("distributed/_sharding.py", "is_sharded"): "the order of calls in a program of several processes",
    ("evaluation/_segmentation.py", "_count_classes"): "shows the present value, to be checked",
    ("evaluation/_features.py", "pool_sides"): "no code: the meaning of 1 and 2",
    ("metrics/_segmentation.py", "segmentation_metrics"): "shows the present value, to be checked",
    ("inference/_archive.py", "_safetensors"): "a command of the shell",
    ("inference/_archive.py", "write_archive"): "names a file in the folder of the call",
    ("models/_dry_run.py", "dry_run_sizes"): "a size that the reader's network takes",
    ("models/_stage_search.py", "find_stages"): "names of layers in the reader's network",
    ("models/_left_out.py", "check_complete"): "names of layers in the reader's network",
    ("models/_timm_tokens.py", "__init__"): "the patch of the reader's network",
    ("models/_libraries.py", "import_timm"): "a command of the shell",
    ("models/_libraries.py", "no_such_weights"): "no code: the known names",
    ("models/_timm_tokens.py", "check_size"): "options of another library; tests/models/test_timm.py builds with them",
    ("models/heads/_decoder.py", "fitting"): "another base of the reader's class",
    ("plots/_figures.py", "new_figure"): "a command of the shell",
    ("plots/_shown_figure.py", "show"): "a method of matplotlib, which the gallery calls",
    ("registries.py", "_register"): "methods of the reader's class",
    ("tasks/_patches.py", "fitting"): "larger images, or numbers that the reader chooses",
    (
        "training/_monitors.py",
        "diverged",
    ): "a run that diverged: no option is sure; test_options_against_divergence_exist",
    ("training/_objectives.py", "check_backbone_output"): "a line in the forward of the reader's class",
    ("training/_settings.py", "_batch_size"): "the fix of accumulate has no code; that of batch_size has cases",
}


def sites_with_code() -> dict[tuple[str, int, int], tuple[str, str]]:
    """List every ``fix=`` that contains code: its file and lines, and its function and text."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            node.targets[0].id: ast.unparse(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            for option in node.keywords:
                if option.arg != "fix" or name == "errors.py" or name.startswith("_validation/_options"):
                    continue
                names = {each.id for each in ast.walk(option.value) if isinstance(each, ast.Name)}
                text = " ".join([ast.unparse(option.value), *(constants[each] for each in names & set(constants))])
                inside = [each.name for each in functions if each.lineno <= node.lineno <= (each.end_lineno or 0)]
                strings = " ".join(part for part in re.findall(r"""(?:'[^']*'|"[^"]*")""", text))
                if CODE.search(strings) or "_fix(" in text:
                    found[name, node.lineno, node.end_lineno or 0] = (inside[-1] if inside else "", text)
    return found


def covered(sites: Mapping[tuple[str, int, int], Any]) -> set[tuple[str, int, int]]:
    """Run every case, and find the sites in the tracebacks."""
    found = set()
    for each in CASES:
        try:
            each.call(**each.arguments)
        except PretextkitError as error:  # noqa: PERF203 - every case raises
            for frame in traceback.extract_tb(error.__traceback__):
                name = frame.filename.replace("\\", "/").rpartition("/pretextkit/")[2]
                found |= {site for site in sites if site[0] == name and site[1] <= (frame.lineno or 0) <= site[2]}
    return found


def test_every_fix_with_code_has_a_case_or_an_exemption() -> None:
    sites = sites_with_code()
    missing = {(site[0], sites[site][0]) for site in set(sites) - covered(sites)} - set(EXEMPT)
    assert not missing, f"add a case to CASES: {sorted(missing)}"
    stale = set(EXEMPT) - {(site[0], function) for site, (function, _) in sites.items()}
    assert not stale


def test_exemptions_that_name_a_test_are_true() -> None:
    for reason in EXEMPT.values():
        file, found, test = reason.partition("::")
        if found:
            text = (Path(__file__).parent / f"{file}.py").read_text(encoding="utf-8")
            assert re.search(rf"^def {test}", text, re.MULTILINE), reason


OPTIONS: dict[str, Callable[..., Any]] = {
    "StreamImages": pk.data.StreamImages,
    "FolderImages": pk.data.FolderImages,
    "compare": functional.compare,
    "load_segmentation": pk.data.load_segmentation,
    "PatchLayout": pk.tasks.PatchLayout,
}


def test_named_options_exist() -> None:
    """A fix names only functions and options that exist."""
    for path in sorted(SOURCE.rglob("*.py")):
        for text in re.findall(r"""["'](.*)["']""", path.read_text(encoding="utf-8")):
            for name, options in re.findall(r"(\w+)\(([^()]*=\.\.\.[^()]*)\)", text):
                if name in OPTIONS:
                    named = set(re.findall(r"(\w+)=", options))
                    assert named <= set(inspect.signature(OPTIONS[name]).parameters), f"{path}: {text}"
            for dotted in re.findall(r"(?<!//)pretextkit(?:\.\w+)+(?=[( ,.])", text):
                head, *rest = dotted.split(".")
                value: Any = MODULES[head]
                for part in rest:
                    value = getattr(value, part, None) or importlib.import_module(dotted)


@pytest.mark.parametrize("function", [functional.pretrain, functional.freeze_and_finetune])
def test_options_against_divergence_exist(function: Callable[..., Any]) -> None:
    assert {"learning_rate", "clip_norm", "precision"} <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize("function", [functional.linear_probe, functional.knn_probe])
def test_option_memory_exists(function: Callable[..., Any]) -> None:
    assert "memory" in inspect.signature(function).parameters


def test_defaults_in_compare_messages_are_true() -> None:
    parameters = inspect.signature(functional.compare).parameters
    assert parameters["batch_size"].default is None  # the advice is to leave it out
    assert parameters["finetune_steps"].default is None
    assert tuple(parameters["label_fractions"].default) == (0.01, 0.1, 1.0)


def test_path_is_read(tmp_path: Path) -> None:
    numpy.save(tmp_path / "images.npy", FLOATS.permute(0, 2, 3, 1).numpy())
    with pytest.raises(PretextkitError) as caught:
        source(tmp_path / "images.npy")
    (tree,) = snippets(caught.value.fix, {"numpy", "path"})
    evaluate(source(follow(tree, {"path": tmp_path / "images.npy"})["path"]), FLOATS)


@pytest.mark.parametrize("size", [None, 6])
def test_damaged_file_of_pretrain_is_skipped_as_advised(tmp_path: Path, size: int | None) -> None:
    """``pretrain`` has no option on_error, so the text names the class that has it."""
    from PIL import Image

    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number + 60, 0, 0)).save(tmp_path / f"{number}.png")
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(PretextkitError) as caught:
        train(images=tmp_path, task=pk.tasks.Rotation(SmallCNN()), batch_size=3)
    (tree,) = [
        each
        for each in snippets(caught.value.fix, {"pretextkit", "root"})
        if "on_error" in ast.unparse(each) and "FolderImages" in ast.unparse(each)
    ]
    assert len(follow(tree, {"root": tmp_path})["root"]) == 3
