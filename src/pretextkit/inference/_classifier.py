"""A classifier of images: backbone, layer, pooling, head, class names, and the format of its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import as_input, module_device, refuse_meta
from pretextkit._validation import check_features, check_int
from pretextkit.data import FolderImages, ImagesLike, as_source
from pretextkit.data._file_options import is_pattern
from pretextkit.data._image_files import find_files, warn_of_lost_order
from pretextkit.data._image_format import ImageFormat, in_format
from pretextkit.data._sources import ImageSource
from pretextkit.errors import ShapeError
from pretextkit.inference._capture import capture_layers
from pretextkit.inference._predictions import Predictions

__all__ = ["OUTPUT", "Classifier", "described_layers", "only_classes"]

OUTPUT = (("last", 1),)
"""Output of a backbone, averaged over the full map."""


def only_classes(logits: Tensor, classes: Tensor) -> Tensor:
    """Set the logits of all other classes to -inf, so that they have no probability.

    Args:
        logits: ``b k``.
        classes: Labels that stay.

    Returns:
        ``b k``.

    Example:
        >>> only_classes(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0, 1]))
        tensor([[1., 2., -inf]])
    """
    absent = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    absent[classes.to(logits.device)] = False
    return logits.masked_fill(absent, float("-inf"))


def described_layers(layers: Sequence[tuple[str, int]]) -> str:
    """Name the layers that a head reads, as in the result of a linear probe.

    Example:
        >>> described_layers([("stage3", 4), ("stage4", 1)]), described_layers(OUTPUT)
        ('stage3 4x4 + stage4 1x1', 'last')
    """
    return "last" if tuple(layers) == OUTPUT else " + ".join(f"{name} {side}x{side}" for name, side in layers)


class Classifier(nn.Module):
    """Classifier of images, made of a backbone and a head.

    :func:`~pretextkit.functional.linear_probe` and :func:`~pretextkit.functional.freeze_and_finetune` return one, and
    :func:`~pretextkit.load_classifier` reads one from a file. Called as a module, it maps raw images ``b c h w``, uint8
    or float in [0, 1], to logits ``b k``. In this form it trains, and is exported.

    Args:
        backbone: Module from images to features, maps or tokens; the latter are averaged.
        head: Module from features ``b d`` to logits ``b k``.
        classes: Labels with training images; other classes have the logit -inf and the probability 0. By default all
            outputs of the head are classes.
        layers: Layers whose outputs the head gets, concatenated, each with the side of the grid over which maps are
            averaged. A layer is ``"last"``, a stage such as ``"stage3"``, or a name of
            ``dict(backbone.named_modules())``.
        class_names: Names of the classes, by number; by default the numbers. A class without an output of the head
            has probability 0.
        image_format: Size and channels of the training images; other images are converted to them. By default images
            are not resized.
        trained: How the classifier was trained: plain data that goes into its file.

    Example:
        >>> from pretextkit.models import LinearHead, SmallCNN
        >>> classifier = Classifier(SmallCNN(), LinearHead(256, 2), class_names=("cat", "dog"))
        >>> classifier(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 2])
        >>> classifier.predict(torch.rand(2, 3, 32, 32))
        Predictions(2 images, 2 classes)
    """

    classes: Tensor | None
    """Labels with training images; None for all outputs of the head."""

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        classes: Tensor | None = None,
        *,
        layers: Sequence[tuple[str, int]] = OUTPUT,
        class_names: Sequence[str] | None = None,
        image_format: ImageFormat | None = None,
        trained: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("classes", classes, persistent=False)
        self.layers = tuple((str(layer), check_int("a side in layers", side)) for layer, side in layers)
        """Layers whose outputs the head gets, each with the side of its grid."""
        self.class_names = None if class_names is None else tuple(class_names)
        """Names of the classes, by number; None without names."""
        self.image_format = image_format
        """Size and channels to which images are converted; None without."""
        self.trained = dict(trained or {})
        """How the classifier was trained."""

    def forward(self, images: Tensor) -> Tensor:
        """Map ``b c h w``, uint8 or float in [0, 1], to logits ``b k``; classes without images have -inf."""
        logits: Tensor = self.head(self.features(images))
        if self.class_names is not None:
            missing = len(self.class_names) - logits.shape[1]
            logits = nn.functional.pad(logits, (0, missing), value=-torch.inf) if missing else logits
        return logits if self.classes is None else only_classes(logits, self.classes)

    def features(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` to the features ``b d`` that the head gets: maps and tokens are averaged, as in the probes.

        Raises:
            ShapeError: The backbone returns something other than features, tokens or maps of the images.
            DataError: The features are complex.
            UnknownNameError: The backbone has no such layer.
        """
        inputs = as_input(images if images.is_floating_point() else as_float(images), self.backbone)
        if self.layers == OUTPUT:
            outputs = {"last": self.backbone(inputs)}
        else:
            names, largest = list(dict.fromkeys(name for name, _ in self.layers)), max(side for _, side in self.layers)
            with capture_layers(self.backbone, names, maps=largest > 1) as read:
                outputs = read(inputs)
        parts = [
            check_features(
                outputs[name],
                images.shape[0],
                "the backbone" if name == "last" else f"layer {name!r}",
                pool=side,
                finite=False,
            )
            for name, side in self.layers
        ]
        return as_input(parts[0] if len(parts) == 1 else torch.cat([part.float() for part in parts], 1), self.head)

    def predict(
        self,
        images: ImagesLike,
        *,
        batch_size: int = 256,
        workers: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> Predictions:
        """Predict the class of each image.

        Images get the size and the channels of the training images. The classifier runs in evaluation mode, in the
        dtype of its weights.

        Args:
            images: Folder, list of files, or images as for :func:`~pretextkit.functional.pretrain`; labels are ignored.
            batch_size: Images per forward pass; all images are never in memory together.
            workers: Processes that read a ``Dataset`` or folder.
            on_error: ``"raise"`` an error for a file of a folder that cannot be decoded, or ``"skip"`` the file.

        Returns:
            A table of file, class and probability.

        Raises:
            DataError: There are no images, or they hold something else.
            ShapeError: The images have another shape, or the head does not fit the class names.

        Warns:
            DataWarning: A ``DataLoader`` shuffles or drops images: rows have the order of the loader.

        Example:
            >>> from pretextkit.models import LinearHead, SmallCNN
            >>> classifier = Classifier(SmallCNN(), LinearHead(256, 2), class_names=("cat", "dog"))
            >>> sorted(classifier.predict(torch.rand(2, 3, 32, 32)).rows[0])
            ['class', 'file', 'probability']
        """
        source = self._open(images, workers, on_error)
        files = find_files(source) or tuple(map(str, range(len(source))))
        labels, probabilities, width = [], [], 0
        for batch in self._probabilities(source, batch_size):
            highest = batch.max(1)
            labels.append(highest.indices)
            probabilities.append(highest.values)
            width = batch.shape[1]
        names = self.class_names or tuple(map(str, range(width)))
        return Predictions(files, torch.cat(labels), torch.cat(probabilities), names)

    def predict_proba(
        self,
        images: ImagesLike,
        *,
        batch_size: int = 256,
        workers: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> Tensor:
        """Compute the probability of each class for each image.

        Args:
            images: As for :meth:`predict`.
            batch_size: Images per forward pass.
            workers: Processes that read a ``Dataset`` or folder.
            on_error: As for :meth:`predict`.

        Returns:
            ``n k``, float32: each row has the sum 1. Classes without training images have probability 0.

        Raises:
            DataError: There are no images, or they hold something else.
            ShapeError: The images have another shape, or the head does not fit the class names.

        Warns:
            DataWarning: As for :meth:`predict`.

        Example:
            >>> from pretextkit.models import LinearHead, SmallCNN
            >>> Classifier(SmallCNN(), LinearHead(256, 5)).predict_proba(torch.rand(2, 3, 32, 32)).shape
            torch.Size([2, 5])
        """
        source = self._open(images, workers, on_error)
        warn_of_lost_order(source)
        return torch.cat(list(self._probabilities(source, batch_size)))

    def save(self, path: str | Path, *, weights_only: bool = False) -> None:
        """Write the classifier to one file: weights, architecture, class names, size of the images, and its training.

        :func:`~pretextkit.load_classifier` reads it. No code is stored.

        Args:
            path: File to write; with the suffix ``.safetensors``, a file of that format (extra ``safetensors``).
            weights_only: Leave the architecture out, for modules that are not registered or were not built from plain
                arguments. They are built by hand before loading.

        Raises:
            OptionError: The backbone or the head cannot be built again from a registered name and plain arguments.
            PretextkitError: safetensors is not installed.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> from pretextkit import load_classifier
            >>> from pretextkit.models import LinearHead, SmallCNN
            >>> with TemporaryDirectory() as folder:
            ...     Classifier(SmallCNN(), LinearHead(256, 2), class_names=("cat", "dog")).save(f"{folder}/pets.pt")
            ...     load_classifier(f"{folder}/pets.pt").class_names
            ('cat', 'dog')
        """
        from pretextkit.inference._saving import save_classifier

        save_classifier(self, Path(path), weights_only=weights_only)

    def extra_repr(self) -> str:
        layer = [] if self.layers == OUTPUT else [described_layers(self.layers)]
        names = [] if self.class_names is None else [f"{len(self.class_names)} classes"]
        wanted = self.image_format
        size = [] if wanted is None else [f"images {wanted.channels}x{wanted.height}x{wanted.width}"]
        return ", ".join(layer + names + size)

    def _open(self, images: ImagesLike, workers: int, on_error: Literal["raise", "skip"]) -> ImageSource:
        wanted = self.image_format
        if isinstance(images, str | Path) and (Path(images).is_dir() or is_pattern(images)):
            size, fit = (None, None) if wanted is None else (wanted.size, wanted.fit)
            images, on_error = FolderImages(images, size=size, fit=fit, on_error=on_error, cache=False), "raise"
        return in_format(as_source(images, labels=False, workers=workers, on_error=on_error), wanted)

    def _probabilities(self, source: ImageSource, batch_size: int) -> Iterator[Tensor]:
        """Yield the probabilities of the classes, one batch after the other, on the CPU."""
        batch_size = check_int("batch_size", batch_size, of=Classifier.predict)
        refuse_meta(self, "the classifier")
        device = module_device(self)
        for batch in source.in_order(batch_size):
            with evaluation_mode(self):
                logits = self(batch.images.to(device))
            if logits.ndim != 2 or (self.class_names is not None and logits.shape[1] != len(self.class_names)):
                raise ShapeError(
                    "logits b k, one for each class",
                    got=f"shape {tuple(logits.shape)}",
                    fix="Pass a head with one output for each class.",
                )
            yield logits.float().softmax(1).cpu()
