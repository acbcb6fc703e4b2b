"""What a network costs: operations, bits, bytes moved and energy per layer, and the quantized ANN beside it."""

from bitspike.cost.activations import Activations, Moment, activations
from bitspike.cost.ann import at_density, quantized_ann
from bitspike.cost.bits import sum_bits
from bitspike.cost.break_even import BreakEven, Comparison, compare_with_ann
from bitspike.cost.budget import allocation_of, bit_budget
from bitspike.cost.constants import Constant, Constants, builtin_constants, energy_constants
from bitspike.cost.count import cost
from bitspike.cost.energy import Energy, LayerEnergy, energy, operation_counts
from bitspike.cost.memory import Memory
from bitspike.cost.record import APART, QUANTITIES, SCOPES, Cost, LayerCost
from bitspike.cost.summary import cost_summary
from bitspike.renamed import renamed as _renamed

__all__ = [
    "APART",
    "QUANTITIES",
    "SCOPES",
    "Activations",
    "BreakEven",
    "Comparison",
    "Constant",
    "Constants",
    "Cost",
    "Energy",
    "LayerCost",
    "LayerEnergy",
    "Memory",
    "Moment",
    "activations",
    "allocation_of",
    "at_density",
    "bit_budget",
    "builtin_constants",
    "compare_with_ann",
    "cost",
    "cost_summary",
    "energy",
    "energy_constants",
    "operation_counts",
    "quantized_ann",
    "sum_bits",
]


def __getattr__(name: str) -> object:
    """Names of the last release."""
    return _renamed(__name__, {"quantised_ann": "bitspike.cost:quantized_ann"}, name)
