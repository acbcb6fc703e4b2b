"""Spiking neural networks whose spikes carry more than one bit: train, convert, fold, count, stream."""

from bitspike import allocation, data, functional, layers, models, neurons, ops, quantizers, training
from bitspike.ann2snn import ann2snn
from bitspike.checked import checked
from bitspike.cost import cost
from bitspike.fold import expand_unary, fold
from bitspike.formats import SpikeFormat, WeightFormat, pack, unpack
from bitspike.graph import trace
from bitspike.neurons import detach
from bitspike.observe import observe
from bitspike.ops import int8, lean
from bitspike.process_memory import keep_memory
from bitspike.renamed import renamed as _renamed
from bitspike.stream import stream
from bitspike.upgrade import upgrade

__version__ = "0.1.0"

__all__ = [
    "SpikeFormat",
    "WeightFormat",
    "allocation",
    "ann2snn",
    "checked",
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


def __dir__() -> list[str]:
    """`compile` too, which is no name of ``import *``: it would hide Python's own."""
    return sorted({*globals(), "compile"})


def __getattr__(name: str) -> object:
    """`compile`, which loads what lowering needs, and names of the last release."""
    if name == "compile":
        from bitspike.lower import compile as lowered

        return lowered
    if name == "convert":
        import importlib

        return importlib.import_module("bitspike.convert")
    return _renamed(__name__, {}, name)
