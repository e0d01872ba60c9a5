from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn
from torchvision.models import resnet18

from pretextkit.finetuning._feature_rows import FeatureRows
from pretextkit.finetuning._objectives import ClassifierObjective, HeadObjective, _layers
from pretextkit.inference import Classifier
from pretextkit.models import LinearHead, ResNet18, SmallCNN
from pretextkit.testing import TinyBackbone


def test_classifier_applies_its_head_to_its_backbone() -> None:
    backbone, head, images = TinyBackbone(), LinearHead(64, 3), torch.rand(2, 3, 16, 16)
    assert torch.equal(Classifier(backbone, head)(images), head(backbone(images)))


def test_layers_are_ordered_from_input_to_output() -> None:
    def names(module: nn.Module) -> list[str]:
        names = {id(part): name for name, part in module.named_modules()}
        return [names[id(part)] for part in _layers(module)]

    assert names(TinyBackbone()) == ["layers.0", "layers.1", "layers.2"]
    assert names(SmallCNN()) == ["stage1", "stage2", "stage3", "stage4"]
    assert names(resnet18()) == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert names(ResNet18()) == [f"trunk.{name}" for name in ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]]
    assert names(nn.Linear(2, 2)) == [""]
    assert names(nn.Sequential(nn.Linear(2, 2), nn.ReLU())) == ["0"]
    assert names(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))) == ["0.0", "0.1"]


def test_parameter_groups_hold_every_trained_weight_once() -> None:
    class WithToken(nn.Module):
        """Module with own weights beside those of its children, like a vision transformer."""

        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(2))
            self.layer = nn.Linear(2, 2)

    for backbone in (WithToken(), TinyBackbone(), resnet18()):
        classifier = Classifier(backbone, LinearHead(2, 2))
        groups = ClassifierObjective(classifier, [backbone], None, torch.arange(2), 0.5).parameter_groups()
        found = [id(weight) for group in groups for weight in group["params"]]
        assert len(found) == len(set(found))
        assert set(found) == {id(weight) for weight in classifier.parameters()}


def test_train_mode_applies_only_to_trained_modules() -> None:
    backbone = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    classifier = Classifier(backbone, nn.BatchNorm2d(3))
    ClassifierObjective(classifier, [backbone[1]], None, torch.arange(2), 1.0).train_mode()
    assert [backbone[0].training, backbone[1].training, classifier.head.training] == [False, True, True]
    assert [weight.requires_grad for weight in backbone.parameters()] == [False, False, True, True]


def test_augment_receives_batch_and_generator() -> None:
    def augment(images: Tensor, generator: Generator) -> Tensor:
        return images + torch.rand((), generator=generator)

    trainee = ClassifierObjective(Classifier(nn.Flatten(), LinearHead(4, 2)), [], augment, torch.arange(2), 1.0)
    images, labels = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 0])
    prepared, same_labels = trainee.prepare_batch(images, labels, Generator().manual_seed(0))
    assert same_labels is labels
    torch.testing.assert_close(prepared, torch.rand((), generator=Generator().manual_seed(0)).expand(3, 1, 2, 2))


def test_loss_and_accuracy_equal_the_closed_form() -> None:
    features = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    output = HeadObjective(nn.Identity(), torch.arange(2)).loss((features, torch.tensor([0, 1, 1, 0])))
    right, wrong = torch.tensor([-2.0, 2.0]).exp().log1p().tolist()
    assert output.loss.item() == pytest.approx((3 * right + wrong) / 4)
    assert output.metrics["accuracy"].item() == 0.75


def test_feature_rows_follow_the_requested_order() -> None:
    rows = FeatureRows(torch.arange(8.0).view(4, 2), torch.arange(4))
    batches = list(rows.batches([torch.tensor([3, 0]), torch.tensor([1])]))
    assert len(rows) == 4
    assert [batch.images.tolist() for batch in batches] == [[[6, 7], [0, 1]], [[2, 3]]]
    assert [batch.labels.tolist() for batch in batches if batch.labels is not None] == [[3, 0], [1]]
