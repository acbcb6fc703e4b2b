"""Recordings of event cameras: readers, filters, frames, augmentation, data sets."""

from bitspike.data.events.aedat2 import LAYOUTS, read_aedat2
from bitspike.data.events.aedat3 import Trial, read_aedat3, read_trials
from bitspike.data.events.aedat4 import read_aedat4
from bitspike.data.events.anyfile import read_events
from bitspike.data.events.augment import EventAugmentation
from bitspike.data.events.cifar10_dvs import CIFAR10_DVS, load_cifar10_dvs
from bitspike.data.events.dvs_gesture import DVS_GESTURE, load_dvs_gesture
from bitspike.data.events.event_set import EventSet, load_events
from bitspike.data.events.filters import denoise, drop_hot_pixels
from bitspike.data.events.frames import count_frames
from bitspike.data.events.generic import read_csv_events, read_hdf5_events, read_npz_events
from bitspike.data.events.heidelberg import SHD, load_shd
from bitspike.data.events.live import EventListener, Live, LiveFrames, LiveStep, Packet, replay, run_live, send_events
from bitspike.data.events.mix import event_mix
from bitspike.data.events.moves import EventMoves
from bitspike.data.events.ncaltech101 import NCALTECH101, load_ncaltech101
from bitspike.data.events.nmnist import NMNIST, load_nmnist
from bitspike.data.events.options import FrameOptions
from bitspike.data.events.recording import Recording, recording, unwrap
from bitspike.data.events.saccades import read_bin
from bitspike.data.events.shd import Spoken, read_shd
from bitspike.data.events.splits import frame_splits, names_digest
from bitspike.data.events.surface import time_surface
from bitspike.data.events.tonic_sets import from_tonic
from bitspike.data.events.voxels import voxel_grid
from bitspike.data.group_split import apart

__all__ = [
    "CIFAR10_DVS",
    "DVS_GESTURE",
    "LAYOUTS",
    "NCALTECH101",
    "NMNIST",
    "SHD",
    "EventAugmentation",
    "EventListener",
    "EventMoves",
    "EventSet",
    "FrameOptions",
    "Live",
    "LiveFrames",
    "LiveStep",
    "Packet",
    "Recording",
    "Spoken",
    "Trial",
    "apart",
    "count_frames",
    "denoise",
    "drop_hot_pixels",
    "event_mix",
    "frame_splits",
    "from_tonic",
    "load_cifar10_dvs",
    "load_dvs_gesture",
    "load_events",
    "load_ncaltech101",
    "load_nmnist",
    "load_shd",
    "names_digest",
    "read_aedat2",
    "read_aedat3",
    "read_aedat4",
    "read_bin",
    "read_csv_events",
    "read_events",
    "read_hdf5_events",
    "read_npz_events",
    "read_shd",
    "read_trials",
    "recording",
    "replay",
    "run_live",
    "send_events",
    "time_surface",
    "unwrap",
    "voxel_grid",
]
