"""Neurons: membrane dynamics, an alphabet of spikes and a surrogate gradient put together. One file each."""

from bitspike.neurons.adaptive import Adaptive
from bitspike.neurons.base import NEURONS, ExtraCost, Neuron, detach
from bitspike.neurons.emission import Emission
from bitspike.neurons.integer import Integer
from bitspike.neurons.lif import LIF
from bitspike.neurons.membrane import Membrane
from bitspike.neurons.multibit import MultiBit
from bitspike.neurons.real import Real
from bitspike.neurons.signed import Signed, TallyState
from bitspike.neurons.ternary import Ternary
from bitspike.ops import MembraneState, TimedState

__all__ = [
    "LIF",
    "NEURONS",
    "Adaptive",
    "Emission",
    "ExtraCost",
    "Integer",
    "Membrane",
    "MembraneState",
    "MultiBit",
    "Neuron",
    "Real",
    "Signed",
    "TallyState",
    "Ternary",
    "TimedState",
    "detach",
]
