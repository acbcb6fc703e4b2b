"""Other readers of event files, asked by compare.py: one JSON line a question, one a reply; nothing of bitspike."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tonic
import tonic.io as tio
from tonic.functional import to_frame_numpy

EVENT = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])
NAMES = ("tonic", "dv-processing", "aedat", "numpy", "h5py")


def columns(events: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(events[name]) for name in "txyp"}


def mnist(path: str) -> dict[str, np.ndarray]:
    return columns(tio.read_mnist_file(path, EVENT))


@contextmanager
def two_values() -> Iterator[None]:
    """tonic 1.7.0's `read_dvs_128` and `read_dvs_ibm` want two values of a function that gives three now."""
    whole = tio.read_aedat_header_from_file
    tio.read_aedat_header_from_file = lambda path: whole(path)[:2]
    try:
        yield
    finally:
        tio.read_aedat_header_from_file = whole


def dvs128(path: str) -> dict[str, np.ndarray]:
    """tonic calls the row x and the column y, and leaves the polarity bit as it is."""
    with two_values():
        _, found = tio.read_dvs_128(path)
    return {"t": found["t"], "x": found["y"], "y": found["x"], "p": ~found["p"]}


def davis(path: str) -> dict[str, np.ndarray]:
    """tonic turns both axes round; it wants a line with the time of creation."""
    _, _, found = tio.read_davis_346(path)
    return {"t": found["t"], "x": 345 - found["x"], "y": 259 - found["y"], "p": found["p"]}


def gesture(path: str) -> dict[str, np.ndarray]:
    with two_values():
        return columns(tio.read_dvs_ibm(path)[1])


def aedat4(path: str) -> dict[str, np.ndarray]:
    found = tio.read_aedat4(path)
    return {"t": found["t"], "x": found["x"], "y": found["y"], "p": found["on"]}


def dv(path: str) -> dict[str, np.ndarray]:
    import dv_processing

    source, parts = dv_processing.io.MonoCameraRecording(path), []
    while (batch := source.getNextEventBatch()) is not None:
        parts.append(batch.numpy())
    found = np.concatenate(parts)
    return {"t": found["timestamp"], "x": found["x"], "y": found["y"], "p": found["polarity"]}


def spoken(path: str) -> dict[str, np.ndarray]:
    """All recordings of tonic's SHD, one after the other, with the number of the recording for a row."""
    data = tonic.datasets.SHD(str(Path(path).parent.parent), train=True)
    parts = [data[k] for k in range(len(data))]
    row = np.concatenate([np.full(len(events), k) for k, (events, _) in enumerate(parts)])
    found = np.concatenate([events for events, _ in parts])
    labels = np.array([label for _, label in parts])
    return {"t": found["t"], "x": found["x"], "y": row, "p": found["p"] > 0, "labels": labels, "speakers": data.speaker}


READERS = {
    "bin": mnist,
    "aedat2 dvs128": dvs128,
    "aedat2 davis": davis,
    "aedat3": gesture,
    "aedat4": aedat4,
    "aedat4 by dv-processing": dv,
    "shd": spoken,
}


def write_dv(path: str, source: str) -> None:
    """A file of dv-processing, LZ4, of the events in an npz archive."""
    import dv_processing

    held = np.load(source)
    config = dv_processing.io.MonoCameraWriter.EventOnlyConfig("DVXplorer_sample", (346, 260))
    writer, store = dv_processing.io.MonoCameraWriter(path, config), dv_processing.EventStore()
    for t, x, y, p in zip(*(held[name].tolist() for name in "txyp"), strict=True):
        store.push_back(t, x, y, bool(p))
    writer.writeEvents(store)
    del writer


def frames(path: str, size: list[int], how: dict[str, int], repeats: int, out: str | None) -> float:
    """Seconds a recording of `to_frame_numpy`, over all in an npz archive of several."""
    held = np.load(path)
    parts = []
    for start, end in zip(held["offsets"][:-1], held["offsets"][1:], strict=True):
        events = np.empty(end - start, EVENT)
        for name in "txyp":
            events[name] = held[name][start:end]
        parts.append(events)
    shape = (size[1], size[0], 2)
    begin = time.perf_counter()
    for _ in range(repeats):
        for events in parts:
            to_frame_numpy(events, shape, **how)
    seconds = time.perf_counter() - begin
    if out:
        np.savez(out, *(to_frame_numpy(events, shape, **how) for events in parts))
    return seconds / repeats / len(parts)


def answer(question: dict) -> dict:
    if question["do"] == "versions":
        return {name: importlib.metadata.version(name) for name in NAMES}
    if question["do"] == "write":
        write_dv(question["path"], question["source"])
        return {}
    if question["do"] == "frames":
        keys = ("path", "size", "how", "repeats", "out")
        return {"seconds": frames(*(question[key] for key in keys))}
    np.savez(question["out"], **READERS[question["kind"]](question["path"]))
    return {}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
