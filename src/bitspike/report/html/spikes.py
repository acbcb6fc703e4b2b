"""Rasters and level histograms of some samples, and their pictures where the data may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from bitspike.report.html.svg import histogram, picture
from bitspike.report.spikes import Layer, Seen, layer_facts

SHOWN = ("digits", "fashion_mnist")
"""Data whose samples the page may carry; of all others it has the spikes only."""
_MOST = 256


@dataclass(frozen=True)
class Spikes:
    """What layers send for some samples.

    Attributes:
        data: name of the data. layers, seen: of `bitspike.report.spikes.seen_in_network`.
    """

    data: str
    layers: Sequence[Layer]
    seen: Sequence[Seen]


def spike_section(spikes: Spikes) -> str:
    """Rasters of every sample, then the levels of every layer over all of them."""
    parts = []
    for one in spikes.seen:
        own = _sample(one) if spikes.data in SHOWN else ""
        rasters = "".join(
            f"<p>{escape(layer.name)}: {100 * one.rates(layer.name).mean():.1f} % fire</p>"
            + picture(_raster(one.sent[layer.name]), f"spikes of {layer.name}", "raster")
            for layer in spikes.layers
        )
        parts.append(f"<h3>{escape(one.words)}</h3>{own}{rasters}")
    facts = layer_facts(spikes.layers, spikes.seen)
    charts = "".join(histogram(row["name"], row["levels"]) for row in facts if row.get("levels"))
    note = (
        f"<p class='note'>A row is a time step, a column a neuron (at most {_MOST} a layer, evenly chosen). The "
        "stronger the colour, the larger the level; negative levels are blue.</p>"
    )
    levels = f"<h3>Levels of these samples, as shares</h3><div class='charts'>{charts}</div>" if charts else ""
    return note + "".join(parts) + levels


def _raster(sent: np.ndarray) -> np.ndarray:
    """[T, neurons, 4] of levels [T, ...]; what is silent is transparent."""
    flat = sent.reshape(len(sent), -1).astype(np.float64)
    flat = flat[:, np.unique(np.linspace(0, flat.shape[1] - 1, min(_MOST, flat.shape[1])).astype(int))]
    most = np.abs(flat).max(initial=0.0) or 1.0
    pixels = np.zeros((*flat.shape, 4), np.uint8)
    pixels[..., :3] = np.where(flat[..., None] > 0, (224, 104, 22), (40, 120, 220))
    pixels[..., 3] = np.where(flat == 0, 0, 60 + 195 * np.abs(flat) / most).astype(np.uint8)
    return pixels


def _sample(one: Seen) -> str:
    """A picture [C, H, W] in grey or colour; what is no picture is left out."""
    x = np.asarray(one.sample, np.float64)
    if one.timed or x.ndim != 3 or x.shape[0] not in (1, 3):
        return ""
    low, high = x.min(), x.max()
    grey = ((x - low) / ((high - low) or 1.0) * 255).astype(np.uint8).transpose(1, 2, 0)
    pixels = np.full((*grey.shape[:2], 4), 255, np.uint8)
    pixels[..., :3] = grey
    return picture(pixels, one.words, "sample")
