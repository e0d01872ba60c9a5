"""Helpers of the experiments: rows, reports, CutPaste, the split by workpiece and brightness normalization."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from pretextkit.testing import TinyBackbone, check_pretext_task
from tests.helpers import ROOT, generator

MODULES = ("_report", "cut_paste", "defects", "drawn_defects", "surfaces")


@pytest.fixture(autouse=True)
def experiments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def test_cut_paste_changes_only_the_mask() -> None:
    from cut_paste import JITTER, cut_paste

    image = torch.arange(1, 65).float().repeat_interleave(16).view(1, 1, 32, 32).repeat(40, 1, 1, 1) / 128
    batch = cut_paste(image, generator(), fraction=1.0)
    assert torch.equal(batch.visible[~batch.mask], image[~batch.mask])
    assert batch.mask.flatten(1).any(1).float().mean() > 0.9
    values = torch.tensor(sorted(set(image[0].flatten().tolist())))
    for visible, mask in zip(batch.visible, batch.mask, strict=True):
        if mask.sum() > 1:  # one factor brings all pixels of a piece back to pixels of the image
            factors = visible[mask][0] / values
            factors = factors[(factors - 1).abs() <= JITTER + 1e-5]
            distances = [((visible[mask] / factor)[:, None] - values).abs().amin(1).max().item() for factor in factors]
            assert min(distances) < 1e-5
    assert not cut_paste(image, generator(), fraction=0.0).mask.any()


def test_cut_paste_segmentation_keeps_the_contract() -> None:
    from cut_paste import CutPasteSegmentation

    check_pretext_task(lambda: CutPasteSegmentation(TinyBackbone()))


def test_cut_paste_maps_have_image_size_and_keep_weights() -> None:
    from cut_paste import CutPasteSegmentation

    task = CutPasteSegmentation(TinyBackbone())
    before = {name: value.clone() for name, value in task.state_dict().items()}
    found = task.scores(torch.rand(3, 3, 32, 32, generator=generator()))
    assert found.maps is not None
    assert found.maps.shape == (3, 32, 32)
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())


def test_pieces_links_exposures_and_chains_of_images() -> None:
    from surfaces import pieces

    base = torch.rand(3, 1, 16, 16, generator=generator())
    images = torch.cat([base, 0.3 + 0.5 * base])
    assert pieces(images).tolist() == [0, 1, 2, 0, 1, 2]
    one, other = base[0], base[1]
    chain = torch.stack([torch.lerp(one, other, step / 8) for step in range(9)])
    assert len(set(pieces(chain[[0, 8]]).tolist())) == 2
    assert len(set(pieces(chain).tolist())) == 1


def test_normalize_brightness_keeps_a_spot() -> None:
    from defects import normalize_brightness

    images = torch.randint(100, 120, (1, 1, 48, 48), generator=generator(), dtype=torch.uint8)
    images[0, 0, 20:23, 20:23] = 30
    bright, dark = normalize_brightness(images * 2), normalize_brightness(images)
    assert (bright - dark).abs().max() < 0.02
    assert dark[0, 0, 20:23, 20:23].max() < 0.2
    assert dark[0, 0, :10].min() > 0.4


def test_draw_defects_changes_only_the_masks() -> None:
    from drawn_defects import draw_defects

    images = torch.randint(100, 140, (10, 1, 64, 64), generator=generator(), dtype=torch.uint8)
    drawn, masks = draw_defects(images, generator())
    changed = (drawn != images)[:, 0]
    near = torch.nn.functional.max_pool2d(masks[:, None].float(), 3, 1, 1)[:, 0] > 0
    assert masks.flatten(1).any(1).all()
    assert not (changed & ~near).any()
    assert all(changed[row][masks[row]].float().mean() > 0.5 for row in range(10))


def test_aurocs_and_diagnostics_of_perfect_scores() -> None:
    from surfaces import Surfaces, aurocs, diagnostics

    from pretextkit.functional import AnomalyScores

    images = torch.arange(1, 9).view(8, 1, 1, 1).expand(8, 1, 40, 40).to(torch.uint8) * 20
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    masks = torch.zeros(8, 40, 40, dtype=torch.bool)
    masks[4:, 20, 20] = True
    found = AnomalyScores(images[:, 0, 0, 0].float(), masks.float())
    found.maps[:4, 0, 0] = 0.5  # type: ignore[index]
    assert aurocs(found, Surfaces(images, labels, masks)) == {"1": 1.0, "2": 1.0, "all": 1.0, "pixels": 1.0}
    causes = diagnostics(found, Surfaces(images, labels, masks))
    assert causes["brightness"] == pytest.approx(1.0)
    assert (causes["border"], causes["hit"]) == (1.0, 1.0)


def test_rows_measure_each_name_once(tmp_path: Path) -> None:
    from _report import Rows

    results = iter([{"accuracy": 0.5}])
    for _ in range(2):
        rows = Rows(tmp_path / "rows", {"sizes": (1, 2)})
        assert rows.measure("rotation; 0", lambda: next(results)) == {"accuracy": 0.5}
    assert Rows(tmp_path / "rows", {"sizes": [1, 2]}).all() == {"rotation; 0": {"accuracy": 0.5}}


def test_rows_keep_nothing_of_an_interrupted_measurement(tmp_path: Path) -> None:
    from _report import Rows

    def interrupted() -> None:
        raise KeyboardInterrupt

    rows = Rows(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        rows.measure("rotation", interrupted)
    assert rows.all() == {}
    assert rows.measure("rotation", lambda: 1) == 1


def test_rows_with_other_settings_stop_the_program(tmp_path: Path) -> None:
    from _report import Rows

    Rows(tmp_path, {"steps": 1}).measure("rotation", lambda: 1)
    with pytest.raises(SystemExit, match=r"rotation\.json has the settings \{'steps': 1\}, not \{'steps': 2\}"):
        Rows(tmp_path, {"steps": 2}).measure("rotation", lambda: 2)


def test_rows_with_similar_names_have_separate_files(tmp_path: Path) -> None:
    from _report import Rows

    rows = Rows(tmp_path)
    assert [rows.measure(name, partial(str, name)) for name in ("a/b", "a:b")] == ["a/b", "a:b"]


def test_write_report_has_command_data_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from _report import write_report

    monkeypatch.setattr(sys, "argv", ["experiments/one.py", "--title", "two words"])
    write_report(tmp_path / "new" / "one.json", "10 images", seeds=[0])
    report = json.loads((tmp_path / "new" / "one.json").read_text())
    assert report["command"] == "python experiments/one.py --title 'two words'"
    assert (report["data"], report["seeds"], report["environment"]["torch"]) == ("10 images", [0], torch.__version__)
