"""Encoders: what turns a sample into a sequence of time steps. One file each."""

from bitspike.layers.encoders.base import ENCODERS, Encoder
from bitspike.layers.encoders.delta import Delta
from bitspike.layers.encoders.frames import Frames
from bitspike.layers.encoders.latency import Latency
from bitspike.layers.encoders.noise import Noise, set_noise
from bitspike.layers.encoders.phase import Phase
from bitspike.layers.encoders.poisson import Poisson
from bitspike.layers.encoders.repeat import Repeat

__all__ = ["ENCODERS", "Delta", "Encoder", "Frames", "Latency", "Noise", "Phase", "Poisson", "Repeat", "set_noise"]
