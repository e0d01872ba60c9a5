"""Flags and code of images, labels and backbones."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pretextkit as pk
from pretextkit._recipes import training_of
from pretextkit.cli._command import UsageError
from pretextkit.cli._flags import add_flags, given, keyword_flag, parse_assignments
from pretextkit.cli._script import Code, call, literal
from pretextkit.data import FolderImages
from pretextkit.data._file_listing import list_images
from pretextkit.data._file_options import is_pattern
from pretextkit.data._image_size import as_size
from pretextkit.errors import PretextkitError, unknown_name

__all__ = [
    "FILE_OPTIONS",
    "IMAGES",
    "PIXELS",
    "add_backbone_flags",
    "add_image_flags",
    "add_labels_flags",
    "backbone_flags",
    "backbone_lines",
    "has_labels",
    "image_flags",
    "image_lines",
    "input_lines",
    "label_flags",
    "labels_of",
    "pixel_hints",
    "seed_line",
    "trained_format",
]

PIXELS = "pixels"
"""Value of ``--backbone`` that compares pixels."""

PIXELS_SIZE = 32
"""Side of the images whose pixels are compared, without ``--size``."""

FILE_OPTIONS = ("size", "on_error")
"""Keywords of many functions that these programs give to :class:`FolderImages`."""

LIBRARIES = ("timm/", "torchvision/")
"""Libraries whose networks are backbones by name."""

IMAGES = "folder of images at any depth, or a quoted pattern such as 'photos/**/*.jpg'"


def add_image_flags(parser: ArgumentParser) -> None:
    """Add the flags that say how files become images: the keywords of :class:`FolderImages`."""
    group = parser.add_argument_group("images")
    add_flags(group, FolderImages, leave_out=("labels", "max_pixels"), kinds={"cache": Path})
    text = "decode files at every reading"
    group.add_argument("--no-cache", dest="cache", action="store_const", const=False, default=SUPPRESS, help=text)


def image_flags(options: Namespace, *, leave_out: Sequence[str] = ()) -> list[str]:
    """Return the flags of images that a next command needs again.

    Example:
        >>> image_flags(Namespace(size=(240, 320), on_error="skip"))
        ['--size', '240x320', '--on-error', 'skip']
    """
    values = given(options, FolderImages, leave_out=("labels", *leave_out))
    words = []
    for name, value in values.items():
        text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [f"--no-{name}"] if value is False else [keyword_flag(name), text]
    return words


def label_flags(options: Namespace) -> list[str]:
    """Return the flags of labels that a next command needs again.

    Example:
        >>> label_flags(Namespace(labels="birds.csv", label_column="species", file_column=None))
        ['--labels', 'birds.csv', '--label-column', 'species']
    """
    flags = {name: getattr(options, name) for name in ("labels", "label_column", "file_column")}
    return [word for name, value in flags.items() if value for word in (keyword_flag(name), value)]


def backbone_flags(options: Namespace) -> list[str]:
    """Return the flags of the backbone that a next command needs again.

    Example:
        >>> backbone_flags(Namespace(backbone="vit-tiny", backbone_option=["patch_size=8"]))
        ['--backbone', 'vit-tiny', '--backbone-option', 'patch_size=8']
    """
    return [
        "--backbone",
        options.backbone,
        *(w for text in options.backbone_option for w in ("--backbone-option", text)),
    ]


def pixel_hints(options: Namespace) -> tuple[str, ...]:
    """Say that pixels are compared, if they are."""
    return ("Pixels were compared; --backbone RUN compares features.",) if options.backbone == PIXELS else ()


def add_labels_flags(parser: ArgumentParser, *, other: str = "") -> None:
    """Add the flags of labels; ``other`` is the name of a second set of labeled images."""
    group = parser.add_argument_group("labels")
    text = (
        "CSV file of file names and classes, or 'folders' if the folders directly in the folder of images are the "
        "classes; by default the folders, if all images lie in them"
    )
    group.add_argument("--labels", metavar="CSV", help=text)
    group.add_argument("--label-column", metavar="NAME", help="name or number of the column of classes in the CSV file")
    group.add_argument("--file-column", metavar="NAME", help="name or number of the column of files in the CSV file")
    if other:
        group.add_argument(f"--{other}-labels", metavar="CSV", help=f"labels of the {other} images, like --labels")


def labels_of(options: Namespace, other: str = "") -> Any:
    """Return the labels as a value of :class:`FolderImages`: None, a path, or code.

    Raises:
        UsageError: A column is given without a CSV file.
    """
    columns = {"file": _column(options.file_column), "label": _column(options.label_column)}
    columns = {name: value for name, value in columns.items() if value is not None}
    labels = getattr(options, f"{other}_labels") if other else options.labels
    if other and labels is None and options.labels == "folders":
        labels = "folders"
    if not columns or (other and labels is None):
        return labels
    if options.labels in (None, "folders"):
        raise UsageError("--label-column and --file-column need --labels with a CSV file")
    return Code(call("pk.data.CsvLabels", literal(labels), **columns))


def has_labels(path: str) -> bool:
    """Return whether images come with labels: a folder of class folders, or an ``.npz`` file.

    Example:
        >>> has_labels("digits.npz"), has_labels("no such folder")
        (True, False)
    """
    try:
        return Path(path).suffix == ".npz" or bool(list_images(Path(path)).classes)
    except PretextkitError:  # no folder, which the program itself refuses, or a pattern
        return False


def image_lines(
    name: str, paths: str | Sequence[str], options: Namespace, defaults: Mapping[str, Any], labels: Any = None
) -> list[str]:
    """Write code that opens images from files, and prints what was found.

    Args:
        name: Name of the variable.
        paths: Folder, pattern or ``.npz`` file; or several files.
        options: Parsed flags.
        defaults: Options of :class:`FolderImages` in place of flags that were not given.
        labels: As :func:`labels_of` returns them.

    Example:
        >>> image_lines("photos", "birds", Namespace(size=32), {}, "labels.csv")
        ['photos = pk.data.FolderImages("birds", labels="labels.csv", size=32)', 'print(photos)']
    """
    values = {**defaults, **given(options, FolderImages)}
    values.pop("labels", None)
    paths = [paths] if isinstance(paths, str) else list(paths)
    if len(paths) == 1 and Path(paths[0]).suffix == ".npz":
        return [f"{name} = " + call("pk.data.as_source", literal(paths[0]), **given(options, FolderImages))]
    alone = len(paths) == 1 and (is_pattern(paths[0]) or not Path(paths[0]).is_file())
    source = literal(paths[0] if alone else paths)
    named = {} if labels is None else {"labels": labels}
    return [f"{name} = " + call("pk.data.FolderImages", source, **named, **values), f"print({name})"]


def add_backbone_flags(parser: ArgumentParser, *, default: str | None, pixels: bool = False) -> None:
    """Add the flags of the backbone; without ``default`` it must be given."""
    text = "folder of a run, file of a backbone or classifier, or name of a backbone, whose weights are random"
    text += f"; '{PIXELS}' compares the pixels of small images" if pixels else ""
    group = parser.add_argument_group("backbone")
    shown = f" (default: {default})" if default else ""
    group.add_argument("--backbone", metavar="RUN|FILE|NAME", default=default, required=not default, help=text + shown)
    text = "keyword of the constructor of a backbone given by name; repeatable"
    group.add_argument("--backbone-option", metavar="NAME=VALUE", action="append", default=[], help=text)


def input_lines(
    options: Namespace,
    sets: Mapping[str, str | None],
    labels: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write code that loads a backbone and opens images for it.

    Without ``--size``, images get the size with which the backbone was trained, and all sets get one size. A backbone
    with random weights measures its normalization on the first set.

    Args:
        options: Parsed flags.
        sets: Variable and path of each set; sets without a path are left out.
        labels: Labels of the sets, by variable.
        defaults: Options of :class:`FolderImages` in place of flags that were not given.
    """
    found = {name: path for name, path in sets.items() if path is not None}
    first = next(iter(found))
    values = {**trained_format(options.backbone), **(defaults or {})}
    is_random = options.backbone in pk.backbones
    lines = [*([seed_line(options)] if is_random else []), *backbone_lines(options)]
    for name, path in found.items():
        lines += image_lines(name, path, options, values, (labels or {}).get(name))
        if "size" not in {*values, *vars(options)} and not path.endswith(".npz"):
            values["size"] = Code(f"{first}.size")
    if is_random:
        pixels = f"next(pk.data.as_source({first}).in_order(2048)).images"
        lines.append(f"backbone.normalization.measure({pixels})")
    return lines


def backbone_lines(options: Namespace) -> list[str]:
    """Write code that binds ``backbone``.

    Raises:
        UsageError: ``--backbone-option`` is given beside something other than a name.
        UnknownNameError: There is neither such a backbone nor such a file.

    Example:
        >>> backbone_lines(Namespace(backbone="small-cnn", backbone_option=["in_channels=1"]))
        ['backbone = pk.backbones["small-cnn"](in_channels=1)']
    """
    value = options.backbone
    if value in pk.backbones or (value.startswith(LIBRARIES) and not Path(value).exists()):
        named = parse_assignments(options.backbone_option, pk.backbones[value], "--backbone-option")
        return [f"backbone = {call(f'pk.backbones[{literal(value)}]', **named)}"]
    if options.backbone_option:
        raise UsageError("--backbone-option needs the name of a backbone; a saved one has its options")
    if value == PIXELS:
        return ["backbone = torch.nn.Flatten()"]
    if not Path(value).exists():
        fix = "Or give the folder of a run, or the file of a backbone or classifier; there is none of this name."
        raise unknown_name("backbone", value, pk.backbones, fix)
    return [f"backbone = pk.load_backbone({literal(value)})"]


def seed_line(options: Namespace) -> str:
    """Write code that seeds the weights."""
    return f"torch.manual_seed({getattr(options, 'seed', 0)})"


def trained_format(value: str) -> Mapping[str, Any]:
    """Return size and ``fit`` of the images with which a saved backbone was trained; empty if it is not known."""
    if value == PIXELS:
        return {"size": PIXELS_SIZE}
    if value in pk.backbones or not Path(value).exists():
        return {}
    wanted = training_of(pk.load_backbone(value)).get("image format")
    if wanted is None:
        return {}
    size = as_size(wanted["height"], wanted["width"])
    return {"size": size} | ({} if wanted["fit"] == "crop" else {"fit": wanted["fit"]})


def _column(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdecimal() else text
