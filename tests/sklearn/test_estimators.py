"""Estimators on images: equal to the functions that they call, and usable where scikit-learn uses estimators."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pretextkit as pk
from pretextkit.errors import DataError, DataWarning, OptionError, PretextkitError, ShapeError, UnknownNameError
from pretextkit.functional import extract_features, linear_probe
from pretextkit.sklearn import FeatureExtractor, FinetuneClassifier, ProbeClassifier
from pretextkit.sklearn._inputs import is_features
from pretextkit.sklearn._installed import require_sklearn
from pretextkit.testing import TinyBackbone

PIXELS = numpy.random.default_rng(0).integers(0, 60, (24, 12, 12, 3), numpy.uint8)
"""Dark noise; the images of class ``zebra`` have a bright half."""
PIXELS[::2, :, 6:] += 150
WORDS = numpy.array(["zebra", "ant"] * 12)
FUNCTION: Any = torch.flatten
TENSORS = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


def tiny() -> TinyBackbone:
    torch.manual_seed(0)
    return TinyBackbone()


def probe(**options: Any) -> ProbeClassifier:
    return ProbeClassifier(tiny(), penalties=(1e-3, 1.0), precision="fp32", **options)


def finetune(**options: Any) -> FinetuneClassifier:
    return FinetuneClassifier(tiny(), device="cpu", **{"steps": 4, "augment": None, **options})


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    return [str(tmp_path / f"{number:02}.png") for number in range(len(PIXELS))]


def test_features_are_those_of_extract_features() -> None:
    backbone = tiny()
    wanted = extract_features(backbone, TENSORS, layers="all", pool=(1, 2), precision="fp32").layers
    made = FeatureExtractor(backbone, layers="all", pool=(1, 2), precision="fp32").fit(PIXELS)
    found = made.transform(PIXELS)
    assert found.dtype == numpy.float32
    assert numpy.array_equal(found, torch.cat(list(wanted.values()), 1).numpy())
    assert len(made.get_feature_names_out()) == found.shape[1]


def test_probabilities_are_those_of_linear_probe() -> None:
    backbone = tiny()
    options: Any = {"precision": "fp32", "penalties": (1e-3, 1.0), "pool": (1, 2)}
    made = ProbeClassifier(backbone, **options).fit(PIXELS, WORDS)
    twin = linear_probe(backbone, (TENSORS, WORDS.tolist()), **options).classifier
    assert made.classes_.tolist() == ["ant", "zebra"]
    assert numpy.allclose(made.predict_proba(PIXELS), twin.predict_proba(TENSORS).numpy(), atol=1e-6)


@pytest.mark.parametrize("make", [probe, finetune])
def test_classifier_keeps_words_and_learns(make: Callable[..., Any]) -> None:
    made = make().fit(PIXELS, WORDS)
    assert is_classifier(made)
    assert made.predict(PIXELS).tolist() == WORDS.tolist()
    assert made.score(PIXELS, WORDS) == 1.0
    assert made.classifier_.class_names == ("ant", "zebra")
    assert numpy.allclose(made.predict_proba(PIXELS).sum(1), 1)


@pytest.mark.parametrize("make", [probe, finetune])
@pytest.mark.parametrize("y", [WORDS.tolist(), [9, 10] * 12], ids=["words", "numbers"])
def test_images_labeled_none_are_left_out(make: Callable[..., Any], y: list[Any]) -> None:
    made = make(layers="last").fit(PIXELS, [None, *y[1:-1], None])
    twin = make(layers="last").fit(PIXELS[1:-1], y[1:-1])
    assert made.classes_.tolist() == twin.classes_.tolist() == sorted(set(y))
    assert made.classes_.dtype == twin.classes_.dtype
    assert made.predict(PIXELS).tolist() == y


def test_features_of_a_shuffled_loader_warn() -> None:
    made, dataset = FeatureExtractor(tiny()).fit(PIXELS), TensorDataset(TENSORS)
    with pytest.warns(DataWarning, match="The DataLoader shuffles"):
        made.transform(DataLoader(dataset, shuffle=True))
    assert numpy.allclose(made.transform(DataLoader(dataset, batch_size=7)), made.transform(PIXELS), atol=1e-5)


@pytest.mark.parametrize(
    ("y", "classes"),
    [([9, 10] * 12, [9, 10]), ([1, -1] * 12, [-1, 1]), ([True, False] * 12, [False, True]), ([2.0, 5.0] * 12, [2, 5])],
    ids=["no text order", "minus one is a class", "bool", "float"],
)
def test_labels_of_any_kind_come_back_as_they_were(y: list[Any], classes: list[Any]) -> None:
    made = probe(layers="last").fit(PIXELS, y)
    assert made.classes_.tolist() == classes
    assert made.predict(PIXELS).tolist() == y
    assert made.predict(PIXELS).dtype == numpy.asarray(y).dtype


def forms(paths: list[str]) -> dict[str, Any]:
    return {
        "array": PIXELS,
        "tensor": TENSORS,
        "list of arrays": list(PIXELS),
        "list of paths": paths,
        "tuple of paths": tuple(map(Path, paths)),
        "array of paths": numpy.array(paths),
        "series": pandas.Series(paths),
    }


@pytest.mark.parametrize("form", forms([]))
def test_every_form_of_images_gives_the_same(form: str, paths: list[str]) -> None:
    images = forms(paths)[form]
    assert numpy.array_equal(
        FeatureExtractor(tiny(), precision="fp32").fit_transform(images),
        FeatureExtractor(tiny(), precision="fp32").fit_transform(PIXELS),
    )
    assert probe(layers="last").fit(images, WORDS).predict(images).tolist() == WORDS.tolist()


@pytest.mark.parametrize("form", ["array", "tensor", "list of paths", "array of paths", "series"])
def test_cross_validation_and_grid_search(form: str, paths: list[str]) -> None:
    images = forms(paths)[form]
    assert cross_val_score(probe(layers="last"), images, WORDS, cv=3).tolist() == [1, 1, 1]
    pipeline = make_pipeline(FeatureExtractor(tiny()), LogisticRegression())
    grid = GridSearchCV(pipeline, {"featureextractor__layers": ["last", ["stage1"]]}, cv=2)
    assert grid.fit(images, WORDS).best_estimator_.predict(images).tolist() == WORDS.tolist()


def test_grid_search_over_finetuning() -> None:
    grid = GridSearchCV(finetune(steps=2), {"learning_rate": [1e-4, 1e-3]}, cv=2, scoring="neg_log_loss")
    assert set(grid.fit(PIXELS, WORDS).cv_results_["mean_test_score"] < 0) == {True}


def test_gray_arrays_are_images() -> None:
    gray = PIXELS[..., 0]
    assert FeatureExtractor(TinyBackbone(in_channels=1)).fit_transform(gray).shape[0] == 24


def test_paths_get_the_size(paths: list[str]) -> None:
    Image.new("RGB", (30, 20), (200, 10, 10)).save(paths[0])
    with pytest.raises(ShapeError, match="Resize"):
        FeatureExtractor(tiny()).fit(paths).transform(paths)
    assert FeatureExtractor(tiny(), size=8).fit_transform(paths).shape[0] == 24
    made = probe(layers="last", size=8).fit(paths, WORDS)
    assert made.classifier_.image_format is not None
    assert made.classifier_.image_format.height == 8
    assert len(made.predict(str(Path(paths[0]).parent))) == 24  # a folder


@pytest.mark.parametrize("make", [probe, finetune, lambda: FeatureExtractor(tiny())])
def test_fit_leaves_the_backbone_and_the_arguments_alone(make: Callable[..., Any]) -> None:
    made = make()
    arguments, state = made.get_params(deep=False), copy.deepcopy(made.backbone.state_dict())
    made.fit(PIXELS, WORDS)
    assert all(value is arguments[name] for name, value in made.get_params(deep=False).items())
    assert all(torch.equal(value, state[name]) for name, value in made.backbone.state_dict().items())
    before = made.predict(PIXELS) if hasattr(made, "predict") else made.transform(PIXELS)
    nn.init.zeros_(next(made.backbone.parameters()))  # the caller trains on; the fitted copy does not change
    after = made.predict(PIXELS) if hasattr(made, "predict") else made.transform(PIXELS)
    assert numpy.array_equal(before, after)


@pytest.mark.parametrize("make", [probe, finetune, lambda: FeatureExtractor(tiny(), layers=["stage1"])])
def test_clone_is_unfitted_with_equal_arguments(make: Callable[..., Any]) -> None:
    made = make().fit(PIXELS, WORDS)
    cloned = clone(made)
    assert cloned.backbone is not made.backbone
    ours, others = (each.get_params() | {"backbone": None} for each in (made, cloned))
    assert ours == others
    with pytest.raises(NotFittedError):
        (cloned.predict if hasattr(cloned, "predict") else cloned.transform)(PIXELS)


def test_pickled_classifier_predicts_the_same() -> None:
    made = probe().fit(PIXELS, WORDS)
    again = pickle.loads(pickle.dumps(made))
    assert numpy.array_equal(made.predict_proba(PIXELS), again.predict_proba(PIXELS))


def test_saved_classifier_has_the_words(tmp_path: Path) -> None:
    made = ProbeClassifier("small-cnn", layers="last", precision="fp32").fit(PIXELS, WORDS)
    made.classifier_.save(tmp_path / "animals.pt")
    loaded = pk.load_classifier(tmp_path / "animals.pt")
    assert list(loaded.predict(TENSORS).classes) == made.predict(PIXELS).tolist()


def test_name_of_a_backbone_follows_the_seed() -> None:
    first, again, other = (FeatureExtractor("small-cnn", seed=seed).fit_transform(PIXELS) for seed in (0, 0, 1))
    assert numpy.array_equal(first, again)
    assert not numpy.array_equal(first, other)


def test_fit_draws_nothing_from_the_global_generator() -> None:
    state = torch.get_rng_state()
    ProbeClassifier("small-cnn", layers="last").fit(PIXELS, WORDS)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("work", "error", "text"),
    [
        (lambda: probe().fit(PIXELS, None), DataError, "requires y to be passed"),
        (lambda: probe().fit(PIXELS, ["cat"] * 24), DataError, "at least two classes in y, but got one class, cat"),
        (lambda: probe().fit(PIXELS, [None] * 24), DataError, "two classes in y, but got None for every image"),
        (lambda: probe().fit(PIXELS, WORDS[:9]), ValueError, "inconsistent numbers of samples"),
        (lambda: probe().fit(PIXELS, numpy.linspace(0, 1, 24)), ValueError, "Unknown label type"),
        (lambda: probe().fit(PIXELS, [1.0, numpy.nan] * 12), ValueError, "NaN"),
        (lambda: FeatureExtractor("small-cn").fit(PIXELS), UnknownNameError, "small-cnn"),
        (lambda: FeatureExtractor(TinyBackbone).fit(PIXELS), OptionError, "the class TinyBackbone"),
        (lambda: FeatureExtractor(3).fit(PIXELS), OptionError, "an instance, or a name such as 'resnet18'"),
        (lambda: finetune().fit(numpy.zeros((24, 5)), WORDS), DataError, r"ProbeClassifier\(torch.nn.Identity\(\)\)"),
        (lambda: FinetuneClassifier(FUNCTION).fit(PIXELS, WORDS), OptionError, "ProbeClassifier takes functions"),
        (lambda: probe().fit(PIXELS, WORDS).predict(numpy.zeros((24, 5))), DataError, "images, as in fit"),
    ],
)
def test_errors_name_the_fix(work: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        work()


def test_images_after_features_are_refused() -> None:
    made = ProbeClassifier(nn.Identity()).fit(numpy.eye(2).repeat(12, 0), ["a"] * 12 + ["b"] * 12)
    with pytest.raises(DataError, match="features n d, as in fit, but got images"):
        made.predict(PIXELS)


@pytest.mark.parametrize(
    ("X", "features"),
    [
        (numpy.zeros((3, 2)), True),
        (torch.zeros(3, 2), True),
        ([[1.0, 2.0], [3.0, 4.0]], True),
        (pandas.DataFrame({"a": [1.0]}), True),
        (numpy.zeros(3), True),  # an error of scikit-learn
        ([], True),
        (numpy.zeros((3, 8, 8)), False),
        ([numpy.zeros((8, 8)), numpy.zeros((8, 8))], False),
        (["a.jpg"], False),
        (numpy.array([Path("a.jpg")], dtype=object), False),
        (pandas.Series(["a.jpg"]), False),
        ("photos", False),
    ],
)
def test_is_features_tells_rows_of_numbers_from_images(X: Any, features: bool) -> None:
    assert is_features(X) is features


def test_missing_scikit_learn_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.utils.validation", None)
    with pytest.raises(PretextkitError, match=r'not installed\. Run: pip install "pretextkit\[sklearn\]"'):
        require_sklearn()
