"""Spiking neural networks whose spikes carry more than one bit: train, convert, fold, count, stream."""

from bitspike import convert, data, functional, layers, models, neurons, ops, quantizers, training
from bitspike.convert import ann2snn, expand_unary, fold, upgrade
from bitspike.cost import cost
from bitspike.formats import SpikeFormat, WeightFormat, pack, unpack
from bitspike.graph import trace
from bitspike.heap import keep_memory
from bitspike.neurons import detach
from bitspike.observe import observe
from bitspike.ops import int8, lean
from bitspike.stream import stream

__version__ = "0.1.0"

__all__ = [
    "SpikeFormat",
    "WeightFormat",
    "ann2snn",
    "convert",
    "cost",
    "data",
    "detach",
    "expand_unary",
    "fold",
    "functional",
    "int8",
    "keep_memory",
    "layers",
    "lean",
    "models",
    "neurons",
    "observe",
    "ops",
    "pack",
    "quantizers",
    "stream",
    "trace",
    "training",
    "unpack",
    "upgrade",
]
