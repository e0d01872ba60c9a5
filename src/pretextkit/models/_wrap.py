"""Networks of torchvision, timm and users as backbones."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import is_parallel_wrapper, is_scripted, module_device, module_dtype, unwrap
from pretextkit.contracts import Backbone, PretextTask, SpatialBackbone
from pretextkit.errors import OptionError, ShapeError, reason
from pretextkit.models._dry_run import (
    all_trainable,
    black_image,
    dry_run_sizes,
    input_channels,
    runs,
    smallest_side,
)
from pretextkit.models._left_out import check_complete, unused_modules
from pretextkit.models._stage_search import find_stages, named_stages
from pretextkit.models._start import Start, set_start
from pretextkit.models._timm_tokens import TimmTokens, is_token_network

__all__ = ["WrappedBackbone", "wrap"]


def wrap(
    module: nn.Module,
    stages: Sequence[str] | None = None,
    *,
    weights: Any = None,
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    size: int | None = None,
) -> SpatialBackbone:
    """Make a backbone of a network of torchvision, timm or your own.

    One dry run finds the stages: the last layer at each resolution of a convolutional network, or four blocks of a
    transformer, whose tokens become maps. Layers after the last stage, such as the classifier, are left out. The
    backbone holds a copy of the module, as ``backbone.network``; the module itself stays as it is.

    A new network has random weights, and pretraining measures its normalization. If the module holds trained weights,
    pass the normalization of their training, by ``weights`` or ``normalization``; timm's networks know it.

    Args:
        module: Network from images ``b c h w`` to anything. A ``VisionTransformer`` of timm becomes a
            :class:`~pretextkit.TokenBackbone`.
        stages: Names of the layers whose outputs are the stages, as in ``module.named_modules()``; None finds them.
        weights: Trained weights that the module holds, a member of a torchvision enum such as
            ``ResNet50_Weights.IMAGENET1K_V2``; None for random weights, for timm and for your own.
        normalization: Mean and standard deviation of the module's training, each one number per channel; None takes
            those of ``weights``, or leaves them to be measured.
        size: Side in pixels of the image of the dry run; None tries usual sizes from 64 on.

    Returns:
        Backbone whose features are the average of the last stage. Its ``starts_from`` describes the start of the
        weights, for example ``"torchvision ResNet50 IMAGENET1K_V2, trained on ImageNet labels"``.

    Raises:
        OptionError: The module is no network of images, no layer returns a map, or the stages that were found end
            before most of the network.
        UnknownNameError: The network has no layer of a given name.
        DataWarning: The module holds trained weights, and their normalization is unknown.

    Example:
        >>> import torchvision
        >>> backbone = wrap(torchvision.models.resnet18())
        >>> backbone
        WrappedBackbone(ResNet: relu, layer1, layer2, layer3, layer4; 512 features)
        >>> [tuple(stage.shape[1:]) for stage in backbone.stages(torch.rand(2, 3, 64, 64))]
        [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    """
    network = copy.deepcopy(check_module(module))
    start = Start.of(network, weights, normalization)
    backbone = backbone_of(network, stages, size)
    set_start(backbone, start)
    return backbone


def backbone_of(network: nn.Module, stages: Sequence[str] | None = None, size: int | None = None) -> SpatialBackbone:
    """Make a backbone around a network, which it changes: tokens for a transformer of timm, else maps."""
    if stages is None and is_token_network(network):
        return TimmTokens(network)
    return WrappedBackbone(network, stages, size)


def check_module(module: Any) -> nn.Module:
    """Return the network inside ``torch.compile``, or refuse what cannot become a backbone."""
    name = type(module).__name__
    if isinstance(module, type):
        got, fix = f"the class {module.__name__}", f"Build it: {module.__name__}()."
    elif isinstance(module, str):
        got, fix = f"the name {module!r}", f"Names build backbones without wrap: pretextkit.backbones[{module!r}]()."
    elif isinstance(module, Backbone):
        got, fix = f"the backbone {name}", "It needs no wrapping: use it as it is."
    elif isinstance(module, PretextTask):
        got, fix = f"the task {name}", "Use its backbone, task.backbone."
    elif is_parallel_wrapper(module):
        got, fix = f"a {name}", "Wrap the network inside, module.module."
    elif is_scripted(module):
        got, fix = f"the TorchScript module {name}", "Wrap the network from which it was made."
    elif not isinstance(module, nn.Module):
        got, fix = f"a {name}", "Pass a network such as torchvision.models.resnet18()."
    else:
        return unwrap(module)  # type: ignore[no-any-return]
    raise OptionError("module to be a torch.nn.Module that maps images", got=got, fix=fix)


def check_stages(stages: Any) -> Sequence[str]:
    """Refuse stages that are no row of names."""
    if isinstance(stages, str) or not isinstance(stages, Sequence) or not stages:
        raise OptionError(
            "stages to be a list of at least one layer's name",
            got=repr(stages),
            fix="For example ['layer1', 'layer4']; None finds them.",
        )
    return stages


class Outputs:
    """Outputs of layers while their backbone computes stages.

    They are kept by thread, because hooks belong to the module and two threads may share a backbone. A compiled program
    has one thread, and cannot ask for it. ``torch.export`` copies an attribute that is a dictionary, but no object.
    """

    def __init__(self) -> None:
        self.by_thread: dict[int, dict[str, Tensor]] = {}

    def begin(self) -> None:
        """Keep outputs from now on."""
        self.by_thread[current_thread()] = {}

    def keep(self, name: str, output: Tensor) -> None:
        """Keep an output, unless no stages are being computed."""
        kept = self.by_thread.get(current_thread())
        if kept is not None:
            kept[name] = output

    def end(self) -> dict[str, Tensor]:
        """Return the outputs by name, and forget them."""
        return self.by_thread.pop(current_thread())


def current_thread() -> int:
    """Return a number of the running thread; 0 in a compiled program."""
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


class Done(Exception):
    """Signal of the last stage that the layers after it need not run."""


class Tap:
    """Hook that keeps the output of a layer, and can end the pass."""

    def __init__(self, name: str, outputs: Outputs) -> None:
        self.name, self.outputs, self.ends_the_pass = name, outputs, False

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.outputs.keep(self.name, output)
        if self.ends_the_pass:
            raise Done


class LeftOut(nn.Module):
    """Layer in place of one that the stages do not need; returns its first input."""

    def forward(self, *inputs: Any, **_: Any) -> Any:
        return inputs[0] if inputs else None


def replace_layer(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Set the layer of a name such as ``"encoder.norm"``."""
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, layer)


class WrappedBackbone(SpatialBackbone):
    """Backbone around a network, which :func:`wrap` makes: hooks on the network's layers read the stages.

    Example:
        >>> from pretextkit.models import wrap
        >>> wrap(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1)))
        WrappedBackbone(Sequential: 1, 2; 16 features)
    """

    def __init__(self, network: nn.Module, stages: Sequence[str] | None, size: int | None) -> None:
        channels = input_channels(network)
        super().__init__(in_channels=channels)
        self.normalization.to(module_device(network), module_dtype(network))
        sizes = dry_run_sizes(network, channels, size)
        if stages is None:
            found, side = find_stages(network, channels, sizes)
        else:
            side = next(sizes)
            found = named_stages(network, check_stages(stages), channels, side)
        self.network = network
        self.layout = tuple(found)
        self.feature_dim = found[-1].width
        self.outputs = Outputs()
        self.taps = [Tap(stage.name, self.outputs) for stage in found]
        for tap in self.taps:
            network.get_submodule(tap.name).register_forward_hook(tap)
        self._leave_out(side, check=stages is None)
        self._find_sizes(side)

    def _leave_out(self, side: int, check: bool) -> None:
        """Remove the layers that the last stage does not need, and freeze single weights that it does not need.

        Raises:
            OptionError: ``check`` is true, and the layers are most of the network.
        """
        network, channels = self.network, self.normalization.channels
        image = black_image(network, channels, side)
        with evaluation_mode(network), torch.enable_grad(), all_trainable(network):
            maps = self._first_maps(image)
            shapes = [each.shape for each in maps]
            names, loose = unused_modules(network, maps[-1])
        if check:
            check_complete(network, names, maps[-1], channels, side)
        before = {name: network.get_submodule(name) for name in names}
        for name in names:
            replace_layer(network, name, LeftOut())
        with evaluation_mode(network):
            if not runs(lambda: self.read(image)) or [each.shape for each in self.read(image)] != shapes:
                for name, layer in before.items():  # the forward method needs their outputs: keep them, frozen
                    replace_layer(network, name, layer.requires_grad_(False))
        for weight in loose:
            weight.requires_grad_(False)

    def _first_maps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Read the stages for the first time.

        Raises:
            OptionError: The tokens of a stage form no grid.
        """
        try:
            return self.read(image)
        except RuntimeError as error:
            name = type(self.network).__name__
            fix = "Name layers that do: wrap(module, stages=[...])."
            raise OptionError(
                f"layers of {name} that return maps b d h w or tokens b n d of the patches of an image",
                got=f"{', '.join(repr(stage.name) for stage in self.layout)}, which do not: {reason(error)}",
                fix=fix,
            ) from error

    def _find_sizes(self, size: int) -> None:
        """Find the smallest image, and whether the network takes one size only, or multiples of a patch."""

        def works(side: int) -> bool:
            with evaluation_mode(self.network):
                return runs(lambda: self.read(black_image(self.network, self.normalization.channels, side)))

        if not works(2 * size):  # what follows the last stage may be the obstacle, such as a flattened map
            self.taps[-1].ends_the_pass = True
        self.fixed_size = None if works(2 * size) else size
        self.taps[-1].ends_the_pass = self.taps[-1].ends_the_pass and self.fixed_size is None
        self.multiple = 1
        if self.fixed_size is None and not works(size + 1):
            self.multiple = next((step for step in range(2, size) if works(size + step)), size)
        if self.fixed_size is None:
            smallest = smallest_side(lambda count: works(count * self.multiple), max(1, size // self.multiple))
            self.smallest_image = smallest * self.multiple
        else:
            self.smallest_image = size

    def read(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the network on normalized images and return the stages as maps."""
        self.outputs.begin()
        try:
            self.network(images)
        except Done:
            pass
        finally:
            outputs = self.outputs.end()
        height, width = images.shape[2:]
        return tuple(stage.as_map(outputs[stage.name], height, width) for stage in self.layout)

    def check_size(self, height: int, width: int) -> None:
        """Refuse images that the network does not take, with the size that it takes."""
        name, side = type(self.network).__name__, self.smallest_image
        if self.fixed_size is not None and (height, width) != (side, side):
            wanted = f"images of {side}x{side} pixels, the only size that {name} takes"
            fix = f"Resize them; a task that cuts patches needs patches of {side} pixels. {_OPEN_SIZE}"
        elif min(height, width) < side:
            wanted = f"images of at least {side}x{side} pixels, because {name} halves smaller ones to nothing"
            fix = f"Enlarge them; a task that cuts patches needs patches of {side} pixels."
        elif height % self.multiple or width % self.multiple:
            wanted = f"images whose sides are multiples of {self.multiple} pixels, the patch of {name}"
            fix = "Crop or resize them."
        else:
            return
        raise ShapeError(wanted, got=f"{height}x{width}", fix=fix)

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        images = self.normalization(images)
        self.check_size(*images.shape[2:])
        return self.read(images)

    def __repr__(self) -> str:
        names = ", ".join(stage.name or "output" for stage in self.layout)
        return f"{type(self).__name__}({type(self.network).__name__}: {names}; {self.feature_dim} features)"


_OPEN_SIZE = "A VisionTransformer of timm takes all sizes with dynamic_img_size=True and dynamic_img_pad=True."
