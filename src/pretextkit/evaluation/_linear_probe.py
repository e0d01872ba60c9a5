"""Linear probe: multinomial logistic regression on frozen features."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from typing_extensions import Unpack

from pretextkit._validation import check_int, check_widths
from pretextkit.data import LabeledLike
from pretextkit.data._as_source import read_files
from pretextkit.data._types import OnError, Size
from pretextkit.evaluation._classes import Classes, ClassWeights, match_classes, with_class_names
from pretextkit.evaluation._features import ExtractOptions, LabeledFeatures, Layers, Model, labeled_features
from pretextkit.evaluation._logistic_classifier import FEW, PENALTIES
from pretextkit.evaluation._probe_candidates import last, read_layers
from pretextkit.evaluation._probe_result import LayerScore, ProbeResult
from pretextkit.evaluation._probe_setup import Scored, read_train
from pretextkit.evaluation._shared_images import is_same_data, warn_of_training_images
from pretextkit.evaluation._storage import FeatureStore
from pretextkit.inference._classifier import Classifier
from pretextkit.metrics._classification import ClassReport, class_report, warn_of_missed_classes
from pretextkit.training._hardware import Precision

__all__ = ["LayerScore", "ProbeResult", "linear_probe"]


def linear_probe(
    backbone: Model,
    train: LabeledLike,
    test: LabeledLike | None = None,
    *,
    layers: Layers | Literal["auto"] = "auto",
    pool: int | Sequence[int] | None = None,
    penalties: Sequence[float] = PENALTIES,
    class_weights: ClassWeights = None,
    batch_size: int = 256,
    precision: Precision = "auto",
    memory: float = math.inf,
    size: Size | None = None,
    on_error: OnError = "raise",
    seed: int = 0,
) -> ProbeResult:
    """Fit a linear classifier on frozen features and score it on test.

    Features are extracted once, standardized with the mean and standard deviation of train, and classified by
    multinomial logistic regression with L-BFGS (Alain & Bengio 2016, arXiv 1610.01644, for probes of inner layers). The
    penalty, and the layers if there are several, are chosen by the log loss on held-out parts of *train*: five folds
    for up to 5000 labels, one fifth above. The same parts scale the logits down where predictions are too sure (Guo et
    al. 2017, arXiv 1706.04599), before they are compared. Where fewer labels share a class with another than there are
    classes, the last layer is taken. Test is used once, at the end. The backbone does not change.

    By default, a ``SpatialBackbone`` is probed at every stage, each averaged over grids of 1, 2 and 4 cells a side
    where the map is that large. The classifiers of the best three candidates are averaged, or of fewer where more would
    lose a standard error of the log loss; the average is one linear classifier of the concatenated features. The cost
    is bounded: besides the averages over the full map, only candidates are fitted that are at most 8192 wide, have at
    most 2**25 entries for all images, and whose width or number of images is at most 2048. For 50,000 images this is a
    width of 671. Each candidate is fitted to every fold, with three to seven penalties, and once to all of train.

    If train and test both have class names, as folders and torchvision's datasets do, the classes of test are matched
    by name. Classes without training images are never predicted.

    Args:
        backbone: Module or function from images to features.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; images ``n c h w`` uint8 or float in [0, 1], or
            features ``n d``; labels 0…k-1; images labeled -1 are left out.
        test: Test images with labels, in the same forms as ``train``. Without test, the result is cross-validated: on
            each fold, the complete choice of layers and penalty is repeated without the fold, which is then predicted.
            This takes six times as long, or twice above 5000 labels, where one fifth is predicted.
        layers: ``"auto"`` for the choice above, and for the output of a model without stages; ``"last"``, ``"all"``
            stages, or names of layers, of which one is chosen. See :func:`extract_features`.
        pool: Side of the grid over which maps are averaged; several sides are compared like layers. By default 1, 2 and
            4 with ``layers="auto"``, and otherwise 1.
        penalties: L2 penalties to choose from. On the first fold they are tried from the strongest down until the log
            loss rises; the other folds compare the best with its neighbors.
        class_weights: Weights of the classes in the loss and in the choice of layer and penalty: ``"balanced"`` gives
            every class the same weight, numbers give each class its own. By default every image has the same weight.
        batch_size: Images per forward pass.
        precision: Precision of the extraction.
        memory: Memory budget of the features in bytes, one third each for train, test and the solver's copy; no limit
            by default. Features beyond it lie in temporary files, and the result is the same. See
            :func:`extract_features`.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.
        seed: Seed of the split of train.

    Returns:
        Accuracy, probabilities, the chosen layers, and every candidate's scores.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1 (unless they have names), or test classes
            missing from train; the sum of the features overflows.
        OptionError: ``class_weights`` or another option has another value.
        ShapeError: Train and test have features of different widths.
        UnknownNameError: The model has no layer of that name.

    Warns:
        DataWarning: More than a quarter of the test images are training images, or a class has not a single hit.

    Example:
        >>> features, labels = torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)
        >>> linear_probe(torch.nn.Identity(), (features, labels)).accuracy
        1.0
    """
    seed = check_int("seed", seed, at_least=None, of=linear_probe)
    train_store, test_store, solver_store = FeatureStore(memory).split(3)
    start = time.monotonic()
    same = test is not None and is_same_data(train, test)
    train, test = read_files([train, test], size, on_error)
    setup = read_train(
        backbone,
        train,
        (train_store, solver_store),
        layers=layers,
        pool=pool,
        penalties=penalties,
        class_weights=class_weights,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
    )
    if test is None:
        scored = setup.score_by_folds()
    else:
        options: ExtractOptions = {"pool": setup.sides, "batch_size": batch_size, "precision": precision}
        options["layers"] = list(setup.features) if layers == "auto" else read_layers(backbone, layers, setup.sides)
        asked, targets = _read_test(backbone, test, setup.classes, test_store, **options)
        check_widths(setup.features, asked.layers)
        fix = "Leave out test for a cross-validated accuracy."
        warn_of_training_images(setup.marks, asked.marks, same=same, fix=fix)
        scored = setup.score_on_test(asked.layers, targets)
    report = class_report(scored.logits.argmax(1), scored.targets, setup.classes.shown_names)
    warn_of_missed_classes(report, "Pass class_weights='balanced', or add training images of the class.")
    seconds = time.monotonic() - start
    return _result(scored, report, setup.classifier(scored.choice), label_count=len(setup.labels), seconds=seconds)


def _read_test(
    backbone: Model, test: LabeledLike, classes: Classes, store: FeatureStore, **options: Unpack[ExtractOptions]
) -> tuple[LabeledFeatures, Tensor]:
    """Extract the features of test, and return its labels in the numbers of train."""
    data, names = with_class_names(test)
    asked = labeled_features(backbone, data, "test", store, **options)
    return asked, match_classes(asked.labels, names, classes)


def _result(
    scored: Scored, report: ClassReport, classifier: Classifier, *, label_count: int, seconds: float
) -> ProbeResult:
    choice = scored.choice
    return ProbeResult(
        accuracy=report.accuracy,
        layer=choice.name,
        layers={
            name: LayerScore(scored.accuracies[name], each.accuracy, each.penalty, choice.width(name), each.loss)
            for name, each in choice.scores.items()
        },
        last=last(list(choice.scores)),
        predictions=scored.logits.argmax(1),
        probabilities=scored.logits.softmax(1),
        targets=scored.targets,
        head=choice.head(),
        classifier=classifier,
        class_report=report,
        label_count=label_count,
        rule=_rule(label_count) if choice.compared else "",
        cross_validated=scored.cross_validated,
        seconds=seconds,
    )


def _rule(label_count: int) -> str:
    return "5-fold log loss" if label_count <= FEW else "log loss of a held-out fifth"
