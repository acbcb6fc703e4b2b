"""What the constructors of neurons have in common."""

from __future__ import annotations

from bitspike.checks import positive
from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, Surrogate
from bitspike.neurons.base import Neuron, amplitude_sharing, as_surrogate
from bitspike.neurons.emission import Emission
from bitspike.neurons.membrane import Membrane


def assemble(
    neuron: Neuron, threshold: float, surrogate: str | Surrogate, membrane: Membrane, emission: Emission
) -> str:
    """Give a neuron its parts; a constructor's first call, `fire_at` the next.

    Args:
        neuron: that is being constructed. threshold: > 0. surrogate: object, name or "name:parameter".
        membrane, emission: its own.

    Returns:
        Who shares the amplitude, for the format.

    Raises:
        ValueError, TypeError: a threshold out of its range, or an unknown surrogate.
    """
    positive(type(neuron).__name__, "threshold", threshold)
    neuron.threshold = threshold
    neuron.surrogate = as_surrogate(surrogate)
    neuron.membrane, neuron.emission = membrane, emission
    return amplitude_sharing(emission.initial, emission.train_kind)


def fire_at(neuron: Neuron, stairs: Stairs, alphabet: SpikeFormat) -> None:
    """Set the level function of an assembled neuron and the alphabet of what it emits.

    Raises:
        ValueError: the surrogate does not fit the stairs.
    """
    neuron.stairs, neuron.format = stairs, alphabet
    neuron.surrogate.check(type(neuron).__name__, stairs)
