"""The one table of operations."""

from __future__ import annotations

from .add import Add
from .base import Operation
from .concat import Concat
from .convolution import Convolution
from .echo import Echo
from .fire import Fire
from .latch import Latch
from .linear import Linear
from .lookup import Lookup
from .maxpool import MaxPool
from .mean import Mean
from .multiply import Multiply
from .pad import Pad
from .rescale import Rescale
from .reshape import Reshape
from .slicing import Slice
from .sumpool import SumPool
from .tally import Tally
from .windows import Windows

_ROWS: tuple[type[Operation], ...] = (
    *(Convolution, Linear, Rescale, Add, Multiply, Fire, Lookup),
    *(SumPool, MaxPool, Tally, Windows, Latch, Echo, Mean),
    *(Reshape, Concat, Slice, Pad),
)
OPERATIONS: dict[str, type[Operation]] = {row.kind: row for row in _ROWS}
"""Kind → its row."""
