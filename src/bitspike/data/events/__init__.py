"""Recordings of event cameras: readers, filters, frames, augmentation, data sets."""

from bitspike.data.events.event_set import EventSet, load_events
from bitspike.data.events.filters import denoise, drop_hot_pixels
from bitspike.data.events.recording import Recording, recording, unwrap

__all__ = ["EventSet", "Recording", "denoise", "drop_hot_pixels", "load_events", "recording", "unwrap"]
