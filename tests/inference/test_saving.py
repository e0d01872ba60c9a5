"""Saved files: an equal module comes back, nothing is executed, and what cannot be read is refused clearly."""

from __future__ import annotations

import json
import pickle
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.data._image_format import ImageFormat
from pretextkit.errors import CheckpointError, OptionError, PretextkitError
from pretextkit.functional import Classifier, pretrain
from pretextkit.inference import _archive as archive
from pretextkit.models import LinearHead, MLPHead, ResNet18, SmallCNN
from tests.helpers import random_images

SUFFIXES = ["pt", "safetensors"]


class Plugged(pk.Backbone):
    """A backbone as a third party writes it: nothing in it is for saving."""

    def __init__(self, width: int, depths: tuple[int, ...] = (1,), *, options: dict[str, float] | None = None) -> None:
        super().__init__(in_channels=1)
        assert isinstance(depths, tuple)
        self.feature_dim, self.options = width, options or {}
        self.layers = nn.Sequential(nn.Conv2d(1, width, 3), *(nn.Conv2d(width, width, 1) for _ in range(sum(depths))))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(self.normalization(images)).mean((2, 3))
        return features


class Wrapping(pk.Backbone):
    """A backbone around a module."""

    feature_dim = 8

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(self.normalization(images)).mean((2, 3))
        return features


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pk.backbones, "_classes", dict(pk.backbones._classes))
    pk.register_backbone("plugged")(Plugged)
    pk.register_backbone("wrapping")(Wrapping)


def trained_classifier() -> Classifier:
    torch.manual_seed(0)
    backbone = SmallCNN(in_channels=1)
    backbone.normalization.measure(random_images(4, channels=1))
    backbone(random_images(8, channels=1, size=16))  # moves BatchNorm's statistics
    return Classifier(
        backbone,
        LinearHead(512, 3),
        torch.tensor([0, 2]),
        layers=[("stage3", 2)],
        class_names=("cat", "Löwe", "owl, barn"),
        image_format=ImageFormat(16, 16, 1, "pad"),
        trained={"by": "test"},
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_loaded_classifier_equals_the_saved_one(suffix: str, tmp_path: Path) -> None:
    saved, images = trained_classifier(), random_images(5, size=20)
    saved.save(tmp_path / "new folder" / f"a.{suffix}")
    state = torch.get_rng_state()
    loaded = pk.load_classifier(tmp_path / "new folder" / f"a.{suffix}")
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(loaded.predict_proba(images), saved.predict_proba(images))
    for name in ("layers", "class_names", "image_format", "trained"):
        assert getattr(loaded, name) == getattr(saved, name), name
    assert loaded.classes is not None
    assert loaded.classes.tolist() == [0, 2]
    assert loaded.state_dict().keys() == saved.state_dict().keys()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_channels_last_weights_come_back_contiguous(suffix: str, tmp_path: Path) -> None:
    backbone = SmallCNN().to(memory_format=torch.channels_last)
    pk.save_backbone(backbone, tmp_path / f"a.{suffix}")
    loaded = pk.load_backbone(tmp_path / f"a.{suffix}")
    assert all(value.is_contiguous() for value in loaded.state_dict().values())
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in backbone.state_dict().items())
    assert not backbone.state_dict()["stage1.0.weight"].is_contiguous()  # the saved module stays as it is


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_of_weights_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    pk.save_backbone(SmallCNN().to(dtype), tmp_path / "a.pt")
    loaded = pk.load_backbone(tmp_path / "a.pt")
    assert {value.dtype for value in loaded.parameters()} == {dtype}


def test_header_is_json_with_all_that_is_needed(tmp_path: Path) -> None:
    trained_classifier().save(tmp_path / "a.pt")
    header = json.loads(torch.load(tmp_path / "a.pt", weights_only=True)["pretextkit"])
    assert header["backbone"]["name"] == "small-cnn"
    assert header["backbone"]["named"] == {"in_channels": 1}
    assert header["head"]["name"] == "linear"
    assert header["head"]["positional"] == [512, 3]
    assert header["class names"] == ["cat", "Löwe", "owl, barn"]
    assert header["images"] == {"height": 16, "width": 16, "channels": 1, "fit": "pad"}
    assert header["normalization"]["mean"][0] == pytest.approx(0.5, abs=0.1)
    assert header["versions"]["pretextkit"] == pk.__version__
    assert header["classifier"] == {"by": "test"}


@pytest.mark.usefixtures("plugged")
def test_backbone_of_a_third_party_comes_back_with_its_arguments(tmp_path: Path) -> None:
    backbone = Plugged(5, (1, 2), options={"slope": 0.5})
    pk.save_backbone(backbone, tmp_path / "a.pt")
    loaded = pk.load_backbone(tmp_path / "a.pt")
    assert isinstance(loaded, Plugged)
    assert loaded.options == {"slope": 0.5}
    images = random_images(2, channels=1)
    assert torch.equal(loaded(images), backbone.eval()(images))


@pytest.mark.usefixtures("plugged")
def test_copies_and_pickles_keep_their_arguments(tmp_path: Path) -> None:
    import copy

    for other in (copy.deepcopy(Plugged(3)), pickle.loads(pickle.dumps(Plugged(3)))):
        pk.save_backbone(other, tmp_path / "a.pt")
        assert pk.load_backbone(tmp_path / "a.pt").feature_dim == 3


@pytest.mark.usefixtures("plugged")
def test_module_as_argument_is_refused_with_a_way_that_works(tmp_path: Path) -> None:
    backbone = Wrapping(nn.Conv2d(3, 8, 3))
    with pytest.raises(OptionError, match=r"built with network, .* weights_only=True.* into=backbone") as failure:
        pk.save_backbone(backbone, tmp_path / "a.pt")
    assert failure.value.fix
    assert not (tmp_path / "a.pt").exists()
    pk.save_backbone(backbone, tmp_path / "a.pt", weights_only=True)
    with pytest.raises(CheckpointError, match=r"weights only.*into="):
        pk.load_backbone(tmp_path / "a.pt")
    other = Wrapping(nn.Conv2d(3, 8, 3))
    assert pk.load_backbone(tmp_path / "a.pt", into=other) is other
    assert torch.equal(other.network.weight, backbone.network.weight)  # type: ignore[arg-type]


def test_unregistered_module_is_saved_as_weights_only(tmp_path: Path) -> None:
    network, head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
    made = Classifier(network, head, class_names=("cat", "dog"))
    with pytest.raises(OptionError, match="a Conv2d, which is not registered as a backbone"):
        made.save(tmp_path / "a.pt")
    made.save(tmp_path / "a.pt", weights_only=True)
    loaded = pk.load_classifier(tmp_path / "a.pt", into=Classifier(nn.Conv2d(3, 4, 3), nn.Linear(4, 2)))
    images = random_images(3)
    assert torch.equal(loaded.predict_proba(images), made.predict_proba(images))
    assert loaded.class_names == ("cat", "dog")


def test_subclass_of_a_registered_class_is_not_taken_for_it(tmp_path: Path) -> None:
    class Other(SmallCNN):
        pass

    with pytest.raises(OptionError, match="a Other, which is not registered"):
        pk.save_backbone(Other(), tmp_path / "a.pt")


def test_backbone_changed_after_its_constructor_is_refused(tmp_path: Path) -> None:
    backbone = SmallCNN()
    backbone.stage1[0] = nn.Conv2d(3, 32, 5)
    with pytest.raises(OptionError, match=r"changed after it was built, at stage1\.0"):
        pk.save_backbone(backbone, tmp_path / "a.pt")


def test_compiled_backbone_is_saved_as_the_network_inside(tmp_path: Path) -> None:
    backbone = SmallCNN()
    pk.save_backbone(torch.compile(backbone), tmp_path / "a.pt")  # type: ignore[arg-type]
    loaded = pk.load_backbone(tmp_path / "a.pt")
    assert loaded.state_dict().keys() == backbone.state_dict().keys()


def test_class_names_and_layers_of_into_come_from_the_file(tmp_path: Path) -> None:
    trained_classifier().save(tmp_path / "a.pt")
    loaded = pk.load_classifier(tmp_path / "a.pt", into=Classifier(SmallCNN(in_channels=1), LinearHead(512, 3)))
    assert loaded.layers == (("stage3", 2),)


def test_module_with_other_weights_stays_unchanged(tmp_path: Path) -> None:
    pk.save_backbone(SmallCNN(), tmp_path / "a.pt")
    other = SmallCNN(in_channels=1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"normalization\.mean of shape \(3,\) in the file, \(1,\)"):
        pk.load_backbone(tmp_path / "a.pt", into=other)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_backbone_of_a_classifier_can_be_loaded_alone(tmp_path: Path) -> None:
    saved = trained_classifier()
    saved.save(tmp_path / "a.pt")
    loaded, images = pk.load_backbone(tmp_path / "a.pt"), random_images(2, channels=1)
    saved.eval()
    assert torch.equal(loaded(images), saved.backbone(images))
    pk.save_backbone(saved.backbone, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=r"a backbone\. Load it with load_backbone"):
        pk.load_classifier(tmp_path / "b.pt")


# What cannot be read


class Bomb:
    """Pickled object that runs code when it is read."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("exploded"),)


def flip(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_one_flipped_bit_among_the_weights_is_found(share: float, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    trained_classifier().save(path)
    flip(path, share)
    with pytest.raises(CheckpointError, match="Restore it from a copy"):
        pk.load_classifier(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_changed_header_is_found(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    trained_classifier().save(path)
    content = path.read_bytes()
    assert content.count(b"owl, barn") == 1
    path.write_bytes(content.replace(b"owl, barn", b"owl, born"))
    with pytest.raises(CheckpointError, match=r"checksum|intact"):
        pk.load_classifier(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("length", [0, 5, 100, 4000])
def test_cut_file_is_refused(length: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    trained_classifier().save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError):
        pk.load_classifier(path)


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"pretextkit": "{}", "tensors": Bomb()}, "a.pt")
    Path("b.pt").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(CheckpointError, match="without running code"):
            pk.load_backbone(name)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_of_a_later_version_is_refused(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(archive, "FORMAT", 2)
        archive.write_archive(
            tmp_path / f"a.{suffix}", {"w": torch.ones(1)}, {"kind": "cube", "versions": {"pretextkit": "9.9"}}
        )
    with pytest.raises(CheckpointError, match=r"format 2, written by pretextkit 9\.9\. Update pretextkit"):
        pk.load_backbone(tmp_path / f"a.{suffix}")


def test_foreign_files_are_named(tmp_path: Path) -> None:
    torch.save(ResNet18().state_dict(), tmp_path / "state.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    pytest.importorskip("safetensors.torch").save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
    for name, text in {"state.pt": "state dict", "list.pt": "a list from", "w.safetensors": "state dict"}.items():
        with pytest.raises(CheckpointError, match=text):
            pk.load_backbone(tmp_path / name)
    with pytest.raises(CheckpointError, match="no file"):
        pk.load_backbone(tmp_path / "nothing.pt")


def test_plugin_that_is_not_installed_is_named(tmp_path: Path) -> None:
    header = {
        "kind": "backbone",
        "trained": {},
        "backbone": {"name": "far-net", "positional": [], "named": {}, "distribution": "far-nets 2.1"},
    }
    archive.write_archive(tmp_path / "a.pt", {}, header)
    with pytest.raises(CheckpointError, match=r"'far-net' to be registered.*Install far-nets 2\.1"):
        pk.load_backbone(tmp_path / "a.pt")


def test_safetensors_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(PretextkitError, match=r'pip install "pretextkit\[safetensors\]"'):
        pk.save_backbone(SmallCNN(), tmp_path / "a.safetensors")


# Folders of runs


@pytest.mark.parametrize("suffix", ["", "compiled"])
def test_backbone_comes_out_of_the_folder_of_a_run(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = pk.tasks.Rotation(SmallCNN(in_channels=1))
    if suffix:
        task.backbone = torch.compile(task.backbone, backend="eager")  # type: ignore[assignment]
    pretrain(task, random_images(8, channels=1, size=16), steps=2, batch_size=4, device="cpu", progress=False,
             checkpoint=tmp_path)  # fmt: skip
    loaded = pk.load_backbone(tmp_path)
    assert isinstance(loaded, SmallCNN)
    assert not loaded.training
    task.eval()
    images = random_images(3, channels=1, size=16)
    torch.testing.assert_close(loaded(images), task.backbone(images))


def test_unfinished_run_gives_its_last_checkpoint(tmp_path: Path) -> None:
    def stop(row: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    task = pk.tasks.Rotation(SmallCNN())
    with pytest.raises(KeyboardInterrupt):
        pretrain(task, random_images(8, size=16), epochs=3, batch_size=4, device="cpu", progress=False,
                 checkpoint=tmp_path, callbacks=[stop])  # fmt: skip
    loaded = pk.load_backbone(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in task.backbone.state_dict().items())


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="checkpoint of a run"):
        pk.load_backbone(tmp_path)


def test_damaged_checkpoint_gives_the_previous_one_and_a_warning(tmp_path: Path) -> None:
    task = pk.tasks.Rotation(SmallCNN())
    options: dict[str, Any] = {"batch_size": 4, "device": "cpu", "progress": False}
    pretrain(task, random_images(8, size=16), steps=2, checkpoint=tmp_path, **options)
    (tmp_path / "checkpoint.previous.pt").write_bytes((tmp_path / "checkpoint.pt").read_bytes())
    flip(tmp_path / "checkpoint.pt", 0.5)
    with pytest.warns(UserWarning, match=r"is damaged; .*checkpoint\.previous\.pt is read"):
        pk.load_backbone(tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()  # reading changes nothing on the disk


def test_training_goes_along_with_the_backbone(tmp_path: Path) -> None:
    task = pk.tasks.Rotation(SmallCNN())
    pretrain(task, random_images(8, size=16), steps=2, batch_size=4, seed=3, device="cpu", progress=False)
    pk.save_backbone(task.backbone, tmp_path / "a.pt")
    for _ in range(2):  # a loaded backbone keeps the record
        trained = archive.read_archive(tmp_path / "a.pt")[1]["trained"]
        assert (trained["task"], trained["steps"], trained["seed"], trained["images"]) == ("rotation", 2, 3, 8)
        assert trained["image format"] == {"height": 16, "width": 16, "channels": 3, "fit": "crop"}
        pk.save_backbone(pk.load_backbone(tmp_path / "a.pt"), tmp_path / "a.pt")


def test_checkpoint_file_points_to_its_folder(tmp_path: Path) -> None:
    task = pk.tasks.Rotation(SmallCNN())
    pretrain(task, random_images(4, size=16), steps=1, batch_size=4, device="cpu", progress=False, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match=r"a checkpoint of a run.*Pass its folder"):
        pk.load_backbone(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=rf"got a folder\. Its backbone is load_backbone\('{tmp_path}'\)\."):
        pk.load_classifier(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pk.load_backbone(tmp_path)


def test_heads_come_back_with_default_arguments(tmp_path: Path) -> None:
    head = MLPHead(256, 2)
    made = Classifier(SmallCNN(), head)
    made.save(tmp_path / "a.pt")
    assert pk.load_classifier(tmp_path / "a.pt").head.state_dict().keys() == head.state_dict().keys()
