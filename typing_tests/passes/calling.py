"""The functional layer takes any module or callable and returns typed results."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

from pretextkit import Labeled, data
from pretextkit.functional import (
    AnomalyScores,
    FinetuneResult,
    TopFraction,
    feature_distance,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
    nt_xent_loss,
    pretrain,
    reconstruction_anomaly_score,
)
from pretextkit.models import LinearHead, SmallCNN
from pretextkit.tasks import Rotation


def flat(batch: Tensor) -> Tensor:
    return batch.flatten(1)


backbone = SmallCNN()
images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])

result = pretrain(Rotation(backbone), images, epochs=1, batch_size=2, optimizer="sgd", precision="fp32")
assert_type(result.steps, int)

assert_type(linear_probe(backbone, (images, labels), (images, labels)).accuracy, float)
assert_type(linear_probe(nn.Identity(), (images, labels), (images, labels), layers="all").accuracy, float)
assert_type(knn_probe(flat, (images, labels), (images, labels)).accuracy, float)
assert_type(nt_xent_loss(images.flatten(1), images.flatten(1), temperature=0.2), Tensor)

head = LinearHead(backbone.feature_dim, 2)
assert_type(freeze_and_finetune(backbone, head, (images, labels), trainable=["stage4"], epochs=1), FinetuneResult)
assert_type(reconstruction_anomaly_score(nn.Identity(), images), AnomalyScores)
assert_type(
    reconstruction_anomaly_score(flat, images, error=feature_distance(backbone), reduction=TopFraction()).maps,
    Tensor | None,
)

sample = data.load("sample")
assert_type(sample.train, Labeled)
assert_type(sample.test_images, Tensor)
linear_probe(backbone, sample.train, sample.test)
