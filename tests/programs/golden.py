"""The programs of the golden files: every operation, and every alphabet, reset and memory of neurons.

``python -m programs.golden FOLDER`` (in tests/) writes those that are not there. A golden file is never written again:
it shows that later releases read, and mean, what this one wrote. Version 1.0 has all operations but `echo`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, Result, Value, save

SIGNS, TERNARY, BYTE, POWER = Grid(-1, 1, stride=2), Grid(-1, 1), Grid(-127, 127), Grid(-4, 4, 1, "power")


def golden() -> Program:
    """Raw images of 2 × 6 × 6, three steps, three classes."""
    r = np.random.default_rng(20)
    b = Builder(Input(Value((2, 6, 6), 0, 255, 0, 3), repeat=True))

    def drawn(shape: tuple[int, ...], grid: Grid) -> str:
        return b.constant(r.choice(np.array(grid.levels), shape), grid)

    def ints(*numbers: int) -> str:
        return b.constant(np.array(numbers))

    def convolved(x: str, weight: str, scale: tuple[int, ...], name: str, groups: int = 1, bias: str = "") -> str:
        place = {"stride": [1, 1], "before": [1, 1], "after": [1, 1], "dilation": [1, 1]}
        tensors = {"weight": weight} | ({"bias": bias} if bias else {})
        y = b.add("convolution", [x], {**place, "groups": groups, "exponent": None}, tensors)
        tensors = {"multiplier": ints(*scale), "bias": ints(5, -3, 9, 0)}
        return b.add("rescale", [y], {"shift": 10, "exponent": 6}, tensors, name)

    tables = np.stack([np.clip(np.arange(256) - mean, -127, 127) // 2 for mean in (120, 90)])
    x = b.add("lookup", [INPUT], {"first": 0, "exponent": 5}, {"table": b.constant(tables)}, "levels")
    x = convolved(x, drawn((4, 2, 3, 3), BYTE), (9, 7, 11, 8), "current1", 1, ints(100, -200, 0, 3))
    tensors = {"first": ints(32)}
    ternary = b.add("fire", [x], {"count": [1], "signed": True, "reset": "hard", "decay": [1, 2]}, tensors, "ternary")
    x = convolved(ternary, drawn((4, 2, 3, 3), SIGNS), (16384, 12000, 9000, 15000), "current2", 2)
    tensors = {"first": ints(16, 17, 16, 20), "spacing": ints(16), "charge": ints(16), "initial": ints(8)}
    attributes = {"count": [3, 7], "reset": "soft", "decay": [1, 1], "exponent": 2}
    graded = b.add("fire", [x], attributes, tensors, "graded", ("graded", "potential"))
    around = b.add("rescale", [ternary], {"shift": 0, "exponent": 6}, {"multiplier": ints(64)}, "around")
    x = b.add("add", [around, "potential"], name="residual")
    tensors = {"first": ints(32), "spacing": ints(64), "charge": ints(64), "floor": ints(-200)}
    attributes = {"count": [2], "signed": True, "reset": "soft", "cancel": True, "up": 4, "down": 4, "exponent": 2}
    signed = b.add("fire", [x], attributes, tensors, "signed")
    place = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0]}
    top = b.add("maxpool", [graded], {**place, "dilation": [1, 1]}, name="maxpool")
    tally = b.add("tally", [signed], {**place, "dilation": [1, 1]}, name="tally")
    pooled = b.add("concat", [top, tally], name="concat")
    z = b.add("sumpool", [pooled], {"kernel": [3, 3], "stride": [3, 3], "padding": [0, 0], "divisor": 9}, name="sums")
    z = b.add("reshape", [z], {"shape": [1, 8]}, name="line")
    place = {"stride": [1], "before": [1], "after": [1], "dilation": [1]}
    z = b.add("convolution", [z], place, {"weight": drawn((1, 1, 3), BYTE)}, "mixed")
    tensors = {"multiplier": ints(20)}
    z = b.add("rescale", [z], {"shift": 10, "low": -8, "high": 7, "exponent": 1}, tensors, "index")
    table = b.constant(np.round(64 / (1 + np.exp(-np.arange(-8, 8) / 2))).astype(int))
    z = b.add("lookup", [z], {"first": -8, "exponent": 6}, {"table": table}, "sigmoid")
    z = b.add("reshape", [z], {"shape": [8]})
    x = b.add("multiply", [pooled, b.add("latch", [z], name="attention")], name="attended")
    x = b.add("slice", [x], {"start": [1, 0, 0], "stop": [8, 3, 3], "stride": [2, 1, 2]}, name="slice")
    x = b.add("pad", [x], {"before": [0, 1, 0], "after": [1, 0, 0]}, name="pad")
    total = b.add("windows", [x], {"frames": 3, "steps": 1}, name="total")
    halves = b.add("windows", [x], {"frames": 3, "steps": 2}, name="halves")
    held = b.add("windows", [total], {"frames": 1, "steps": 2}, name="held")
    x = b.add("add", [halves, held], name="joined")
    tensors = {"first": ints(40), "spacing": ints(80), "gate": b.constant(np.array([[150], [90]]))}
    x = b.add("fire", [x], {"count": [15], "reset": "hard", "decay": [3, 2]}, tensors, "real")
    x = b.add("reshape", [x], {"shape": [b.values[x].size]}, name="features")
    x = b.add("linear", [x], {"exponent": 3}, {"weight": drawn((3, b.values[x].size), POWER), "bias": ints(4, 0, -9)})
    x = b.add("mean", [x], name="logits")
    info = {"made by": "tests/programs/golden.py", "mean": [120, 90], "layout": "CHW"}
    return b.finish(x, ["cat", "dog", "naïve 鳥"], info)


def looped() -> Program:
    """Version 1.1: a recurrent layer on images of 2 × 6 × 6, and a value that comes a step late."""
    r = np.random.default_rng(22)
    b = Builder(Input(Value((2, 6, 6), 0, 255, 0, 4)))
    place = {"stride": [1, 1], "before": [1, 1], "after": [1, 1], "dilation": [1, 1]}
    echo = {"shape": [2, 6, 6], "low": -2, "high": 2, "exponent": 0}
    before = b.add("echo", [INPUT], {"of": "spikes", **echo}, name="before")
    weight = b.constant(r.choice(np.array(TERNARY.levels), (2, 2, 3, 3)), TERNARY)
    back = b.add("convolution", [before], place, {"weight": weight}, "back")
    back = b.add("rescale", [back], {"shift": 0, "exponent": 0}, {"multiplier": b.constant(np.array([30]))}, "scaled")
    late = b.add("echo", [back], {"of": INPUT, "shape": [2, 6, 6], "low": 0, "high": 255}, name="late")
    away = {"multiplier": b.constant(np.array([-1])), "bias": b.constant(np.array([20]))}
    moved = b.add("rescale", [late], {"shift": 1, "exponent": 0}, away, "moved")
    x = b.add("add", [INPUT, back, moved], name="current")
    at = {"count": [2], "signed": True, "reset": "soft", "decay": [1, 1]}
    spikes = b.add(
        "fire", [x], at, {role: b.constant(np.array([60])) for role in ("first", "spacing", "charge")}, "spikes"
    )
    x = b.add("reshape", [spikes], {"shape": [72]}, name="features")
    x = b.add("linear", [x], {}, {"weight": b.constant(r.choice(np.array(BYTE.levels), (3, 72)), BYTE)})
    return b.finish(b.add("mean", [x], name="logits"), ["cat", "dog", "bird"], {"made by": "tests/programs/golden.py"})


def named() -> Program:
    """Version 1.2: a map a step, kinds of the whole behind a mean, sums of a window; classes for one of them."""
    r = np.random.default_rng(24)
    b = Builder(Input(Value((2, 6, 6), 0, 255, 0, 4)))
    place = {"stride": [2, 2], "before": [1, 1], "after": [1, 1], "dilation": [1, 1], "exponent": 2}
    weight = b.constant(r.choice(np.array(TERNARY.levels), (3, 2, 3, 3)), TERNARY)
    current = b.add("convolution", [INPUT], place, {"weight": weight}, "current")
    at = {"count": [3], "reset": "hard", "decay": [1, 1]}
    stairs = {role: b.constant(np.array([200])) for role in ("first", "spacing")}
    spikes = b.add("fire", [current], at, stairs, "spikes")
    x = b.add("reshape", [spikes], {"shape": [27]}, name="features")
    x = b.add("linear", [x], {"exponent": 5}, {"weight": b.constant(r.choice(np.array(BYTE.levels), (3, 27)), BYTE)})
    outputs = {
        "places": current,
        "kinds.0": b.add("mean", [x], {"keep": [0, 1]}, name="logits"),
        "sums": b.add("windows", [spikes], {"frames": 4, "steps": 1}, name="sums"),
    }
    return b.finish(outputs, {"kinds.0": ["cat", "dog", "naïve 鳥"]}, {"made by": "tests/programs/golden.py"})


def images() -> np.ndarray:
    """Four samples with smooth parts and edges."""
    r = np.random.default_rng(21)
    x = r.integers(0, 256, (4, 2, 6, 6))
    x[1] = np.arange(72).reshape(2, 6, 6) * 3
    x[2, :, :, :3] = 0
    return x


def sequences() -> np.ndarray:
    """Three samples of four steps."""
    return np.random.default_rng(23).integers(0, 256, (4, 3, 2, 6, 6)) // np.array([1, 2, 8, 1]).reshape(4, 1, 1, 1, 1)


GOLDEN = {"v1_0": (golden, images), "v1_1": (looped, sequences), "v1_2": (named, sequences)}
"""Name of the files → the program, and what it is fed with."""


def told(ran: Result) -> dict[str, Any]:
    """An output, for JSON."""
    facts = {"steps": ran.steps, "exponent": ran.exponent, "clamped": dict(ran.clamped)}
    return {"levels": ran.levels.tolist(), **facts}


if __name__ == "__main__":
    for name, (make, given) in GOLDEN.items():
        file, program, x = Path(sys.argv[1]) / f"{name}.bitspike", make(), given()
        if file.exists():
            continue
        save(program, file)
        outputs = {name: told(ran) for name, ran in program.run(x).items()}
        expected = {"input": x.tolist(), **outputs.get("", {"outputs": outputs})}
        file.with_suffix(".json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
