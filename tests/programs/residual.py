"""Residual programs made by hand, shaped like He's ResNet-20 and like the wide one of Ternary Spike."""

from __future__ import annotations

import numpy as np

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, Value

TERNARY = Grid(-1, 1)
BYTE = Grid(-127, 127)


class Residual:
    """Convolution, scaling and firing, with numbers drawn so that layers neither fall silent nor fire all the time."""

    def __init__(self, channels: int, side: int, steps: int, seed: int = 0, weights: Grid = TERNARY) -> None:
        self.random, self.weights = np.random.default_rng(seed), weights
        given = Input(Value((channels, side, side), -127, 127, 6, steps), repeat=True, scale=(64, 0))
        self.b = Builder(given)

    def levels(self, shape: tuple[int, ...], grid: Grid) -> str:
        return self.b.constant(self.random.choice(np.array(grid.levels), shape), grid)

    def convolve(self, x: str, outputs: int, kernel: int = 3, stride: int = 1, grid: Grid | None = None) -> str:
        """Convolution – scaling, to a current with 12 fractional bits whose size is about a threshold."""
        grid, inputs = grid or self.weights, self.b.values[x].shape[0]
        span = max(abs(self.b.values[x].low), self.b.values[x].high) * max(grid.high, 1)
        pad = [kernel // 2] * 2
        place = {"stride": [stride] * 2, "before": pad, "after": pad, "dilation": [1, 1], "exponent": None}
        y = self.b.add("convolution", [x], place, {"weight": self.levels((outputs, inputs, kernel, kernel), grid)})
        size = 2**20 * 4096 * 2.5 / (span * 0.4 * np.sqrt(inputs * kernel**2))
        scale = self.b.constant((size * self.random.uniform(0.5, 1.5, outputs)).astype(np.int64).clip(1, 2**31 - 1))
        shift = self.b.constant(self.random.integers(-600, 900, outputs))
        return self.b.add("rescale", [y], {"shift": 20, "exponent": 12}, {"multiplier": scale, "bias": shift})

    def fire(self, x: str) -> str:
        """Ternary neuron: threshold 1/2, decay 1/4, hard reset."""
        constants = {"first": self.b.constant(np.array([2048]))}
        return self.b.add("fire", [x], {"count": [1], "signed": True, "reset": "hard", "decay": [1, 2]}, constants)

    def real(self, spikes: str) -> str:
        """Spikes as currents, so that they can be added to some."""
        one = {"multiplier": self.b.constant(np.array([4096]))}
        return self.b.add("rescale", [spikes], {"shift": 0, "exponent": 12}, one)

    def block(self, x: str, outputs: int, stride: int) -> str:
        same = stride == 1 and self.b.values[x].shape[0] == outputs
        y = self.convolve(self.fire(self.convolve(x, outputs, stride=stride)), outputs)
        around = self.real(x) if same else self.convolve(x, outputs, 1, stride, BYTE)
        return self.fire(self.b.add("add", [y, around]))

    def classify(self, x: str, classes: int) -> Program:
        """Sum over space – 8-bit linear map – mean read-out."""
        side, channels = self.b.values[x].shape[1], self.b.values[x].shape[0]
        pool = {"kernel": [side] * 2, "stride": [side] * 2, "padding": [0, 0]}
        x = self.b.add("reshape", [self.b.add("sumpool", [x], pool)], {"shape": [channels]})
        constants = {"weight": self.levels((classes, channels), BYTE)}
        constants["bias"] = self.b.constant(self.random.integers(-99, 99, classes))
        x = self.b.add("mean", [self.b.add("linear", [x], {"exponent": 7}, constants)], name="logits")
        return self.b.finish(x, [f"class {i}" for i in range(classes)])


def resnet(
    widths: tuple[int, ...] = (16, 32, 64),
    blocks: int = 3,
    stem: int = 1,
    steps: int = 4,
    side: int = 32,
    **options: int,
) -> Program:
    """By default He's ResNet-20; `wide` is that of Ternary Spike."""
    net = Residual(3, side, steps, **options)
    x = net.fire(net.convolve(INPUT, widths[0], grid=BYTE))
    for _ in range(stem - 1):
        x = net.fire(net.convolve(x, widths[0]))
    if stem > 1:
        x = net.b.add("sumpool", [x], {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0]})
    for i, width in enumerate(widths):
        for j in range(blocks):
            stride = 2 if j == 0 and i > 0 else 1
            x = net.block(x, width, stride)
    return net.classify(x, 10)


def wide(steps: int = 4, side: int = 32) -> Program:
    """Three convolutions of 64 and a pool, then two blocks each of 64, 128, 256 and 512 channels."""
    return resnet((64, 128, 256, 512), 2, 3, steps, side)
