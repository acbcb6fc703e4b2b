"""Draw docs/accuracy_bytes.svg, the picture of the first page, from the committed JSON of two studies.

    python tools/site_picture.py            writes it
    python tools/site_picture.py --check    exit 1 where it is not that of the JSON

Written by hand, not by matplotlib: the same text with any version of anything.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "accuracy_bytes.svg"
SPIKING, CONTROL = "#3949ab", "#c2410c"
# (study, arm, words beside the point, colour, place of the words)
POINTS = (
    ("fashion_mnist", "binary", "binary, 32-bit weights", SPIKING, "left"),
    ("fashion_mnist", "multibit", "2-bit, 32-bit weights", SPIKING, "left"),
    ("fashion_mnist", "reverb", "ReverB, ±1 weights", SPIKING, "right"),
    ("fashion_mnist_adaptive", "learned-2-2-1", "learned, 2 bits", SPIKING, "right"),
    ("fashion_mnist_adaptive", "learned-3-3-1", "learned, 3 bits", SPIKING, "right"),
    ("fashion_mnist_adaptive", "learned-4-4-2", "learned, 4 bits", SPIKING, "above"),
    ("fashion_mnist_adaptive", "ann-4-8-1", "ANN, 4 bits (control)", CONTROL, "right"),
)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 400, 52, 36, 52, 64
BYTES, ACCURACY = (10_000, 500_000), (89.0, 92.0)


def figures() -> list[tuple[float, float]]:
    """(bytes, accuracy in %) of every point, means over seeds."""
    found = []
    for study, arm, *_ in POINTS:
        arms = json.loads((ROOT / "results" / study / "compare.json").read_text(encoding="utf-8"))["arms"]
        metrics = next(entry["metrics"] for entry in arms if entry["arm"] == arm)
        found.append((metrics["size_bytes"]["mean"], 100 * metrics["test_accuracy"]["mean"]))
    return found


def place(size: float, accuracy: float) -> tuple[float, float]:
    """A point in the picture: bytes on a logarithmic axis."""
    low, high = map(math.log10, BYTES)
    x = LEFT + (math.log10(size) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    y = TOP + (ACCURACY[1] - accuracy) / (ACCURACY[1] - ACCURACY[0]) * (HEIGHT - TOP - BOTTOM)
    return round(x, 1), round(y, 1)


def text(x: float, y: float, words: str, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{words}</text>'


def drawn() -> str:
    """The picture: dark on a light card, so that it reads on a dark page too."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" font-family="system-ui, sans-serif" font-size="16" fill="#1f2430">',
        "<title>Accuracy on Fashion-MNIST against bytes of weights</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#f7f8fb"/>',
        text(16, 30, "Test accuracy % on Fashion-MNIST", extra=' font-weight="600"'),
        text(WIDTH - RIGHT, HEIGHT - 14, "bytes of weights, logarithmic", "end"),
    ]
    for percent in (89, 90, 91, 92):
        y = place(BYTES[0], percent)[1]
        parts.append(f'<path d="M{LEFT} {y:g}H{WIDTH - RIGHT}" stroke="#d5d9e3"/>')
        parts.append(text(LEFT - 10, y + 6, str(percent), "end"))
    for size in (10_000, 20_000, 50_000, 100_000, 200_000, 500_000):
        x = place(size, ACCURACY[0])[0]
        parts.append(f'<path d="M{x:g} {TOP}V{HEIGHT - BOTTOM}" stroke="#e6e9f0"/>')
        parts.append(text(x, HEIGHT - BOTTOM + 22, f"{size // 1000} kB", "middle"))
    beside = {"right": (14, 6, "start"), "left": (-14, 6, "end"), "above": (-8, -16, "start")}
    for (_, arm, words, colour, side), point in zip(POINTS, figures(), strict=True):
        (x, y), (dx, dy, anchor) = place(*point), beside[side]
        ring = (
            f'r="9" fill="none" stroke="{colour}" stroke-width="2.5"' if colour == CONTROL else f'r="6" fill="{colour}"'
        )
        parts.append(f'<circle cx="{x:g}" cy="{y:g}" {ring}><title>{arm}</title></circle>')
        parts.append(text(x + dx, y + dy, words, anchor, f' fill="{colour}"'))
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    if sys.argv[1:] not in ([], ["--check"]):
        print(f"site_picture: takes --check or nothing, got {sys.argv[1:]}", file=sys.stderr)
        return 2
    if not sys.argv[1:]:
        PICTURE.write_text(drawn(), encoding="utf-8")
    elif not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != drawn():
        print(f"{PICTURE.name} is not that of results/; run python tools/site_picture.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
