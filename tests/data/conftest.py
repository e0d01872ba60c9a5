"""A folder of photos, and a count of what is decoded of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretextkit.data import _decoding as decoding_module
from pretextkit.data import _file_reader as reader_module

COUNT = 5


@pytest.fixture(name="root")
def make_root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(COUNT):
        values = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(values).save(root / f"{number}.png")
    return root


@pytest.fixture(name="decoded")
def count_decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each file is decoded to be read."""
    counts: Counter[str] = Counter()
    original = decoding_module.decode_resized

    def counted(path: Path, *arguments: Any, **options: Any) -> Any:
        counts[path.name] += 1
        return original(path, *arguments, **options)

    monkeypatch.setattr(reader_module, "decode_resized", counted)
    return counts
