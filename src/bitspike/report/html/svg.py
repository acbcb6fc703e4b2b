"""Charts as inline SVG; colours come from the page, so that they follow light and dark."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

WIDE, HIGH, LEFT, BELOW = 360, 190, 46, 22
COLOURS = 6


def lines(title: str, x: Sequence[float], curves: Mapping[str, Sequence[float | None]], unit: str = "") -> str:
    """Curves over epochs with a legend; a missing value (None) leaves a gap.

    Args:
        title: heading. x: epochs. curves: name → one value an epoch. unit: behind the numbers of the axis.
    """
    values = [v for curve in curves.values() for v in curve if v is not None and math.isfinite(v)]
    if not values or not x:
        return ""
    low, high = min(values), max(values)
    if high == low:
        pad = abs(high) / 2 or 1.0
        low, high = low - pad, high + pad
    first, last = x[0], x[-1]

    def across(v: float) -> float:
        return LEFT + (WIDE - LEFT - 8) * ((v - first) / (last - first) if last > first else 0.5)

    def up(v: float) -> float:
        return 8 + (HIGH - BELOW - 8) * (high - v) / (high - low)

    parts = []
    for mark in (low, (low + high) / 2, high):
        y = up(mark)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDE - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{mark:.3g}{escape(unit)}</text>')
    marks = sorted({first, x[len(x) // 2], last})
    parts += [f'<text x="{across(v):.1f}" y="{HIGH - 6}" text-anchor="middle">{v:g}</text>' for v in marks]
    for place, (name, curve) in enumerate(curves.items()):
        style = f"c{place % COLOURS}" + (" dash" if place >= COLOURS else "")
        for piece in _pieces(x, curve):
            spots = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in piece)
            parts.append(f'<polyline class="{style}" points="{spots}"><title>{escape(name)}</title></polyline>')
            if len(piece) == 1:
                a, b = piece[0]
                parts.append(f'<circle class="{style}" cx="{across(a):.1f}" cy="{up(b):.1f}" r="2.5"/>')
    keys = "".join(
        f'<span><i class="c{place % COLOURS}{" dash" if place >= COLOURS else ""}"></i>{escape(name)}</span>'
        for place, name in enumerate(curves)
    )
    return _figure(title, f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img">{"".join(parts)}</svg>', keys)


def _pieces(x: Sequence[float], curve: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    """Runs of values without a gap."""
    found: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(x, curve, strict=True):
        if b is None or not math.isfinite(b):
            found.append([])
        else:
            found[-1].append((a, b))
    return [piece for piece in found if piece]


def bars(title: str, rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], unit: str = "") -> str:
    """Horizontal bars, some a row.

    Args:
        title: heading. rows: (label, values). names: of the values of a row. unit: behind the numbers.
    """
    most = max((v for _, values in rows for v in values), default=0.0) or 1.0
    step, each = 12 * len(names) + 20, 10
    parts = []
    for place, (label, values) in enumerate(rows):
        top = place * step
        parts.append(f'<text x="0" y="{top + 11}">{escape(label)}</text>')
        for i, value in enumerate(values):
            y, width = top + 15 + 12 * i, max(1.0, 300 * value / most) if value else 0.0
            parts.append(f'<rect class="c{i}" x="0" y="{y}" width="{width:.1f}" height="{each}" rx="2"/>')
            parts.append(f'<text x="{width + 4:.1f}" y="{y + 9}">{value:,.4g}{escape(unit)}</text>')
    several = names if len(names) > 1 else ()  # one is the title
    keys = "".join(f'<span><i class="c{i}"></i>{escape(name)}</span>' for i, name in enumerate(several))
    high = step * len(rows)
    return _figure(title, f'<svg viewBox="0 0 {WIDE} {high}" role="img">{"".join(parts)}</svg>', keys)


def histogram(title: str, counts: Mapping[str, int]) -> str:
    """Shares of levels, one column each, in order."""
    whole, most = sum(counts.values()) or 1, max(counts.values(), default=0) or 1
    wide = (WIDE - 8) / max(len(counts), 1)
    every = math.ceil(len(counts) / 12)
    parts = []
    for place, (level, count) in enumerate(counts.items()):
        high, x = 110 * count / most, 4 + place * wide
        words = f"level {level}: {count / whole:.1%}"
        parts.append(
            f'<rect class="c0" x="{x + wide * 0.1:.1f}" y="{118 - high:.1f}" width="{wide * 0.8:.1f}" '
            f'height="{high:.1f}"><title>{escape(words)}</title></rect>'
        )
        if place % every == 0:
            parts.append(f'<text x="{x + wide / 2:.1f}" y="131" text-anchor="middle">{escape(level)}</text>')
    return _figure(title, f'<svg viewBox="0 0 {WIDE} 136" role="img">{"".join(parts)}</svg>', "")


def picture(pixels: np.ndarray, words: str, kind: str) -> str:
    """An image of unsigned bytes [H, W, 4] as a PNG inside the page, drawn with hard pixels."""
    high, wide, _ = pixels.shape
    raw = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels, dtype=np.uint8))
    head = struct.pack(">IIBBBBB", wide, high, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    text = base64.b64encode(data).decode()
    return f'<img class="{kind}" alt="{escape(words)}" src="data:image/png;base64,{text}">'


def _figure(title: str, chart: str, keys: str) -> str:
    legend = f'<p class="keys">{keys}</p>' if keys else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{chart}{legend}</figure>"
