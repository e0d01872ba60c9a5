"""What experiments/defects.py rests on: pasted pieces, pictures divided by piece, and brightness taken away."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Generator

from pretextkit.testing import TinyBackbone, check_pretext_task

ROOT = Path(__file__).parents[1]
MODULES = ("cut_paste", "defects", "drawn_defects", "surfaces")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_a_pasted_piece_is_of_its_own_image_and_nothing_else_changes() -> None:
    from cut_paste import JITTER, cut_paste

    image = torch.arange(1, 65).float().repeat_interleave(16).view(1, 1, 32, 32).repeat(40, 1, 1, 1) / 128
    batch = cut_paste(image, generator(), fraction=1.0)
    assert torch.equal(batch.visible[~batch.mask], image[~batch.mask])
    assert batch.mask.flatten(1).any(1).float().mean() > 0.9
    known = torch.tensor(sorted(set(image[0].flatten().tolist())))
    for visible, mask in zip(batch.visible, batch.mask, strict=True):
        if mask.sum() > 1:  # one factor brings all pixels of a piece back to pixels of the image
            factors = visible[mask][0] / known
            factors = factors[(factors - 1).abs() <= JITTER + 1e-5]
            away = [((visible[mask] / factor)[:, None] - known).abs().amin(1).max().item() for factor in factors]
            assert min(away) < 1e-5
    assert not cut_paste(image, generator(), fraction=0.0).mask.any()


def test_the_task_keeps_the_contract() -> None:
    from cut_paste import PastedWhere

    check_pretext_task(lambda: PastedWhere(TinyBackbone()))


def test_maps_of_pasted_pieces_are_of_the_images_size_and_leave_the_weights() -> None:
    from cut_paste import PastedWhere

    task = PastedWhere(TinyBackbone())
    before = {name: value.clone() for name, value in task.state_dict().items()}
    found = task.scores(torch.rand(3, 3, 32, 32, generator=generator()))
    assert found.maps is not None
    assert found.maps.shape == (3, 32, 32)
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())


def test_a_piece_is_known_at_other_exposures_and_through_others() -> None:
    from surfaces import pieces

    base = torch.rand(3, 1, 16, 16, generator=generator())
    images = torch.cat([base, 0.3 + 0.5 * base])
    assert pieces(images).tolist() == [0, 1, 2, 0, 1, 2]
    one, other = base[0], base[1]
    chain = torch.stack([torch.lerp(one, other, step / 8) for step in range(9)])
    assert len(set(pieces(chain[[0, 8]]).tolist())) == 2
    assert len(set(pieces(chain).tolist())) == 1


def test_brightness_is_taken_away_and_a_spot_is_not() -> None:
    from defects import evened

    images = torch.randint(100, 120, (1, 1, 48, 48), generator=generator(), dtype=torch.uint8)
    images[0, 0, 20:23, 20:23] = 30
    bright, dark = evened(images * 2), evened(images)
    assert (bright - dark).abs().max() < 0.02
    assert dark[0, 0, 20:23, 20:23].max() < 0.2
    assert dark[0, 0, :10].min() > 0.4


def test_drawn_defects_change_what_they_mark() -> None:
    from drawn_defects import draw_defects

    images = torch.randint(100, 140, (10, 1, 64, 64), generator=generator(), dtype=torch.uint8)
    drawn, masks = draw_defects(images, generator())
    changed = (drawn != images)[:, 0]
    near = torch.nn.functional.max_pool2d(masks[:, None].float(), 3, 1, 1)[:, 0] > 0
    assert masks.flatten(1).any(1).all()
    assert not (changed & ~near).any()
    assert all(changed[row][masks[row]].float().mean() > 0.5 for row in range(10))


def test_what_a_score_follows_and_where_it_is_highest() -> None:
    from surfaces import Surfaces, areas, causes

    from pretextkit.functional import AnomalyScores

    images = torch.arange(1, 9).view(8, 1, 1, 1).expand(8, 1, 40, 40).to(torch.uint8) * 20
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    masks = torch.zeros(8, 40, 40, dtype=torch.bool)
    masks[4:, 20, 20] = True
    found = AnomalyScores(images[:, 0, 0, 0].float(), masks.float())
    found.maps[:4, 0, 0] = 0.5  # type: ignore[index]
    assert areas(found, Surfaces(images, labels, masks)) == {"1": 1.0, "2": 1.0, "all": 1.0, "pixels": 1.0}
    why = causes(found, Surfaces(images, labels, masks))
    assert why["brightness"] == pytest.approx(1.0)
    assert (why["border"], why["hit"]) == (1.0, 1.0)
