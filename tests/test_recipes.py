"""Recipes: recorded arguments of constructors, names of classes, and modules built again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pretextkit as pk
from pretextkit._arguments import decode, encode
from pretextkit._recipes import build_module, try_recipe, why_unbuildable
from pretextkit.errors import CheckpointError
from tests.test_registries import Installer, install

__all__ = ["install"]

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(plain)
def test_decode_undoes_encode_through_json(value: Any) -> None:
    import json

    assert decode(json.loads(json.dumps(encode(value)))) == value
    assert repr(decode(json.loads(json.dumps(encode(value))))) == repr(value)


def test_arguments_by_position_and_name_are_recorded() -> None:
    recipe = try_recipe(pk.heads["mlp"](4, out_dim=2), pk.heads)
    assert recipe is not None
    assert (recipe["name"], recipe["positional"], recipe["named"]) == ("mlp", [4], {"out_dim": 2})


def test_later_change_of_an_argument_does_not_reach_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pk.heads, "_classes", dict(pk.heads._classes))

    @pk.register_head("sums")
    class Sums(pk.Head):
        def __init__(self, columns: list[int]) -> None:
            super().__init__()
            self.columns = columns

        def forward(self, features: Tensor) -> Tensor:
            return features[:, self.columns]

    columns = [0, 1]
    head = Sums(columns)
    columns.append(5)
    recipe = try_recipe(head, pk.heads)
    assert recipe is not None
    assert recipe["positional"] == [[0, 1]]
    assert try_recipe(Sums(torch.arange(2)), pk.heads) is None  # type: ignore[arg-type]
    assert "columns" in why_unbuildable(Sums(torch.arange(2)), pk.heads)  # type: ignore[arg-type]


def test_signatures_of_backbones_stay_as_they_are() -> None:
    import inspect

    assert list(inspect.signature(pk.models.ResNet18).parameters) == ["stem", "in_channels"]
    assert list(inspect.signature(pk.Backbone).parameters) == ["in_channels"]


def test_wrong_arguments_keep_their_message() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        pk.models.SmallCNN(depth=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        pk.models.LinearHead(3)  # type: ignore[call-arg]


def test_built_module_leaves_the_random_state() -> None:
    state = torch.get_rng_state()
    built = build_module({"name": "small-cnn", "positional": [], "named": {"in_channels": 1}}, pk.backbones)
    assert torch.equal(torch.get_rng_state(), state)
    assert not built.training


def test_arguments_that_the_class_refuses_name_the_file() -> None:
    with pytest.raises(CheckpointError, match=r"'small-cnn' to take the arguments in the file"):
        build_module({"name": "small-cnn", "positional": [], "named": {"depth": 1}}, pk.backbones)


PLUGIN = """
    import torch
    from pretextkit import Head

    class Scale(Head):
        def __init__(self, scale, *, bias=0.0):
            super().__init__()
            self.scale, self.bias = scale, bias

        def forward(self, features):
            return features * self.scale + self.bias
"""


def test_class_of_an_installed_plugin_is_found_without_its_registry(install: Installer) -> None:
    install("far-heads", PLUGIN, {"scale": ":Scale"}, group=pk.heads.group)
    import far_heads  # type: ignore[import-not-found]

    head = far_heads.Scale(2.0, bias=1.0)  # imported directly, not looked up
    recipe = try_recipe(head, pk.heads)
    assert recipe is not None
    assert (recipe["name"], recipe["distribution"]) == ("scale", "far-heads 1.2.3")
    assert build_module(recipe, pk.heads)(torch.ones(1)).item() == 3.0
    pk.heads._classes.pop("scale")
