"""What a runtime shows to the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Call = Callable[[Array], Array]


@dataclass(frozen=True)
class Order:
    """What is to be run.

    Args:
        folder: of the exported network. cache: for what a runtime compiles or chooses once.
        peer: name in `cells.LABELS`. batch, threads: of a call.
    """

    folder: Path
    cache: Path
    peer: str
    batch: int
    threads: int


@dataclass
class Ready:
    """A network ready to run.

    Args:
        call: float32 images [batch, 3, H, W] → logits [batch, K]. facts: settings, for the record.
        exact: computes the exported network; False: another one (the ReLU network, or membranes in bf16), whose
            answers are its own.
    """

    call: Call
    facts: dict[str, Any] = field(default_factory=dict)
    exact: bool = True


__all__ = ["Array", "Call", "Order", "Ready"]
