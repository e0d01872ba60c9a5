"""Backbones and heads with one fault each, and the check that detects it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from pretextkit import Head
from pretextkit.testing import TinyBackbone

BROKEN_BACKBONES: dict[str, type[TinyBackbone]] = {}
BROKEN_HEADS: dict[str, type[Head]] = {}


def fails_check(name: str) -> Callable[[type[Any]], type[Any]]:
    def decorate(cls: type[Any]) -> type[Any]:
        table = BROKEN_BACKBONES if issubclass(cls, TinyBackbone) else BROKEN_HEADS
        cast(dict[str, type[Any]], table)[name] = cls
        return cls

    return decorate


@fails_check("features_are_b_d")
class WrongFeatureDim(TinyBackbone):
    feature_dim = 65


@fails_check("stages_end_in_the_feature_map")
class StagesReversed(TinyBackbone):
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().stages(images)[::-1]

    def feature_map(self, images: Tensor) -> Tensor:
        return self.stages(images)[0]


@fails_check("stages_are_not_overwritten")
class StageOverwritten(TinyBackbone):
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = super().stages(images)
        return (*maps[:-1], maps[-1].neg_(), maps[-1].neg_())


@fails_check("eval_features_repeat")
class NoisyInEval(TinyBackbone):
    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(images), training=True)


@fails_check("eval_changes_no_state")
class CountsInEval(TinyBackbone):
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return super().forward(images)


@fails_check("eval_features_ignore_other_images")
class CentersOnBatch(TinyBackbone):
    def forward(self, images: Tensor) -> Tensor:
        features = super().forward(images)
        return features - features.mean(0)


@fails_check("features_differ_between_images")
class Constant(TinyBackbone):
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().stages(images * 0)


@fails_check("every_parameter_gets_gradient")
class KeepsClassifier(TinyBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)


@fails_check("dtypes_agree")
class ScalesTwice(TinyBackbone):
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().stages(images.float() / 255 if images.dtype == torch.uint8 else images.clamp(0, 0.3))


@fails_check("memory_layouts_agree")
class ReadsMemoryOrder(TinyBackbone):
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().stages(images.as_strided(images.shape, torch.empty(images.shape).stride()))


@fails_check("normalization_is_in_the_state_dict")
class NormalizationNotSaved(TinyBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.normalization.register_buffer("mean", self.normalization.mean, persistent=False)


@fails_check("normalization_is_used")
class NormalizationNotUsed(TinyBackbone):
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = [self.normalization.adapt(images) - 0.5]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return tuple(maps[1:])


@fails_check("copies_agree")
class HoldsLambda(TinyBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.activation = lambda features: features.relu()


@fails_check("bfloat16_autocast_is_finite")
class Float32Only(TinyBackbone):
    def forward(self, images: Tensor) -> Tensor:
        features = super().forward(images)
        return features @ torch.eye(64).to(features.dtype) * (features.new_tensor(1e30) if self._low() else 1)

    def _low(self) -> bool:
        return torch.is_autocast_enabled("cpu")


@fails_check("refuses_wrong_ranks")
class AddsBatchAxis(TinyBackbone):
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().stages(images[None] if images.ndim == 3 else images)


class CorrectHead(Head):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.linear(features)
        return output


@fails_check("output_keeps_rank_and_batch")
class FlattensBatch(CorrectHead):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).flatten()


@fails_check("output_is_finite_and_varies")
class IgnoresFeatures(CorrectHead):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features * 0)


@fails_check("features_are_unchanged")
class WritesIntoFeatures(CorrectHead):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.relu_())


@fails_check("eval_rows_are_independent")
class CentersRows(CorrectHead):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features - features.mean(0))


@fails_check("gradient_flows_through")
class Detaches(CorrectHead):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.detach())


@fails_check("state_dict_round_trip")
class ScaleNotSaved(CorrectHead):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.rand(4)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) * self.scale


@fails_check("copies_agree")
class HeadHoldsLambda(CorrectHead):
    def __init__(self) -> None:
        super().__init__()
        self.activation = lambda features: features.relu()
