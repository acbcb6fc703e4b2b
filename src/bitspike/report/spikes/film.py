"""All neurons of every layer step by step, as a GIF or in a page."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bitspike.checks import bad_value
from bitspike.data.optional import need
from bitspike.report.spikes.colours import MISSING, Scale, palette
from bitspike.report.spikes.page import PAGE
from bitspike.report.spikes.samples import sample_frames
from bitspike.report.spikes.seen import Layer, Seen
from bitspike.report.spikes.tiles import laid

MOST_BYTES, SIDE, LINE = 2**26, 400, 14
"""Bytes of a page's or GIF's pictures at most; width of a layer in a GIF about, height of a line of text."""


class Strip(NamedTuple):
    """What one layer, or the sample, looks like.

    Attributes:
        words: heading. film: colours uint8 [n, H, W, 3], or codes of `palette` [n, H, W]; a step lasts 1/n of the
            sample. steps: those of the sample.
    """

    words: str
    film: np.ndarray
    steps: int

    def frame(self, step: int) -> int:
        """The picture at a step of the longest sample; a shorter one stays where it ended.

        >>> [Strip("toy", np.zeros((2, 1, 1)), 4).frame(k) for k in range(5)]
        [0, 0, 1, 1, 1]
        """
        return min(step, self.steps - 1) * len(self.film) // self.steps


def strips(layers: Sequence[Layer], seen: Sequence[Seen], scale: Scale) -> list[list[Strip]]:
    """The sample and all layers, of every sample."""
    found = []
    for one in seen:
        rows = [Strip(one.words, sample_frames(one.sample, one.timed), one.steps)]
        for layer in layers:
            codes = scale.codes(layer.name, one.sent[layer.name])
            shape = "x".join(map(str, layer.shape))
            words = f"{layer.name}: {shape}, {100 * one.rates(layer.name).mean():.3g} %"
            rows.append(Strip(words, laid(codes, layer.shape, MISSING), one.steps))
        found.append(rows)
    return found


def check_size(layers: Sequence[Layer], seen: Sequence[Seen]) -> None:
    """Raise `ValueError` for films of more than 64 MiB."""
    size = sum(one.sent[layer.name].size for one in seen for layer in layers) + 3 * sum(s.sample.size for s in seen)
    if size > MOST_BYTES:
        must = f"films of one file must have at most {MOST_BYTES:,} bytes"
        raise bad_value("view", must, f"{size:,}", "set a smaller --samples, or take --out FILE.png")


def spike_gif(layers: Sequence[Layer], seen: Sequence[Seen]) -> bytes:
    """A frame a step: a column a sample, the sample and then every layer, all neurons of it (`tiles`).

    Raises:
        ImportError: Pillow is missing. ValueError: more than 64 MiB of pictures.
    """
    check_size(layers, seen)
    image, draw = (need("view", f"PIL.{name}", "Pillow", "images") for name in ("Image", "ImageDraw"))
    scale, colours = Scale(layers, seen), palette()
    columns, steps = strips(layers, seen, scale), max(one.steps for one in seen)
    legend = scale.legend()
    heights = [max(LINE + _size(column[row].film)[0] + 4 for column in columns) for row in range(len(columns[0]))]
    widths = [8 + max(max(_size(strip.film)[1], 6 * len(strip.words)) for strip in column) for column in columns]
    whole = (LINE + sum(heights) + 2 * LINE, max(sum(widths), 8 + 60 * min(len(legend), 6)))
    down = LINE * (len(legend) // 6)
    if steps * (whole[0] + down) * whole[1] > MOST_BYTES:
        got = f"{steps} of {whole[1]}x{whole[0] + down}"
        must = f"frames of a GIF must have at most {MOST_BYTES:,} pixels"
        raise bad_value("view", must, got, "set a smaller --samples, or take --out FILE.html")
    frames = []
    for step in range(steps):
        canvas = image.new("RGB", (whole[1], whole[0] + down), "white")
        pen = draw.Draw(canvas)
        pen.text((4, 2), f"step {step}", fill="black")
        x = 4
        for column, width in zip(columns, widths, strict=True):
            y = LINE
            for strip, height in zip(column, heights, strict=True):
                pen.text((x, y), _plain(strip.words), fill="black")
                shown = strip.film[strip.frame(step)]
                shown = (colours[shown] if shown.ndim == 2 else shown).repeat(_zoom(strip.film), 0)
                canvas.paste(image.fromarray(shown.repeat(_zoom(strip.film), 1)), (x, y + LINE))
                y += height
            x += width
        for i, (words, colour) in enumerate(legend):
            at = (4 + 60 * (i % 6), whole[0] - LINE + LINE * (i // 6))
            pen.rectangle((*at, at[0] + 9, at[1] + 9), fill=colour)
            pen.text((at[0] + 13, at[1] - 1), words, fill="black")
        frames.append(canvas)
    data = io.BytesIO()
    pace = min(max(2000 // steps, 50), 500)
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=pace, loop=0)
    return data.getvalue()


def spike_page(picture: bytes | None, layers: Sequence[Layer], seen: Sequence[Seen], title: str) -> str:
    """One HTML file that loads nothing: a film of all neurons of every layer, and a picture of `spike_picture`.

    Raises:
        ValueError: more than 64 MiB of pictures.
    """
    check_size(layers, seen)
    scale = Scale(layers, seen)
    films: list[dict[str, Any]] = []
    body = []
    for column in strips(layers, seen, scale):
        for row, strip in enumerate(column):
            count, height, width = strip.film.shape[:3]
            head, words = ("h2", "p")[row > 0], html.escape(strip.words)
            body.append(
                f'<{head}>{words}</{head}><canvas id="f{len(films)}" width="{width}" height="{height}"></canvas>'
            )
            data = base64.b64encode(np.ascontiguousarray(strip.film).tobytes()).decode()
            facts = {"n": count, "h": height, "w": width, "deep": 3 if strip.film.ndim == 4 else 1}
            films.append({**facts, "zoom": _zoom(strip.film), "steps": strip.steps, "data": data})
    legend = "".join(
        f'<span><i style="background:rgb{colour}"></i>{html.escape(words)}</span>' for words, colour in scale.legend()
    )
    shown = "" if picture is None else base64.b64encode(picture).decode()
    still = f'<img alt="rasters and rates" src="data:image/png;base64,{shown}">' if shown else ""
    return PAGE.format(
        title=html.escape(title), films=json.dumps(films), body="\n".join(body), legend=legend, picture=still,
        palette=base64.b64encode(palette().tobytes()).decode(), last=max(one.steps for one in seen) - 1,
    )  # fmt: skip


def _zoom(film: np.ndarray) -> int:
    """Whole factor that makes a film some hundred pixels wide, and not too high."""
    height, width = film.shape[1:3]
    return max(1, min(SIDE // width, SIDE // 4 // height if film.ndim == 4 else SIDE // 2 // height, 12))


def _size(film: np.ndarray) -> tuple[int, int]:
    return film.shape[1] * _zoom(film), film.shape[2] * _zoom(film)


def _plain(words: str) -> str:
    """Words in the letters that the built-in font has."""
    return words.encode("latin-1", "replace").decode("latin-1")
