"""Print the tables of docs/explanation/scaling.md: the computed communication of a SimCLR step.

python scripts/scaling_tables.py
"""

from __future__ import annotations

GPUS = (2, 8, 64, 256, 1024)
IMAGES, WIDTH, BYTES = 256, 128, 4  # images on each GPU, width of a projection, bytes of an fp32 number
WEIGHTS = {"small-cnn": 0.6e6, "ResNet-18": 11.2e6, "ResNet-50": 23.5e6, "ViT-L": 303e6}
MEGA, GIGA, TERA = 1e6, 1e9, 1e12


def gathered(gpus: int, images: int = IMAGES, width: int = WIDTH) -> float:
    """Return the bytes that a GPU receives in the forward pass: two rows for each image on the other GPUs.

    >>> gathered(2)  # 512 rows of 128 numbers
    262144
    """
    return (gpus - 1) * 2 * images * width * BYTES


def averaged(gpus: int, weights: float) -> float:
    """Return the bytes that a GPU sends in a ring all-reduce of the gradients."""
    return 2 * (gpus - 1) / gpus * weights * BYTES


def similarities(gpus: int, images: int = IMAGES, width: int = WIDTH) -> float:
    """Return the operations of a GPU: three matrix products of its rows with all rows, two operations for each term."""
    return 3 * 2 * (2 * images) * (2 * images * gpus) * width


def gather_table() -> str:
    lines = [
        "| GPUs | images in a step | gather, MB | at 25 GB/s, ms | at 3 GB/s, ms | similarities, GFLOP |",
        "|---|---|---|---|---|---|",
    ]
    for gpus in GPUS:
        sent = 2 * gathered(gpus)  # the backward pass sends as much
        lines.append(
            f"| {gpus:,} | {gpus * IMAGES:,} | {sent / MEGA:,.1f} | {1e3 * sent / (25 * GIGA):,.2f} "
            f"| {1e3 * sent / (3 * GIGA):,.1f} | {similarities(gpus) / GIGA:,.1f} |"
        )
    return "\n".join(lines)


def gradient_table() -> str:
    lines = ["| Backbone | weights, million | averaged on 1,024 GPUs, MB | at 25 GB/s, ms |", "|---|---|---|---|"]
    for name, weights in WEIGHTS.items():
        sent = averaged(1024, weights)
        lines.append(f"| {name} | {weights / MEGA:,.1f} | {sent / MEGA:,.1f} | {1e3 * sent / (25 * GIGA):,.2f} |")
    return "\n".join(lines)


def rate_table() -> str:
    rows = (
        f"| {images:,} | {0.3 * images / 256:g} | {0.075 * images**0.5:g} |"
        for images in (256, 1024, 4096, 16384, 65536)
    )
    return "\n".join(["| images in a step | LARS, linear | LARS, square root |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(gather_table(), gradient_table(), rate_table(), sep="\n\n")
