"""Fine-tuning of a head and, by default, of the backbone on labeled images.

A map of the files beside this one, in the order in which a call passes through them::

    _finetune         this file: the public call, its options and its result
    _data             labels of train, images and labels of val
    _labeled_source   the labeled images of a source
    _recipe           defaults that follow from the number of labels
    _work             what trains, on which data, and how; checked before anything changes
    _trained_modules  modules of the backbone that train
    _normalization    statistics of a backbone that has seen no image
    _layers           layers that the head reads, and their features
    _head             the head: built by name, and set to the solution of the linear probe
    _head_start       layers and first weights of the head
    _training         the training: first the head, then everything
    _objectives       the loss of a classifier on images, and of a head on features
    _score            accuracy, probabilities and warnings on val
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TypedDict

import torch
from torch import Tensor, nn

from pretextkit._display import Displayed
from pretextkit._starting_point import KEY, starts_note
from pretextkit._validation import check_float
from pretextkit.data import LabeledLike
from pretextkit.data._as_source import read_files
from pretextkit.data._types import OnError, Size
from pretextkit.evaluation._classes import ClassWeights
from pretextkit.evaluation._trained_classifiers import trained_classifier
from pretextkit.finetuning._averaging import AverageChoice, check_average
from pretextkit.finetuning._data import read_data
from pretextkit.finetuning._layers import HeadLayers
from pretextkit.finetuning._normalization import measure_normalizations
from pretextkit.finetuning._recipe import AugmentationChoice, FinetuneSettings, Recipe
from pretextkit.finetuning._score import classify, warn_below_majority
from pretextkit.finetuning._trained_modules import Trainable, restored
from pretextkit.finetuning._training import Trained, train_classifier
from pretextkit.finetuning._work import FinetuneWork, check_fit, prepare_work
from pretextkit.inference._classifier import Classifier
from pretextkit.metrics._classification import ClassReport, class_report, warn_of_missed_classes
from pretextkit.training._callbacks import CallbackLike, check_callbacks
from pretextkit.training._hardware import Precision
from pretextkit.training._history import History
from pretextkit.training._optim import OptimizerName
from pretextkit.training._settings import Settings

__all__ = ["FinetuneOptions", "FinetuneResult", "Trainable", "finetune_result", "freeze_and_finetune"]


class FinetuneOptions(TypedDict, total=False):
    """Options of :func:`freeze_and_finetune` that do not depend on the budget or the data."""

    trainable: Trainable
    layers: HeadLayers
    batch_size: int | None
    optimizer: OptimizerName
    learning_rate: float | None
    weight_decay: float | None
    layer_decay: float
    label_smoothing: float
    average: AverageChoice
    augment: AugmentationChoice
    clip_norm: float | None
    class_weights: ClassWeights


@dataclass(frozen=True, repr=False)
class FinetuneResult(Displayed):
    """Result of fine-tuning."""

    classifier: Classifier = field(repr=False)
    """Trained backbone and head, in evaluation mode; the logits of classes without training images are -inf."""
    accuracy: float | None
    """Accuracy on ``val`` after the last step; None without ``val``. It does not select an epoch."""
    predictions: Tensor | None = field(repr=False)
    """Predicted labels ``n`` of ``val``; None without ``val``."""
    probabilities: Tensor | None = field(repr=False)
    """Probabilities ``n k`` of the classes of ``val``; None without ``val``."""
    targets: Tensor | None = field(repr=False)
    """True labels ``n`` of ``val``, in the numbers of train; None without ``val``."""
    class_report: ClassReport | None = field(repr=False)
    """Recall and precision of each class on ``val``; None without ``val``."""
    settings: FinetuneSettings
    """Settings of the training, with the values that stood for those that the call left out."""
    history: History = field(repr=False)
    """One row for each epoch; its ``accuracy`` is measured on the augmented training batches."""
    seconds: float
    """Wall-clock time of the training in seconds."""
    stopped: str | None = None
    """Reason for which a callback stopped the training; None for a full training."""

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean recall of the classes on ``val``; None without ``val``."""
        return None if self.class_report is None else self.class_report.balanced_accuracy

    def display_table(self) -> list[list[str]]:
        """Return recall and precision of each class; without ``val``, the newest rows of the history."""
        return self.history.table(10) if self.class_report is None else self.class_report.table()

    def __str__(self) -> str:
        note = "" if self.class_report is None else self.class_report.note.rstrip(",")
        shown = "not measured" if self.accuracy is None else f"{self.accuracy:.1%}{note}"
        start = starts_note(self.classifier.trained.get(KEY))
        return f"fine-tuned in {self.seconds:.1f} s ({self.settings}): accuracy {shown}{start}"


def freeze_and_finetune(
    backbone: nn.Module,
    head: nn.Module | str,
    train: LabeledLike,
    val: LabeledLike | None = None,
    *,
    trainable: Trainable = "all",
    layers: HeadLayers = "auto",
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    optimizer: OptimizerName = "adamw",
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    layer_decay: float = 1.0,
    label_smoothing: float = 0.1,
    average: AverageChoice = "auto",
    augment: AugmentationChoice = "auto",
    clip_norm: float | None = None,
    class_weights: ClassWeights = None,
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: bool = True,
    callbacks: Sequence[CallbackLike] = (),
    workers: int = 0,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> FinetuneResult:
    """Set a head to the features of a backbone, then train both on labeled images, in place.

    The gradients of a random head would distort the features (Kumar et al. 2022, arXiv 2202.10054). So the head comes
    first: a :class:`~pretextkit.models.LinearHead` or ``nn.Linear`` is set to the solution of the linear probe on the
    same features, whatever its weights were; another head takes a few steps on the features. Then the head and the
    modules named by ``trainable`` train together.

    A head that is given by its name reads the layers that :func:`linear_probe` chooses, and begins at its accuracy. The
    last layer is read, too, so that all stages train. On a backbone with random weights it reads the last layer alone.

    Fine-tuning on few labels overfits. So a pretrained backbone and its head end with an average of their weights
    before and after the training (Wortsman et al. 2022, arXiv 2109.01903), statistics of BatchNorm included.

    Frozen modules stay in evaluation mode, BatchNorm statistics included, and are bit-identical afterwards. Backbone
    and head are returned in evaluation mode. After an error, their modes are restored. Classes without training images
    are never predicted: their logits are -inf, and outputs of the head beyond the
    classes are left out.

    Args:
        backbone: Module from images ``b c h w`` in [0, 1] to features ``b d``, maps or tokens; the latter are averaged.
        head: Module from features ``b d`` to logits ``b k``, or the name of a registered head, such as ``"linear"``,
            which is built for the features and the classes of train.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; labels 0…k-1; images labeled -1 are left out. A
            ``Dataset`` is read for its labels and for the head, and again in every epoch, where it draws its random
            transforms again. A ``DataLoader`` keeps its order, unless it gives the same images in the same order twice:
            it is then held in memory and shuffled.
        val: Validation images with labels, in the same forms as ``train``; scored once, after the last step.
        trainable: Trained part of the backbone: ``"all"``, ``"none"``, or names of submodules or of the stages of a
            ``SpatialBackbone``, such as ``["stage4"]``. With ``"none"`` and without ``augment``, features are computed
            once if the images are equal on a second reading, and a linear head keeps the solution of the linear probe
            unless ``epochs`` or ``steps`` is given.
        layers: Layers that the head reads. ``"auto"`` is the choice of :func:`linear_probe` for a head that is given by
            name, on a pretrained ``SpatialBackbone``, and the output for any other. ``"last"`` is the output; a list
            has names of layers as in results, such as ``["stage3 2x2", "stage4"]``.
        epochs: Passes over the labeled images; pass at most one of ``epochs`` and ``steps``.
        steps: Optimizer steps; by default 20 passes over the labeled images, but at least 600, or 3,000 for a backbone
            with random weights, and at most 4,000.
        batch_size: Most images in a step; by default 64, 128 from 10,000 images and 256 from 40,000; 32 for a backbone
            with random weights and fewer than 1,000 images. The labeled images are divided into equal batches, so that
            fewer images than batches are left over for another epoch.
        optimizer: ``"adamw"``, ``"sgd"`` or ``"lars"``, as for :func:`~pretextkit.functional.pretrain`.
        learning_rate: Highest learning rate; by default 0.001 for AdamW, and 0.003 where BatchNorm trains from random
            weights; proportional to the batch for the others.
        weight_decay: Weight decay of matrices and filters; by default as for :func:`~pretextkit.functional.pretrain`.
        layer_decay: Factor on the learning rate for each layer further from the head; 1 switches it off.
        label_smoothing: Part of each target that is spread over all classes; 0 switches it off.
        average: Part of the trained weights in the average with the weights before the training; 1 keeps the trained
            weights. ``"auto"`` is 1 for a backbone with random weights. For a pretrained one it is 0.25 with fewer than
            ten labels a class, in the mean, 0.5 with fewer than a hundred, and 0.75 from there on.
        augment: Function from a batch and a generator to the augmented batch. ``"auto"`` crops and jitters colors
            lightly, without flips, where a part of the backbone trains. None switches it off.
        clip_norm: Maximum norm of the gradient; no clipping by default.
        class_weights: Weights of the classes in the loss: ``"balanced"`` gives every class the same weight, numbers
            give each class its own. By default every image has the same weight.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``, as for :func:`~pretextkit.functional.pretrain`.
        device: ``"auto"`` is a GPU if there is one.
        seed: Seed of the order of images, the augmentation, random layers and the weights of a head given by name.
        progress: Show a progress bar.
        callbacks: Callbacks of the steps and epochs in which the head and the named modules train together, as for
            :func:`~pretextkit.functional.pretrain`; their ``module`` is the classifier.
        workers: Processes that read a ``Dataset`` or folder.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        The classifier, its accuracy, the settings and the history.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1, or more classes than the head has outputs.
        ShapeError: The backbone or the head returns something else, or the head takes features of another width.
        UnknownNameError: The backbone has no submodule or layer of that name, or there is no head of that name.
        OptionError: An option is out of range, or BatchNorm would train on batches of one image.
        DivergenceError: The loss or a weight became NaN or infinite.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 2
        >>> options = {"layers": ["stage3 2x2", "stage4"], "steps": 1, "device": "cpu", "progress": False}
        >>> result = freeze_and_finetune(SmallCNN(), "linear", (images, labels), **options)
        >>> result.classifier(images).shape
        torch.Size([16, 2])
        >>> print(result.settings)
        all weights, 1 step of 16, learning rate 0.003, head on stage3 2x2 + stage4 1x1 from logistic regression
    """
    layer_decay = check_float("layer_decay", layer_decay, "(0, 1]", fix="1 switches it off.")
    label_smoothing = check_float("label_smoothing", label_smoothing, "[0, 1)", fix="0 switches it off.")
    average = check_average(average)
    train, val = read_files([train, val], size, on_error, workers=workers)
    data = read_data(train, val, class_weights, seed, workers)
    given = Settings(
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        precision=precision,
        device=device,
        seed=seed,
    )
    recipe = Recipe(trainable, layers, augment, layer_decay, label_smoothing, average)
    work = prepare_work(backbone, head, data, given, recipe, progress)
    work = replace(work, callbacks=check_callbacks(callbacks))
    start = time.monotonic()
    with restored(backbone, work.classifier):
        check_fit(work)
        measure_normalizations(work)
        work, done = train_classifier(work)
    work.classifier.eval()
    return finetune_result(work, done, time.monotonic() - start, "freeze_and_finetune")


def finetune_result(work: FinetuneWork, done: Trained, seconds: float, by: str) -> FinetuneResult:
    """Score the trained classifier, and warn if the score shows a failure.

    Args:
        work: What was trained, and on which data.
        done: Outcome of the training.
        seconds: Duration of the training.
        by: Name of the function, for the file of the classifier.
    """
    data, report, predictions, probabilities = work.data, None, None, None
    network, head = work.classifier.backbone, work.classifier.head
    trained = {
        "by": by,
        "images": len(data.labels),
        **asdict(done.settings),
        "seed": work.settings.seed,
    }
    layers = work.classifier.layers
    classifier = trained_classifier(network, head, data.classes, data.source, trained, layers=layers).eval()
    if data.heldout is not None:
        predictions, probabilities = classify(classifier, data.heldout.images)
        report = class_report(predictions, data.heldout.labels, data.classes.shown_names)
        weights = "Pass class_weights='balanced', or add" if by == "freeze_and_finetune" else "Add"
        warn_of_missed_classes(report, f"{weights} training images of the class.")
        if data.class_weights is None:  # weights trade the accuracy for that of rare classes
            warn_below_majority(report)
    return FinetuneResult(
        classifier=classifier,
        accuracy=None if report is None else report.accuracy,
        predictions=predictions,
        probabilities=probabilities,
        targets=None if data.heldout is None else data.heldout.labels,
        class_report=report,
        settings=done.settings,
        history=done.history,
        seconds=seconds,
        stopped=done.stopped,
    )
