"""Where the moved bytes come from: on-chip buffer or DRAM."""

from __future__ import annotations

from bitspike.cost.record import Cost


def place(counted: Cost) -> None:
    """Set ``dram_bytes`` of every row by the sizes of its tensors; the rules are those of `Memory`."""
    memory = counted.memory
    streamed = counted.size_bytes > memory.buffer_bytes
    for row in counted.rows:
        steps = 1 if memory.order == "layer" else max(row.T, 1)
        row.dram_bytes = row.weight_bytes if streamed else 0.0
        if row.spike_bytes / steps > memory.buffer_bytes:
            row.dram_bytes += row.spike_bytes
        if row.membrane_bytes and row.outputs * memory.membrane_bits / 8 > memory.buffer_bytes:
            row.dram_bytes += row.membrane_bytes
