"""User code in the training loop that changes modes, freezes, moves or replaces weights (section 8)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.errors import OptionError, TrainingWarning
from pretextkit.functional import freeze_and_finetune, pretrain
from pretextkit.testing import TinyBackbone
from pretextkit.training._user_code import TrainedState
from tests.helpers import WithDropoutAndNorm, random_images

IMAGES = random_images(32, size=16)


class Task(pk.tasks.Rotation[pk.SpatialBackbone]):
    """A rotation task that runs a hook before its views, after its loss and after each step."""

    backbone: Any

    def __init__(self, hooks: dict[str, Callable[[Any], Any]]) -> None:
        super().__init__(WithDropoutAndNorm())
        self.hooks = hooks

    def views(self, images: Tensor, generator: torch.Generator) -> Any:
        self.hooks.get("views", id)(self)
        return super().views(images, generator)

    def forward(self, batch: Any) -> pk.TaskOutput:
        output = super().forward(batch)
        self.hooks.get("forward", id)(self)
        return output

    def after_step(self) -> None:
        self.hooks.get("after_step", id)(self)


def trained(where: str = "", hook: Callable[[Any], Any] = id, epochs: int = 3) -> tuple[dict[str, Tensor], Task]:
    """Train a task with a hook in one place; return its state, cloned."""
    torch.manual_seed(0)
    task = Task({where: hook})
    options: dict[str, Any] = {}
    if where == "callback":
        options["callbacks"] = [lambda row: hook(task)]
    if where == "augment":
        options["augment"] = lambda images, generator: (hook(task), images)[1]
    pretrain(task, IMAGES, epochs=epochs, batch_size=16, precision="fp32", device="cpu", progress=False, **options)
    return {name: value.clone() for name, value in task.state_dict().items()}, task


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("where", ["callback", "augment", "views", "forward", "after_step"])
@pytest.mark.parametrize("hook", [lambda task: task.eval(), lambda task: task.backbone.last[0].eval()])
def test_modes_set_by_user_code_do_not_change_the_weights(where: str, hook: Callable[[Any], Any]) -> None:
    plain, _ = trained()
    changed, task = trained(where, hook)
    assert same(plain, changed)
    assert task.backbone.last[0].num_batches_tracked == 6
    assert task.training  # the mode before the call


@pytest.mark.parametrize("hook", [lambda task: torch.set_grad_enabled(False), lambda task: torch.manual_seed(9)])
def test_callback_that_changes_global_state_does_not_change_the_weights(hook: Callable[[Any], Any]) -> None:
    assert same(trained()[0], trained("callback", hook)[0])
    assert torch.is_grad_enabled()


def test_module_that_its_task_keeps_in_eval_mode_stays_there() -> None:
    class Frozen(WithDropoutAndNorm):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self.last.eval()
            return self

    task = pk.tasks.Rotation(Frozen())
    pretrain(task, IMAGES, steps=2, batch_size=16, device="cpu", progress=False, callbacks=[lambda row: None])
    assert task.backbone.get_buffer("last.0.num_batches_tracked") == 0


def test_finetuning_keeps_frozen_modules_in_eval_mode() -> None:
    backbone = WithDropoutAndNorm()
    labels = torch.arange(32) % 2
    augment = lambda images, generator: (backbone.train(), images)[1]  # noqa: E731
    freeze_and_finetune(
        backbone,
        nn.Linear(64, 2),
        (IMAGES, labels),
        trainable="none",
        epochs=1,
        augment=augment,
        device="cpu",
        progress=False,
    )
    assert backbone.last[0].num_batches_tracked == 0


@pytest.mark.parametrize("where", ["callback", "after_step"])
def test_frozen_weights_are_reported(where: str) -> None:
    with pytest.warns(TrainingWarning, match=r"backbone.* stopped training: .* requires_grad to False"):
        trained(where, lambda task: task.backbone.requires_grad_(False))


def test_unfrozen_weights_are_reported() -> None:
    torch.manual_seed(0)
    task = Task({})
    task.backbone.layers[0].requires_grad_(False)
    with pytest.warns(TrainingWarning, match="A callback unfroze 'backbone.layers.0.0.weight'.* will not train"):
        pretrain(
            task,
            IMAGES,
            epochs=2,
            batch_size=16,
            device="cpu",
            progress=False,
            callbacks=[lambda row: setattr(task.backbone.layers[0][0].weight, "requires_grad", True)],
        )


def test_replaced_weights_are_reported() -> None:
    def replace(task: Any) -> None:
        task.head = pk.models.LinearHead(64, 4)

    with pytest.warns(TrainingWarning, match="A callback replaced 'head.linear.weight'"):
        trained("callback", replace)


@pytest.mark.parametrize("where", ["callback", "augment", "after_step"])
@pytest.mark.parametrize("place", [torch.float64, "meta"])
def test_moved_weights_are_refused(where: str, place: Any) -> None:
    with pytest.raises(OptionError, match=r"Expected the weights to stay on cpu in torch.float32 .* copy.deepcopy"):
        trained(where, lambda task: task.to(place))


def test_callback_gets_a_copy_of_the_row() -> None:
    task = Task({})
    rows: list[Any] = []

    def clear(row: Any) -> None:
        row.clear()

    result = pretrain(
        task,
        IMAGES,
        steps=1,
        batch_size=16,
        device="cpu",
        progress=False,
        callbacks=[rows.append, clear],
    )
    assert dict(result.history.last) == rows[0]


@pytest.mark.parametrize("callbacks", [print, [3], None, [lambda: None], [lambda row, task: None]])
def test_callbacks_that_are_no_functions_of_a_row_are_refused(callbacks: Any) -> None:
    with pytest.raises(OptionError, match="callbacks"):
        pretrain(Task({}), IMAGES, steps=1, batch_size=16, progress=False, callbacks=callbacks)


def test_healthy_user_code_gives_no_warning() -> None:
    def validate(task: Any) -> None:
        copied = copy.deepcopy(task).double().eval().requires_grad_(False)
        copied.backbone(IMAGES)

    turns = iter(range(1000))

    def take_turns(task: Any) -> None:
        task.head.requires_grad_(next(turns) % 3 != 0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for where in ("callback", "augment", "views", "forward", "after_step"):
            trained(where, validate, epochs=2)
        trained("after_step", take_turns, epochs=4)


def test_state_costs_no_time_per_weight_and_step() -> None:
    state = TrainedState(TinyBackbone())
    state.after_step()
    assert state.suspects == []
    state.flags = {}  # a step reads no flag of a weight
    for _ in range(3):
        state.check_place()
        state.restore_modes()
        state.after_step()
