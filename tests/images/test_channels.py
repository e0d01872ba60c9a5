"""Images of any number of channels, through every function; colors are converted between 1 and 3 channels alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pretextkit as pk
from pretextkit import functional, plots, views
from pretextkit.contracts import InputNormalization
from pretextkit.data import ImageFormat, as_source
from pretextkit.errors import OptionError, ShapeError
from pretextkit.models import LinearHead, PatchDiscriminator, ResNet18, SmallCNN, ViTTiny
from pretextkit.testing import TinyBackbone, backbone_checks, parametrize_checks, pretext_task_checks, toy_images
from tests.helpers import generator
from tests.images.tasks import build

COUNTS = [1, 2, 3, 4, 5, 13]
WITHOUT_COLORS = [name for name in pk.pretext_tasks if name != "colorization"]


def bands(n: int = 8, channels: int = 13, size: Any = 32, seed: int = 0) -> Tensor:
    return toy_images(n, size=size, channels=channels, generator=generator(seed))


@pytest.mark.parametrize("channels", COUNTS)
@pytest.mark.parametrize("kind", [SmallCNN, ResNet18, ViTTiny, TinyBackbone])
def test_backbones_take_any_number_of_channels(kind: Any, channels: int) -> None:
    backbone = kind(in_channels=channels).eval()
    assert backbone(bands(2, channels)).shape == (2, backbone.feature_dim)
    assert pk.backbones.create("small-cnn", in_channels=channels).normalization.channels == channels


@pytest.mark.parametrize("channels", COUNTS)
def test_normalization_is_per_channel(channels: int) -> None:
    images = (bands(20, channels) * torch.linspace(0.2, 1, channels).view(1, -1, 1, 1)).double()
    normalization = InputNormalization(channels).double().measure(images)
    for channel in range(channels):
        pixels = images[:, channel]
        assert float(normalization.mean[channel]) == pytest.approx(float(pixels.mean()))
        assert float(normalization.std[channel]) == pytest.approx(float(pixels.std(correction=0)))
        out = normalization(images)[:, channel]
        torch.testing.assert_close(out, (pixels - pixels.mean()) / pixels.std(correction=0))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "3", True])
def test_in_channels_is_an_integer_of_at_least_one(wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"^Expected in_channels to be an integer >= 1, but got"):
        SmallCNN(in_channels=wrong)


@pytest.mark.parametrize("given", COUNTS)
@pytest.mark.parametrize("built", COUNTS)
def test_channels_convert_between_gray_and_color_alone(built: int, given: int) -> None:
    backbone, images = SmallCNN(in_channels=built).eval(), bands(2, given)
    if given == built or {given, built} == {1, 3}:
        assert backbone(images).shape == (2, 256)
        return
    with pytest.raises(ShapeError) as caught:
        backbone(images)
    text = str(caught.value)
    assert re.match(rf"Expected images of {built} channels?( \(or [13]\))?, as the network takes, but got shape", text)
    assert ("alpha" in text) == (built in (1, 3) and given in (2, 4))
    code = re.search(r"pretextkit\.backbones\['small-cnn'\]\(in_channels=\d+\)", text)
    assert code is not None
    assert eval(code[0], {"pretextkit": pk})(images).shape == (2, 256)


def test_channels_last_batch_is_named_in_the_error() -> None:
    oblong = torch.rand(2, 24, 32, 13)
    with pytest.raises(ShapeError, match=r"Put channels second: images\.permute\(0, 3, 1, 2\)\. See"):
        SmallCNN(in_channels=13)(oblong)
    for last in (torch.rand(2, 32, 32, 13), torch.rand(2, 24, 32, 4), torch.rand(2, 24, 32, 3)):
        with pytest.raises(ShapeError, match=r"Expected images b c h w, but got shape .*Put channels second"):
            as_source(last)


@pytest.mark.parametrize(
    ("shape", "read"),
    [
        ((5, 8, 8, 13), (5, 13, 8, 8)),
        ((5, 13, 8, 8), (5, 13, 8, 8)),
        ((5, 200, 11, 11), (5, 200, 11, 11)),
        ((5, 11, 11, 200), (5, 200, 11, 11)),
        ((5, 24, 32, 4), (5, 4, 24, 32)),
        ((5, 4, 24, 32), (5, 4, 24, 32)),
        ((5, 24, 32, 2), (5, 2, 24, 32)),
        ((5, 3, 24, 32), (5, 3, 24, 32)),
        ((5, 13, 60, 80), (5, 13, 60, 80)),
        ((5, 60, 80, 13), (5, 13, 60, 80)),
        ((5, 200, 64, 24), None),
        ((5, 13, 24, 32), None),
        ((5, 24, 32, 13), None),
        ((5, 8, 8, 8), None),
    ],
)
def test_arrays_tell_their_channels_or_are_refused(shape: tuple[int, ...], read: tuple[int, ...] | None) -> None:
    array = torch.rand(shape).numpy()
    if read is not None:
        assert next(as_source(array).in_order(5)).images.shape == read
        return
    with pytest.raises(ShapeError, match=r"tells its channels, but got shape .*Pass a tensor with channels second"):
        as_source(array)
    assert next(as_source(torch.from_numpy(array)).in_order(5)).images.shape == shape


class Items(torch.utils.data.Dataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_items_of_datasets_have_any_number_of_channels() -> None:
    images = bands(4, 5, (24, 32))
    for items in (list(images), [image.permute(1, 2, 0).numpy() for image in images]):
        assert torch.equal(next(as_source(Items(items)).in_order(4)).images, images)
    for wrong in (images[0, :, :24, :24].numpy(), images[0, :, :24, :24].permute(1, 2, 0)):
        with pytest.raises(ShapeError, match=r"Put channels (last|first) in the dataset: image\."):
            list(as_source(Items([wrong])).in_order(1))
    with pytest.raises(ShapeError, match=r"the same channels in the dataset, for example the first: image\[:3\]"):
        list(as_source(Items([images[0], images[1, :3]])).in_order(2))


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_color_jitter_without_colors_changes_brightness_and_contrast(channels: int) -> None:
    images = bands(6, channels)
    changed = views.color_jitter(images, brightness=0, contrast=0, saturation=0.9, hue=0.5, p=1, generator=generator())
    torch.testing.assert_close(changed, images)
    bright = views.color_jitter(images, brightness=0.5, contrast=0, p=1, generator=generator())
    factors = (bright / images.clamp(min=1e-6)).masked_fill((bright == 1) | (images < 0.01), torch.nan)
    assert (factors.flatten(1).nanmedian(1).values - 1).abs().max() > 0.01
    draws = [views.color_jitter(images, brightness=0, contrast=1, p=1, generator=generator(s)) for s in range(3)]
    middle = images.mean((1, 2, 3), keepdim=True)
    for image, draw, mean in zip(images, draws[0], middle, strict=True):
        inside = (draw > 0) & (draw < 1) & ((image - mean).abs() > 0.01)
        ratio = ((draw - mean) / (image - mean))[inside]
        assert ratio.std() < 1e-3


@pytest.mark.parametrize("channels", COUNTS)
def test_views_keep_any_number_of_channels(channels: int) -> None:
    images = bands(4, channels)
    for augment in (views.LightAugmentation(flip=0.5), views.CropAndRecolor(flip=0.5, grayscale=1.0)):
        out = augment(images, generator())
        assert out.shape == images.shape
        assert float(out.min()) >= 0
        assert float(out.max()) <= 1
    gray = views.random_grayscale(images, 1.0, generator=generator())
    assert torch.equal(gray, images) == (channels != 3)
    with pytest.raises(ShapeError) if channels not in (1, 3) else torch.no_grad():
        views.to_grayscale(images)


@pytest.mark.parametrize("channels", [2, 5, 13])
@pytest.mark.parametrize("name", WITHOUT_COLORS)
def test_tasks_train_on_any_number_of_channels(name: str, channels: int) -> None:
    task = build(name, channels).train()
    output = task.step(bands(4, channels, 48), generator())
    assert output.loss.isfinite()
    torch.autograd.backward(output.loss)
    first = next(weight for weight in task.backbone.parameters() if weight.ndim == 4)
    assert first.grad is not None
    assert bool((first.grad.abs().sum((0, 2, 3)) > 0).all()), "a channel gets no gradient"


def test_colorization_needs_colors() -> None:
    with pytest.raises(OptionError, match=r"a backbone of 1 or 3 channels, because colorization .* but got one of 13"):
        pk.tasks.Colorization(TinyBackbone(in_channels=13))
    with pytest.raises(ShapeError, match=r"images of 3 channels, but got 13 channels\. Images of 13 channels have no"):
        pk.tasks.Colorization(TinyBackbone()).views(bands(), generator())


def test_reconstructions_have_the_channels_of_the_images() -> None:
    for name in ("autoencoder", "denoising", "context-encoder"):
        task: Any = pk.pretext_tasks.create(name, TinyBackbone(in_channels=13))
        assert task.reconstruct(bands()).shape == (8, 13, 32, 32)
    for channels in (1, 3):
        task = pk.tasks.Autoencoder(TinyBackbone(in_channels=channels))
        assert [task.reconstruct(bands(2, each)).shape[1] for each in (1, 3)] == [1, 3]
        assert list(task.head.parameters())[-1].shape == (3,)


def test_context_encoder_takes_a_discriminator_of_bands() -> None:
    task = pk.tasks.ContextEncoder(TinyBackbone(in_channels=5), discriminator=PatchDiscriminator(5))
    assert task.step(bands(4, 5), generator()).loss.isfinite()
    task = pk.tasks.ContextEncoder(TinyBackbone(in_channels=5), discriminator=PatchDiscriminator())
    with pytest.raises(
        ShapeError, match=r"images of 3 channels for the discriminator, but got 5\. Create .*in_channels=5"
    ):
        task.step(bands(4, 5), generator())


@parametrize_checks(backbone_checks(lambda: TinyBackbone(in_channels=13)))
def test_backbone_kit_takes_bands(check: Any) -> None:
    check.run()


@parametrize_checks(
    [
        check
        for check in pretext_task_checks(lambda: pk.tasks.Rotation(TinyBackbone(in_channels=5)), channels=5)
        if "accepts" in check.name
    ]
)
def test_task_kit_takes_bands(check: Any) -> None:
    check.run()


LABELS = torch.arange(24) % 2
BANDS = (bands(24, 5) * 0.4 + 0.3 * LABELS.view(-1, 1, 1, 1) * torch.linspace(0, 1, 5).view(1, -1, 1, 1)).clamp(0, 1)


def own() -> nn.Module:
    return nn.Sequential(nn.Conv2d(5, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_own_networks_are_probed_with_what_they_take() -> None:
    data = (BANDS, LABELS)
    assert functional.knn_probe(own(), data, k=3).accuracy >= 0.5
    assert functional.linear_probe(own(), (BANDS[:12], LABELS[:12]), (BANDS[12:], LABELS[12:])).accuracy >= 0
    features = functional.extract_features(own(), BANDS, precision="fp32")
    assert len(next(iter(features.layers.values()))) == 24


def test_anomaly_scores_take_bands() -> None:
    backbone = TinyBackbone(in_channels=5).eval()
    reference, images = BANDS[:16], BANDS[16:]
    task = pk.tasks.Autoencoder(backbone)
    results = {
        "neighbors": functional.neighbor_anomaly_score(backbone, reference, images),
        "mahalanobis": functional.mahalanobis_anomaly_score(backbone, reference, images),
        "patches": functional.patch_anomaly_score(backbone, reference, images),
        "reconstruction": functional.reconstruction_anomaly_score(task.reconstruct, images),
        "rotation": functional.rotation_anomaly_score(pk.tasks.Rotation(backbone), images),
    }
    for name, result in results.items():
        assert len(result.scores) == 8, name
        assert bool(result.scores.isfinite().all()), name


@pytest.mark.parametrize("error", ["l2", "ssim"])
def test_error_maps_mean_over_all_bands(error: Any) -> None:
    images = BANDS[:4]
    changed = images.clone()
    changed[:, 4, 8:16, 8:16] = 1 - changed[:, 4, 8:16, 8:16]
    result = functional.reconstruction_anomaly_score(lambda given: changed[: len(given)], images, error=error)
    assert result.maps is not None
    inside, outside = result.maps[:, 10:14, 10:14].mean(), result.maps[:, 24:, 24:].mean()
    assert float(inside) > 10 * float(outside)


def test_pretraining_finetuning_and_saved_classifier_of_bands(tmp_path: Any) -> None:
    task = pk.tasks.SimCLR(SmallCNN(in_channels=5))
    functional.pretrain(task, BANDS, steps=2, batch_size=8, progress=False)
    assert bool(task.backbone.normalization.measured)
    tuned = functional.freeze_and_finetune(
        task.backbone, LinearHead(256, 2), (BANDS, LABELS), epochs=1, batch_size=8, progress=False
    )
    assert tuned.classifier.predict(BANDS[:3]).labels.shape == (3,)
    tuned.classifier.save(tmp_path / "a.pt")
    loaded = pk.load_classifier(tmp_path / "a.pt")
    assert torch.equal(loaded.predict(BANDS[:3]).labels, tuned.classifier.predict(BANDS[:3]).labels)
    with pytest.raises(ShapeError, match="images of 5 channels, as the network takes, but got shape"):
        loaded.predict(BANDS[:3, :3])


def test_compare_takes_bands() -> None:
    result = functional.compare(
        ["rotation"],
        lambda: SmallCNN(in_channels=5),
        (BANDS[:16], LABELS[:16]),
        (BANDS[16:], LABELS[16:]),
        epochs=1,
        batch_size=8,
        label_fractions=(1.0,),
        finetune_steps=2,
        progress=False,
    )
    assert {run.method for run in result.runs} >= {"random init", "rotation"}


def test_segmentation_probe_takes_bands() -> None:
    masks = (BANDS[:, 0] > BANDS[:, 0].mean()).long()
    result = functional.segmentation_probe(TinyBackbone(in_channels=5), (BANDS, masks), (BANDS, masks), steps=2)
    assert 0 <= result.pixel_accuracy <= 1


@pytest.mark.parametrize("channels", [2, 4, 5, 13])
def test_format_of_other_channels_is_not_converted(channels: int) -> None:
    wanted = ImageFormat(8, 8, channels)
    assert wanted.apply(bands(2, channels)).shape == (2, channels, 8, 8)
    with pytest.raises(ShapeError, match="as the network takes"):
        wanted.apply(bands(2, 3))


@pytest.mark.parametrize(("channels", "shown"), [(1, 0), (2, 0), (4, slice(3)), (13, slice(3))])
def test_plots_show_the_first_channels(channels: int, shown: Any) -> None:
    images = bands(2, channels)
    figure = plots.views(pk.TwoViews(images, images), count=1)
    drawn = torch.as_tensor(figure.axes[0].images[0].get_array())
    wanted = images[0, shown]
    torch.testing.assert_close(drawn.float(), wanted if wanted.ndim == 2 else wanted.permute(1, 2, 0))


def test_plots_show_chosen_channels() -> None:
    images = bands(2, 13)
    figure = plots.views(pk.TwoViews(images, images), count=1, channels=(11, 3, 2))
    drawn = torch.as_tensor(figure.axes[0].images[0].get_array())
    torch.testing.assert_close(drawn, images[0, [11, 3, 2]].permute(1, 2, 0))
    one = plots.views(pk.TwoViews(images, images), count=1, channels=(7,)).axes[0].images[0].get_array()
    torch.testing.assert_close(torch.as_tensor(one), images[0, 7])
    for wrong in ((0, 1), (0, 1, 13), (-1, 0, 1), 3, ("a",)):
        with pytest.raises(OptionError, match="channels to be one or three"):
            plots.views(pk.TwoViews(images, images), count=1, channels=wrong)  # type: ignore[arg-type]
