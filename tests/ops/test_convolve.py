"""Convolutions in int8: exact integers, the gradients of the float convolution, reasons where they do not run."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bitspike import SpikeFormat, int8
from bitspike.layers import Conv2d, Linear
from bitspike.ops import ConvolveFacts, Levels, Place, convolve_int8, explain, table, using
from bitspike.ops import convolve_int8 as kernel_function
from bitspike.quantizers import Float, LearnedBits, Quantizer, Sign, TernaryWeight, Uniform
from networks import WEIGHTS, rng

module = __import__("bitspike.ops.convolve_int8", fromlist=["missing"])
needs_int8 = pytest.mark.skipif(bool(module.missing()), reason=f"not run: {module.missing()}")
ALPHABETS = [(0, 1), (-1, 1), (0, 3), (-3, 3), (0, 15), (-7, 8), (0, 127), (-100, 27), (0, 255)]
TAKEN = [name for name in sorted(WEIGHTS) if name != "float" and not name.endswith("input")]
PLACES = [(1, 1, 0), (3, 1, 1), (3, 2, 1), (2, 3, 2), (5, 1, 2)]  # side, stride, padding


def spikes(low: int, high: int, factor: float = 1.0, shape: tuple[int, ...] = (2, 3, 5, 9, 7)) -> Tensor:
    """Channels-last in which the least and the greatest level occur, borders included."""
    k = torch.randint(low, high + 1, shape, generator=rng(0))
    k[0, 0, :, 0, 0], k[0, 0, :, -1, -1] = low, high
    steps, batch, *frame = shape
    frames = (k.float() * factor).reshape(steps * batch, *frame).contiguous(memory_format=torch.channels_last)
    return frames.unflatten(0, (steps, batch))


def build(quantizer: Quantizer | None, side: int = 3, stride: int = 1, padding: int = 1, bias: bool = False) -> Conv2d:
    torch.manual_seed(1)
    layer = Conv2d(5, 7, side, stride, padding, bias=bias, weight=quantizer)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def run(layer: Any, s: Tensor, low: int, high: int, factor: float | Tensor) -> tuple[Tensor, Any]:
    with int8() as record:
        record.spikes(s, SpikeFormat(low, high), factor)
        return layer(s), record


@needs_int8
@pytest.mark.parametrize("weight", TAKEN)
@pytest.mark.parametrize(("low", "high"), ALPHABETS)
def test_the_integers_are_exact(weight: str, low: int, high: int) -> None:
    for factor, place in zip((1.0, 0.5, 0.731, -0.3, 1e-3), PLACES, strict=True):
        layer, s = build(WEIGHTS[weight](), *place), spikes(low, high, factor)
        y, record = run(layer, s, low, high, factor)
        assert (record.taken, record.kept) == (1, {})
        levels, scale = layer.quantizer.to_int(layer.weight.detach())
        k = (s.double() / factor).round().flatten(0, 1)
        exact = F.conv2d(k, levels.double(), None, *place[1:]).unflatten(0, s.shape[:2])
        assert exact.abs().max() > 0 and exact.abs().max() < 2**24
        scales = (scale * factor).expand(7, 1, 1, 1).reshape(-1, 1, 1)
        assert torch.equal(y, exact.float() * scales)
        assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@needs_int8
@pytest.mark.parametrize(("low", "high"), [(0, 3), (-1, 1), (0, 127)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("weight", TAKEN)
def test_outputs_and_gradients_of_the_float_convolution(weight: str, bias: bool, low: int, high: int) -> None:
    """Given the same gradient of the output, every gradient is equal bit for bit, whatever the scales."""
    found = []
    for name in ("int8", "reference"):
        layer, s = build(WEIGHTS[weight](), 3, 2, 1, bias), spikes(low, high, 0.731).requires_grad_()
        with using(name, "convolve"):
            y, record = run(layer, s, low, high, 0.731)
        assert record.taken == (name == "int8")
        y.backward(torch.randn(y.shape, generator=rng(2)))
        gradients = [p.grad for p in layer.parameters()]
        assert s.grad is not None and all(g is not None and g.abs().max() > 0 for g in gradients[:1])
        found.append((y.detach(), [s.grad, *gradients]))
    (y, gradients), (wanted, others) = found
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    for one, other in zip(gradients, others, strict=True):
        assert one is None or torch.equal(one, other)


@needs_int8
def test_powers_of_two_equal_the_float_convolution_bit_for_bit() -> None:
    layer, s = build(Uniform(4), bias=True), spikes(0, 3, 0.25)
    layer.quantizer.step.data.fill_(2.0**-4)  # type: ignore[union-attr, operator]
    layer.bias.data.mul_(16).round_().div_(16)  # type: ignore[union-attr]
    y, record = run(layer, s, 0, 3, 0.25)
    assert record.taken == 1 and torch.equal(y, layer(s))


@needs_int8
@pytest.mark.parametrize("sign", [-1, 1])
def test_nothing_saturates_at_the_greatest_values(sign: int) -> None:
    """Spikes of 127 and weights of ±127: two products are 32258, sums of 45 are above 16 bits."""
    layer, s = build(Uniform(8)), torch.full_like(spikes(0, 127), 127.0)
    layer.weight.data.fill_(sign * 1e6)
    y, record = run(layer, s, 0, 127, 1.0)
    step = layer.quantizer.to_int(layer.weight)[1].item()  # bounded by the weights
    assert record.taken == 1 and y.abs().max() == torch.tensor(45 * 127 * 127.0) * torch.tensor(step)


@needs_int8
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_groups_and_dilation(groups: int) -> None:
    s, weight = spikes(-2, 3, shape=(2, 3, 6, 9, 7)), torch.randint(-7, 8, (12, 6 // groups, 3, 3), generator=rng(3))
    place = Place((2, 1), (1, 2), (1, 2), groups)
    layer = Conv2d(1, 1, 1, weight=Uniform(4))
    layer.weight, layer.quantizer = torch.nn.Parameter(weight.float()), _Whole(Uniform(4))  # type: ignore[assignment]
    facts = ConvolveFacts(Levels(-2, 3, 1.0), place, layer.quantizer.format, 54 // groups, s, False)
    y = kernel_function(layer, facts)(s, layer.weight, None)
    assert torch.equal(y.flatten(0, 1), F.conv2d(s.flatten(0, 1), weight.float(), None, *place))
    y.sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().max() > 0


class _Whole(torch.nn.Module):
    """Weights that are integers already."""

    def __init__(self, like: Quantizer) -> None:
        super().__init__()
        self.format = like.format

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return w, torch.ones(1, 1, 1, 1)


@needs_int8
def test_threads_do_not_matter() -> None:
    layer, s, before = build(TernaryWeight()), spikes(0, 3, 0.3), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(run(layer, s, 0, 3, 0.3)[0])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found)


@needs_int8
def test_an_empty_batch() -> None:
    s = spikes(0, 1)[:, :0].requires_grad_()
    y, _ = run(build(Sign()), s, 0, 1, 1.0)
    y.sum().backward()
    assert y.shape == (2, 0, 7, 9, 7) and s.grad is not None


WIDE = LearnedBits(8, bound=9)
REFUSED: dict[str, tuple[Callable[[], Any], tuple[int, int, float | Tensor], str]] = {
    "weights": (lambda: build(Float()), (0, 1, 1.0), "the weights are real"),
    "inputs": (lambda: build(Sign("input")), (0, 1, 1.0), "the weights have a scale per input channel"),
    "channels": (lambda: build(Sign()), (0, 1, torch.ones(5, 1, 1)), "the spikes have several amplitudes"),
    "levels": (lambda: build(Sign()), (0, 256, 1.0), "spikes 0..256 take more than 8 bits"),
    "pairs": (lambda: build(Uniform(8)), (0, 255, 1.0), "two products of spikes 0..255 with weights up to 127 may"),
    "signed": (lambda: build(Uniform(8)), (-127, 127, 1.0), "two products of spikes -127..127 with weights up to 127"),
    "linear": (lambda: Linear(7, 3, weight=Sign()), (0, 1, 1.0), "the layer is no 2-D convolution"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_runs_in_floating_point_with_a_reason(name: str) -> None:
    make, alphabet, reason = REFUSED[name]
    layer = make()
    s = spikes(0, 1) if name != "linear" else spikes(0, 1)[..., 0, :5, :].flatten(2)[..., :7]
    y, record = run(layer, s, *alphabet)
    assert torch.equal(y, layer(s)) and record.taken == 0
    assert list(record.kept.values()) == [1] and next(iter(record.kept)).startswith(reason)
    assert f"in floating point: 1, because {reason}" in record.report()
    with using("int8", "convolve"), pytest.raises(ValueError, match="'int8' must run here"):
        run(layer, s, *alphabet)


def test_long_sums_are_refused() -> None:
    layer = Conv2d(130, 1, 3, padding=1, weight=Uniform(8))  # 1170 · 127 · 127 > 2^24
    s = spikes(0, 127, shape=(1, 1, 130, 3, 3))
    assert "sums of 1170 products may exceed" in next(iter(run(layer, s, 0, 127, 1.0)[1].kept))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.double(), "the input is not known to be integer spikes"),
        (lambda s: s + 0, "the input is not known to be integer spikes"),
        (lambda s: s.add_(0.25), "the spikes were changed in place"),
        (lambda s: s[..., :5], "the memory order must be channels-last"),
    ],
)
def test_only_the_spikes_themselves_count(change: Callable[[Tensor], Tensor], reason: str) -> None:
    layer, s = build(Uniform(4)), spikes(0, 1)
    with int8() as record:
        record.spikes(s, SpikeFormat(0, 1), 1.0)
        x = change(s)
        y = layer.to(x.dtype)(x)
    assert record.taken == 0 and list(record.kept) == [reason] and torch.equal(y, layer(x))


def test_two_amplitudes_and_real_spikes_are_refused() -> None:
    """A negative level with a factor of its own; spikes that are no integers."""
    for alphabet, reason in (
        (SimpleNamespace(low=-1, high=1, real=False, slope=0.5), "the spikes have several amplitudes"),
        (SpikeFormat(real=True), "the input is not known to be integer spikes"),
    ):
        layer, s = build(Uniform(4)), spikes(-1, 1)
        with int8() as record:
            record.spikes(s, alphabet, 1.0)
            layer(s)
        assert list(record.kept) == [reason]


def test_memory_that_is_used_again_is_not_taken_for_spikes() -> None:
    layer, s = build(Uniform(4)), spikes(0, 1)
    with int8() as record:
        record.spikes(s, SpikeFormat(0, 1), 1.0)
        entry = record._noted.popitem()[1]
        del s
        x = spikes(0, 1) + 0.3
        record._noted[x.untyped_storage().data_ptr()] = entry
        layer(x)
    assert record.taken == 0


def test_plain_order_float64_and_autocast_stay() -> None:
    layer, s = build(Uniform(4)), spikes(0, 1).contiguous()
    y, record = run(layer, s, 0, 1, 1.0)
    assert list(record.kept) == ["the memory order must be channels-last"] and torch.equal(y, layer(s))
    double, s = build(Uniform(4)).double(), spikes(0, 1).double()
    assert "float32" in next(iter(run(double, s, 0, 1, 1.0)[1].kept))
    with torch.autocast("cpu", torch.bfloat16):
        _, record = run(layer, spikes(0, 1), 0, 1, 1.0)
    assert list(record.kept) == ["spikes must be float32, not under autocast"]


def test_errors_are_those_of_the_layer() -> None:
    with pytest.raises(ValueError, match="the input must have 5 channels"):
        run(build(Uniform(4)), spikes(0, 1, shape=(1, 1, 4, 3, 3)), 0, 1, 1.0)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (AttributeError("no such operator\nmore"), "this torch has no oneDNN convolution in int8 (no such operator)"),
        (RuntimeError("not supported"), "this torch has no oneDNN convolution in int8 (not supported)"),
        (None, "oneDNN's convolution in int8 is not exact here"),
    ],
)
def test_a_torch_without_it_says_so(broken: Exception | None, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def multiply(*_: object) -> Tensor:
        if broken:
            raise broken
        return torch.zeros(1, 1, 2, 2)

    monkeypatch.setattr(module, "_multiply", multiply)
    module.missing.cache_clear()
    try:
        layer, s = build(Uniform(4)), spikes(0, 1)
        y, record = run(layer, s, 0, 1, 1.0)
        assert list(record.kept) == [reason] and torch.equal(y, layer(s))
    finally:
        module.missing.cache_clear()


def test_the_table_holds_both() -> None:
    assert [kernel.name for kernel in table() if kernel.operation == "convolve"] == ["reference", "int8"]
    s = spikes(0, 1)
    facts = ConvolveFacts("nobody knows", Place((1, 1), (0, 0)), Uniform(4).format, 5, s, False)
    assert explain("convolve", "cpu", facts) == "int8: nobody knows\nreference: taken"
    assert "it runs on cpu" in explain("convolve", "cuda", facts)
    assert convolve_int8 is kernel_function


def test_torch_compile_is_refused() -> None:
    def forward(x: Tensor) -> Tensor:
        with int8():
            return x * 2

    with pytest.raises(Exception, match="must run uncompiled"):
        torch.compile(forward, backend="eager", fullgraph=True)(torch.ones(2))
