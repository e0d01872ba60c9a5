from __future__ import annotations

import math

import pytest
import torch

from pretextkit.contracts import TaskOutput
from pretextkit.errors import DivergenceError
from pretextkit.training.recorder import Recorder


def output(loss: float, accuracy: float = 0.5) -> TaskOutput:
    return TaskOutput(torch.tensor(loss, requires_grad=True), {"accuracy": torch.tensor(accuracy)})


def test_a_row_has_the_means_of_its_epoch() -> None:
    recorder = Recorder()
    for step, (loss, accuracy) in enumerate([(4.0, 0.0), (2.0, 1.0)]):
        recorder.add(step, output(loss, accuracy))
    recorder.close_epoch(epoch=1.0, step=2, learning_rate=0.1, seconds=3.0)
    recorder.add(2, output(1.0, 0.25))
    recorder.close_epoch(epoch=2.0, step=3, learning_rate=0.2, seconds=4.0)
    assert recorder.rows == [
        {"epoch": 1.0, "step": 2, "loss": 3.0, "accuracy": 0.5, "learning_rate": 0.1, "seconds": 3.0},
        {"epoch": 2.0, "step": 3, "loss": 1.0, "accuracy": 0.25, "learning_rate": 0.2, "seconds": 4.0},
    ]
    assert list(recorder.rows[0])[:3] == ["epoch", "step", "loss"]


def test_a_recorder_goes_on_in_the_middle_of_an_epoch() -> None:
    whole = Recorder()
    stopped = Recorder()
    for recorder in (whole, stopped):
        recorder.add(0, output(4.0))
    stopped.flush()
    resumed = Recorder(stopped.rows, stopped.open)
    for recorder in (whole, resumed):
        recorder.add(1, output(1.0))
        recorder.close_epoch(epoch=1.0, step=2)
    assert resumed.rows == whole.rows
    assert resumed.rows[0]["loss"] == 2.5


def test_values_wait_until_they_are_flushed() -> None:
    recorder = Recorder()
    recorder.add(0, output(1.0))
    assert recorder.latest == {}
    recorder.flush()
    assert recorder.latest == {"loss": 1.0, "accuracy": 0.5}
    recorder.flush()
    assert len(recorder.open) == 1


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_the_first_loss_that_is_not_finite_is_named_by_its_step(loss: float) -> None:
    recorder = Recorder()
    for step, value in enumerate([1.0, 2.0, loss, math.nan, 1.0]):
        recorder.add(step, output(value))
    with pytest.raises(DivergenceError) as caught:
        recorder.flush()
    assert str(caught.value) == (
        f"Expected a finite loss, but got {loss} at step 3. Training has stopped; a checkpoint, if there is one, holds "
        "the last good weights. Lower learning_rate, set clip_norm=1.0, or use precision='fp32'."
    )
    assert [values["loss"] for values in recorder.open] == [1.0, 2.0]


def test_a_metric_may_be_nan_and_half_precision_is_read() -> None:
    recorder = Recorder()
    recorder.add(0, TaskOutput(torch.tensor(1.5, dtype=torch.bfloat16), {"count": torch.tensor(3)}))
    recorder.add(1, output(1.0, math.nan))
    recorder.flush()
    assert recorder.open[0] == {"loss": 1.5, "count": 3.0}


def test_nothing_recorded_holds_on_to_the_graph() -> None:
    recorder = Recorder()
    recorder.add(0, output(1.0))
    assert not recorder.waiting[0][2].requires_grad
