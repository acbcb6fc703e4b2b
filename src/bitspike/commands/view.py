"""``bitspike view``: pictures of a recording of events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from bitspike.checks import bad_value, integer, one_of
from bitspike.commands.options import Json, write_json
from bitspike.data.events import count_frames, read_events
from bitspike.files import write_bytes_atomic
from bitspike.report.events import event_gif, event_page, event_picture

MOST, LATEST = 1000, 2**62
FORMS = (".png", ".gif", ".html")


def view(
    recording: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECORDING")],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    T: int | None = None,
    step_us: int | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    sensor: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
    faults: Literal["error", "skip"] = "error",
    json: Json = None,
) -> None:
    """Draw a recording of events: frames, raster and rates. It is read and drawn here and sent nowhere.

    Args:
        recording: File that ends in .bin (N-MNIST, N-Caltech101), .aedat (2.0, 3.1), .aedat4, or with columns t, x, y,
            p in .npz, .csv, .h5 or .hdf5.
        out: The picture: .png (some frames, raster, rates), .gif (frames; needs Pillow), or .html (all in one file).
        T: Steps, 1 to 1000; left out: 20, or as many as --step-us asks for.
        step_us: Microseconds of a step; left out: T equal parts.
        start_us: Where to begin, in the recording's time; left out: at the first event.
        end_us: Where to end; left out: behind the last event.
        sensor: H W of the sensor; needed for plain columns.
        size: H W of the frames, not larger than the sensor; pixels are added up.
        faults: Whether faults of the file are errors, or what is faulty is left out and counted.
        json: Write what was drawn to this file too.
    """
    form = one_of("view", "the end of --out", out.suffix.lower(), FORMS)
    for name, value, low, high in (
        ("--T", T, 1, MOST),
        ("--step-us", step_us, 1, 10**9),
        ("--start-us", start_us, 0, LATEST),
        ("--end-us", end_us, 1, LATEST),
    ):
        if value is not None:
            integer("view", name, value, low, high)
    if out.is_dir() or out.resolve() == recording.resolve():
        raise bad_value("view", "--out must be a file of its own", str(out), "name another")
    whole = read_events(recording, sensor, faults)
    first = (int(whole.t[0]) if len(whole) else 0) if start_us is None else start_us
    last = (int(whole.t[-1]) + 1 if len(whole) else 0) if end_us is None else end_us
    if T is not None and step_us is not None:
        last = min(last, first + T * step_us)
    part = whole.between(first, max(first, last))
    if not len(part):
        got = f"none from {first} to {last} us of {whole}"
        raise bad_value("view", "there must be an event to draw", got, "change --start-us, --end-us or --T")
    steps, step = T, step_us
    if step is None:
        steps = steps or 20
        step = -(-(last - first) // steps)
    steps = steps or -(-(last - first) // step)
    if steps > MOST:
        raise bad_value("view", f"there must be at most {MOST} steps", steps, "set --T, or a greater --step-us")
    if step > 10**9:
        raise bad_value("view", "a step must last at most 10^9 us", step, "set --start-us, --end-us or a greater --T")
    frames = count_frames(part, steps, step_us=step, start_us=0, size=size)
    name = recording.name.encode("utf-8", "replace").decode()
    title = f"{name}: {len(part):,} events, {steps} steps of {step / 1e3:g} ms"
    if form == ".gif":
        data = event_gif(frames)
    else:
        data = event_picture(part, steps, step, first, (frames.shape[2], frames.shape[3]), title)
        if form == ".html":
            data = event_page(data, frames, step, first, title).encode()
    write_bytes_atomic(out, data)
    skipped, shown = dict(whole.skipped), int(frames.sum(dtype=np.int64))
    write_json(
        json,
        {"events": len(whole), "shown": shown, "sensor": list(whole.size), "steps": steps, "step_us": step,
         "start_us": first, "skipped": skipped, "file": str(out), "bytes": len(data)},
    )  # fmt: skip
    lost = f", skipped {skipped}" if skipped else ""
    print(f"{out}: {len(data):,} bytes; {shown:,} of {len(whole):,} events{lost}, {steps} steps of {step} us")
