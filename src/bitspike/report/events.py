"""Pictures of a recording of events: frames, raster and rates as PNG, GIF or one HTML file."""

from __future__ import annotations

import base64
import html
import io

import numpy as np

from bitspike.checks import bad_value
from bitspike.data.events import Recording, count_frames
from bitspike.data.optional import need
from bitspike.report.figure import new_figure

SHOWN, SIDE, MOST_BYTES = 8, 256, 2**26
"""Frames of a PNG; pixels of the longer side of a GIF about; bytes of coloured frames in a GIF or page at most."""
_COLUMNS, _ROWS = 400, 256
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:sans-serif;margin:1em}}canvas{{image-rendering:pixelated;width:{wide}px;border:1px solid #888}}
img{{max-width:100%}}</style></head><body><h1>{title}</h1>
<canvas id="c" width="{width}" height="{height}"></canvas>
<p><button id="b">pause</button> <input id="s" type="range" min="0" max="{last}" value="0"> <span id="t"></span></p>
<img alt="frames, raster and rates" src="data:image/png;base64,{picture}">
<script>
const rgb = Uint8Array.from(atob("{frames}"), c => c.charCodeAt(0)), n = {width} * {height};
const pen = c.getContext("2d"), image = pen.createImageData({width}, {height});
let on = true;
function show(k) {{
  for (let i = 0; i < n; i++) {{
    for (let j = 0; j < 3; j++) image.data[4 * i + j] = rgb[3 * (k * n + i) + j];
    image.data[4 * i + 3] = 255;
  }}
  pen.putImageData(image, 0, 0);
  s.value = k;
  t.textContent = "step " + k + ", " + ({start} + k * {step}) / 1000 + " ms";
}}
s.oninput = () => {{ on = false; b.textContent = "play"; show(+s.value); }};
b.onclick = () => {{ on = !on; b.textContent = on ? "pause" : "play"; }};
setInterval(() => {{ if (on) show((+s.value + 1) % {count}); }}, 100);
show(0);
</script></body></html>
"""


def event_picture(events: Recording, T: int, step_us: int, start_us: int, size: tuple[int, int], title: str) -> bytes:
    """A PNG: up to eight of T frames, events over time and pixel, and events a second by polarity.

    Args:
        events: a recording, its times counted from ``start_us``, which is for the words only. T: steps.
        step_us: duration of a step. size: (H', W') of the frames. title: heading.

    Raises:
        ImportError: matplotlib is missing.
    """
    frames = count_frames(events, T, step_us=step_us, start_us=0, size=size)
    coloured = colours(frames)
    figure = new_figure(11.0, 7.5)
    shown = np.unique(np.linspace(0, T - 1, min(SHOWN, T)).round().astype(int))
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 2.4))[:, 0]
    for axes, k in zip(top.subplots(1, len(shown), squeeze=False)[0], shown.tolist(), strict=True):
        axes.imshow(coloured[k], interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{(start_us + k * step_us) / 1e3:g} ms", fontsize="small")
    raster, rates = bottom.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    ends = (start_us / 1e3, (start_us + T * step_us) / 1e3)
    pixels = events.size[0] * events.size[1]
    grid = np.log1p(raster_of(events, T * step_us))
    raster.imshow(grid, cmap="Greys", aspect="auto", interpolation="nearest", extent=(*ends, pixels, 0), vmin=0)
    raster.set_ylabel("pixel, row by row")
    begins = ends[0] + np.arange(T + 1) * step_us / 1e3
    for channel, (word, colour) in enumerate((("OFF", "tab:blue"), ("ON", "tab:red"))):
        rates.stairs(frames[:, channel].sum((1, 2)) * (1e6 / step_us), begins, label=word, color=colour)
    rates.set(xlabel="ms", ylabel="events / s", ylim=(0, None))
    rates.legend(fontsize="small")
    rates.grid(alpha=0.3)
    legend = f"ON red, OFF blue, full at {full(frames):g} events a pixel and step"
    figure.suptitle(f"{title}; {legend}", fontsize="medium", parse_math=False)
    data = io.BytesIO()
    figure.savefig(data, dpi=110, format="png")
    return data.getvalue()


def raster_of(events: Recording, span_us: int) -> np.ndarray:
    """Events of [0, span_us) by pixel, row by row in at most 256 groups, and by time in 400 parts.

    >>> at = np.array([0, 1], np.uint16)
    >>> grid = raster_of(Recording(np.array([0, 999]), at, at, at > 0, (2, 2)), 1000)
    >>> grid.shape, np.argwhere(grid).tolist()
    ((4, 400), [[0, 0], [3, 399]])
    """
    pixels = events.size[0] * events.size[1]
    grid = np.zeros((min(_ROWS, pixels), _COLUMNS), np.int64)
    inside = events.t < span_us
    pixel = (events.y.astype(np.int64) * events.size[1] + events.x)[inside]
    np.add.at(grid, (pixel * len(grid) // pixels, events.t[inside] * _COLUMNS // span_us), 1)
    return grid


def event_gif(frames: np.ndarray, ms: int = 100) -> bytes:
    """Counts ``[T, 2, H, W]`` as an animation that repeats, small frames enlarged by a whole factor.

    Raises:
        ImportError: Pillow is missing. ValueError: frames of more than 64 MiB in colours.
    """
    image = need("view", "PIL.Image", "Pillow", "images")
    zoom = max(1, SIDE // max(frames.shape[2:]))
    pictures = [image.fromarray(frame.repeat(zoom, 0).repeat(zoom, 1)) for frame in _few(frames)]
    data = io.BytesIO()
    pictures[0].save(data, "GIF", save_all=True, append_images=pictures[1:], duration=ms, loop=0)
    return data.getvalue()


def event_page(picture: bytes, frames: np.ndarray, step_us: int, start_us: int, title: str) -> str:
    """One HTML file with the frames as a film and the picture of `event_picture`; it loads nothing.

    Raises:
        ValueError: frames of more than 64 MiB in colours.
    """
    coloured = _few(frames)
    count, height, width, _ = coloured.shape
    return _PAGE.format(
        title=html.escape(title), width=width, height=height, count=count,
        wide=width * max(1, 2 * SIDE // max(width, height)),
        last=count - 1, start=start_us, step=step_us, picture=base64.b64encode(picture).decode(),
        frames=base64.b64encode(coloured.tobytes()).decode(),
    )  # fmt: skip


def full(frames: np.ndarray) -> float:
    """The count that has the full colour: 99 of 100 counts above 0 do not exceed it.

    >>> full(np.array([0, 1, 1, 5])), full(np.zeros(3, int))
    (5.0, 1.0)
    """
    some = frames[frames > 0]
    return float(np.percentile(some, 99, method="inverted_cdf")) if some.size else 1.0


def colours(frames: np.ndarray) -> np.ndarray:
    """Counts ``[T, 2, H, W]`` → uint8 ``[T, H, W, 3]``: white where nothing is, blue OFF, red ON; see `full`.

    >>> colours(np.array([[0, 1], [2, 0], [0, 0]]).reshape(3, 2, 1, 1)).reshape(3, 3).tolist()
    [[255, 128, 128], [0, 0, 255], [255, 255, 255]]
    """
    off, on = np.moveaxis(np.minimum(frames / full(frames), 1.0), 1, 0)
    light = np.stack([1 - off, 1 - np.minimum(on + off, 1.0), 1 - on], -1)
    shades: np.ndarray = np.rint(255 * light).astype(np.uint8)
    return shades


def _few(frames: np.ndarray) -> np.ndarray:
    """Coloured frames, unless they are too many for one file."""
    size = 3 * frames.size // 2
    if size > MOST_BYTES:
        must = f"coloured frames of one file must have at most {MOST_BYTES:,} bytes"
        raise bad_value("view", must, f"{size:,}", "set --size or a smaller --T")
    return colours(frames)
