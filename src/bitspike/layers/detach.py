"""The end of a gradient's way."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only

from bitspike.layers.base import TimeLayer


class Detach(TimeLayer):
    """Passes values on and no gradient back, as ``x.detach()`` and the end of a ``with torch.no_grad():`` do.

    Spikes and their factors pass unchanged; nothing is counted.

    >>> import torch
    >>> y = Detach()(torch.ones(2, 1, 3, requires_grad=True))
    >>> y.sum().item(), y.requires_grad
    (6.0, False)
    """

    scaling = "linear"
    keeps_format = True

    def forward(self, x: Any) -> Any:
        """A tensor, or a tuple of tensors → the same, detached; what is no tensor stays as it is."""
        return x.detach() if isinstance(x, Tensor) else tree_map_only(Tensor, Tensor.detach, x)
