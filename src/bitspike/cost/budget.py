"""The bit budget of a network: averages over layers, as the papers report them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bitspike.cost.record import Cost


def bit_budget(counted: Cost, without: Iterable[str] = ()) -> dict[str, float]:
    """Averages of bits and steps over the synapses, their product, and S-ACE per multiply-accumulate.

        mean_weight_bits = Σ_l n_w·b_w / Σ_l n_w                 n_w: weights of a layer
        mean_spike_bits  = Σ_l n_a·mean_t(b_s^t) / Σ_l n_a       n_a: its input values of one step
        mean_T           = Σ_l n_a·T / Σ_l n_a
        bit_budget       = mean_weight_bits · mean_spike_bits · mean_T
        s_ace_per_mac    = Σ_l S-ACE / Σ_l macs

    The last two agree where all layers are alike, and differ where bits are allocated unevenly.

    Source: adaptive bit allocation (arXiv 2506.23717), code; the last: ours.

    Args:
        counted: from `cost`; a real input counts with its stored bits. without: roles of synapses left out.

    Returns:
        The five numbers; 0 where no synapse is left.

    >>> from bitspike.cost.record import LayerCost
    >>> a = LayerCost("a", "synapse", "hidden", 1, 4, 4, macs=10, inputs=1, weights=3)
    >>> b = LayerCost("b", "synapse", "hidden", 2, 2, 2, macs=10, inputs=3, weights=1)
    >>> list(bit_budget(Cost(1, [a, b])).values())  # 3.5 · 2.5 · 1.75, and (10·16 + 10·8)/20
    [3.5, 2.5, 1.75, 15.3125, 12.0]
    """
    left_out = set(without)
    rows = [row for row in counted.synapses if row.role not in left_out]
    weights, inputs, macs = (sum(getattr(row, key) for row in rows) for key in ("weights", "inputs", "macs"))
    weight_bits = sum(row.weights * row.weight_bits for row in rows) / max(weights, 1)
    trains = [train for row in rows for train in row.trains]
    spike_bits = sum(count * sum(bits) / len(bits) for count, bits in trains) / max(inputs, 1)
    steps = sum(count * len(bits) for count, bits in trains) / max(inputs, 1)
    return {
        "mean_weight_bits": weight_bits,
        "mean_spike_bits": spike_bits,
        "mean_T": steps,
        "bit_budget": weight_bits * spike_bits * steps,
        "s_ace_per_mac": sum(row.s_ace for row in rows) / max(macs, 1),
    }


def allocation_of(counted: Cost) -> list[dict[str, Any]]:
    """Bits and steps of every synapse, as plain values.

    Args:
        counted: from `cost`.

    Returns:
        One dict a synapse, in the order they run: name (of the module), role, weight_bits, spike_bits (mean over the
        steps of its input; 32 where real), T, weights, macs.

    >>> from bitspike.cost.record import LayerCost
    >>> row = LayerCost("a", "synapse", "hidden", 2, weight_bits=3, path="body.0", step_bits=(4, 2), macs=10, weights=5)
    >>> [allocation_of(Cost(1, [row]))[0][key] for key in ("name", "weight_bits", "spike_bits", "T")]
    ['body.0', 3, 3.0, 2]
    """
    return [
        {
            "name": row.path or row.name,
            "role": row.role,
            "weight_bits": row.weight_bits,
            "spike_bits": row.time_bits / row.steps,
            "T": row.steps,
            "weights": row.weights,
            "macs": row.macs,
        }
        for row in counted.synapses
    ]
