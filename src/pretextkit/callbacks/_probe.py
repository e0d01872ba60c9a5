"""Probe of the backbone while it trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch  # noqa: F401 - in the example

from pretextkit._validation import check_callable, check_int
from pretextkit.data import LabeledLike
from pretextkit.data._as_source import read_files
from pretextkit.data._types import OnError, Size
from pretextkit.evaluation._knn import knn_probe
from pretextkit.evaluation._labels import require_labels
from pretextkit.evaluation._linear_probe import linear_probe
from pretextkit.metrics._classification import quiet_about_missed_classes
from pretextkit.training._callbacks import Callback, RunStatus

__all__ = ["Probe"]


class Probe(Callback):
    """Probe of the backbone on labeled images, every few epochs and after the last.

    The accuracy joins the history as the column ``probe_accuracy``, which is NaN in other epochs. Training with and
    without the probe ends with the same weights, bit by bit. To choose weights or the end of a run by this accuracy,
    measure it on images that no reported score uses.

    Args:
        train: Labeled images, in the forms that probes take.
        val: Labeled images to score; without them, ``train`` is cross-validated or queries itself.
        every: Epochs from one probe to the next.
        probe: Function from a backbone, ``train`` and ``val`` to a result with an ``accuracy``, such as
            :func:`~pretextkit.functional.linear_probe`; by default :func:`~pretextkit.functional.knn_probe`.

        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`. Give the size of the training.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Raises:
        OptionError: An option is out of range. Before the first step: ``size`` or ``on_error`` stands beside images
            that are no files.
        DataError: Before the first step: there are no labels, or no such files.

    Example:
        >>> import pretextkit as pk
        >>> images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 2
        >>> task = pk.tasks.Rotation(pk.models.SmallCNN())
        >>> options = {"epochs": 3, "batch_size": 8, "device": "cpu", "progress": False}
        >>> result = pk.functional.pretrain(task, images, **options, callbacks=[Probe((images, labels), every=2)])
        >>> [accuracy == accuracy for accuracy in result.history.column("probe_accuracy")]
        [False, True, True]
    """

    def __init__(
        self,
        train: LabeledLike,
        val: LabeledLike | None = None,
        *,
        every: int = 1,
        probe: Callable[..., Any] | None = None,
        size: Size | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self.train, self.val, self.probe = train, val, knn_probe if probe is None else probe
        self.size, self.on_error = size, on_error
        check_callable("probe", self.probe, "backbone", "train", "val")
        self.every = check_int("every", every, fix="1 probes after each epoch.")

    def on_start(self, status: RunStatus) -> None:
        """Open the images, so that a mistake ends the call before it trains."""
        self.train, self.val = read_files([self.train, self.val], self.size, self.on_error)
        self.size, self.on_error = None, "raise"  # the files are read by now
        known = self.probe in (knn_probe, linear_probe)  # a function of the user may take other labels
        for what, images in (("train", self.train), ("val", self.val)):
            if known and images is not None:
                require_labels(images, what)

    def on_epoch(self, status: RunStatus) -> dict[str, float]:
        """Measure the accuracy, if its turn has come."""
        number = len(status.history.rows)
        if number % self.every and status.step < status.steps:
            return {"probe_accuracy": math.nan}
        with quiet_about_missed_classes():  # as in any first epochs
            result = self.probe(cast(Any, status.module).backbone, self.train, self.val)
        return {"probe_accuracy": float(result.accuracy)}
