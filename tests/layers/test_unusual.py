"""Unusual input to the layers: empty batches, no time step, half precision, odd strides of memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bitspike.formats import SpikeFormat
from bitspike.layers import (
    Affine,
    AvgPool2d,
    BatchNorm,
    ClipFloor,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Gain,
    GlobalAvgPool,
    Join,
    Latency,
    MaxPool2d,
    MeanReadout,
    Restimulate,
    Squeeze,
    StepReadout,
    SumPool2d,
    TallyMaxPool2d,
    TallyPool,
    TimeLayer,
    Upsample,
)
from networks import rng

ones = torch.ones(3)
LAYERS: dict[str, Callable[[], TimeLayer]] = {
    "Affine": lambda: Affine(2 * ones, ones),
    "AvgPool2d": lambda: AvgPool2d(2),
    "BatchNorm": lambda: BatchNorm(3),
    "ClipFloor": lambda: ClipFloor(3, 2.0),
    "Conv2d": lambda: Conv2d(3, 5, 3),
    "ConvTranspose2d": lambda: ConvTranspose2d(3, 6, 3, 2, groups=3),
    "Flatten": Flatten,
    "Gain": lambda: Gain(2 * ones),
    "GlobalAvgPool": GlobalAvgPool,
    "Join": Join,
    "MaxPool2d": lambda: MaxPool2d(2),
    "MeanReadout": MeanReadout,
    "Restimulate": lambda: Restimulate(3),
    "Squeeze": lambda: Squeeze(2),
    "StepReadout": StepReadout,
    "SumPool2d": lambda: SumPool2d(2),
    "TallyMaxPool2d": lambda: TallyMaxPool2d(2),
    "Upsample": lambda: Upsample((2, 3)),
}
ANY_SHAPE = ("ClipFloor", "Join")


@pytest.mark.parametrize("name", list(LAYERS))
def test_empty_batches_and_no_steps(name: str) -> None:
    layer = LAYERS[name]().eval()
    x = torch.randn(2, 4, 3, 6, 6, generator=rng(0))
    whole = layer(x)
    empty = layer(x[:, :0])
    batch = 0 if name == "MeanReadout" else 1
    assert empty.shape == whole.narrow(batch, 0, 0).shape and empty.dtype == whole.dtype
    if name not in ANY_SHAPE:
        with pytest.raises(ValueError, match=r"T \(axis 0\) must be >= 1, got 0"):
            layer(x[:0])


@pytest.mark.parametrize("name", list(LAYERS))
def test_the_memory_order_does_not_matter(name: str) -> None:
    layer = LAYERS[name]().double().eval()
    x = torch.randn(3, 4, 3, 6, 6, generator=rng(0), dtype=torch.float64)
    wanted = layer(x)
    turned = x.permute(4, 2, 0, 3, 1).contiguous().permute(2, 4, 1, 3, 0)
    strided = torch.stack([x, -x], -1).flatten(-2)[..., ::2]
    for other in (turned, strided, x.movedim(2, -1).contiguous().movedim(-1, 2)):
        assert not other.is_contiguous()
        torch.testing.assert_close(layer(other), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", list(LAYERS))
def test_half_precision_is_kept(name: str, dtype: torch.dtype) -> None:
    layer = LAYERS[name]().to(dtype).eval()
    x = torch.randint(0, 3, (2, 4, 3, 6, 6), generator=rng(0))
    found = layer(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), layer.float()(x.float()), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_counts_over_many_steps(dtype: torch.dtype) -> None:
    """A half-precision sum stands still at 256 or 2,048: means over time are taken in float32, in streams too."""
    steps = 2600
    x = torch.ones(steps, 1, 3, dtype=dtype)
    x[:, :, 1] = (torch.arange(steps) % 2 == 0).to(dtype).unsqueeze(1)
    x[:, :, 2] = 0
    layer = MeanReadout()
    assert layer(x).tolist() == [[1.0, 0.5, 0.0]] and layer(x).dtype == dtype
    state, y = None, x[0]
    for part in x.split(700):
        y, state = layer.stream_step(part, state)
    assert torch.equal(y, layer(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_tallies_over_many_steps(dtype: torch.dtype) -> None:
    """One input of the window fires at every step, so at every step one spike is passed on."""
    x = torch.zeros(2600, 1, 1, 2, 2, dtype=dtype)
    x[..., 0, 0] = 1
    y = TallyMaxPool2d(2)(x)
    assert y.dtype == dtype and y.shape == (2600, 1, 1, 1, 1) and bool((y == 1).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("T", [300, 3000])
def test_latency_sends_one_spike(dtype: torch.dtype, T: int) -> None:
    """Steps beyond 256 or 2,048 have no number of their own in half precision."""
    x = torch.tensor([[0.0, 0.125, 0.25, 0.5, 1.0, 2.0**-6]], dtype=dtype)
    s = Latency(T)(x)
    assert s.dtype == dtype and s.sum(0).tolist() == [[0.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    assert torch.equal(s.argmax(0), Latency(T)(x.float()).argmax(0))


@pytest.mark.parametrize("pool", [AvgPool2d, SumPool2d, MaxPool2d, TallyMaxPool2d])
def test_a_stride_of_0_is_no_default(pool: Callable[..., TimeLayer]) -> None:
    for arguments in ((2, 0), (2, -1), (0,)):
        with pytest.raises(ValueError, match=f"{pool.__name__}: (stride|kernel) must lie in"):
            pool(*arguments)
    if pool in (AvgPool2d, SumPool2d):
        with pytest.raises(ValueError, match=r"padding must lie in \[0, 1\], got 2"):
            pool(2, 2, 2)


def test_shifts_beyond_any_format_make_real_values() -> None:
    """Ratios of step sizes over time may be large; tracing must not stop at a format that does not exist."""
    steps = Gain(torch.tensor([[1.0], [2.0**14]]))
    assert steps.format_of(SpikeFormat(0, 3)) == SpikeFormat(0, 3 * 2**14)
    assert steps.format_of(SpikeFormat(0, 15)) is None


def test_sums_over_many_steps_are_real_values() -> None:
    squeeze = Squeeze(1)
    squeeze.summed = True
    assert squeeze.format_of(SpikeFormat(0, 255), 257) == SpikeFormat(0, 65535)
    assert squeeze.format_of(SpikeFormat(0, 255), 258) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_tallies_of_any_pool_over_many_steps(dtype: torch.dtype) -> None:
    layer, x = TallyPool(torch.nn.MaxPool1d(1)), torch.ones(2600, 1, 1, 1, dtype=dtype)
    y, state, parts = layer(x), None, []
    for part in x.split(700):
        found, state = layer.stream_step(part, state)
        parts.append(found)
    assert torch.equal(y, x) and torch.equal(torch.cat(parts), y)
