"""From a plan to a network on a dyadic grid."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.layers import (
    ENCODERS,
    AvgPool2d,
    BatchNorm,
    ClipFloor,
    Conv2d,
    Flatten,
    GlobalAvgPool,
    Join,
    Linear,
    MaxPool2d,
    MeanReadout,
    Refined,
    Restimulate,
    Squeeze,
    StepReadout,
    SumPool2d,
    Synapse,
    TallyMaxPool2d,
    TallyPool,
    Windows,
)
from bitspike.models.pad import PadShortcut
from bitspike.neurons import Neuron
from bitspike.upgrade.layers import Convolution, Merged, ZeroPad
from networks import make_neuron
from random_networks.factors import AMPLITUDES, MEMBRANES, SPIKES, WEIGHTS
from random_networks.plan import SIDES, Plan, Row

INPUTS, WIDTH, CLASSES = 2, 4, 5


def new_neuron(row: Row, channels: int) -> nn.Module:
    """The neuron of a block, its per-channel parts sized."""
    kind, own = SPIKES[row["spike"]]
    made = make_neuron(kind, **own, **MEMBRANES[row["membrane"]], **AMPLITUDES[row["amplitude"]])
    if row["spike"].startswith("refined"):
        squeeze = row["spike"].split()[1]
        known = squeeze in ("always", "differs", "windows")
        return Refined(made, T=row["steps"], squeeze=squeeze if known else "always").replicate(channels, 1)
    return made.replicate(channels, 1)


def new_synapse(row: Row, inputs: int, axes: int) -> Synapse:
    """The synapse of a block, over 0, 1 or 2 axes of places."""
    weight, bias = WEIGHTS[row["weight"]](), row["norm"] == "bias"
    groups = {"1": 1, "2": 2, "channels": inputs}[row["groups"]]
    outputs = WIDTH if groups < inputs or groups == 1 else inputs * -(-WIDTH // inputs)
    if not axes:
        return Linear(inputs, outputs, bias, weight)
    kernel = [int(k) for k in row["kernel"].split("x")] if "x" in row["kernel"] else [int(row["kernel"])] * axes
    stride = [int(k) for k in row["stride"].split("x")] if "x" in row["stride"] else [int(row["stride"])] * axes
    dilation = int(row["dilation"])
    half = [dilation * (k - 1) // 2 for k in kernel]
    padding: Any = {"half": half, "none": [0] * axes, "more": [p + 1 for p in half], "same": "same"}[row["padding"]]
    square = padding != "same" and all(len(set(n)) == 1 for n in (kernel, stride, padding))
    if axes == 2 and dilation == 1 and square:
        return Conv2d(inputs, outputs, kernel[0], stride[0], padding[0], bias, weight, groups)
    kind = nn.Conv1d if axes == 1 else nn.Conv2d
    conv = kind(
        inputs, outputs, kernel, stride, padding if padding == "same" else tuple(padding), dilation, groups, bias
    )  # type: ignore[arg-type]
    made = Convolution(conv)
    if weight is not None:
        made.quantize_with(weight)
    return made


def new_pool(name: str, sides: tuple[int, ...]) -> nn.Module | None:
    """A pool for so many places."""
    rows = len(sides) == 1
    maximum, mean = (nn.MaxPool1d, nn.AvgPool1d) if rows else (nn.MaxPool2d, nn.AvgPool2d)
    least, most = (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d) if rows else (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
    wanted = tuple(n // 2 if n % 2 == 0 else 1 for n in sides)
    wanted = wanted[0] if rows else wanted  # type: ignore[assignment]

    def linear(body: nn.Module) -> Merged:
        return Merged(body, name, "linear", keeps_format=False)

    def positive(body: nn.Module) -> Merged:
        return Merged(body, name, "positive", keeps_format=True)

    made = {
        "none": lambda: None,
        "average": lambda: AvgPool2d(2),
        "average ceil": lambda: AvgPool2d(2, ceil=True),
        "average of 9": lambda: AvgPool2d(3, 2, padding=1),
        "sum": lambda: SumPool2d(2),
        "max": lambda: MaxPool2d(2),
        "max ceil": lambda: positive(nn.MaxPool2d(3, 2, ceil_mode=True)),
        "tally": lambda: TallyMaxPool2d(2),
        "torch average": lambda: linear(mean(2, 1, padding=1)),
        "torch divisor": lambda: linear(mean(2) if rows else nn.AvgPool2d(2, divisor_override=8)),
        "torch max": lambda: positive(maximum(3, 2, padding=1)),
        "torch max ceil": lambda: positive(maximum(2, 2, ceil_mode=True)),
        "torch max dilated": lambda: positive(maximum(2, 1, dilation=2)),
        "adaptive average": lambda: linear(least(wanted)),  # type: ignore[arg-type]
        "adaptive max": lambda: positive(most(wanted)),  # type: ignore[arg-type]
        "tally padded": lambda: TallyPool(maximum(3, 2, padding=1)),
        "tally adaptive": lambda: TallyPool(most(wanted)),  # type: ignore[arg-type]
    }[name]
    return made()  # type: ignore[no-any-return]


def new_norm(name: str, channels: int) -> nn.Module | None:
    """A batch norm, or nothing."""
    return None if name in ("bias", "none") else BatchNorm(channels, name)


class Block(nn.Module):
    """Edge in time – synapse – norm – sum with a way around – neuron – pool."""

    def __init__(self, row: Row, shape: tuple[int, ...], stem: bool) -> None:
        super().__init__()
        inputs, sides = shape[0], shape[1:]
        self.around, self.pooled = row["around"], row["pooled"]
        T = row["steps"]
        edges = {"squeeze": Squeeze(T), "squeeze differs": Squeeze(T, always=False), "windows": Windows(T)}
        self.edge = edges.get(row["edge"])
        mapped = 2 * (inputs // 4) if self.around == "split" else inputs
        self.parts = [mapped, inputs - mapped]
        self.synapse = new_synapse(row, mapped, len(sides))
        self.synapse.role = "first" if stem else "hidden"
        channels = len(self.synapse.weight)
        self.norm = new_norm(row["norm"], channels)
        self.neuron = new_neuron(row, channels)
        self.attend: nn.Module | None = None
        self.shortcut: nn.Module | None = None
        self.join: nn.Module | None = None
        same = inputs == channels and row["stride"] == "1"
        if self.around.startswith("attention"):
            word = self.around.split()[1]
            told = {"attention": "one"} if word == "one" else {"over": word}
            self.attend = Restimulate(inputs, **told)  # type: ignore[arg-type]
        if self.around == "pad" and inputs <= channels:
            self.shortcut = PadShortcut(inputs, channels, int(row["stride"]))
        elif self.around == "average":
            stride = int(row["stride"])
            self.shortcut = nn.Sequential(
                AvgPool2d(stride, ceil=True), *self._project(row, inputs, channels, sides, "1")
            )
        elif self.around in ("project", "pad") or ((self.around in ("identity", "sew") or self.attend) and not same):
            self.shortcut = nn.Sequential(*self._project(row, inputs, channels, sides, row["stride"]))
        elif self.around.startswith("join") and not same:
            self.shortcut = nn.Sequential(*self._project(row, inputs, channels, sides, "1"))
        if self.around.startswith("join"):
            self.join = Join(keep_time=self.around == "join windows")
        after = _places(self.synapse, (mapped, *sides))
        self.pool = new_pool(row["pool"], after)
        self.bend = {"relu": nn.ReLU(), "clip floor": ClipFloor(4, 2.0)}.get(row["also"])
        moves = {"shuffle": Merged(nn.ChannelShuffle(2), "shuffle", "linear", True), "dropout": nn.Dropout()}
        zeros = ZeroPad(((1, 1), (1, 0), (1, 0, 0, 1))[len(sides)])
        self.move = zeros if row["also"] == "zeros" else moves.get(row["also"])
        self.rotates = row["also"] == "rotate"

    @staticmethod
    def _project(row: Row, inputs: int, channels: int, sides: tuple[int, ...], stride: str) -> list[nn.Module]:
        plain = {"kernel": "1", "stride": stride, "padding": "half", "groups": "1", "dilation": "1"}
        synapse = new_synapse(row | plain | {"norm": "joint"}, inputs, len(sides))
        if len(synapse.weight) != channels:
            kind = Linear(inputs, channels, False) if not sides else None
            if kind is None:
                convolution = nn.Conv1d if len(sides) == 1 else nn.Conv2d
                where = [int(s) for s in stride.split("x")] if "x" in stride else [int(stride)] * len(sides)
                synapse = Convolution(convolution(inputs, channels, 1, where, bias=False))  # type: ignore[arg-type]
                weight = WEIGHTS[row["weight"]]()
                if weight is not None:
                    synapse.quantize_with(weight)
            else:
                synapse = kind
        synapse.role = "downsample"
        return [synapse, BatchNorm(channels)]

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, ...] → [T', B, C', ...]."""
        before = x
        if self.edge is not None:
            x = self.edge(x)
        rest = None
        if self.around == "split":
            x, rest = x.split(self.parts, 2)
        y = self.synapse(x)
        if self.norm is not None:
            y = self.norm(y)
        if self.around in ("identity", "project", "average", "pad") or self.attend is not None:
            beside = x if self.attend is None else self.attend(x)
            y = y + (beside if self.shortcut is None else self.shortcut(beside))
        if self.bend is not None:
            y = self.bend(y)
        if self.pool is not None and self.pooled == "currents":
            y = self.pool(y)
        s = self.neuron(y)
        if self.around == "sew":
            s = s + (x if self.shortcut is None else self.shortcut(x))
        if self.around in ("concat", "split"):
            s = torch.cat([s, x if rest is None else rest], 2)
        if self.join is not None:
            s = self.join(s, before if self.shortcut is None else self.shortcut(before))
        if self.pool is not None and self.pooled == "spikes":
            s = self.pool(s)
        if self.rotates:
            s = torch.cat([s[:, :, 2:], s[:, :, :2]], 2)
        return s if self.move is None else self.move(s)


def _places(synapse: Synapse, shape: tuple[int, ...]) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(synapse(torch.zeros(1, 1, *shape)).shape[3:])


class Network(nn.Module):
    """Encoder – blocks – pool or flattening – linear map – read-out."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        given, T = plan.network["given"], plan.blocks[0]["steps"]
        self.encoder = ENCODERS[given](T) if given in ENCODERS else None  # type: ignore[call-arg]
        shape: tuple[int, ...] = (INPUTS, *SIDES[plan.network["axes"]])
        blocks: list[nn.Module] = []
        for i, row in enumerate(plan.blocks):
            blocks.append(Block(row, shape, i == 0).eval())
            with torch.no_grad():
                shape = tuple(blocks[-1](torch.zeros(2, 1, *shape)).shape[2:])
        self.blocks = nn.Sequential(*blocks)
        head = plan.network["head"] == "global"
        self.head = GlobalAvgPool() if head else Flatten()
        self.last = Linear(shape[0] if head else math.prod(shape), CLASSES, True, WEIGHTS[plan.blocks[-1]["weight"]]())
        self.last.role = "last"
        self.sends = plan.network["sends"]
        self.readout: nn.Module = StepReadout() if plan.network["readout"] == "steps" else MeanReadout()
        if plan.network["readout"] == "late":
            self.readout = MeanReadout(2)
            self.readout.keep[0] = 0  # type: ignore[index]

    def forward(self, x: Tensor) -> Any:
        """[B, ...] (or [T, B, ...] without encoder) → [B, 5] or [T, B, 5]; beside it, where several are sent, a row of
        sums a step, and what the blocks send."""
        x = x if self.encoder is None else self.encoder(x)
        s = self.blocks(x)
        kinds = self.last(self.head(s))
        if self.sends == "one":
            return self.readout(kinds)
        if self.sends == "tuple":
            return self.readout(kinds), kinds
        return {"kinds": self.readout(kinds), "inner": [kinds, s]}


def new_network(plan: Plan) -> Network:
    """The network of a plan, its numbers from the plan's seed, silent about inert factors."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(plan.seed)
        return Network(plan)


def new_inputs(plan: Plan, count: int) -> Tensor:
    """Inputs on the grid: images, intensities for encoders that read them, sequences of real frames or of events."""
    generator = torch.Generator().manual_seed(plan.seed)
    given, T = plan.network["given"], plan.blocks[0]["steps"]
    sides = INPUTS, *SIDES[plan.network["axes"]]
    lead = (count,) if given in ENCODERS else (T, count)
    lead = (count, T) if given in ENCODERS and ENCODERS[given](T).sequences else lead  # type: ignore[call-arg]
    if given == "events":
        return torch.randint(0, 2, (*lead, *sides), generator=generator).double()
    x = torch.round(16 * torch.randn(*lead, *sides, generator=generator, dtype=torch.float64)) / 16
    intensities = given in ENCODERS and ENCODERS[given](T).intensities  # type: ignore[call-arg]
    return x.abs().clamp(max=1) if intensities else x


def neurons_of(model: nn.Module) -> list[Neuron]:
    """All neurons in order."""
    return [module for module in model.modules() if isinstance(module, Neuron)]
