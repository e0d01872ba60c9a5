"""Head of a fine-tuning: built by name, and prepared before the backbone trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import as_input, module_device
from pretextkit._seeding import derived_seed, seeded
from pretextkit._validation import check_features
from pretextkit.data._sources import ImageSource
from pretextkit.errors import OptionError
from pretextkit.evaluation._feature_rows import FeatureRows
from pretextkit.evaluation._features import extract_features
from pretextkit.evaluation._finetune_data import FinetuneData
from pretextkit.evaluation._labeled_source import LabeledSource, cached_features
from pretextkit.evaluation._logistic_classifier import fit_logistic_classifier
from pretextkit.models.heads import LinearHead
from pretextkit.registries import heads
from pretextkit.training._hardware import Precision

__all__ = ["build_head", "find_linear_layer", "read_features", "set_to_logistic_regression"]


def build_head(head: nn.Module | str, backbone: nn.Module, data: FinetuneData, seed: int) -> nn.Module:
    """Build a registered head for the features of the backbone and the classes of train; keep a module.

    Raises:
        UnknownNameError: There is no head of that name.
        OptionError: The head of that name is not built from two widths.
    """
    if not isinstance(head, str):
        return head
    make = heads[head]
    width = _feature_width(backbone, data.source, seed)
    with seeded(derived_seed(seed, "head")):
        try:
            return make(width, data.classes.count)
        except TypeError as error:
            raise OptionError(
                "the name of a head that is built from the widths of its input and output",
                got=repr(head),
                fix="Use 'linear' or 'mlp', or build the head yourself and pass the module.",
            ) from error


def find_linear_layer(head: nn.Module) -> nn.Linear | None:
    """Return the layer of a head that is one trainable linear layer with a bias; None for other heads.

    Example:
        >>> find_linear_layer(nn.Sequential(nn.Dropout(), nn.Linear(2, 2))) is None
        True
    """
    layer = head.linear if type(head) is LinearHead else head
    if type(layer) is not nn.Linear or layer.bias is None:  # a parametrized layer has a type of its own
        return None
    return layer if all(weight.requires_grad for weight in layer.parameters()) else None


def set_to_logistic_regression(layer: nn.Linear, features: FeatureRows, data: FinetuneData, seed: int) -> None:
    """Set a linear layer to the solution of the linear probe on the same features; other outputs stay as they are."""
    solution = fit_logistic_classifier(
        features.features.float(), features.labels, data.classes, class_weights=data.class_weights, seed=seed
    ).linear
    present = data.classes.present
    with torch.no_grad():
        layer.weight[present.to(layer.weight.device)] = solution.weight[present].to(layer.weight)
        layer.bias[present.to(layer.bias.device)] = solution.bias[present].to(layer.bias)


def read_features(
    backbone: nn.Module, source: ImageSource, precision: Precision, seed: int, *, always: bool
) -> tuple[FeatureRows | None, bool]:
    """Extract the features of all images, and tell whether the images are equal on another reading.

    Args:
        backbone: Module from images to features.
        source: Labeled images.
        precision: Precision of the forward pass.
        seed: Seed of random transforms.
        always: Whether features of one reading are wanted where images differ between readings.

    Returns:
        Features with labels, or None; and whether the images stay equal.
    """
    if isinstance(source, LabeledSource):
        fixed = cached_features(backbone, source, precision, seed)
        if fixed is not None or not always:
            return fixed, fixed is not None
    with seeded(derived_seed(seed, "features")):
        features, labels = extract_features(backbone, source, precision=precision)
    assert labels is not None
    return FeatureRows(features["last"], labels), not isinstance(source, LabeledSource)


def _feature_width(backbone: nn.Module, source: ImageSource, seed: int) -> int:
    with seeded(derived_seed(seed, "try")):  # a loader draws from the global generator
        images = next(iter(source.batches([torch.tensor([0])]))).images
    with evaluation_mode(backbone):
        images = as_input(as_float(images.to(module_device(backbone))), backbone)
        features: Tensor = check_features(backbone(images), 1, "the backbone", finite=False)
    return features.shape[1]
