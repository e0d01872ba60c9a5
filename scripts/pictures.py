"""Draw the documents' pictures of the embedded sample: ``python scripts/pictures.py [tasks] [gallery]``, or both.

``tasks`` draws docs/figures/task-*.png, what each pretext task shows. ``gallery`` runs the code of
docs/how-to/pictures.md, which takes minutes, and keeps what it saves as docs/figures/gallery-*.png.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Generator

import pretextkit as pk
from pretextkit.plots import views
from pretextkit.testing import TinyBackbone

DOCS = Path(__file__).parents[1] / "docs"
FIGURES = DOCS / "figures"
GALLERY = DOCS / "how-to" / "pictures.md"
OPTIONS: dict[str, dict[str, Any]] = {"rotation": {"label_names": ("0°", "90°", "180°", "270°")}}


def draw_tasks() -> None:
    images = pk.data.load("sample").train_images[:8].float() / 255
    for name in pk.pretext_tasks:
        task = pk.pretext_tasks[name](TinyBackbone())  # views read no weights: any backbone will do
        figure = views(task.views(images, Generator().manual_seed(0)), **OPTIONS.get(name, {}))
        figure.savefig(FIGURES / f"task-{name}.png", dpi=80, metadata={"Software": None})


def draw_gallery() -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", GALLERY.read_text("utf-8"), re.DOTALL | re.MULTILINE))
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(compile(code, GALLERY.name, "exec"), {"__name__": "__main__"})
        finally:
            os.chdir(home)
        for picture in Path(folder).glob("*.png"):
            # 256 colours make it a third as large, and no colour is off by more than can be seen
            few = Image.open(picture).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
            few.save(FIGURES / f"gallery-{picture.name}", optimize=True)


def main(arguments: Sequence[str]) -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name, draw in {"tasks": draw_tasks, "gallery": draw_gallery}.items():
        if name in arguments or not arguments:
            draw()


if __name__ == "__main__":
    main(sys.argv[1:])
