"""Compiled, data-parallel and scripted networks, and options without effect (sections 9 and 22)."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import pretextkit as pk
from pretextkit.errors import OptionError
from pretextkit.functional import (
    extract_features,
    feature_distance,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
    patch_anomaly_score,
    pretrain,
    rotation_anomaly_score,
)
from pretextkit.models import LinearHead
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

pytestmark = [
    pytest.mark.filterwarnings("ignore:With k=:pretextkit.errors.DataWarning"),  # tiny sets
    pytest.mark.filterwarnings("ignore:All .* test images are training images:pretextkit.errors.DataWarning"),
]


IMAGES, LABELS = random_images(16, size=16), torch.arange(16) % 2
DATA = IMAGES, LABELS

WRAPPERS: dict[str, Any] = {
    "compile": lambda network: torch.compile(network, backend="eager"),
    "DataParallel": nn.DataParallel,
    "both": lambda network: nn.DataParallel(cast(nn.Module, torch.compile(network, backend="eager"))),
    "AveragedModel": AveragedModel,
}


def network() -> TinyBackbone:
    torch.manual_seed(0)
    return TinyBackbone().eval()


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
@pytest.mark.parametrize(
    "options", [{"layers": "all"}, {"pool": 2}, {"layers": ["layers.1"]}, {"pool": [1, 2]}], ids=str
)
def test_wrapped_network_has_the_features_of_the_network(wrap: Any, options: Any) -> None:
    plain = extract_features(network(), IMAGES, precision="fp32", **options).layers
    wrapped = extract_features(wrap(network()), IMAGES, precision="fp32", **options).layers
    assert list(plain) == list(wrapped)
    for name in plain:
        torch.testing.assert_close(wrapped[name], plain[name])


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_wrapped_network_gives_maps_and_is_finetuned_by_layer(wrap: Any) -> None:
    wrapped = wrap(network())
    assert patch_anomaly_score(wrapped, IMAGES, IMAGES).scores.shape == (16,)
    assert feature_distance(wrapped)(IMAGES, IMAGES).shape == (16, 16, 16)
    result = freeze_and_finetune(
        wrapped, LinearHead(64, 2), DATA, epochs=1, trainable=["layers.2"], device="cpu", progress=False
    )
    assert result.classifier(IMAGES).shape == (16, 2)


def test_network_compiled_in_place_gives_its_layers() -> None:
    compiled = network()
    compiled.compile(backend="eager")
    compiled(IMAGES)
    for each in ("layers.0", "layers.1"):
        torch.testing.assert_close(
            extract_features(compiled, IMAGES, layers=[each], precision="fp32").layers[each],
            extract_features(network(), IMAGES, layers=[each], precision="fp32").layers[each],
        )


def test_names_with_the_wrapper_still_work() -> None:
    wrapped = nn.DataParallel(network())
    assert list(extract_features(wrapped, IMAGES, layers=["module.layers.0"]).layers) == ["module.layers.0"]


@pytest.mark.parametrize("task", [pk.tasks.SimCLR, pk.tasks.Autoencoder])
def test_compiled_backbone_trains(task: Any) -> None:
    made = task(torch.compile(network(), backend="eager"))
    assert pretrain(made, IMAGES, steps=1, batch_size=8, device="cpu", progress=False).steps == 1


@pytest.mark.parametrize("task", [pk.tasks.SimCLR, pk.tasks.Rotation, pk.tasks.Autoencoder])
def test_data_parallel_backbone_is_refused_with_a_fix(task: Any) -> None:
    wrapped = nn.DataParallel(network())
    with pytest.raises(OptionError, match=r"but got a DataParallel\. Pass the network inside, model\.module"):
        task(wrapped)
    task(wrapped.module)


def test_wrapped_tasks_are_refused_or_scored() -> None:
    task = pk.tasks.Rotation(network())
    with pytest.raises(OptionError, match=r"task\.module"):
        pretrain(nn.DataParallel(task), IMAGES, steps=1)  # type: ignore[arg-type]
    for wrap in WRAPPERS.values():
        assert rotation_anomaly_score(wrap(task), IMAGES).scores.shape == (16,)


CUT = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("pool", [2, (1, 2)])
@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (CUT, "last"),
        (CUT, ["0", "1"]),
        (nn.Flatten(), "last"),
        (lambda images: images.mean((2, 3)), "last"),
        (lambda images: images.flatten(2).mT, "last"),
        (nn.AdaptiveAvgPool2d(1), "last"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), "all"),
    ],
)
def test_grid_without_a_map_is_refused(model: Any, layers: Any, pool: Any) -> None:
    with pytest.raises(OptionError, match=r"maps b d h w from layer '.*' for pool=2") as caught:
        extract_features(model, IMAGES, layers=layers, pool=pool)
    extract_features(model, IMAGES, layers=layers, pool=1)  # the fix
    if named := re.search(r"layers=(\['\d'\])", caught.value.fix):
        extract_features(model, IMAGES, layers=[named[1].strip("[]'")], pool=pool)


def test_grid_of_features_is_refused() -> None:
    with pytest.raises(OptionError, match=r"pool=2.*Use pool=1\."):
        linear_probe(nn.Identity(), (torch.rand(16, 4), LABELS), (torch.rand(16, 4), LABELS), pool=2)


def test_grid_is_allowed_where_one_of_all_layers_has_a_map() -> None:
    features = extract_features(CUT, IMAGES, layers="all", pool=2).layers
    assert {name: values.shape[1] for name, values in features.items()} == {"0": 32, "1": 8, "2": 8}


def test_named_module_without_weights_is_refused() -> None:
    backbone = nn.Sequential(nn.Flatten())
    with pytest.raises(OptionError, match="trained modules with weights, but got a Flatten"):
        freeze_and_finetune(backbone, nn.Linear(768, 2), DATA, trainable=["0"], epochs=1, progress=False)
    freeze_and_finetune(backbone, nn.Linear(768, 2), DATA, epochs=1, progress=False)  # only the head has weights


def scripted(kind: str) -> Any:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "trace":
            return torch.jit.trace(module, IMAGES)  # type: ignore[no-untyped-call]
        script = torch.jit.script(module)
        return torch.jit.freeze(script) if kind == "freeze" else script


@pytest.mark.parametrize("kind", ["script", "trace", "freeze"])
def test_scripted_module_is_probed_or_refused(kind: str) -> None:
    module = scripted(kind)
    assert 0 <= knn_probe(module, DATA).accuracy <= 1
    assert 0 <= linear_probe(module, DATA, DATA).accuracy <= 1
    for layers in ("all", ["0"]):
        with pytest.raises(OptionError, match="from which it was scripted or traced"):
            extract_features(module, IMAGES, layers=layers)
    head = nn.Linear(8, 2)
    result = freeze_and_finetune(module, head, DATA, DATA, epochs=1, device="cpu", progress=False)
    assert result.accuracy is not None


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_scripted_module_trains(kind: str) -> None:
    module = scripted(kind)
    before = [weight.clone() for weight in module.parameters()]
    freeze_and_finetune(
        module, nn.Linear(8, 2), DATA, epochs=1, trainable="all", device="cpu", precision="fp32", progress=False
    )
    assert any(not torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))


def normalized(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, **options), nn.ReLU())


def traced(model: nn.Module, training: bool) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch names torch.compile as its successor; training graphs differ
        return cast(nn.Module, torch.jit.trace(model.train(training), IMAGES, check_trace=False)).eval()  # type: ignore[no-untyped-call]


def reloaded(model: nn.Module, training: bool) -> nn.Module:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(traced(model, training), file)
        file.seek(0)
        return cast(nn.Module, torch.jit.load(file)).eval()  # type: ignore[no-untyped-call]


def exported(model: nn.Module, training: bool) -> nn.Module:
    return torch.export.export(model.train(training), (IMAGES,)).module()


GRAPHS: dict[str, Any] = {
    "traced": traced,
    "reloaded": reloaded,
    "exported": exported,
    "inside": lambda model, training: nn.Sequential(traced(model, training), nn.Flatten()),
}
USES: dict[str, Any] = {
    "features": lambda model: extract_features(model, IMAGES),
    "function": lambda model: extract_features(lambda images: model(images), IMAGES),
    "score": lambda model: patch_anomaly_score(model, IMAGES, IMAGES, batch_size=16),
    "fine-tuning": lambda model: freeze_and_finetune(model, nn.LazyLinear(2), DATA, epochs=1, progress=False),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_graph_of_training_mode_is_refused(graph: str, use: str) -> None:
    with pytest.raises(OptionError, match=r"traced in training mode.*torch.jit.trace\(model.eval\(\), images\)"):
        USES[use](GRAPHS[graph](normalized(), training=True))


def dropped(kind: type[nn.Module] = nn.Dropout, p: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), kind(p), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d, nn.AlphaDropout])
def test_graph_with_dropout_of_training_mode_is_refused(graph: str, kind: type[nn.Module]) -> None:
    with pytest.raises(OptionError, match=r"whose dropout is always on.*torch.jit.trace\(model.eval\(\), images\)"):
        extract_features(GRAPHS[graph](dropped(kind), training=True), IMAGES)


@pytest.mark.parametrize("graph", GRAPHS)
def test_graph_with_dropout_of_evaluation_mode_repeats(graph: str) -> None:
    for model in (GRAPHS[graph](dropped(), training=False), GRAPHS[graph](dropped(p=0.0), training=True)):
        first, second = (extract_features(model, IMAGES).layers["last"] for _ in range(2))
        assert torch.equal(first, second)


def test_scripted_dropout_is_off() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cast(nn.Module, torch.jit.script(dropped().train()))
    first, second = (extract_features(model, IMAGES).layers["last"] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("graph", GRAPHS)
def test_graph_of_evaluation_mode_has_the_features_of_the_network(graph: str) -> None:
    plain = extract_features(normalized(), IMAGES, precision="fp32").layers["last"]
    model = GRAPHS[graph](normalized(), training=False)
    if graph == "inside":
        plain = extract_features(nn.Sequential(normalized(), nn.Flatten()), IMAGES, precision="fp32").layers["last"]
    torch.testing.assert_close(extract_features(model, IMAGES, precision="fp32").layers["last"], plain)


def test_graphs_without_fixed_training_are_accepted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = cast(nn.Module, torch.jit.script(normalized().train()))  # reads its mode in every call
        frozen = cast(nn.Module, torch.jit.freeze(torch.jit.script(normalized().eval())))
    for model in (scripted, frozen, traced(normalized(track_running_stats=False), training=False)):
        extract_features(model, IMAGES, precision="fp32")


def test_pretraining_refuses_a_graph_of_training_mode() -> None:
    class Own(pk.Backbone):
        feature_dim = 4

        def __init__(self) -> None:
            super().__init__(in_channels=3)
            self.network = traced(normalized(), training=True)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.network(images).mean((2, 3))
            return features

    with pytest.raises(OptionError, match="traced in training mode"):
        pretrain(pk.tasks.Rotation(Own()), IMAGES, steps=1, batch_size=4, device="cpu", progress=False)
