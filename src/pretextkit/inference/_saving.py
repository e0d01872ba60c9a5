"""Save and load backbones and classifiers, with all that is needed to build and use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from pretextkit._modules import not_built, refuse_meta, refuse_task, unwrap
from pretextkit._recipes import (
    backbone_header,
    build_module,
    remember_training,
    try_recipe,
    why_unbuildable,
)
from pretextkit._starting_point import KEY, restore_starting_point
from pretextkit.contracts import Backbone, InputNormalization
from pretextkit.data._image_format import ImageFormat
from pretextkit.errors import CheckpointError, OptionError, PretextkitError, reason
from pretextkit.inference._archive import COPY, parse_header, read_archive, write_archive
from pretextkit.inference._classifier import Classifier
from pretextkit.registries import Registry, backbones, heads
from pretextkit.training._checkpoint import read_checkpoint

__all__ = ["load_backbone", "load_classifier", "save_backbone", "save_classifier"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def save_backbone(backbone: nn.Module, path: str | Path, *, weights_only: bool = False) -> None:
    """Write a backbone to one file: weights, architecture, normalization, and its training.

    The architecture is the registered name and the arguments of the constructor, which every backbone remembers. The
    file holds tensors and text, and no code.

    Args:
        backbone: A backbone, or any other module with ``weights_only=True``.
        path: File to write; with the suffix ``.safetensors``, a file of that format (extra ``safetensors``).
        weights_only: Leave the architecture out. The module is then built by hand before loading.

    Raises:
        OptionError: The backbone cannot be built again from a registered name and plain arguments.
        PretextkitError: safetensors is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pretextkit.models import SmallCNN
        >>> with TemporaryDirectory() as folder:
        ...     save_backbone(SmallCNN(in_channels=1), f"{folder}/backbone.pt")
        ...     load_backbone(f"{folder}/backbone.pt").normalization.channels
        1
    """
    fix = "Pass weights_only=True, and load the file with load_backbone(path, into=backbone)."
    _check_module(backbone, "backbone")
    if not weights_only:
        _require_buildable(backbone, backbones, fix)
    write_archive(Path(path), _tensors(backbone), _header(backbone, recorded=not weights_only))


def load_backbone(path: str | Path, *, into: nn.Module | None = None) -> Backbone:
    """Load a backbone from a file of :func:`save_backbone`, of a saved classifier, or from the folder of a run.

    Nothing in the file is executed: a registered class is built with the recorded arguments. The weights lie on the
    CPU.

    Args:
        path: File, or the folder that ``pretrain`` got as ``checkpoint``, finished or not.
        into: Built module that gets the weights; needed if the file has no architecture.

    Returns:
        The backbone in evaluation mode; ``into``, if it is given.

    Raises:
        CheckpointError: The file is damaged, of another origin, or of a later version; its plug-in is not installed;
            or ``into`` has other weights.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import pretextkit as pk
        >>> with TemporaryDirectory() as run:
        ...     task = pk.tasks.Rotation(pk.models.SmallCNN())
        ...     _ = pk.functional.pretrain(
        ...         task, torch.rand(8, 3, 32, 32), steps=1, batch_size=8, device="cpu", checkpoint=run, progress=False
        ...     )
        ...     backbone = load_backbone(run)
        >>> torch.equal(backbone.stage1[0].weight, task.backbone.stage1[0].weight)
        True
    """
    path = Path(path)
    tensors, header = _read_run(path) if path.is_dir() else read_archive(path)
    with _described_by(path):
        if header["kind"] == "classifier":
            tensors = _part(tensors, "backbone.")
        way_out = "load_backbone(path, into=...)"
        module = into if into is not None else _built(header["backbone"], backbones, path, way_out)
        _fill(module, tensors, path)
        remember_training(module, dict(header["trained"]))
        restore_starting_point(module, header)
    return cast(Backbone, module)


def save_classifier(classifier: Classifier, path: Path, *, weights_only: bool) -> None:
    """Write a classifier to one file; :meth:`Classifier.save` is the public form.

    Raises:
        OptionError: The backbone or the head cannot be built again from a registered name and plain arguments.
        PretextkitError: safetensors is not installed.
    """
    fix = "Pass weights_only=True, and load the file with load_classifier(path, into=Classifier(backbone, head))."
    _check_module(classifier, "classifier")
    if not weights_only:
        _require_buildable(classifier.backbone, backbones, fix)
        _require_buildable(classifier.head, heads, fix)
    wanted = classifier.image_format
    header = _header(classifier.backbone, recorded=not weights_only) | {
        "kind": "classifier",
        "head": None if weights_only else try_recipe(classifier.head, heads),
        "layers": [list(layer) for layer in classifier.layers],
        "class names": None if classifier.class_names is None else list(classifier.class_names),
        "classes": None if classifier.classes is None else classifier.classes.tolist(),
        "images": None if wanted is None else asdict(wanted),
        "classifier": classifier.trained,
    }
    parts = {"backbone": classifier.backbone, "head": classifier.head}
    tensors = {f"{part}.{name}": value for part, module in parts.items() for name, value in _tensors(module).items()}
    write_archive(path, tensors, header)


def load_classifier(path: str | Path, *, into: Classifier | None = None) -> Classifier:
    """Load a classifier that :meth:`~pretextkit.functional.Classifier.save` wrote.

    Nothing in the file is executed: registered classes are built with the recorded arguments. The weights lie on the
    CPU.

    Args:
        path: File.
        into: Built classifier whose backbone and head get the weights; needed if the file has no architecture. Layers,
            class names and image size come from the file.

    Returns:
        The classifier in evaluation mode.

    Raises:
        CheckpointError: The file is damaged, of another origin, or of a later version; its plug-in is not installed;
            or ``into`` has other weights.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pretextkit.models import LinearHead, SmallCNN
        >>> with TemporaryDirectory() as folder:
        ...     Classifier(SmallCNN(), LinearHead(256, 2)).save(f"{folder}/two.pt")
        ...     load_classifier(f"{folder}/two.pt").predict_proba(torch.rand(3, 3, 32, 32)).shape
        torch.Size([3, 2])
    """
    path = Path(path)
    tensors, header = read_archive(path)
    with _described_by(path):
        if header["kind"] != "classifier":
            fix = f"Load it with load_backbone({str(path)!r})."
            raise CheckpointError(f"a classifier in {path}", got=f"a {header['kind']}", fix=fix)
        return _classifier(path, tensors, header, into)


@contextmanager
def _described_by(path: Path) -> Iterator[None]:
    """Context in which a header that another program wrote, and that lacks something, is a clear error."""
    try:
        yield
    except PretextkitError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"a file that pretextkit saved at {path}", got=reason(error), fix=COPY) from error


def _classifier(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], into: Classifier | None
) -> Classifier:
    """Build the classifier of a file, or fill the one that the caller has built."""
    way_out = "load_classifier(path, into=Classifier(backbone, head))"
    backbone = _built(header["backbone"], backbones, path, way_out) if into is None else into.backbone
    head = _built(header["head"], heads, path, way_out) if into is None else into.head
    _fill(backbone, _part(tensors, "backbone."), path)
    _fill(head, _part(tensors, "head."), path)
    remember_training(backbone, header["trained"])
    restore_starting_point(backbone, header)
    classifier = Classifier(
        backbone,
        head,
        None if header["classes"] is None else torch.tensor(header["classes"]),
        layers=[(name, side) for name, side in header["layers"]],
        class_names=header["class names"],
        image_format=_image_format(header),
        trained=header["classifier"],
    )
    return classifier.eval()


def _image_format(header: Mapping[str, Any]) -> ImageFormat | None:
    """Read the format of the images; classifiers of the first versions stretched images that are not square."""
    found = None if header["images"] is None else ImageFormat(**header["images"])
    if found is not None and KEY not in header and found.height != found.width:
        return replace(found, fit="stretch")
    return found


def _header(backbone: nn.Module, *, recorded: bool) -> dict[str, Any]:
    """Describe a backbone, with its normalization in numbers for readers of the file."""
    normalization = getattr(unwrap(backbone), "normalization", None)
    if not isinstance(normalization, InputNormalization):
        return backbone_header(backbone, recorded=recorded)
    numbers = {name: getattr(normalization, name).tolist() for name in ("mean", "std")}
    return backbone_header(backbone, recorded=recorded) | {"normalization": numbers}


def _check_module(module: Any, what: str) -> None:
    if not isinstance(module, nn.Module):
        raise not_built(module, f"the {what} to be an nn.Module", "Pass the module itself.")
    refuse_task(module, f"a {what}")
    refuse_meta(module, f"the {what}")


def _require_buildable(module: nn.Module, registry: Registry[Any], fix: str) -> None:
    if why := why_unbuildable(module, registry):
        expected = f"a {registry.kind} that can be built again from its registered name and plain arguments"
        raise OptionError(expected, got=why, fix=fix)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Give the state of a module; a compiled one has the names of the module inside."""
    state = unwrap(module).state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise OptionError(
                "a state of tensors only",
                got=f"{name} of type {type(value).__name__}",
                fix="Keep other data in arguments of the constructor.",
            )
    return dict(state)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _built(recipe: dict[str, Any] | None, registry: Registry[Any], path: Path, way_out: str) -> nn.Module:
    if recipe is None:
        raise CheckpointError(
            f"the architecture of the {registry.kind} in {path}",
            got="weights only",
            fix=f"Build the module, and pass it: {way_out}.",
        )
    return build_module(recipe, registry)


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load weights, with their dtype, after a check that all of them fit; then set evaluation mode."""
    module = unwrap(module)
    own = _tensors(module)
    for name in sorted({*own, *tensors}):
        here, there = (tuple(found[name].shape) if name in found else "none" for found in (own, tensors))
        if here != there:
            raise CheckpointError(
                f"the weights of a {type(module).__name__} in {path}",
                got=f"{name} of shape {there} in the file, {here} in the module",
                fix="Build the module with the arguments with which it was trained.",
            )
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if name in tensors and value.dtype != tensors[name].dtype:
                value.data = value.data.to(tensors[name].dtype)
    module.load_state_dict(dict(tensors))
    module.eval()


def _read_run(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of the backbone from the newest intact checkpoint of a run, and the header beside them."""
    content = read_checkpoint(folder)
    if content is None:
        raise CheckpointError(
            f"the checkpoint of a run in {folder}", got="none", fix="Pass the folder that pretrain got as checkpoint."
        )
    state = {name.replace("_orig_mod.", ""): value for name, value in content["state"]["module"].items()}
    header = content.get("about")
    if header is None:
        raise CheckpointError(
            f"a checkpoint of pretrain in {folder}", got="one without a backbone", fix="Pass another folder."
        )
    return _part(state, "backbone."), parse_header(folder, header)
