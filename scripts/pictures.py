"""Draw docs/figures/task-*.png, what each pretext task shows of the embedded sample: ``python scripts/pictures.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Generator

import pretextkit as pk
from pretextkit.plots import views
from pretextkit.testing import TinyBackbone

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
OPTIONS: dict[str, dict[str, Any]] = {"rotation": {"label_names": ("0°", "90°", "180°", "270°")}}


def main() -> None:
    images = pk.data.load("sample").train_images[:8].float() / 255
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name in pk.pretext_tasks:
        task = pk.pretext_tasks[name](TinyBackbone())  # views read no weights: any backbone will do
        figure = views(task.views(images, Generator().manual_seed(0)), **OPTIONS.get(name, {}))
        figure.savefig(FIGURES / f"task-{name}.png", dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
