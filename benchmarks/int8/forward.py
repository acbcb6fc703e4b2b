"""Do exact low-bit forward convolutions pay in training? Integer spikes × k-bit weights through oneDNN's int8 kernels.

Usage: python benchmarks/int8/forward.py [--rounds 15] [--threads 2] [--out FILE.json]

Every 3×3 convolution shape of He's narrow ResNet-20 (T = 4, batch 32, channels-last), forward: float32 as training runs
it, against the int8 path as training would need it, weights quantized, packed and spikes converted at every step. The
int8 result is checked to be exact first. Alternating, median of the rounds; weighted by how often a shape occurs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bitspike.files import write_json_atomic

# inputs, outputs, side of the input, stride, how often (the stem sees images and stays float32)
SHAPES = [(16, 16, 32, 1, 6), (16, 32, 32, 2, 1), (32, 32, 16, 1, 5), (32, 64, 16, 2, 1), (64, 64, 8, 1, 5)]
BATCH = 4 * 32
WEIGHT_BITS, SPIKE_LEVELS = 4, 3  # weights -7..7, two-bit spikes 0..3
ops = torch.ops.onednn


def int8_forward(spikes: Tensor, weight: Tensor, scale: float, stride: int) -> Tensor:
    """Float32 spikes (integers) and the latent weight → float32 output, through u8 × s8 → s32."""
    levels = (weight / scale).round_().clamp_(-7, 7).to(torch.int8)
    scales, zeros = torch.full((len(weight),), scale), torch.zeros(len(weight), dtype=torch.int64)
    packed = ops.qconv_prepack(levels, scales, 1.0, 0, [stride] * 2, [1, 1], [1, 1], 1, list(spikes.shape))
    return convolve(spikes.to(torch.uint8), packed, scales, zeros, stride)


def convolve(spikes: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor, stride: int) -> Tensor:
    """The convolution alone, spikes as uint8."""
    place = [stride] * 2, [1, 1], [1, 1], 1  # stride, padding, dilation, groups
    return ops.qconv2d_pointwise(  # type: ignore[no-any-return]
        spikes, 1.0, 0, packed, scales, zeros, None, *place, 1.0, 0, torch.float32, "none", [], ""
    )


def float_forward(spikes: Tensor, weight: Tensor, scale: float, stride: int) -> Tensor:
    """The same in float32, fake-quantized as training does."""
    quantized = (weight / scale).round_().clamp_(-7, 7) * scale
    return F.conv2d(spikes, quantized, None, stride, 1)


def alternate(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median ms of each case."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(rounds + 2):
        for name, call in cases.items():
            call()
            start = time.perf_counter()
            call()
            call()
            if round_ >= 2:
                taken[name].append((time.perf_counter() - start) / 2 * 1e3)
    return {name: round(statistics.median(times), 3) for name, times in taken.items()}


def measure(rounds: int, threads: int) -> dict[str, object]:
    """All shapes."""
    torch.set_num_threads(threads)
    torch.backends.quantized.engine = "onednn"
    generator = torch.Generator().manual_seed(0)
    rows, total = [], {"float32": 0.0, "int8": 0.0, "int8, convolution alone": 0.0}
    for inputs, outputs, side, stride, count in SHAPES:
        spikes = torch.randint(0, SPIKE_LEVELS + 1, (BATCH, inputs, side, side), generator=generator).float()
        spikes *= torch.rand(spikes.shape, generator=generator) < 0.3
        spikes = spikes.contiguous(memory_format=torch.channels_last)
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (3 * inputs**0.5)
        weight, scale = weight.contiguous(memory_format=torch.channels_last), 2.0**-5
        exact = F.conv2d(spikes.double(), (weight / scale).round().clamp(-7, 7).double() * scale, None, stride, 1)
        found = int8_forward(spikes, weight, scale, stride)
        if not torch.equal(found.double(), exact):
            raise SystemExit(f"int8 is not exact at {inputs} → {outputs}: {(found - exact).abs().max()}")
        levels = (weight / scale).round().clamp(-7, 7).to(torch.int8)
        scales, zeros = torch.full((outputs,), scale), torch.zeros(outputs, dtype=torch.int64)
        packed = ops.qconv_prepack(levels, scales, 1.0, 0, [stride] * 2, [1, 1], [1, 1], 1, list(spikes.shape))
        bytes_ = spikes.to(torch.uint8)
        cases: dict[str, Callable[[], object]] = {
            "float32": lambda s=spikes, w=weight, q=scale, t=stride: float_forward(s, w, q, t),
            "int8": lambda s=spikes, w=weight, q=scale, t=stride: int8_forward(s, w, q, t),
            "int8, convolution alone": lambda s=bytes_, p=packed, a=scales, z=zeros, t=stride: convolve(s, p, a, z, t),
        }
        ms = alternate(cases, rounds)
        rows.append({"inputs": inputs, "outputs": outputs, "side": side, "stride": stride, "count": count, "ms": ms})
        for name, value in ms.items():
            total[name] += count * value
    return {
        "network": "he_resnet20, T = 4, batch 32, channels-last, forward convolutions without the stem",
        "formats": f"spikes 0..{SPIKE_LEVELS}, weights of {WEIGHT_BITS} bits",
        "rows": rows,
        "total_ms": {name: round(value, 2) for name, value in total.items()},
        "threads": threads,
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = measure(given.rounds, given.threads)
    print(json.dumps(result, indent=2))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(given.out, result)


if __name__ == "__main__":
    main()
