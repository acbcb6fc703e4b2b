"""``bitspike view RECORDING``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitspike.checks import bad_value
from bitspike.commands.options import write_json
from bitspike.data.events import count_frames, read_events
from bitspike.files import write_bytes_atomic
from bitspike.report.events import event_gif, event_page, event_picture

MOST, LATEST = 1000, 2**62


def view_events(
    recording: Path,
    out: Path,
    form: str,
    T: int | None,
    step_us: int | None,
    start_us: int | None,
    end_us: int | None,
    sensor: tuple[int, int] | None,
    size: tuple[int, int] | None,
    faults: str,
    json: Path | None,
) -> None:
    """Draw a recording of events: frames, raster and rates; arguments as in `bitspike.commands.view`, in range."""
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
