"""Whether an installed wheel works: train, fold, compile, run in every engine; of the runtime, a program of the zoo.

python tools/smoke_wheel.py [--runtime] [--native]
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def installed(name: str) -> Any:
    """A package, which must not be the one of the checkout."""
    module = importlib.import_module(name)
    place = Path(str(module.__file__)).resolve()
    if ROOT / "src" in place.parents:
        sys.exit(f"smoke_wheel: {name} must be installed from a wheel, got {place}; leave src out of PYTHONPATH.")
    return module


def program_of_a_network() -> tuple[Any, Any]:
    """A small network, trained for a few steps, as a program; and rows for it."""
    import torch

    bitspike = installed("bitspike")
    torch.manual_seed(0)
    net = bitspike.models.mlp(bitspike.neurons.MultiBit(), bitspike.quantizers.Uniform(4), 2, (6,), 3, (16,))
    x, y = torch.randn(64, 6), torch.arange(64) % 3
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return bitspike.compile(bitspike.fold(net.eval(), x), x), x.numpy()


def main() -> None:
    """Exit code 0, and a line that says what ran."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", action="store_true", help="the wheel bitspike-runtime, without torch")
    parser.add_argument("--native", action="store_true", help="the native libraries must be there")
    given = parser.parse_args()
    if given.runtime:
        runtime = installed("bitspike_runtime")
        program = runtime.Program.from_zoo("digits/ternary")
        x = np.zeros((2, *program.spec.input.value.shape), np.uint8)
    else:
        program, x = program_of_a_network()
        runtime = importlib.import_module("bitspike.runtime")
    engine = importlib.import_module(f"{runtime.__name__}.engine")
    missing = {"engine": engine.why_missing()}
    if not given.runtime:
        missing["training kernels"] = importlib.import_module("bitspike.native").why_missing()
    absent = {name: why for name, why in missing.items() if why}
    if given.native and absent:
        sys.exit(f"smoke_wheel: the native libraries must load, got {absent}; see the log of the build.")
    levels = [runtime.Program(program.spec, name)(x).levels for name in ("auto", "interpreter")]
    if not (levels[0] == levels[1]).all():
        sys.exit("smoke_wheel: engines must agree, got other integers; do not publish this wheel.")
    print(f"smoke_wheel: {runtime.__name__} works; native: {absent or 'all'}")


if __name__ == "__main__":
    main()
