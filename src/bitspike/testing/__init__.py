"""Public conformance suites for whatever plugs into the library, and finite differences of a network that fires."""

from bitspike.testing.dataset import check_dataset
from bitspike.testing.encoder import check_encoder
from bitspike.testing.expectations import ConformanceError
from bitspike.testing.loss import check_loss
from bitspike.testing.neuron import check_neuron
from bitspike.testing.program import check_program
from bitspike.testing.quantizer import check_quantizer
from bitspike.testing.relaxed import Relaxed, Tape, finite_differences, relaxed

__all__ = [
    "ConformanceError",
    "Relaxed",
    "Tape",
    "check_dataset",
    "check_encoder",
    "check_loss",
    "check_neuron",
    "check_program",
    "check_quantizer",
    "finite_differences",
    "relaxed",
]
