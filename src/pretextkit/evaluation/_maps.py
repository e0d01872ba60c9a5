"""Feature maps of images, before they are averaged to one feature an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from pretextkit.errors import ShapeError
from pretextkit.evaluation._features import Layers, Model, capture_layers

__all__ = ["capture_maps"]


@contextmanager
def capture_maps(model: Model, layers: Layers) -> Iterator[Callable[[Tensor], dict[str, Tensor]]]:
    """Give a function from images to the float maps ``b d h' w'`` of the chosen layers.

    Raises:
        UnknownNameError: The model has no layer of that name.
        ShapeError: A layer gives something other than maps, as soon as images are read.

    Example:
        >>> import torch
        >>> from pretextkit.models import SmallCNN
        >>> with capture_maps(SmallCNN(), "last") as read:
        ...     read(torch.rand(2, 3, 32, 32))["last"].shape
        torch.Size([2, 256, 4, 4])
    """
    with capture_layers(model, layers, maps=True) as read:

        def read_maps(images: Tensor) -> dict[str, Tensor]:
            outputs = read(images)
            for layer, output in outputs.items():
                if not isinstance(output, Tensor) or output.ndim != 4:
                    got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
                    raise ShapeError(
                        f"maps b d h w from layer {layer!r}",
                        got=got,
                        fix="Choose a layer before the average over the map, by its name in dict(named_modules()).",
                    )
            return {layer: output.float() for layer, output in outputs.items()}

        yield read_maps
