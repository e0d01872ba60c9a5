"""Wrong calls of the functional layer. Every marked line is an error, and no other line."""

from __future__ import annotations

import torch

from pretextkit.functional import (
    compare,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
    nt_xent_loss,
    pretrain,
    reconstruction_anomaly_score,
)
from pretextkit.models import LinearHead, SmallCNN
from pretextkit.tasks import Rotation

backbone = SmallCNN()
images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])

pretrain(backbone, images, epochs=1)  # E: a backbone is no task
pretrain(Rotation(backbone), images, 8)  # E: keyword only
pretrain(Rotation(backbone), images, epochs=1, optimizer="adamax")  # E
pretrain(Rotation(backbone), images, epochs=1, precision="fp8")  # E
print(pretrain(Rotation(backbone), images, epochs=1).accuracy)  # E: pretraining has none

nt_xent_loss(images, images, 0.5)  # E: keyword only
linear_probe(backbone, images, images)  # E: no labels
knn_probe(backbone, images)  # E: no labels
linear_probe(backbone, (images, labels), (images, labels), "all")  # E: keyword only
linear_probe(backbone, (images, labels), (images, labels), layers=3)  # E
knn_probe(3, (images, labels), (images, labels))  # E: not callable

head = LinearHead(backbone.feature_dim, 2)
freeze_and_finetune(backbone, (images, labels))  # E: no head
freeze_and_finetune(backbone, head, (images, labels), trainable=4)  # E
freeze_and_finetune(backbone, head, images)  # E: no labels
compare(["rotation"], SmallCNN, images, images, epochs=1)  # E: no labels
compare(["rotation"], SmallCNN, (images, labels), (images, labels), pretraining={"optimiser": "sgd"})  # E
reconstruction_anomaly_score(images, images)  # E: not callable
reconstruction_anomaly_score(head, images, error="l3")  # E
