"""Advice that is an expression for another place than the argument: taken from the message, run, and right."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.utils.data import TensorDataset

import pretextkit as pk
from pretextkit import functional
from pretextkit.data import FolderImages, as_source, load_segmentation
from pretextkit.errors import DataError, PretextkitError
from pretextkit.models import ConvDecoder, LinearHead, MLPHead
from pretextkit.tasks import SimCLR
from pretextkit.testing import TinyBackbone

IMAGES, LABELS = torch.rand(16, 3, 16, 16, generator=Generator().manual_seed(0)), torch.arange(16) % 2
NAMES: dict[str, Any] = {
    "torch": torch,
    "numpy": numpy,
    "pretextkit": pk,
    "LinearHead": LinearHead,
    "MLPHead": MLPHead,
    "ConvDecoder": ConvDecoder,
    "SimCLR": SimCLR,
    "TaskOutput": pk.TaskOutput,
    "FolderImages": FolderImages,
    "load_segmentation": load_segmentation,
    "copy": copy,
}


def fix_of(call: Callable[[], Any]) -> str:
    with pytest.raises(PretextkitError) as caught:
        call()
    return str(caught.value.fix)


def advised(call: Callable[[], Any], code: str, **names: Any) -> Any:
    """Return the value of ``code``, which the advice contains word for word."""
    fix = fix_of(call)
    assert code in fix, fix
    return eval(code, {**NAMES, **names})


def train(task: Any = None, **options: Any) -> int:
    given = {"steps": 1, "batch_size": 8, "device": "cpu", "progress": False, **options}
    return functional.pretrain(pk.tasks.Rotation(TinyBackbone()) if task is None else task, IMAGES, **given).steps


def finetune(head: Any = None, backbone: Any = None, **options: Any) -> Any:
    given: Any = {"epochs": 1, "device": "cpu", "progress": False, **options}
    parts = TinyBackbone() if backbone is None else backbone, LinearHead(64, 2) if head is None else head
    return functional.freeze_and_finetune(*parts, (IMAGES, LABELS), **given)


def test_image_axis() -> None:
    array = numpy.random.default_rng(0).integers(0, 256, (3, 16, 16), numpy.uint8)
    for code, count in (("images[None]", 1), ("images[:, None]", 3)):
        images = advised(lambda: as_source(array), code, images=array)
        held = as_source(images).in_memory().images
        assert held.shape == (count, 3 // count, 16, 16)
        assert torch.equal(held.flatten(), torch.from_numpy(array).flatten())


def test_text_labels_of_two_parts() -> None:
    class Texts(TensorDataset):
        texts: tuple[Any, ...] = ()

        def __getitem__(self, index: int) -> Any:
            return self.tensors[0][index], self.texts[index]

    images = torch.eye(3)[:, :, None, None].expand(-1, -1, 4, 4)
    texts = ["owl", "cat", "dog"]
    parts = [[0, 1, 2] * 6, [2, 0] * 4]
    sets = [Texts(images[each]) for each in parts]
    for part, data in zip(parts, sets, strict=True):
        data.texts = tuple(texts[i] for i in part)
    fix = fix_of(lambda: functional.linear_probe(lambda x: x.mean((2, 3)), *sets))
    first, second = re.findall(
        r"(names = sorted\(set\(train_labels\)\))|(\[names\.index.*?train_labels\]|\[.*?\])", fix
    )
    space: dict[str, Any] = {"train_labels": sets[0].texts}
    exec(first[0], space)
    for data in sets:
        data.texts = tuple(eval(second[1], space, {"labels": data.texts, "names": space["names"]}))
    assert functional.linear_probe(lambda x: x.mean((2, 3)), *sets).accuracy == 1.0


def test_class_weights() -> None:
    fix = fix_of(lambda: finetune(class_weights=[1.0]))
    weights = re.findall(r"\[[\d., ]+\]", fix)
    assert weights == ["[1.0, 1.0]"]
    torch.manual_seed(0)
    plain = finetune().history.rows[0]["loss"]
    torch.manual_seed(0)
    assert finetune(class_weights=eval(weights[0])).history.rows[0]["loss"] == pytest.approx(plain)


def test_callbacks() -> None:
    rows: list[Any] = []
    assert "callbacks=[function]" in fix_of(lambda: train(callbacks=rows.append))
    assert train(callbacks=[rows.append]) == 1
    assert len(rows) == 1
    assert fix_of(lambda: train(callbacks=None)) == "Leave it out for none."
    assert train() == 1


def test_moved_task() -> None:
    task = pk.tasks.Rotation(TinyBackbone())
    call = "copy.deepcopy(task)"
    moved = advised(lambda: train(task, callbacks=[lambda row: task.double()]), call, task=task)
    assert moved is not task
    task = task.float()
    assert train(task, callbacks=[lambda row: copy.deepcopy(task).double()]) == 1


@pytest.mark.parametrize("code", ["task.double()", "task.float()"])
def test_task_of_two_dtypes(code: str) -> None:
    task = SimCLR(TinyBackbone().double())
    task = advised(lambda: train(task), code, task=task)
    assert train(task) == 1
    assert {weight.dtype for weight in task.parameters()} == {torch.float64 if "double" in code else torch.float32}


def test_weights_converted_to_float() -> None:
    half = TinyBackbone().half()
    assert ".float()" in fix_of(lambda: train(pk.tasks.Rotation(half)))
    assert train(pk.tasks.Rotation(half).float()) == 1
    quarter = nn.Linear(768, 4)
    weight = nn.Parameter(quarter.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    quarter.weight, quarter.bias = weight, nn.Parameter(weight[:, 0].clone(), requires_grad=False)
    model = nn.Sequential(nn.Flatten(), quarter)
    assert ".float()" in fix_of(lambda: functional.extract_features(model, IMAGES))
    found = functional.extract_features(model.float(), IMAGES, precision="fp32").layers["last"]
    torch.testing.assert_close(found, model(IMAGES).detach())


@pytest.mark.parametrize("follow", ["leave precision out", "float"])
def test_precision_of_float64(follow: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4).double())
    right = model(IMAGES.double()).float().detach()
    fix = fix_of(lambda: functional.extract_features(model, IMAGES, precision="bf16"))
    assert fix == "Leave precision out, or convert the weights with .float()."
    if follow == "float":
        found = functional.extract_features(model.float(), IMAGES, precision="fp32").layers["last"]
    else:
        found = functional.extract_features(model, IMAGES).layers["last"]
    torch.testing.assert_close(found, right)


def test_weights_without_values() -> None:
    model, right = nn.Conv2d(3, 4, 3, device="meta"), nn.Conv2d(3, 4, 3)
    assert "call to_empty(device='cpu') on it and load its weights" in fix_of(
        lambda: functional.extract_features(model, IMAGES)
    )
    model.to_empty(device="cpu").load_state_dict(right.state_dict())
    found, expected = (functional.extract_features(each, IMAGES).layers["last"] for each in (model, right))
    assert torch.equal(found, expected)


def test_frozen_task() -> None:
    task = pk.tasks.Rotation(TinyBackbone()).requires_grad_(False)
    assert "requires_grad_(True)" in fix_of(lambda: train(task))
    task.head.requires_grad_(True)
    frozen = copy.deepcopy(task.backbone.state_dict())
    with pytest.warns(pk.errors.TrainingWarning, match="only the head of the task trains"):
        assert train(task) == 1
    assert all(torch.equal(frozen[name], weight) for name, weight in task.backbone.named_parameters())


@pytest.mark.parametrize("method", ["abs", "real"])
def test_complex_features_and_images(method: str) -> None:
    def real(values: Tensor) -> Tensor:
        return values.abs() if method == "abs" else values.real

    waves = torch.fft.fft2(IMAGES).flatten(1)
    fix = fix_of(lambda: functional.extract_features(lambda images: torch.fft.fft2(images).flatten(1), IMAGES))
    assert f".{method}" in fix
    found = functional.extract_features(lambda images: real(torch.fft.fft2(images).flatten(1)), IMAGES).layers["last"]
    torch.testing.assert_close(found, real(waves))
    score = functional.reconstruction_anomaly_score
    assert f".{method}" in fix_of(lambda: score(lambda images: images + 0j, IMAGES))
    assert score(lambda images: real(images + 0j), IMAGES).scores.tolist() == [0.0] * 16


def test_integer_reconstructions() -> None:
    score = functional.reconstruction_anomaly_score
    assert ".float()" in fix_of(lambda: score(lambda images: (images * 0).long(), IMAGES))
    right = score(torch.zeros_like, IMAGES).scores
    torch.testing.assert_close(score(lambda images: (images * 0).long().float(), IMAGES).scores, right)


def test_reconstruct_of_an_autoencoder() -> None:
    encoder, decoder = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
    score = functional.reconstruction_anomaly_score
    code = "decoder(encoder(images))"
    space = {"encoder": encoder, "decoder": decoder, "images": IMAGES}
    reconstructed = advised(lambda: score(encoder, IMAGES), code, **space)
    found = score(lambda images: eval(code, {**space, "images": images}), IMAGES)
    assert found.maps is not None
    torch.testing.assert_close(found.maps, (reconstructed - IMAGES).square().mean(1).detach())


def test_rotation_task() -> None:
    backbone = TinyBackbone()
    wrong: Any = backbone
    code = "pretextkit.tasks.Rotation(backbone)"
    task = advised(lambda: functional.rotation_anomaly_score(wrong, IMAGES), code, backbone=backbone)
    train(task)
    assert functional.rotation_anomaly_score(task, IMAGES).scores.isfinite().all()


def test_task_factory() -> None:
    data: Any = [(torch.rand(20, 3, 16, 16), torch.arange(20) % 2) for _ in range(2)]
    options: Any = {"epochs": 1, "batch_size": 4, "label_fractions": (), "seeds": (0,), "finetune_steps": 1}

    def run(factory: Any) -> Any:
        tasks = {"mine": factory}
        return functional.compare(tasks, TinyBackbone, *data, device="cpu", progress=False, **options)

    code = "lambda backbone: SimCLR(backbone, temperature=0.2)"
    factory = advised(lambda: run(lambda backbone: SimCLR(TinyBackbone())), code)
    assert [run.method for run in run(factory).runs][2:] == ["mine"]


def test_head_width() -> None:
    fix = fix_of(lambda: finetune(LinearHead(9, 2)))
    found = re.search(r"LinearHead\(\d+, \d+\)", fix)
    assert found is not None, fix
    assert finetune(eval(found[0], NAMES)).classifier(IMAGES).shape == (16, 2)


@pytest.mark.parametrize("kind", [LinearHead, MLPHead])
def test_sizes_of_heads(kind: Any) -> None:
    backbone = TinyBackbone()
    fix = fix_of(lambda: kind("64", 2))
    found = re.search(rf"{kind.__name__}\(backbone\.feature_dim, \d+\)", fix)
    assert found is not None, fix
    head = eval(found[0], {**NAMES, "backbone": backbone}).eval()
    assert len(head(backbone(IMAGES))) == 16


def test_doublings_of_decoder() -> None:
    backbone = TinyBackbone()
    decoder = advised(lambda: ConvDecoder(64, doublings=-1), "ConvDecoder.fitting(backbone)", backbone=backbone)
    images: Tensor = decoder(backbone.stages(IMAGES)[-1])
    assert images.shape == IMAGES.shape


def test_single_row_of_batch_norm() -> None:
    head = MLPHead(4, 2)
    assert "eval()" in fix_of(lambda: head(torch.rand(1, 4)))
    assert head.eval()(torch.rand(1, 4)).shape == (1, 2)


def test_views_to_plot() -> None:
    pytest.importorskip("matplotlib")
    task, generator = SimCLR(TinyBackbone()), Generator().manual_seed(0)
    wrong: Any = IMAGES
    code = "task.views(images, generator)"
    batch = advised(lambda: pk.plots.views(wrong), code, task=task, images=IMAGES, generator=generator)
    assert pk.plots.views(batch) is not None


def test_discriminator() -> None:
    wrong: Any = nn.Conv2d(3, 1, 3)
    call = lambda: pk.tasks.ContextEncoder(TinyBackbone(), discriminator=wrong)  # noqa: E731
    discriminator = advised(call, "pretextkit.models.PatchDiscriminator()")
    assert train(pk.tasks.ContextEncoder(TinyBackbone(), discriminator=discriminator)) == 1


@pytest.mark.parametrize("orders", [1, 10**9, "9"])
def test_number_of_permutations(orders: Any) -> None:
    from pretextkit.tasks._jigsaw import distant_permutations

    found = re.search(r"\d+", fix_of(lambda: distant_permutations(orders, length=4)))
    assert found is not None
    assert len(set(map(tuple, distant_permutations(int(found[0]), length=4).tolist()))) == int(found[0])


def test_device() -> None:
    fix = fix_of(lambda: train(device="nowhere"))
    for device in ("auto", "cpu"):
        assert f"'{device}'" in fix
    assert train(device="cpu") == 1


def test_output_of_a_task() -> None:
    class Own(pk.tasks.Rotation):
        def __init__(self, backbone: Any, output: Any) -> None:
            super().__init__(backbone)
            self.output = output

        def forward(self, batch: Any) -> Any:
            loss, metrics = super().forward(batch)
            return self.output(loss, metrics["accuracy"])

    code = "TaskOutput(loss, {'name': metric.detach()})"
    outputs: list[Any] = [
        lambda loss, metric: loss,
        lambda loss, metric: pk.TaskOutput(1.0, {}),  # type: ignore[arg-type]
        lambda loss, metric: pk.TaskOutput(loss, metric),
        lambda loss, metric: pk.TaskOutput(loss, {"name": 1.0}),  # type: ignore[dict-item]
    ]
    for wrong in outputs:
        fix = fix_of(lambda output=wrong: train(Own(TinyBackbone(), output)))  # type: ignore[misc]
        assert code in fix
    right = lambda loss, metric: eval(code, {**NAMES, "loss": loss, "metric": metric})  # noqa: E731
    assert train(Own(TinyBackbone(), right)) == 1


def test_layers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    fix = fix_of(lambda: functional.patch_anomaly_score(model, IMAGES, IMAGES))
    assert "dict(named_modules())" in fix
    assert functional.patch_anomaly_score(model, IMAGES, IMAGES, layers=["0"]).scores.shape == (16,)
    assert "0" in dict(model.named_modules())

    class Tuples(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    other = Tuples()
    fix = fix_of(lambda: functional.extract_features(other, IMAGES, layers="all"))
    assert "layers='last'" in fix
    assert functional.extract_features(other, IMAGES, layers="last").layers["last"].shape == (16, 3)
    assert "dict(model.named_modules())" in fix
    right = functional.extract_features(model, IMAGES, layers=["0"]).layers["0"]
    assert right.shape == (16, 4)


def write(root: Path, *names: str, mode: str = "RGB") -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (8, 8), number + 100).save(root / name)
    return root


def test_folder_without_training_part(tmp_path: Path) -> None:
    root = write(tmp_path, "val/a/1.png", "test/a/1.png", "test/a/2.png")
    folder = re.search(r"'([^']+)'", fix_of(lambda: as_source(root)))
    assert folder is not None
    assert len(as_source(folder[1])) in (1, 2)


def test_files_of_floats(tmp_path: Path) -> None:
    ramp = numpy.linspace(-3, 5, 64, dtype=numpy.float32).reshape(8, 8)
    for number in range(4):
        Image.fromarray(ramp).save(tmp_path / f"{number}.tiff")
    with pytest.raises(DataError, match=r"pretextkit\.data\.FolderImages\(root, black=0, white=1\)\.( See |$)"):
        as_source(tmp_path).in_memory()
    images = as_source(FolderImages(tmp_path, black=-3, white=5)).in_memory().images
    torch.testing.assert_close(images, torch.from_numpy((ramp + 3) / 8).expand(4, 3, 8, 8))


def test_map_of_one_image(tmp_path: Path) -> None:
    root = write(tmp_path, "1.png", "2.png")
    folder = FolderImages(root, size=8)
    result = functional.reconstruction_anomaly_score(nn.Identity(), folder)
    code, maps = "result.maps[index]", result.maps
    assert maps is not None
    for index in (0, 1):
        values = advised(lambda: folder.to_file_pixels(maps, 0), code, result=result, index=index)
        assert folder.to_file_pixels(values, index).shape == (8, 8)


def dots_replaced(code: str, **values: Any) -> str:
    """Put the reader's values where the advice has dots."""
    return re.sub(r"(\w+)=\.\.\.", lambda match: f"{match[1]}=values[{match[1]!r}]", code)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_arrays_of_npz_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.npz"
    numpy.savez(path, other=numpy.zeros(3))
    read: Any = pk.data.load if kind == "images" else load_segmentation
    found = re.search(r"numpy\.savez\(.*?\)", fix_of(lambda: read(path)))
    assert found is not None
    images = numpy.full((10, 8, 8, 3), 200, numpy.uint8)
    values: dict[str, Any] = {f"{part}_images": images for part in ("train", "test")}
    values |= {f"{part}_labels": numpy.arange(10) % 2 for part in ("train", "test")}
    values |= {f"{part}_masks": numpy.arange(640).reshape(10, 8, 8) % 2 for part in ("train", "test")}
    eval(dots_replaced(found[0]), {**NAMES, "path": path, "values": values})
    data = read(path)
    assert len(data.train.images) == 10
    if kind == "masks":
        wrong: Any = path
        code = "load_segmentation(path).train"
        part = advised(lambda: functional.segmentation_probe(nn.Identity(), wrong, wrong), code, path=path)
        assert functional.segmentation_probe(nn.Conv2d(3, 4, 1), part, part, steps=1).pixel_accuracy >= 0


def test_stream_length() -> None:
    class Stream(torch.utils.data.IterableDataset[Tensor]):
        def __iter__(self) -> Any:
            return iter(IMAGES)

    dataset = Stream()
    for call in (lambda: as_source(dataset), lambda: as_source(torch.utils.data.DataLoader(dataset))):
        found = re.search(r"StreamImages\(dataset, length=\.\.\.\)", fix_of(call))
        assert found is not None
        space = {"StreamImages": pk.data.StreamImages, "dataset": dataset, "values": {"length": 16}}
        source = eval(dots_replaced(found[0]), space)
        torch.testing.assert_close(torch.cat([batch.images for batch in source.in_order(5)]), IMAGES)


@pytest.mark.parametrize("sizes", [{(1, 8, 8), (3, 8, 8)}, {(3, 8, 8), (3, 9, 8)}])
def test_sizes_of_images(tmp_path: Path, sizes: set[tuple[int, ...]]) -> None:
    from pretextkit._validation._image_advice import sizes_fix

    fix = sizes_fix(sorted(sizes))
    if "expand" in fix:
        images = [eval("image.expand(3, -1, -1)", {"image": torch.rand(size)}) for size in sizes]
        assert "image.expand(3, -1, -1)" in fix
        assert torch.stack(images).shape == (2, 3, 8, 8)
    else:
        assert "FolderImages(root, size=...)" in fix
        assert "pretextkit.data.as_source(dataset, size=...)" in fix
        dataset = [torch.rand(size) for size in sizes]
        assert eval("as_source(dataset, size=8)", {"as_source": as_source, "dataset": dataset}).in_memory()
        for number, size in enumerate(sizes):
            Image.new("RGB", (size[2], size[1]), (200, 0, 0)).save(tmp_path / f"{number}.png")
        assert as_source(FolderImages(tmp_path, size=8)).in_memory().images.shape == (2, 3, 8, 8)


def test_number_of_views() -> None:
    data: Any = [(torch.rand(20, 3, 16, 16), torch.arange(20) % 2) for _ in range(2)]

    def run(**options: Any) -> Any:
        return functional.compare(
            [], TinyBackbone, *data, batch_size=4, label_fractions=(), seeds=(0,), finetune_steps=1,
            device="cpu", progress=False, **options,
        )  # fmt: skip

    found = re.search(r"views_per_image=(\d+)", fix_of(lambda: run(views_per_image="40")))
    assert found is not None
    assert run(views_per_image=float(found[1])).runs


def test_second_derivative() -> None:
    a, b = (torch.rand(4, 3, requires_grad=True) for _ in range(2))
    loss = pk.losses.nt_xent_loss(a, b)
    assert "Remove create_graph=True" in fix_of(lambda: torch.autograd.grad(loss, a, create_graph=True))
    (gradient,) = torch.autograd.grad(pk.losses.nt_xent_loss(a, b), a)
    assert gradient.isfinite().all()
