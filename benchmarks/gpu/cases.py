"""The neurons that are compared, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Real, Ternary

# Class M keeps bits, class U computes membranes again; see docs/benchmarks.md.
CLASS_M: dict[str, Callable[[], Neuron]] = {
    "LIF": lambda: LIF(threshold=1.0, decay=0.5, detach_reset=True),
    "Ternary": lambda: Ternary(detach_reset=True),
    "MultiBit(1,1)": lambda: MultiBit(m=1, n=1),
    "Integer(4)": lambda: Integer(D=4),
    "Real": lambda: Real(),
}
CLASS_U: dict[str, Callable[[], Neuron]] = {
    "LIF, ATan": lambda: LIF(threshold=1.0, decay=0.5, surrogate="atan"),
    "LIF, soft, detached, ATan": lambda: LIF(
        threshold=1.0, decay=0.5, reset="soft", detach_reset=True, surrogate="atan"
    ),
    "Ternary, ATan, trained": lambda: Ternary(surrogate="atan", learn_decay=True, train_amplitude="channel"),
    "MultiBit(1,2), sigmoid": lambda: MultiBit(m=1, n=2, detach_reset=False, surrogate="sigmoid"),
    "Integer(3), hard": lambda: Integer(D=3, reset="hard", detach_reset=False),
    "Real, option B": lambda: Real(gradient="surrogate", train_amplitude="layer"),
}

# Goals as they were written down before any run, for an H200.
GOALS: dict[str, dict[str, Any]] = {
    "scan_vs_spikingjelly": {"least": 1.3, "what": "LIF, [T, 64, 65536], half precision, its fastest setting"},
    "scan_share_of_copy": {"least": 0.8, "what": "bytes moved a second, of those of a copy; LIF, class M"},
    "epoch_s": {"most": 3.5, "what": "50,000 images, wide ResNet-20, T = 2, bf16"},
    "run_of_400_epochs_min": {"most": 25.0, "what": "400 such epochs, one arm and seed"},
}
