"""Conformance checks of backbones."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pretextkit.contracts import Backbone, SpatialBackbone
from pretextkit.errors import PretextkitError
from pretextkit.testing._cases import generator, global_rng_states, global_seed, same
from pretextkit.testing._runner import NONE, Check, bind, require, run_checks
from pretextkit.testing._toys import toy_images

__all__ = ["backbone_checks", "check_backbone"]

SIZES = ((28, 28), (32, 32), (48, 48), (33, 40))
TOLERANCE = 1e-3


@dataclass(frozen=True)
class BackboneCase:
    """Backbone under test, with toy images."""

    make: Callable[[], Backbone]

    def backbone(self, seed: int = 0) -> Backbone:
        """Make the backbone in eval mode, with measured normalization and updated BatchNorm statistics."""
        with global_seed(seed):
            backbone = self.make()
            require(
                isinstance(backbone, Backbone),
                f"Expected the factory to build a Backbone, but got a {type(backbone).__name__}.",
            )
            backbone.normalization.measure(self.images(16))
            with torch.no_grad(), _fast_norms(backbone):
                backbone.train()(self.images(16))
        return backbone.eval()

    def sizes(self, backbone: Backbone) -> list[tuple[int, int]]:
        """List sizes of images, none smaller than the backbone takes."""
        smallest = backbone.smallest_image
        return sorted({(max(height, smallest), max(width, smallest)) for height, width in SIZES})

    @cached_property
    def side(self) -> int:
        """Height and width of the images where any size will do."""
        with global_seed(0):
            return max(32, getattr(self.make(), "smallest_image", 1))

    @cached_property
    def channels(self) -> int:
        """Channels of the images: those that the network takes, and color for a network of gray images."""
        with global_seed(0):
            taken = getattr(getattr(self.make(), "normalization", None), "channels", 3)
        return 3 if taken == 1 else int(taken)

    def images(
        self, n: int = 6, *, size: int | tuple[int, int] | None = None, channels: int | None = None, seed: int = 0
    ) -> Tensor:
        """Draw toy images."""
        return toy_images(n, size=size or self.side, channels=channels or self.channels, generator=generator(seed))


@contextmanager
def _fast_norms(backbone: Backbone) -> Iterator[None]:
    """Let slow BatchNorm learn faster: at momentum 0.01, features of a new network vanish in eval mode."""
    norms = [(module, module.momentum) for module in backbone.modules() if isinstance(module, _BatchNorm)]
    for norm, momentum in norms:
        if momentum is not None and momentum < 0.1:
            norm.momentum = 0.95  # at 0.5, the features of MobileNet's many layers still vanish
    yield
    for norm, momentum in norms:
        norm.momentum = momentum


def features_are_b_d(case: BackboneCase) -> None:
    """Features are ``b d`` with d = ``feature_dim``, for images of several sizes; gray and color images convert."""
    backbone = case.backbone()
    for size in case.sizes(backbone):
        for channels in (1, 3) if case.channels == 3 else (case.channels,):
            shape = tuple(_features(backbone, case.images(2, size=size, channels=channels)).shape)
            wanted = (2, backbone.feature_dim)
            require(
                shape == wanted,
                f"Images of {channels} channels and {size[0]}x{size[1]} pixels give features {shape}, not {wanted}.",
            )


def stages_end_in_the_feature_map(case: BackboneCase) -> None:
    """The stages of a SpatialBackbone are maps; the last is ``feature_map``, and its mean gives the features."""
    backbone = case.backbone()
    if not isinstance(backbone, SpatialBackbone):
        return
    for size in case.sizes(backbone):
        images = case.images(2, size=size)
        with torch.no_grad():
            stages, last = backbone.stages(images), backbone.feature_map(images)
        require(isinstance(stages, tuple) and bool(stages), "stages must return a tuple of maps.")
        for number, stage in enumerate(stages):
            require(stage.ndim == 4 and len(stage) == 2, f"Stage {number} has shape {tuple(stage.shape)}, not b d h w.")
        require(same(stages[-1], last), "The last stage is not feature_map.")
        require(
            same(last.mean((2, 3)), _features(backbone, images), tolerance=1e-5),
            "The features are not the mean of feature_map.",
        )


def stages_are_not_overwritten(case: BackboneCase) -> None:
    """Every stage has its own memory: a later stage does not write into an earlier one."""
    backbone = case.backbone()
    if not isinstance(backbone, SpatialBackbone):
        return
    with torch.no_grad():
        storages = [stage.untyped_storage().data_ptr() for stage in backbone.stages(case.images())]
    require(len(set(storages)) == len(storages), "Two stages share memory; an in-place layer overwrites its input.")


def eval_features_repeat(case: BackboneCase) -> None:
    """In eval mode, features repeat and the global RNGs do not advance."""
    backbone, images = case.backbone(), case.images()
    before = global_rng_states()
    first, second = _features(backbone, images), _features(backbone, images)
    require(torch.equal(first, second), "Two passes over the same images give different features in eval mode.")
    require(before == global_rng_states(), "A pass in eval mode draws from a global RNG.")


def eval_changes_no_state(case: BackboneCase) -> None:
    """In eval mode, a forward pass changes no parameter, no buffer and no image."""
    backbone, images = case.backbone(), case.images()
    state, input_before = {k: v.clone() for k, v in backbone.state_dict().items()}, images.clone()
    _features(backbone, images)
    moved = [name for name, value in backbone.state_dict().items() if not same(value, state[name])]
    require(not moved, f"A pass in eval mode changed {moved[:3]}.")
    require(torch.equal(images, input_before), "A pass in eval mode changed the images in place.")


def eval_features_ignore_other_images(case: BackboneCase) -> None:
    """In eval mode, the features of an image do not depend on the rest of the batch."""
    backbone, images = case.backbone(), case.images()
    alone = torch.cat([_features(backbone, image[None]) for image in images])
    require(
        _near(alone, _features(backbone, images)),
        "The features of an image depend on the rest of the batch in eval mode.",
    )


def features_differ_between_images(case: BackboneCase) -> None:
    """Features are finite, and differ between different images."""
    features = _features(case.backbone(), case.images(8))
    require(bool(features.isfinite().all()), "Features are not finite.")
    distances = torch.cdist(features, features) + torch.eye(8) * 1e9
    require(float(distances.min()) > 1e-6, "Two different images have the same features.")


def every_parameter_gets_gradient(case: BackboneCase) -> None:
    """Every trainable parameter of the backbone has a gradient from the features."""
    backbone = case.backbone().train()
    with torch.no_grad():
        for parameter in backbone.parameters():
            if not parameter.any():  # a branch that starts at zero, as in timm's ResNets, passes no gradient
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(1)))
    weights = torch.randn(backbone.feature_dim, generator=generator(0))
    torch.autograd.backward((backbone(case.images()) * weights).square().sum())
    idle = [
        name
        for name, parameter in backbone.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    require(not idle, f"The features do not depend on {idle[:5]}; remove classifiers and unused stages.")


def dtypes_agree(case: BackboneCase) -> None:
    """uint8, float32 and float64 images of the same pixels give the same features."""
    backbone = case.backbone()
    levels = (case.images() * 255).round()
    features = _features(backbone, levels / 255)
    for images in (levels.to(torch.uint8), levels.double() / 255):
        require(
            _near(_features(backbone, images), features),
            f"Images of {images.dtype} and float32 give different features.",
        )


def memory_layouts_agree(case: BackboneCase) -> None:
    """Features do not depend on the memory layout: contiguous, transposed or channels_last."""
    backbone, images = case.backbone(), case.images()
    features = _features(backbone, images)
    transposed = images.transpose(2, 3).contiguous().transpose(2, 3)
    require(
        _near(_features(backbone, transposed), features), "Contiguous and transposed memory give different features."
    )
    last = _features(
        backbone.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    )
    require(_near(last, features), "Contiguous and channels_last memory give different features.")


def normalization_is_in_the_state_dict(case: BackboneCase) -> None:
    """A new backbone with the same state dict, mean and std included, gives bit-identical features."""
    backbone, other = case.backbone(), case.backbone(seed=1)
    other.normalization.set(torch.zeros(()), torch.ones(()))
    other.load_state_dict(backbone.state_dict())
    images = case.images()
    require(
        torch.equal(_features(backbone, images), _features(other, images)), "Features differ after load_state_dict."
    )


def normalization_is_used(case: BackboneCase) -> None:
    """The input goes through ``self.normalization``: another mean and std change the features."""
    backbone, images = case.backbone(), case.images()
    before = _features(backbone, images)
    backbone.normalization.set(torch.full((), 0.9), torch.full((), 0.05))
    require(
        not _near(before, _features(backbone, images)),
        "The features do not depend on self.normalization; apply it to the images first.",
    )


def copies_agree(case: BackboneCase) -> None:
    """Pickled and deep-copied backbones give bit-identical features."""
    backbone, images = case.backbone(), case.images()
    features = _features(backbone, images)
    for how, twin in (("pickling", pickle.loads(pickle.dumps(backbone))), ("copy.deepcopy", copy.deepcopy(backbone))):
        require(torch.equal(_features(twin, images), features), f"Features differ after {how}.")


def bfloat16_autocast_is_finite(case: BackboneCase) -> None:
    """Features under bfloat16 autocast are finite and within 10 % of the float32 features."""
    backbone, images = case.backbone(), case.images()
    features = _features(backbone, images)
    with torch.autocast("cpu", torch.bfloat16):
        low = _features(backbone, images).float()
    error = (low - features).norm() / features.norm()
    require(bool(error < 0.1), f"Features under bfloat16 autocast differ by {float(error):.0%} from float32.")


def refuses_wrong_ranks(case: BackboneCase) -> None:
    """Tensors that are not ``b c h w``, or have other channels than the backbone, raise a PretextkitError."""
    backbone, images = case.backbone(), case.images()
    for wrong in (images[0], images.permute(0, 2, 3, 1), torch.cat([images, images], 1)):
        try:
            _features(backbone, wrong)
        except PretextkitError:
            continue
        require(
            False, f"Images of shape {tuple(wrong.shape)} raise no error; apply self.normalization to the images first."
        )


def _features(backbone: Backbone, images: Tensor) -> Tensor:
    with torch.no_grad():
        features: Tensor = backbone(images)
    return features


def _near(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= TOLERANCE * other.norm())


CHECKS = (
    features_are_b_d,
    stages_end_in_the_feature_map,
    stages_are_not_overwritten,
    eval_features_repeat,
    eval_changes_no_state,
    eval_features_ignore_other_images,
    features_differ_between_images,
    every_parameter_gets_gradient,
    dtypes_agree,
    memory_layouts_agree,
    normalization_is_in_the_state_dict,
    normalization_is_used,
    copies_agree,
    bfloat16_autocast_is_finite,
    refuses_wrong_ranks,
)


def backbone_checks(make: Callable[[], Backbone], *, expected_failures: Mapping[str, str] = NONE) -> list[Check]:
    """List the checks of a backbone, for :func:`parametrize_checks` or to run them one by one.

    Args:
        make: Builds a new backbone with new weights.
        expected_failures: Names of checks that must fail, with the reason of each.

    Raises:
        UnknownNameError: A key of ``expected_failures`` is not the name of a check.

    Example:
        >>> from pretextkit.testing import TinyBackbone
        >>> backbone_checks(TinyBackbone)[0].name
        'features_are_b_d'
    """
    return bind(CHECKS, BackboneCase(make), expected_failures)


def check_backbone(make: Callable[[], Backbone], *, expected_failures: Mapping[str, str] = NONE) -> None:
    """Run every check of a backbone.

    Args:
        make: Builds a new backbone with new weights.
        expected_failures: Names of checks that must fail, with the reason of each.

    Raises:
        ConformanceError: A check failed, or a check in ``expected_failures`` passed; the message lists all.
        UnknownNameError: A key of ``expected_failures`` is not the name of a check.

    Example:
        >>> from pretextkit.testing import TinyBackbone
        >>> check_backbone(TinyBackbone)
    """
    run_checks(backbone_checks(make, expected_failures=expected_failures))
