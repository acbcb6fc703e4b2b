"""Small files in the folders of the sets of recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import event_files as files

VALIDATION = 8
GESTURES = 11
CARS = "airplane automobile bird cat deer dog frog horse ship truck".split()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def nmnist(root: Path) -> None:
    for part, count in (("Train", 4), ("Test", 2)):
        for digit in range(10):
            for k in range(count):
                seed = 1000 * digit + 10 * k + (part == "Test")
                events = files.draw(60, (34, 34), seed)
                write(root / "nmnist" / part / str(digit) / f"{10 * k + digit + 1:05}.bin", files.bin40(events))


def gesture(root: Path, users: tuple[tuple[str, ...], ...] = (("user01", "user02"), ("user24",))) -> None:
    folder = root / "DvsGesture"
    for part, names in zip(("train", "test"), users, strict=True):
        listed = [f"{name}_{light}.aedat" for name in names for light in ("led", "lab")]
        write(folder / f"trials_to_{part}.txt", "".join(f"{name}\n" for name in listed).encode())
        for name in listed:
            events = files.draw(1200, (128, 128), sum(name.encode()), span=120_000)
            write(folder / name, files.aedat3(events))
            rows = "".join(f"{k + 1},{10_000 * k + 500},{10_000 * k + 9500}\n" for k in range(GESTURES))
            write(folder / name.replace(".aedat", "_labels.csv"), f"class,startTime_usec,endTime_usec\n{rows}".encode())


def cifar10_dvs(root: Path) -> None:
    for label, name in enumerate(CARS):
        for k, number in enumerate((0, 5, 899, 900, 999)):
            events = files.draw(80, (128, 128), 10 * label + k)
            write(root / "cifar10_dvs" / name / f"cifar10_{name}_{number}.aedat", files.aedat2(events))


def ncaltech101(root: Path) -> None:
    for label, name in enumerate(("BACKGROUND_Google", "accordion", "yin_yang")):
        for number in range(1, 21):
            events = files.draw(80, (160, 200), 100 * label + number)
            write(root / "Caltech101" / name / f"image_{number:04}.bin", files.bin40(events))


def shd(root: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (root / "SHD").mkdir()
    for seed, (part, count) in enumerate((("train", 120), ("test", 20))):
        rng = np.random.default_rng(seed)
        with h5py.File(root / "SHD" / f"shd_{part}.h5", "w") as file:
            for name, kind in (("times", np.float16), ("units", np.uint16)):
                file.create_dataset(f"spikes/{name}", (count,), dtype=h5py.vlen_dtype(kind))
            for k in range(count):
                file["spikes/times"][k] = np.sort(rng.random(50)).astype(np.float16)
                file["spikes/units"][k] = rng.integers(0, 700, 50).astype(np.uint16)
            file["labels"] = (np.arange(count) % 20).astype(np.uint16)
            file["extra/speaker"] = (np.arange(count) // 20 + 6 * seed).astype(np.uint16)


WRITERS: dict[str, Callable[[Path], None]] = {
    "nmnist": nmnist,
    "dvs_gesture": gesture,
    "cifar10_dvs": cifar10_dvs,
    "ncaltech101": ncaltech101,
    "shd": shd,
}
