"""Spiking Heidelberg Digits: spoken digits as spikes of 700 channels, in HDF5."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bitspike.checks import bad_value
from bitspike.data.events.hdf5 import member, open_hdf5
from bitspike.data.events.recording import Recording, recording
from bitspike.data.events.units import micro
from bitspike.data.optional import need

CHANNELS = 700


class Spoken(NamedTuple):
    """One recording of a sound, its class and its speaker (-1: not said)."""

    events: Recording
    label: int
    speaker: int


def read_shd(path: str | os.PathLike[str], faults: str = "error", channels: int = CHANNELS) -> Iterator[Spoken]:
    """Read an HDF5 file of Spiking Heidelberg Digits (or Spiking Speech Commands), one recording at a time.

    Members: ``spikes/times`` (floats in seconds, a row of its own length a recording), ``spikes/units`` (integers, the
    same), ``labels`` (integers) and, where there, ``extra/speaker``. A recording is one of a sensor of one row, all its
    events ON; times are rounded to microseconds.

    Source: Cramer et al., "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking Neural Networks",
    IEEE TNNLS 33(7), 2022.

    Args:
        path: the file. faults: as in `recording`; times that are no numbers are an error always. channels: units are 0
            to channels - 1.

    Raises:
        ImportError: h5py is not installed (``bitspike[events]``).
        ValueError: no such file, a lacking member, members that disagree, or a fault.
    """
    where = f"read_shd {os.fspath(path)}"
    h5py = need(where, "h5py", "h5py", "events")
    with open_hdf5(where, h5py, path) as file:
        times, units, labels = (member(where, file, name) for name in ("spikes/times", "spikes/units", "labels"))
        speakers = file.get("extra/speaker")
        counts = [len(held) for held in (times, units, labels, *([] if speakers is None else [speakers]))]
        if len(set(counts)) > 1:
            raise bad_value(where, "times, units, labels and speakers must be equally many", counts, "pair them")
        for number in range(counts[0]):
            t, x = np.asarray(times[number]), np.asarray(units[number])
            one = f"{where} ({number})"
            events = recording(one, micro(one, t, "s"), x, x * 0, x >= x, (1, channels), faults)
            speaker = -1 if speakers is None else int(speakers[number])
            yield Spoken(events, int(labels[number]), speaker)
