"""Colours of levels: none for no spike, yellow to dark red above 0, light to dark blue below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitspike.report.spikes.seen import Layer, Seen

SHADES, SILENT, MISSING = 127, 128, 0
"""Codes are uint8: 128 is no spike, those above are positive, 1 to 127 negative ones; 0 is where there is no neuron."""
ALONE = 0.66
"""Share of the only level there is."""
MOST_SWATCHES = 16
_PLUS = ((255, 217, 102), (245, 150, 40), (214, 40, 40), (84, 0, 30))
_MINUS = ((170, 215, 235), (80, 160, 220), (40, 80, 190), (20, 10, 90))


class Scale:
    """What shade a level has, the same in all layers of a picture: log2(|k|) / log2(the greatest |k|).

    Numbers (real spikes) count by |value| / the greatest that was sent. Up to 31 levels of a sign have a
    shade each; of more the greatest ones share some.

    Args:
        layers: of a network or program. seen: what they sent.

    >>> spikes = {"a": np.array([[0, 1, 3, -3]])}
    >>> Scale([Layer("a", (4,), -3, 3)], [Seen("toy", np.zeros(1), False, spikes, np.zeros(1))]).codes("a", spikes["a"])
    array([[128, 129, 255,   1]], dtype=uint8)
    """

    def __init__(self, layers: Sequence[Layer], seen: Sequence[Seen]) -> None:
        self.layers: dict[str, Layer] = {layer.name: layer for layer in layers}
        whole = [layer for layer in layers if not layer.real]
        ends = [max(layer.high, -layer.low) for layer in whole]
        ends += [int(np.abs(one.sent[layer.name]).max(initial=0)) for one in seen for layer in whole]
        self.most: int = max(ends, default=0)
        sent = [one.sent[layer.name] for one in seen for layer in layers if layer.real]
        self.greatest: float = max((float(np.abs(values).max()) for values in sent if values.size), default=0.0)
        low, high = min((layer.low for layer in whole), default=0), max((layer.high for layer in whole), default=0)
        self.named: list[int] = [k for k in range(low, high + 1) if k]
        if len(self.named) > MOST_SWATCHES:
            found = np.unique(np.concatenate([np.unique(one.sent[layer.name]) for one in seen for layer in whole]))
            found = found[found != 0]
            places = np.unique(np.linspace(0, len(found) - 1, min(MOST_SWATCHES, len(found))).round().astype(int))
            self.named = found[places].tolist() if len(found) else []

    def codes(self, layer: str, levels: np.ndarray) -> np.ndarray:
        """uint8 codes of levels, which `palette` colours."""
        size = np.abs(levels.astype(np.float64))
        if self.layers[layer].real:
            share = size / (self.greatest or 1.0)
        else:
            share = np.log2(np.maximum(size, 1)) / np.log2(self.most) if self.most > 1 else np.full(size.shape, ALONE)
        shade = (1 + np.rint((SHADES - 1) * share)) * np.sign(levels)
        codes: np.ndarray = (SILENT + shade).astype(np.uint8)
        return codes

    def legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Words and colour of every level, or of some where there are many; then of the greatest numbers."""
        rows = []
        whole = next((name for name, layer in self.layers.items() if not layer.real), None)
        if whole is not None:
            codes = self.codes(whole, np.array(self.named, np.int64))
            rows = [(f"{k:+d}", _colour(code)) for k, code in zip(self.named, codes.tolist(), strict=True)]
        if self.greatest:
            for part in (0.25, 0.5, 1.0):
                code = SILENT + 1 + round((SHADES - 1) * part)
                rows.append((f"real {part * self.greatest:.3g}", _colour(code)))
        return rows


def palette() -> np.ndarray:
    """uint8 [256, 3], the colour of every code."""
    colours = np.full((256, 3), 255, np.uint8)
    shares = np.linspace(0, 1, SHADES)
    for first, way, anchors in ((SILENT + 1, 1, _PLUS), (SILENT - 1, -1, _MINUS)):
        rows = np.array(anchors, np.float64)
        ramp = np.stack([np.interp(shares, np.linspace(0, 1, len(rows)), rows[:, k]) for k in range(3)], 1)
        colours[first + way * np.arange(SHADES)] = np.rint(ramp)
    colours[MISSING] = (210, 210, 210)
    return colours


def _colour(code: int) -> tuple[int, int, int]:
    red, green, blue = palette()[code].tolist()
    return red, green, blue
