from __future__ import annotations

import io
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from pretextkit import Recommended
from pretextkit.data._loader_images import LoaderImages
from pretextkit.data._tensor_images import TensorImages
from pretextkit.distributed import Rank
from pretextkit.distributed._group import ProcessGroup
from pretextkit.errors import OptionError, UnknownNameError
from pretextkit.tasks import SimCLR
from pretextkit.testing import TinyBackbone
from pretextkit.training._settings import Settings, make_plan


def of(count: int) -> TensorImages:
    return TensorImages(torch.zeros(count, 1, 1, 1))


def group_of(processes: int) -> ProcessGroup:
    return ProcessGroup(Rank(0, processes), torch.device("cpu"))


@given(st.integers(1, 60), st.data())
def test_plan_is_consistent(count: int, data: Any) -> None:
    batch_size = data.draw(st.integers(1, count))
    epochs = data.draw(st.integers(1, 50))
    warmup = data.draw(st.floats(0, 1))
    plan = make_plan(Settings(epochs=epochs, batch_size=batch_size, warmup=warmup), of(count))
    assert plan.per_epoch * batch_size <= count < (plan.per_epoch + 1) * batch_size
    assert plan.total == epochs * plan.per_epoch
    assert warmup * plan.total <= plan.warmup <= min(warmup * plan.total + 1, plan.total)


def test_plan_keeps_steps() -> None:
    assert make_plan(Settings(steps=7, batch_size=5), of(20)).total == 7


@pytest.mark.parametrize(
    ("count", "batch_size", "epochs"),
    [(10, 10, 400), (500, 32, 400), (8_000, 32, 25), (8_192, 64, 24), (20_000, 128, 10), (60_000, 256, 10)],
)
def test_default_batch_size_and_epochs_follow_the_images(count: int, batch_size: int, epochs: int) -> None:
    plan = make_plan(Settings(), of(count))
    assert (plan.batch_size, plan.epochs, plan.total) == (batch_size, epochs, epochs * (count // batch_size))


@pytest.mark.parametrize(("count", "batch_size"), [(100, 100), (8_000, 128), (32_768, 256), (500_000, 512)])
def test_task_sets_the_bounds_of_the_batch_and_the_rate(count: int, batch_size: int) -> None:
    task = SimCLR(TinyBackbone())
    plan = make_plan(Settings(), of(count), task=task)
    assert (plan.batch_size, plan.learning_rate) == (batch_size, 3e-3)
    assert make_plan(Settings(optimizer="sgd", batch_size=64), of(count), task=task).learning_rate == 0.06 / 4


@given(st.integers(1, 10**7), st.integers(1, 300), st.integers(0, 300), st.integers(1, 10**9))
def test_recommended_values_keep_their_bounds(count: int, smallest: int, more: int, read: int) -> None:
    recommended = Recommended(smallest_batch=smallest, largest_batch=smallest + more, images_to_read=read)
    batch, epochs = recommended.batch_size_for(count), recommended.epochs_for(count)
    assert min(smallest, count) <= batch <= min(smallest + more, count)
    free = batch not in (smallest, smallest + more, count)
    assert not free or (batch & (batch - 1) == 0 and 128 * batch <= count < 256 * batch)
    assert 10 <= epochs <= 400
    assert epochs in (10, 400) or abs(epochs * count - read) <= count / 2


def test_loader_sets_the_batch_size() -> None:
    loader: DataLoader[Any] = DataLoader(list(torch.rand(10, 1, 2, 2)), batch_size=4)  # type: ignore[arg-type]
    assert make_plan(Settings(epochs=1), LoaderImages(loader)).batch_size == 4
    assert make_plan(Settings(epochs=1, batch_size=3), LoaderImages(loader)).batch_size == 3


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 1e-3), ("sgd", 0.03), ("lars", 0.15)])
def test_default_learning_rate_depends_on_optimizer_and_batch(optimizer: Any, rate: float) -> None:
    plan = make_plan(Settings(epochs=1, optimizer=optimizer, batch_size=128), of(128))
    assert plan.learning_rate == pytest.approx(rate)
    own = Settings(epochs=1, optimizer=optimizer, batch_size=128, learning_rate=0.5)
    assert make_plan(own, of(128)).learning_rate == 0.5


def test_learning_rate_of_zero_is_kept() -> None:
    assert make_plan(Settings(epochs=1, learning_rate=0.0), of(4)).learning_rate == 0.0


@pytest.mark.parametrize(
    ("processes", "accumulate", "batch_size"),
    [(1, 1, 32), (3, 1, 30), (3, 4, 24), (20, 1, 40), (90, 1, 90), (200, 1, 100)],
)
def test_default_batch_size_is_divisible_by_the_parts(processes: int, accumulate: int, batch_size: int) -> None:
    settings = Settings(epochs=1, accumulate=accumulate)
    if processes > 100:
        with pytest.raises(OptionError, match="200 x 1 = 200"):
            make_plan(settings, of(100), group_of(processes))
    else:
        assert make_plan(settings, of(100), group_of(processes)).batch_size == batch_size


def test_indivisible_batch_size_is_refused() -> None:
    with pytest.raises(OptionError) as caught:
        make_plan(Settings(epochs=1, batch_size=10, accumulate=2), of(10), group_of(2))
    assert caught.value.text == (
        "Expected a batch_size divisible by processes x accumulate = 2 x 2 = 4, but got 10. "
        "Use batch_size=8: it counts the images of all processes."
    )


@pytest.mark.parametrize("accumulate", [0, -1, 1.5, True])
def test_accumulate_below_one_is_refused(accumulate: Any) -> None:
    with pytest.raises(OptionError) as caught:
        make_plan(Settings(epochs=1, accumulate=accumulate), of(10))
    assert caught.value.text == (
        f"Expected accumulate to be an integer >= 1, but got {accumulate}. "
        "It is the number of parts that a batch is computed in."
    )


@pytest.mark.parametrize("batch_size", [0, -1, 11, 2.5, True])
def test_batch_size_out_of_range_is_refused(batch_size: Any) -> None:
    with pytest.raises(OptionError) as caught:
        make_plan(Settings(epochs=1, batch_size=batch_size), of(10))
    integer = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    wanted = "batch_size to be between 1 and 10, the number of images" if integer else "batch_size to be an integer"
    assert caught.value.text == f"Expected {wanted}, but got {batch_size}. Use batch_size=10."


def test_epochs_and_steps_together_are_refused() -> None:
    with pytest.raises(OptionError) as caught:
        make_plan(Settings(epochs=1, steps=1), of(10))
    assert caught.value.text == (
        "Expected either epochs or steps, but got epochs=1, steps=1. Pass one of them, e.g. epochs=10."
    )


@pytest.mark.parametrize("name", ["epochs", "steps"])
@pytest.mark.parametrize("value", [0, -3, 1.5, math.nan, math.inf, True])
def test_epochs_and_steps_must_be_positive_integers(name: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        make_plan(Settings(**{name: value}), of(10))
    assert caught.value.text == f"Expected {name} to be an integer >= 1, but got {value}. For example {name}=10."


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "clip_norm"])
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_rates_must_be_finite_and_not_negative(name: str, value: float) -> None:
    with pytest.raises(OptionError) as caught:
        make_plan(Settings(epochs=1, **{name: value}), of(10))  # type: ignore[arg-type]
    assert (
        caught.value.text
        == f"Expected {name} to be a number in [0, inf), but got {value}. Leave it out for the default."
    )


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_warmup_must_be_a_fraction(value: float) -> None:
    with pytest.raises(OptionError) as caught:
        make_plan(Settings(epochs=1, warmup=value), of(10))
    assert caught.value.text == (
        f"Expected warmup to be a number in [0, 1], but got {value}. "
        "It is a fraction of all steps; the default is 0.05."
    )


def test_unknown_optimizer_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="name of an optimizer, but got 'adam'") as caught:
        make_plan(Settings(epochs=1, optimizer="adam"), of(10))  # type: ignore[arg-type]
    assert "Did you mean 'adamw'? Known: adamw, sgd, lars." in str(caught.value)


def test_unknown_optimizer_with_learning_rate_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="name of an optimizer, but got 'adam'"):
        make_plan(Settings(epochs=1, optimizer="adam", learning_rate=0.1), of(10))  # type: ignore[arg-type]


def test_settings_convert_numpy_numbers() -> None:
    options: Any = {
        "steps": np.int64(3),
        "batch_size": np.int64(4),
        "seed": np.int32(1),
        "learning_rate": np.float64(0.5),
    }
    options |= {"warmup": np.float32(0.5), "optimizer": np.str_("sgd")}
    settings = Settings(**options)
    plan = make_plan(settings, of(8))
    file = io.BytesIO()
    torch.save({**asdict(settings), **asdict(plan)}, file)
    file.seek(0)
    found = torch.load(file, weights_only=True)
    assert found == {**asdict(settings), **asdict(plan)}
    assert (found["total"], found["learning_rate"], found["batch_size"], found["optimizer"]) == (3, 0.5, 4, "sgd")
