"""``bitspike view``: pictures of a recording of events, or of what a run's or program's layers send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from bitspike.checks import bad_value, integer, one_of
from bitspike.commands.options import LARGE, Json
from bitspike.commands.view_events import LATEST, MOST, view_events
from bitspike.commands.view_spikes import MOST_SAMPLES, view_spikes
from bitspike.data.events.anyfile import SUFFIXES

FORMS = (".png", ".gif", ".html")


def view(
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECORDING|RUN|MODEL")],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    T: int | None = None,
    step_us: int | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    sensor: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
    faults: Literal["error", "skip"] | None = None,
    index: int | None = None,
    samples: int | None = None,
    weights: Literal["final", "best"] | None = None,
    input: Annotated[Path | None, tyro.conf.arg(metavar="INPUT")] = None,
    json: Json = None,
) -> None:
    """Draw a recording of events, or the spikes of every layer of a run or program. All happens here, nothing is sent.

    Args:
        source: A recording, a file that ends in .bin (N-MNIST, N-Caltech101), .aedat (2.0, 3.1), .aedat4, or with
            columns t, x, y, p in .npz, .csv, .h5 or .hdf5; or the folder of a finished run, whose test split is taken;
            or a program, MODEL.bitspike.
        out: The picture: .png (some frames, rasters, rates), .gif (step by step; needs Pillow), or .html (all in one
            file).
        T: Of a recording: steps, 1 to 1000; left out: 20, or as many as --step-us asks for.
        step_us: Of a recording: microseconds of a step; left out: T equal parts.
        start_us: Of a recording: where to begin, in its time; left out: at the first event.
        end_us: Of a recording: where to end; left out: behind the last event.
        sensor: Of a recording: H W of the sensor; needed for plain columns.
        size: Of a recording: H W of the frames, not larger than the sensor; pixels are added up.
        faults: Of a recording: error (left out: this), or skip: what is faulty in the file is left out and counted.
        index: Of a run or program: number of the first sample; left out: 0.
        samples: Of a run or program: how many samples, 1 to 8; left out: 1.
        weights: Of a run: those after the last epoch (final; left out: these), or with the best validation (best).
        input: Of a program: X.npy, a picture or a folder of pictures, as `bitspike run` takes them; or the folder of
            the run it was compiled from, whose test split is taken.
        json: Write what was drawn to this file too.
    """
    form = one_of("view", "the end of --out", out.suffix.lower(), FORMS)
    for name, value, low, high in (
        ("--T", T, 1, MOST),
        ("--step-us", step_us, 1, 10**9),
        ("--start-us", start_us, 0, LATEST),
        ("--end-us", end_us, 1, LATEST),
        ("--index", index, 0, LARGE),
        ("--samples", samples, 1, MOST_SAMPLES),
    ):
        if value is not None:
            integer("view", name, value, low, high)
    if not source.exists():
        raise bad_value("view", f"{source} must be there", "no such file or folder", "check the path")
    if not source.is_dir():
        one_of("view", "the end of the name", source.suffix.lower(), (*SUFFIXES, ".bitspike"))
    if out.is_dir() or out.resolve() == source.resolve():
        raise bad_value("view", "--out must be a file of its own", str(out), "name another")
    times = {"--T": T, "--step-us": step_us, "--start-us": start_us, "--end-us": end_us}
    events = {**times, "--sensor": sensor, "--size": size, "--faults": faults}
    spikes = {"--index": index, "--samples": samples}
    if source.is_dir():
        _none(f"a run ({source})", {**events, "--input": input})
        view_spikes(source, None, weights or "final", index or 0, samples or 1, out, form, json)
    elif source.suffix.lower() == ".bitspike":
        _none(f"a program ({source})", {**events, "--weights": weights})
        view_spikes(input, source, "final", index or 0, samples or 1, out, form, json)
    else:
        _none(f"a recording ({source})", {**spikes, "--weights": weights, "--input": input})
        view_events(source, out, form, T, step_us, start_us, end_us, sensor, size, faults or "error", json)


def _none(what: str, options: dict[str, object]) -> None:
    """Raise if an option is given that says nothing of such a source."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise bad_value("view", f"{given[0]} must be left out for {what}", given[0], "remove it")
