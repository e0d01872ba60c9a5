"""MAE: only visible patches are seen, and only hidden ones count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from pretextkit.batches import Masked
from pretextkit.errors import OptionError, ShapeError
from pretextkit.functional import pretrain
from pretextkit.models import SmallCNN, ViTTiny
from pretextkit.models._transformer import sincos_positions
from pretextkit.tasks import MAE
from pretextkit.tasks._mae import cut, normalized
from pretextkit.testing import TinyTokenBackbone, toy_images
from tests.helpers import require_exact_resume, uniform

IMAGES = toy_images(4, size=16, generator=Generator().manual_seed(0))


def make(seed: int = 0, **options: Any) -> MAE[TinyTokenBackbone]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MAE(TinyTokenBackbone(), **{"augmentation": None, **options})


def batch_of(task: Any, images: Tensor = IMAGES) -> Masked:
    batch: Masked = task.views(images, Generator().manual_seed(1))
    return batch


def test_hidden_pixels_change_no_prediction() -> None:
    """Neither through the views, which get other images with the same mask, nor through the batch itself."""
    task = make()
    batch = batch_of(task)
    other = torch.where(batch.mask, uniform(*IMAGES.shape), IMAGES)
    again = batch_of(task, other)
    assert torch.equal(again.mask, batch.mask)
    assert not torch.equal(again.target, batch.target)
    expected = task.predict(batch)
    assert torch.equal(task.predict(again), expected)
    assert torch.equal(task.predict(batch._replace(visible=other)), expected)
    shown = torch.where(batch.mask, IMAGES, uniform(*IMAGES.shape))
    assert not torch.equal(task.predict(batch._replace(visible=shown)), expected)


def test_backbone_computes_on_visible_patches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make()
    seen: list[Tensor] = []
    encode = task.backbone.encode
    monkeypatch.setattr(task.backbone, "encode", lambda tokens: encode(seen.append(tokens) or tokens))  # type: ignore[func-returns-value]
    task(batch_of(task))
    assert seen[0].shape == (4, 4, 32)  # a quarter of 16 patches


def test_loss_equals_a_loop_over_images_and_patches() -> None:
    task, total, count = make().eval(), 0.0, 0
    batch = batch_of(task)
    decoder = task.decoder
    positions = sincos_positions(4, 4, 128, torch.zeros(1))
    for image, mask, target in zip(*batch, strict=True):
        hidden = [bool(mask[0, 4 * r, 4 * c]) for r in range(4) for c in range(4)]
        tokens = task.backbone.tokens(image[None])[0]
        seen = torch.stack([token for token, masked in zip(tokens, hidden, strict=True) if not masked])
        encoded = iter(decoder.embedding(task.backbone.encode(seen[None]))[0])
        rows = [
            (decoder.mask_token if masked else next(encoded)) + position
            for masked, position in zip(hidden, positions, strict=True)
        ]
        predictions = decoder.pixels(decoder.norm(decoder.blocks(torch.stack(rows)[None])))[0]
        for number, (prediction, masked) in enumerate(zip(predictions, hidden, strict=True)):
            r, c = 4 * (number // 4), 4 * (number % 4)
            pixels = target[:, r : r + 4, c : c + 4].permute(1, 2, 0).flatten()  # row, column, color
            wanted = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
            if masked:
                total += float((prediction.detach() - wanted).square().mean())
                count += 1
    assert count == 4 * 12
    assert task(batch).loss.item() == pytest.approx(total / count, rel=1e-4)


def test_prediction_of_zero_has_the_variance_as_its_loss() -> None:
    """Of p normalized numbers, the squares sum to p - 1."""
    task = make()
    with torch.no_grad():
        for weight in task.decoder.pixels.parameters():
            weight.zero_()
    output = task(batch_of(task))
    assert output.loss.item() == pytest.approx(47 / 48, rel=1e-2)
    assert output.metrics["mse"] == output.metrics["mse_of_mean"]


def test_constant_patches_have_targets_of_zero() -> None:
    assert not normalized(torch.full((2, 3, 12), 0.75)).any()
    assert normalized(uniform(2, 3, 1)).isfinite().all()  # patches of one gray pixel


def test_targets_equal_those_of_lightly() -> None:
    utils: Any = pytest.importorskip("lightly.models.utils", reason="lightly is not installed: use the group bench")
    task = make()
    batch = batch_of(task)
    patches = utils.patchify(IMAGES, 4)
    torch.testing.assert_close(cut(IMAGES, 4), patches)
    torch.testing.assert_close(task.targets(batch), utils.normalize_mean_var(patches))
    hidden = task.hidden(batch)
    theirs = nn.MSELoss()(task.predict(batch)[hidden], utils.normalize_mean_var(patches)[hidden])
    torch.testing.assert_close(task(batch).loss, theirs)


def test_gradient_flows_through_visible_pixels_only() -> None:
    task = make()
    batch = batch_of(task)
    visible, target = (image.clone().requires_grad_() for image in (batch.visible, batch.target))
    torch.autograd.backward(task(Masked(visible, batch.mask, target)).loss)
    hidden = batch.mask.expand_as(IMAGES)
    assert visible.grad is not None
    assert not visible.grad[hidden].any()
    assert visible.grad[~hidden].any()
    assert target.grad is not None
    assert not target.grad[~hidden].any()
    assert target.grad[hidden].any()


@pytest.mark.parametrize(("fraction", "hidden"), [(0.75, 12), (0.5, 8), (0.01, 1), (0.99, 15)])
def test_as_many_patches_are_hidden_in_each_image(fraction: float, hidden: int) -> None:
    task = make(masked_fraction=fraction)
    mask = batch_of(task).mask
    assert torch.equal(task.hidden(batch_of(task)).sum(1), torch.full((4,), hidden))
    assert torch.equal(mask.sum((1, 2, 3)), torch.full((4,), 16 * hidden))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(13, 18), (28, 28)])
def test_any_size_and_channels_are_reconstructed(channels: int, size: tuple[int, int]) -> None:
    task = make()
    images = toy_images(4, size=size, channels=channels, generator=Generator().manual_seed(0))
    batch = batch_of(task, images)
    patches = -(-size[0] // 4) * -(-size[1] // 4)
    assert task.predict(batch).shape == task.targets(batch).shape == (4, patches, 48)
    assert task(batch).loss.isfinite()


def test_patches_are_learned_from_their_surroundings() -> None:
    images = toy_images(64, size=16, generator=Generator().manual_seed(0))
    result = pretrain(make(), images, epochs=60, batch_size=32, device="cpu", precision="fp32", progress=False)
    last = result.history.last
    assert last["mse"] < 0.95 * last["mse_of_mean"]


def test_resumed_run_is_bit_exact(tmp_path: Path) -> None:
    require_exact_resume(make, toy_images(16, size=16, generator=Generator().manual_seed(0)), tmp_path)


def test_masks_of_unequal_area_are_refused() -> None:
    task = make()
    batch = batch_of(task)
    mask = batch.mask.clone()
    mask[0] = True
    with pytest.raises(ShapeError, match=r"hide equally many patches of each image, but got from 12 to 16\. .*patch=4"):
        task(batch._replace(mask=mask))


def test_images_of_one_patch_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^Expected images larger than one patch of 4 pixels, but got 4x4"):
        batch_of(make(), IMAGES[:, :, :4, :4])


def test_other_backbones_and_options_are_refused() -> None:
    with pytest.raises(OptionError, match=r"^Expected a TokenBackbone, because .*, but got SmallCNN\. Use .*ViTTiny"):
        MAE(SmallCNN())  # type: ignore[type-var]
    with pytest.raises(OptionError, match=r"^Expected decoder_dim to be a multiple of 4, but got 126\..* 128"):
        make(decoder_dim=126)
    with pytest.raises(OptionError, match=r"^Expected masked_fraction to be a number in \(0, 1\), but got 1"):
        make(masked_fraction=1)
    assert MAE(ViTTiny()).patch == 4
