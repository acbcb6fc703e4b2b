"""Rasters and rates of every layer as a PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bitspike.checks import bad_value
from bitspike.report.figure import new_figure
from bitspike.report.spikes.choice import chosen
from bitspike.report.spikes.colours import Scale, palette
from bitspike.report.spikes.samples import sample_frames
from bitspike.report.spikes.seen import Layer, Seen

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_STEPS, MOST_PANELS, FRAMES = 1000, 320, 6
"""Steps of a sample and rasters of a picture at most; frames of a sample that are shown."""
_DPI = 110


def spike_picture(layers: Sequence[Layer], seen: Sequence[Seen], title: str) -> bytes:
    """A PNG: a column a sample, a row a layer (neurons from top to bottom, steps from left to right, colours of
    `Scale`), and on the right the share of a layer's neurons that send, step by step.

    Args:
        layers: at least one. seen: at least one sample. title: heading.

    Raises:
        ImportError: matplotlib is missing. ValueError: more than 1000 steps or 320 rasters.
    """
    steps = max(one.steps for one in seen)
    if steps > MOST_STEPS:
        raise bad_value("view", f"a sample must have at most {MOST_STEPS} steps", steps, "take --out FILE.html")
    if len(layers) * len(seen) > MOST_PANELS:
        got = f"{len(layers)} layers of {len(seen)} samples"
        raise bad_value("view", f"a picture must have at most {MOST_PANELS} rasters", got, "set a smaller --samples")
    wide, scale, colours = max(3.4, steps / _DPI + 0.8), Scale(layers, seen), palette()
    figure = new_figure(wide * len(seen) + 3.2, 1.85 * (len(layers) + 1) + 0.4)
    ratios = [wide] * len(seen) + [2.8]
    grid = figure.subplots(len(layers) + 1, len(seen) + 1, squeeze=False, width_ratios=ratios)
    for axes, one in zip(grid[0, :-1], seen, strict=True):
        _sample(axes, one)
    _legend(grid[0, -1], scale)
    for row, layer in zip(grid[1:], layers, strict=True):
        for axes, one in zip(row[:-1], seen, strict=True):
            levels = one.sent[layer.name].reshape(len(one.sent[layer.name]), -1)
            rows = chosen(levels.shape[1])
            raster = colours[scale.codes(layer.name, levels[:, rows].T)]
            axes.imshow(raster, aspect="auto", interpolation="nearest", extent=(0, len(levels), len(rows), 0))
            axes.set(yticks=[])
            axes.locator_params("x", integer=True)
            axes.tick_params(labelsize="x-small")
            _say(axes, f"{layer.name}: {_shown(layer)}, {100 * one.rates(layer.name).mean():.3g} %")
        _rates(row[-1], layer, seen)
    if len(seen) > 1:
        grid[1, -1].legend(fontsize="xx-small", loc="lower right")
    for axes in grid[-1]:
        axes.set_xlabel("step", fontsize="small")
    figure.suptitle(title, fontsize="medium", parse_math=False)
    data = io.BytesIO()
    figure.savefig(data, dpi=_DPI, format="png")
    return data.getvalue()


def _shown(layer: Layer) -> str:
    shape = "×".join(map(str, layer.shape))
    rows = len(chosen(layer.size))
    return shape if rows == layer.size else f"{rows} of {shape}"


def _say(axes: Axes, words: str) -> None:
    axes.set_title(words, fontsize="small", loc="left", parse_math=False)


def _sample(axes: Axes, one: Seen) -> None:
    """The sample, of frames some side by side."""
    frames = sample_frames(one.sample, one.timed)
    places = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int))
    gap = np.full((frames.shape[1], max(1, frames.shape[2] // 16), 3), 255, np.uint8)
    strip = [part for k in places.tolist() for part in (frames[k], gap)][:-1]
    flat = len(frames) == 1 and one.timed
    axes.imshow(np.concatenate(strip, 1), interpolation="nearest", aspect="auto" if flat else "equal")
    axes.set(xticks=[], yticks=[])
    some = f", frames {', '.join(map(str, places.tolist()))} of {len(frames)}" if len(frames) > 1 else ""
    _say(axes, one.words + some)


def _rates(axes: Axes, layer: Layer, seen: Sequence[Seen]) -> None:
    for one in seen:
        rates = 100 * one.rates(layer.name)
        axes.stairs(rates, np.arange(len(rates) + 1), baseline=None, label=one.words.split(":")[0])
    axes.set(xlim=(0, axes.dataLim.xmax), ylim=(0, 1.08 * axes.dataLim.ymax or 1.0))
    axes.locator_params("x", integer=True)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize="x-small")
    _say(axes, "neurons that send, %")


def _legend(axes: Axes, scale: Scale) -> None:
    from matplotlib.patches import Patch

    axes.axis("off")
    rows = scale.legend()
    patches = [Patch(color=(r / 255, g / 255, b / 255), label=words) for words, (r, g, b) in rows]
    axes.legend(
        handles=patches, loc="center", ncols=1 + (len(rows) - 1) // 4, fontsize="x-small", title="level of a spike",
        title_fontsize="small", frameon=False,
    )  # fmt: skip
