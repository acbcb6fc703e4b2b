"""Code of torch between layers, as `upgrade` leaves it: on a dyadic grid the program gives the network's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from bitspike.layers import Conv2d, Flatten, Linear, MeanReadout, Repeat, Squeeze
from bitspike.lower import CompileReport, compare
from bitspike.neurons import LIF, MultiBit
from bitspike.testing import check_program
from lower_nets import WIDE
from networks import dyadic, exact_log, rng

NEURON = LIF(threshold=0.5, decay=0.5, reset="soft")


class Code(nn.Module):
    """A convolution and an activation, some code, and a convolution of what it gives."""

    def __init__(
        self, code: Callable[[Tensor], Tensor], sample: Tensor, channels: int = 4, analog: bool = False
    ) -> None:
        super().__init__()
        kinds: Any = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
        self.stem, self.code, self.analog = kinds[sample.dim()](sample.shape[1], channels, 3, padding=1), code, analog
        with torch.no_grad():
            got = code(self.stem.double()(sample))
        kind = kinds.get(got.dim())
        self.conv = (kind(got.shape[1], 4, 3, padding=1) if kind else nn.Identity()).double()
        with torch.no_grad():
            size = self.conv(got).flatten(1).shape[1]
        self.last = nn.Linear(size, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.code(x if self.analog else F.relu(x))
        x = F.relu(self.conv(x))
        return self.last(x.flatten(1))


def on_grid(net: nn.Module, steps: int = 16) -> nn.Module:
    """Parameters that are multiples of 1/steps."""
    for parameter in net.parameters():
        parameter.data = dyadic(2 * parameter.data, steps)
    return net.double()


def spiking(net: nn.Module, x: Tensor, T: int = 2, neuron: Any = NEURON) -> Any:
    return bitspike.fold(bitspike.upgrade(on_grid(net), {nn.ReLU: neuron}, x, T=T).eval(), x)


def image(channels: int = 3, *sides: int) -> Tensor:
    return dyadic(torch.randn(5, channels, *(sides or (6, 8)), generator=rng(0), dtype=torch.float64))


def check(net: Callable[[], nn.Module], x: Tensor, **options: Any) -> Any:
    torch.manual_seed(0)
    folded = spiking(net(), x, **options)
    program, found = check_program(folded, x, **WIDE)
    assert any(0.01 < s.fired / s.spikes < 0.99 for s in found.layers.values())
    return program


PLANE: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed to features last and back": lambda x: x.permute(0, 2, 3, 1).flip(0).flip(0).permute(0, 3, 1, 2),
    "rows and columns": lambda x: x.transpose(2, 3),
    "channels as places": lambda x: x.permute(0, 3, 1, 2),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "a reversed side": lambda x: x.flip(3),
    "rolled": lambda x: x.roll(2, 2),
    "every second row": lambda x: x[:, :, ::2],
    "a column": lambda x: x[:, :, :, 3:4],
    "chosen columns": lambda x: x[:, :, :, [0, 3, 4, 1]],
    "halves of rows side by side": lambda x: torch.cat(x.chunk(2, 2)[::-1], 3),
    "stacked": lambda x: torch.stack([x, x.flip(2)], 2).flatten(1, 2),
    "repeated places": lambda x: x.repeat_interleave(2, 3),
    "repeated twice": lambda x: x.repeat(1, 2, 1, 2),
    "nearest, twice": lambda x: F.interpolate(x, scale_factor=2),
    "nearest, to a size": lambda x: F.interpolate(x, (9, 5)),
    "bilinear, twice": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear, half": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"),
    "bicubic, twice": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "reflected": lambda x: F.pad(x, (2, 1, 1, 0), "reflect"),
    "replicated": lambda x: F.pad(x, (2, 1, 0, 3), "replicate"),
    "round": lambda x: F.pad(x, (2, 1, 1, 1), "circular"),
    "zeros, cut": lambda x: F.pad(x, (2, -1, -1, 3)),
    "means over rows": lambda x: x.mean(3, keepdim=True),
    "means over channels": lambda x: x.mean(1, keepdim=True),
    "sums over columns, flat": lambda x: x.sum(2),
    "maxima over places": lambda x: x.amax((2, 3)),
    "minima over columns": lambda x: -x.amin(2),
    "maxima of torch.max": lambda x: x.max(3)[0],
    "adaptive means that differ": lambda x: F.adaptive_avg_pool2d(x, (4, 8)),
    "averages that stick out": lambda x: F.avg_pool2d(x, 2, 2, 1, count_include_pad=False),
    "a scaled and shifted signal": lambda x: (x * 0.5 - 0.25) / 2 + 1,
    "constants a place": lambda x: (
        x * torch.arange(8.0, dtype=torch.float64) + torch.arange(6.0, dtype=torch.float64)[:, None] / 8
    ),
    "one minus": lambda x: 1 - x,
    "difference with itself moved": lambda x: x - x.roll(1, 3),
    "sum with a mean that is repeated": lambda x: x + x.mean((2, 3), keepdim=True) * 12,
    "product with a mean": lambda x: x * x.sum((2, 3), keepdim=True),
    "product of matrices": lambda x: x @ x.transpose(-1, -2),
    "product of matrices of several heads": lambda x: (
        x.flatten(2).unflatten(1, (2, 2)).mT @ x.flatten(2).unflatten(1, (2, 2))
    ).mean(1, keepdim=True),
    "product with a constant matrix": lambda x: x @ torch.arange(24.0, dtype=torch.float64).reshape(8, 3) / 8,
    "a constant matrix times": lambda x: torch.arange(12.0, dtype=torch.float64).reshape(2, 6) / 8 @ x,
    "constants beside": lambda x: torch.cat(
        [torch.arange(8.0, dtype=torch.float64).expand(x.shape[0], 4, 1, 8) / 8, x], 2
    ),
    "adaptive maxima that differ": lambda x: F.adaptive_max_pool2d(x, (4, 5)),
    "product with itself moved": lambda x: x * x.roll(1, 3),
}
ANALOG: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "clamp": lambda x: x.clamp(-0.25, 0.5),
    "leaky": lambda x: F.leaky_relu(x, 0.25),
    "magnitude": torch.abs,
    "the greater": lambda x: torch.maximum(x, x.roll(1, 3)),
    "the lesser": lambda x: torch.minimum(x, -x),
    "shuffled": lambda x: F.pixel_shuffle(x, 2),
}


@pytest.mark.parametrize("name", sorted(PLANE))
def test_code_of_spikes(name: str) -> None:
    x = image()
    check(lambda: Code(PLANE[name], x), x)


@pytest.mark.parametrize("name", sorted(ANALOG))
def test_code_of_currents(name: str) -> None:
    x = image()
    check(lambda: Code(ANALOG[name], x, analog=True), x)


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("rest", [(0, 0, 1, 1), (1, 0, 1, 2), (0, 1, 2, 1), (2, 1, 2, 4)])
def test_transposed_convolutions(kernel: int, stride: int, rest: tuple[int, ...]) -> None:
    padding, more, dilation, groups = rest
    more = min(more, max(stride, dilation) - 1)
    if dilation * (kernel - 1) + more + 1 <= 2 * padding and stride == 1:
        return  # nothing is left of a side of few places
    for kind, x in ((nn.ConvTranspose2d, image()), (nn.ConvTranspose1d, image(3, 7))):
        layer = kind(4, 4, kernel, stride, padding, more, groups, dilation=dilation).double()
        check(lambda layer=layer, x=x: Code(layer, x), x)  # type: ignore[misc]


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_borders_of_convolutions(mode: Any) -> None:
    x = image()
    check(lambda: Code(nn.Conv2d(4, 4, 3, 2, padding=(1, 2), padding_mode=mode).double(), x), x)
    x = image(3, 9)
    check(lambda: Code(nn.Conv1d(4, 6, 5, padding="same", padding_mode=mode, groups=2).double(), x), x)


VOLUME: dict[str, Callable[[Tensor], Tensor]] = {
    "maxima": lambda x: F.max_pool3d(x, 2, ceil_mode=True),
    "maxima with borders": lambda x: F.max_pool3d(x, (3, 2, 3), 2, (1, 0, 1)),
    "means": lambda x: F.avg_pool3d(x, (4, 2, 2), 2),
    "all": lambda x: F.adaptive_max_pool3d(x, 1).flatten(1),
    "planes as channels": lambda x: x.flatten(1, 2),
}


@pytest.mark.parametrize("name", sorted(VOLUME))
def test_code_of_volumes(name: str) -> None:
    x = image(2, 5, 4, 6)
    check(lambda: Code(VOLUME[name], x), x)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": (1, 0, 2)}, {"dilation": (2, 1, 1), "groups": 2}])
def test_convolutions_of_volumes(options: dict[str, Any]) -> None:
    x = image(2, 5, 4, 6)
    check(lambda: Code(nn.Conv3d(4, 4, 3, **{"padding": 1, **options}).double(), x), x)


class Tokens(nn.Module):
    """Tokens [B, N, C]: maps of features and of tokens, sums, a mean, a class token's place."""

    def __init__(self, read: str) -> None:
        super().__init__()
        self.patch, self.read = nn.Conv2d(3, 6, 2, 2), read
        self.up, self.down, self.mix = nn.Linear(6, 10), nn.Linear(10, 6), nn.Linear(16, 16)
        self.place = nn.Parameter(torch.randn(1, 16, 6))
        self.head = nn.Linear(96 if read == "flat" else 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.place
        x = x + self.down(F.relu(self.up(F.relu(x))))
        x = x + self.mix(F.relu(x).transpose(1, 2)).transpose(1, 2)
        x = F.relu(x)
        return self.head(x.flatten(1) if self.read == "flat" else x.mean(1) if self.read == "mean" else x[:, 0])


@pytest.mark.parametrize("read", ["mean", "flat", "first"])
def test_tokens(read: str) -> None:
    x = image(3, 8, 8)
    program = check(lambda: Tokens(read), x)
    if read == "mean":  # all is mapped where it lies, but for a sum of what lies otherwise
        assert {op.name.split(".")[0] for op in program.spec.operations if ".swap" in op.name} == {"add"}


@pytest.mark.parametrize("read", ["mean", "flat", "first"])
def test_thresholds_and_factors_per_feature_of_tokens(read: str) -> None:
    x = image(3, 8, 8)
    torch.manual_seed(0)
    neuron = LIF(
        decay=0.5, reset="soft", amplitude=2.0, train_threshold="channel", train_amplitude="channel"
    ).replicate(1, -1)
    net = bitspike.upgrade(on_grid(Tokens(read)), {nn.ReLU: neuron}, x, T=2).eval()
    for module in net.modules():
        if isinstance(module, LIF):
            for parameter in module.parameters():
                powers = torch.randint(-1, 2, parameter.shape, generator=rng(1)).flatten()
                exact = [exact_log(2.0 ** int(power), torch.float64) for power in powers]
                parameter.data = torch.stack(exact).reshape(parameter.shape)
    check_program(bitspike.fold(net, x), x, **WIDE)


def test_a_table_is_as_good_as_it_says() -> None:
    x = image()
    net = Code(lambda v: torch.sigmoid(v) * F.silu(v), x, analog=True)
    torch.manual_seed(0)
    folded = spiking(net, x, T=1)
    program = bitspike.compile(folded, x, **WIDE)
    notes = [note for note in CompileReport.of(program).notes if "is a table" in note]
    assert len(notes) == 2 and all("steps of" in note for note in notes)
    found = compare(program, folded, [x])
    assert found.forced_flips <= 2e-3 * sum(layer.spikes for layer in found.layers.values())


def test_a_table_of_levels_has_every_level() -> None:
    x = image()
    folded = spiking(Code(lambda v: torch.exp(-v), x), x, T=2, neuron=MultiBit(2, 2, decay=0.5))
    program = bitspike.compile(folded, x, **WIDE)
    (note,) = [note for note in CompileReport.of(program).notes if "is a table" in note]
    assert "steps" not in note
    assert compare(program, folded, [x]).agreement == 1


class Own(nn.Module):
    """Bitspike's own layers over [T, B, ...] with plain functions between them."""

    def __init__(self, code: Callable[[Tensor], Tensor], out: int = 4, placed: bool = False) -> None:
        super().__init__()
        self.encoder, self.conv, self.fire, self.code = Repeat(2), Conv2d(3, 4, 3, padding=1, bias=True), NEURON, code
        self.second, self.flatten = Conv2d(out, 4, 3, bias=True), Flatten()
        self.placed = placed
        if placed:
            self.register_buffer("place", dyadic(torch.randn(4, 6, 8, generator=rng(3))))
        with torch.no_grad():
            size = self.flatten(self.second(self.code(torch.zeros(2, 1, 4, 6, 8)))).shape[-1]
        self.last, self.readout = Linear(size, 3), MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.encoder(x))
        x = self.code(self.fire(x + self.place if self.placed else x))
        return self.readout(self.last(self.flatten(NEURON(self.second(x)))))


OWN: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "scaled": (lambda x: x * 2.0 - 0.5, 4),
    "columns and rows": (lambda x: x.transpose(3, 4), 4),
    "a part of places": (lambda x: x[:, :, :, 1:, ::2], 4),
    "places side by side": (lambda x: torch.cat([x, x[:, :, :, :2]], 3), 4),
    "places as channels": (lambda x: x.permute(0, 1, 3, 2, 4), 6),
    "means over channels": (lambda x: x.mean(2, keepdim=True), 1),
    "maxima": (lambda x: torch.maximum(x, 1 - x.flip(4)), 4),
    "held by the mean over time": (lambda x: x.transpose(3, 4) * 1, 4),
}


@pytest.mark.parametrize("name", sorted(OWN))
def test_plain_functions_over_time(name: str) -> None:
    x = image()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = on_grid(Own(*OWN[name]))
    check_program(bitspike.fold(net, x), x, **WIDE)


def test_a_constant_of_a_network_that_is_not_folded() -> None:
    x = image()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = on_grid(Own(lambda v: v * 2, placed=True))
    check_program(net.eval(), x, **WIDE)


@pytest.mark.parametrize("code", [lambda x: x.mean(0, keepdim=True).expand(2, -1, -1, -1, -1), lambda x: x.flip(0)])
def test_functions_over_time_or_batch_are_refused(code: Callable[[Tensor], Tensor]) -> None:
    x = image()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = on_grid(Own(code))
    with pytest.raises(ValueError, match=r"time|mixes samples"):
        bitspike.compile(bitspike.fold(net, x), x)


def test_squeezed_and_held_where_it_lies() -> None:
    """A signal whose axes stand in another order keeps that order through other numbers of steps."""
    x = image()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Own(lambda v: v)
        net.code = nn.Sequential()
    net.code = Turned()
    check_program(bitspike.fold(on_grid(net), x), x, **WIDE)


class Turned(nn.Module):
    """Rows become columns, a squeeze, and a sum with what was held for all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.hold = Squeeze(1), Squeeze(2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(3, 4)
        return (self.hold(self.squeeze(x)) + x).transpose(3, 4)
