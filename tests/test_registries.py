"""Registries: classes registered in code, and plug-ins of distributions installed in a temporary folder."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import Tensor

import pretextkit as pk
from pretextkit import errors
from pretextkit.errors import unknown_name
from pretextkit.registries import Registry

GROUP = "pretextkit.test_heads"
PLUGIN = """
    import torch
    from pretextkit import Head

    class Plugged(Head):
        def __init__(self, scale: float = 1.0) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features * self.scale
"""


class Identity(pk.Head):
    def forward(self, features: Tensor) -> Tensor:
        return features


class Other(Identity):
    pass


class Half(pk.Head):
    """Leaves ``forward`` abstract."""


@pytest.fixture
def registry() -> Registry[pk.Head]:
    return Registry("head", pk.Head, GROUP)


class Installer:
    """Install distributions into a temporary folder on ``sys.path``."""

    def __init__(self, site: Path) -> None:
        self.site = site

    def __call__(self, distribution: str, source: str, points: Mapping[str, str], *, group: str = GROUP) -> None:
        module = distribution.replace("-", "_")
        (self.site / f"{module}.py").write_text(dedent(source))
        info = self.site / f"{module}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.3\n")
        lines = [f"{name} = {module}{attribute}" for name, attribute in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Installer(tmp_path)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


# In code


def test_registry_is_a_mapping_sorted_by_name(registry: Registry[pk.Head]) -> None:
    registry.register("b", Identity)
    registry.register("a-2", Other)
    assert list(registry) == ["a-2", "b"]
    assert len(registry) == 2
    assert "b" in registry
    assert "c" not in registry
    assert dict(registry) == {"a-2": Other, "b": Identity}
    assert registry.get("c") is None
    assert repr(registry) == "Registry(head: a-2, b)"


def test_create_passes_arguments_to_the_class() -> None:
    head = pk.heads.create("linear", 3, out_dim=2)
    assert head(torch.zeros(1, 3)).shape == (1, 2)


def test_decorators_register_and_return_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    class Means(pk.Backbone):
        feature_dim = 3

        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    class Spread(pk.PretextTask[pk.Labeled]):
        def views(self, images: Tensor, generator: torch.Generator) -> pk.Labeled:
            return pk.Labeled(images, torch.arange(len(images)))

        def forward(self, batch: pk.Labeled) -> pk.TaskOutput:
            return pk.TaskOutput(-self.backbone(batch.images).std(), {})

    for registry in (pk.heads, pk.backbones, pk.pretext_tasks):
        monkeypatch.setattr(registry, "_classes", {})
    assert pk.register_head("one")(Identity) is Identity
    assert pk.register_backbone("one")(Means) is Means
    assert pk.register_pretext_task("one")(Spread) is Spread
    assert [pk.heads["one"], pk.backbones["one"], pk.pretext_tasks["one"]] == [Identity, Means, Spread]


def test_register_refuses_a_second_class_under_one_name(registry: Registry[pk.Head]) -> None:
    registry.register("mine", Identity)
    with pytest.raises(errors.DuplicateNameError) as caught:
        registry.register("mine", Other)
    assert caught.value.text == (
        f"Expected one head named 'mine', but got {__name__}.Identity and {__name__}.Other. "
        "Give one of them another name."
    )
    assert registry["mine"] is Identity


def test_register_replaces_a_class_that_is_defined_again(registry: Registry[pk.Head]) -> None:
    def cell() -> type[pk.Head]:
        class Draft(Identity):
            pass

        return Draft

    first, second = cell(), cell()
    registry.register("draft", first)
    registry.register("draft", second)
    assert registry["draft"] is second


@pytest.mark.parametrize("name", ["", " ", "Mine", "my_head", "my head", "-mine", "mine-", "a--b", "mine\n", "méthode"])
def test_register_refuses_other_spellings_of_a_name(registry: Registry[pk.Head], name: str) -> None:
    with pytest.raises(errors.OptionError) as caught:
        registry.register(name, Identity)
    assert caught.value.text == (
        f"Expected the name of the head {__name__}.Identity to be lowercase words joined by hyphens, but got {name!r}. "
        "Choose a name like 'small-cnn'."
    )
    assert list(registry) == []


@pytest.mark.parametrize(
    ("thing", "shown"), [(int, "builtins.int"), (torch.nn.Linear, "torch.nn.modules.linear.Linear"), (3, "3")]
)
def test_register_refuses_class_of_other_base(registry: Registry[pk.Head], thing: type[pk.Head], shown: str) -> None:
    with pytest.raises(errors.OptionError) as caught:
        registry.register("mine", thing)
    assert caught.value.text == (
        f"Expected the head 'mine' to be a subclass of Head, but got {shown}. Derive it from pretextkit.Head."
    )


@pytest.mark.parametrize("cls", [Half])  # a parameter, because mypy refuses the abstract class itself
def test_register_refuses_abstract_classes(registry: Registry[pk.Head], cls: type[pk.Head]) -> None:
    with pytest.raises(errors.OptionError) as caught:
        registry.register("half", cls)
    assert caught.value.text == (
        f"Expected the head 'half' to be a concrete class, but got {__name__}.Half without forward. "
        "Define forward, or register a subclass that does."
    )


def test_unknown_name_suggests_the_nearest_and_lists_all(registry: Registry[pk.Head]) -> None:
    registry.register("linear", Identity)
    registry.register("mlp", Other)
    with pytest.raises(errors.UnknownNameError) as caught:
        registry["Linaer"]
    assert caught.value.text == (
        "Expected the name of a head, but got 'Linaer'. Did you mean 'linear'? Known: linear, mlp. "
        f"Plug-ins use the entry-point group '{GROUP}'."
    )
    with pytest.raises(errors.UnknownNameError, match=r"but got 'zzz'\. Known: linear, mlp\. Plug-ins"):
        registry.create("zzz")


def test_unknown_name_in_an_empty_registry_lists_none(registry: Registry[pk.Head]) -> None:
    with pytest.raises(errors.UnknownNameError, match=r"but got 'linear'\. Known: none\. Plug-ins"):
        registry["linear"]


@pytest.mark.parametrize("name", ["SMALL_CNN", "smallcnn", "small cnn"])
def test_suggestions_ignore_case_and_separators(name: str) -> None:
    for known in ("small-cnn", "Small_CNN"):
        assert f"Did you mean {known!r}?" in str(unknown_name("backbone", name, ["resnet18", known]))


@pytest.mark.parametrize(
    ("types", "registry"),
    [
        ("PretextTaskRegistry", pk.pretext_tasks),
        ("BackboneRegistry", pk.backbones),
        ("HeadRegistry", pk.heads),
    ],
)
def test_type_stub_lists_every_built_in_class(types: str, registry: Registry[torch.nn.Module]) -> None:
    stub = ast.parse((Path(pk.__file__).parent / "_registry_types.pyi").read_text(encoding="utf-8"))
    (cls,) = (node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == types)
    source = ast.unparse(cls)
    overloads = dict(re.findall(r"name: Literal\['(.+?)'\]\) -> type\[\w+\.(\w+)\]", source))
    built_in = {name: each.__name__ for name, each in registry.items() if each.__module__.startswith("pretextkit.")}
    assert overloads == built_in


# Installed


def test_listing_imports_no_plugin(registry: Registry[pk.Head], install: Installer) -> None:
    install("bomb", "raise RuntimeError('imported')", {"boom": ":Bomb"})
    registry.register("built-in", Identity)
    assert list(registry) == ["boom", "built-in"]
    assert len(registry) == 2
    assert "boom" in registry
    assert repr(registry) == "Registry(head: boom, built-in)"
    assert registry["built-in"] is Identity
    with pytest.raises(errors.UnknownNameError, match=r"Did you mean 'boom'\?"):
        registry["boon"]
    assert "bomb" not in sys.modules


def test_plugin_is_loaded_by_name(registry: Registry[pk.Head], install: Installer) -> None:
    install("acme-heads", PLUGIN, {"plugged": ":Plugged"})
    head = registry.create("plugged", scale=2.0)
    assert head(torch.ones(1, 1)).item() == 2
    assert type(head) is registry["plugged"]
    assert type(head).__module__ == "acme_heads"


@pytest.mark.parametrize(
    ("registry", "source"),
    [
        (pk.heads, PLUGIN),
        (pk.backbones, "from pretextkit.models import SmallCNN\nclass Plugged(SmallCNN): ..."),
        (pk.pretext_tasks, "from pretextkit.tasks import Rotation\nclass Plugged(Rotation): ..."),
    ],
    ids=["heads", "backbones", "pretext_tasks"],
)
def test_each_kind_has_its_documented_entry_point_group(
    registry: Registry[torch.nn.Module],
    source: str,
    install: Installer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    kind = request.node.callspec.id
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    install("acme", source, {"plugged": ":Plugged"}, group=f"pretextkit.{kind}")
    assert registry["plugged"].__module__ == "acme"
    assert [name for name, other in vars(pk).items() if isinstance(other, Registry) and "plugged" in other] == [kind]


def test_plugin_may_also_use_the_decorator(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pk.heads, "_classes", dict(pk.heads._classes))
    source = """
        import pretextkit as pk

        @pk.register_head("plugged")
        class Plugged(pk.Head):
            def forward(self, features): ...
    """
    install("acme-heads", source, {"plugged": ":Plugged"}, group="pretextkit.heads")
    assert pk.heads["plugged"] is pk.heads["plugged"]
    assert list(pk.heads).count("plugged") == 1


def test_two_plugins_under_one_name_are_both_named_unloaded(registry: Registry[pk.Head], install: Installer) -> None:
    install("beta", PLUGIN, {"plugged": ":Plugged", "other": ":Plugged"})
    install("acme", "raise RuntimeError('imported')", {"plugged": ":Plugged"})
    assert list(registry) == ["other", "plugged"]
    with pytest.raises(errors.DuplicateNameError) as caught:
        registry["plugged"]
    assert caught.value.text == (
        "Expected one installed head named 'plugged', "
        "but got acme:Plugged of acme 1.2.3 and beta:Plugged of beta 1.2.3. Uninstall all but one of them."
    )
    assert not {"acme", "beta"} & set(sys.modules)
    assert registry["other"].__module__ == "beta", "the rest of a plug-in still works"


def test_plugin_under_a_registered_name_is_refused(registry: Registry[pk.Head], install: Installer) -> None:
    registry.register("mine", Identity)
    install("acme", PLUGIN, {"mine": ":Plugged"})
    for _ in range(2):
        with pytest.raises(errors.DuplicateNameError) as caught:
            registry["mine"]
        assert caught.value.text == (
            f"Expected one head named 'mine', but got {__name__}.Identity and acme:Plugged of acme 1.2.3. "
            "Give one of them another name."
        )


@pytest.mark.parametrize(
    ("source", "attribute", "got"),
    [
        ("import no_such_module", ":Plugged", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", ":Plugged", "ZeroDivisionError: division by zero"),
        ("", ":Plugged", "AttributeError: module 'acme' has no attribute 'Plugged'"),
    ],
)
def test_broken_plugin_error_names_its_distribution(
    registry: Registry[pk.Head], install: Installer, source: str, attribute: str, got: str
) -> None:
    install("acme", source, {"plugged": attribute})
    for _ in range(2):
        with pytest.raises(errors.PluginError) as caught:
            registry["plugged"]
        assert caught.value.text == (
            f"Expected the head 'plugged' to load from acme:Plugged of acme 1.2.3, but got {got}. "
            "Repair, update or uninstall that distribution."
        )
        assert f"{type(caught.value.__cause__).__name__}: {caught.value.__cause__}" == got


def test_plugin_with_malformed_entry_point_is_refused(registry: Registry[pk.Head], install: Installer) -> None:
    install("acme", PLUGIN, {"plugged": ": not an object reference"})
    with pytest.raises(errors.PluginError, match=r"of acme 1\.2\.3"):
        registry["plugged"]


@pytest.mark.parametrize(
    ("source", "attribute", "text"),
    [
        (
            "class Plugged: ...",
            ":Plugged",
            "the head 'plugged' to be a subclass of Head, but got acme:Plugged of acme 1.2.3.",
        ),
        (PLUGIN, "", "the head 'plugged' to be a subclass of Head, but got acme of acme 1.2.3."),
        ("from pretextkit import Head as Plugged", ":Plugged", "acme:Plugged of acme 1.2.3 without forward."),
    ],
)
def test_plugin_of_wrong_kind_error_names_its_distribution(
    registry: Registry[pk.Head], install: Installer, source: str, attribute: str, text: str
) -> None:
    install("acme", source, {"plugged": attribute})
    with pytest.raises(errors.OptionError) as caught:
        registry["plugged"]
    assert text in str(caught.value)


def test_plugin_with_bad_name_error_names_its_distribution(registry: Registry[pk.Head], install: Installer) -> None:
    install("acme", PLUGIN, {"My_Head": ":Plugged"})
    with pytest.raises(errors.OptionError, match=r"head acme:Plugged of acme 1\.2\.3 to be .*, but got 'My_Head'"):
        registry["My_Head"]
