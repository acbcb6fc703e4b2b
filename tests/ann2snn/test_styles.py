"""Networks in many styles: they equal an ANN whose activations are rounded by hand, and count what runs by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import bitspike
from bitspike.ann2snn import Converted, skeleton
from bitspike.cost import Cost, cost
from bitspike.graph import Node
from bitspike.neurons import Integer, MultiBit, Neuron, Signed
from styles import SIGNED, STYLES, smooth, style

# Places whose spikes have another name than the function that makes them.
_CALLED = {"ReLU6": ("relu6", "hardtanh"), "Hardtanh": ("clamp", "hardtanh"), "LayerNorm": ("layer_norm",)}
# Synapses behind the first that read currents, or products that could be negative, or sums of resized spikes.
READS_ANALOG = {
    "dense": set(),
    "shuffle": {"c.0"},
    "inverted": {"last.0"},
    "byhand": {"a.0", "b.0", "head"},
    "unet": {"three.0"},
    "split": {"head"},
}
ANALOG: dict[str, dict[str, str]] = {
    "gated": {"fc.3": "Sigmoid", "mul": "mul"},
    "swish": {
        **{"act": "Hardswish", "act_1": "Hardswish", "act_2": "Hardswish", "hardswish": "Hardswish"},
        **{"gate.4": "Hardsigmoid", "mul": "mul"},
    },
    "byhand": {"mul": "mul"},
    "unet": {"interpolate": "interpolate"},
    "decoder": {"tanh": "Tanh"},
    "parametric": {"one": "PReLU", "many": "PReLU", "elu": "ELU"},
    "split": {"maximum": "maximum", "mean": "mean", "softmax": "Softmax", "mul": "mul", "sum": "sum"},
    "gelus": {"2": "GELU", "5": "SiLU", "7": "LayerNorm", "8": "Tanh"},
}


def neuron(name: str, fine: bool = True) -> Neuron:
    """8-bit spikes, signed ones of 9 where values lie below 0; or coarse ones of 2 and 3 bits."""
    if name in SIGNED:
        return Signed(255 if fine else 3, decay=1.0)
    return MultiBit(4, 4, decay=1.0) if fine else Integer(3, decay=1.0)


class Watch(TorchFunctionMode):
    """Calls of the functions that the places of a conversion stand for, in order; each may be changed.

    Args:
        kinds: what the places were. change: (place, value of the ANN) → value used.
    """

    def __init__(self, kinds: list[str], change: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self.kinds, self.change, self.place, self.depth = kinds, change, 0, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.depth += 1
        value = func(*args, **kwargs or {})
        self.depth -= 1
        name = func.__name__.strip("_")
        kind = self.kinds[self.place] if self.place < len(self.kinds) else ""
        if self.depth or name not in _CALLED.get(kind, (kind.lower(),)):
            return value
        self.place += 1
        return self.change(self.place - 1, value)


def logits(name: str, net: nn.Module, x: Tensor) -> Tensor:
    """The ANN's output; before the log-softmax where it ends in one."""
    if name != "helped":
        return net(x)  # type: ignore[no-any-return]
    kept: list[Tensor] = []
    handle = net.head.register_forward_hook(lambda module, args, value: kept.append(value))  # type: ignore[union-attr]
    net(x)
    handle.remove()
    return kept[0]


def sent(snn: Converted, x: Tensor) -> list[Tensor]:
    """Mean over time of the spikes of every neuron, in order."""
    found: list[Tensor] = []

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if node.kind == "neuron":
            found.append(value.mean(0))
        return value

    with torch.no_grad():
        snn.graph.run(x, handler=note)
    return found


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def aligned(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(1, -1, *[1] * (like.dim() - 2)) if value.numel() > 1 else value


@pytest.mark.parametrize("name", STYLES)
def test_they_are_the_ann_with_rounded_activations(name: str) -> None:
    """At T = 1 without corrections: logits to rounding, by an ANN whose activations are put on the grids by hand."""
    net, x, unseen = style(name), smooth(32), smooth(16, seed=6)
    snn = bitspike.ann2snn(net, neuron(name), x, 1, "max", correction="none")
    assert snn.report is not None and snn.report.analog == ANALOG.get(name, {})
    neurons = [node.module for node in snn.graph.of_kind("neuron")]
    grids = [(m.emission.scale(), m.format.high, m.format.low) for m in neurons]  # type: ignore[union-attr]
    kinds = [row.activation for row in snn.report.layers.values()]
    signed = [not getattr(m, "cancels_only", True) for m in neurons]

    def rounded(place: int, value: Tensor) -> Tensor:
        step, high, low = grids[place]
        step = aligned(step, value)
        k = torch.sign(value) * torch.floor((value / step).abs() + 0.5)
        return k.clamp(low if signed[place] else 0, high) * step

    with torch.no_grad():
        watch = Watch(kinds, rounded)
        with watch:
            wanted = logits(name, net, unseen)
        assert watch.place == len(kinds)
        torch.testing.assert_close(snn(unseen), wanted, rtol=1e-9, atol=1e-9)
        exact, got = logits(name, net, x), snn(x)
        assert relative(got, exact) < 0.01
        assert float((got.argmax(1) == exact.argmax(1)).double().mean()) > 0.95


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("name", STYLES)
def test_reports_say_what_is_measured(name: str, T: int) -> None:
    """Errors of coarse spikes: of the logits, of every neuron against the ANN's activation, and the agreement."""
    net, x = style(name), smooth(24)
    snn = bitspike.ann2snn(net, neuron(name, fine=False), x, T)
    report = snn.report
    assert report is not None
    activations: list[Tensor] = []

    def kept(place: int, value: Tensor) -> Tensor:
        activations.append(value)
        return value

    with torch.no_grad(), Watch([row.activation for row in report.layers.values()], kept):
        wanted = logits(name, net, x)
    with torch.no_grad():
        got = snn(x)
    assert report.logit_error == pytest.approx(relative(got, wanted), rel=1e-6) and report.logit_error > 1e-3
    assert report.agreement == pytest.approx(float((got.argmax(1) == wanted.argmax(1)).double().mean()))
    spikes = sent(snn, x)
    for row, mean, activation in zip(report.layers.values(), spikes, activations, strict=True):
        assert row.error == pytest.approx(relative(mean.reshape(activation.shape), activation), rel=1e-6), row.path
        assert 0.02 < row.rate <= 1
    finer = bitspike.ann2snn(net, neuron(name), x, T).report
    assert finer is not None and finer.logit_error < report.logit_error / 8


def macs_by_hooks(net: nn.Module, x: Tensor) -> dict[str, int]:
    """Multiply-accumulates of one sample in every convolution and linear map, all calls together."""
    found: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Tensor, ...], value: Tensor) -> None:
            turned = isinstance(module, nn.ConvTranspose2d)
            places = args[0][0, 0].numel() if turned else value.numel() // len(value) // module.weight.shape[0]
            found[name] = found.get(name, 0) + places * module.weight.numel()

        return hook

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    hooks = [m.register_forward_hook(count(name)) for name, m in net.named_modules() if isinstance(m, kinds)]
    with torch.no_grad():
        net(x)
    for handle in hooks:
        handle.remove()
    return found


def by_layer(counted: Cost, names: set[str], what: str) -> dict[str, float]:
    """Sums over the synapses that stand for a layer of the user, whose calls have its name and _1, _2, … behind it."""
    found: dict[str, float] = {}
    for row in counted.synapses:
        own = row.name.removeprefix("net_body_")
        exact = [n for n in names if own == n.replace(".", "_")]
        [name] = exact or [n for n in names if own.startswith(f"{n.split('.')[0]}_")]
        found[name] = found.get(name, 0) + getattr(row, what)
    return found


@pytest.mark.parametrize("name", STYLES)
def test_fold_stream_and_cost(name: str) -> None:
    net, x = style(name), smooth(8)
    snn = bitspike.ann2snn(net, neuron(name), smooth(32), 2, "max")
    folded = bitspike.fold(snn, x)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), snn(x), rtol=1e-9, atol=1e-9)
    assert folded.report.forced_flips == 0
    for some in (snn, folded):
        parts, states = None, None
        sequence = x.unsqueeze(0).expand(2, *x.shape)
        for step in sequence.split(1):
            parts, states = bitspike.stream(some.graph, step, states)
        with torch.no_grad():
            assert torch.equal(parts, bitspike.stream(some.graph, sequence)[0])
            torch.testing.assert_close(parts, some(x), rtol=1e-9, atol=1e-9)
    counted = cost(folded.graph, x)
    wanted = macs_by_hooks(net, x)
    assert by_layer(counted, set(wanted), "macs") == wanted
    assert {row.split(" ")[0] for row in counted.uncounted} == {
        f"net_body_{path.replace('.', '_')}" for path in ANALOG.get(name, {})
    }
    _check_operations(name, folded.graph, x, counted)


def _check_operations(name: str, graph: Any, x: Tensor, counted: Cost) -> None:
    """Multiplications where real values arrive, one shift-addition a set bit and weight where spikes do."""
    inputs: dict[str, Tensor] = {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        if node.kind == "synapse":
            inputs[node.name] = args[0]
        return call()

    with torch.no_grad():
        graph.run(x, handler=note)
    analog = {f"net_body_{path.replace('.', '_')}" for path in READS_ANALOG.get(name, set())}
    for row in counted.synapses:
        given = inputs[row.name]
        each = row.macs / (given[0, 0].numel() * len(x))
        if row.role == "first" or row.name in analog:
            assert row.shift_adds == 0 and row.multiplications == pytest.approx(each * float((given != 0).sum()))
            continue
        levels = given.round().long()
        assert float((given - levels).abs().max()) < 1e-6, row.name
        bits = sum(((levels.abs() >> bit) & 1).sum() for bit in range(24))
        assert row.multiplications == 0 and row.shift_adds == pytest.approx(each * float(bits)), row.name


@pytest.mark.parametrize("options", [{"correction": "weights", "sharing": "layer"}, {"readout": "settled"}])
@pytest.mark.parametrize("name", ["byhand", "gated", "gelus", "parametric", "pixels", "split", "decoder"])
def test_options_and_weights_of_another_conversion(name: str, options: dict[str, str]) -> None:
    """The structure depends on no value: weights of a conversion fit into the skeleton of another network."""
    x = smooth(24, torch.float32)
    snn = bitspike.ann2snn(style(name, torch.float32), neuron(name, fine=False), x, 2, **options)  # type: ignore[arg-type]
    other = style(name, torch.float32)
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(-0.5)
    shape = {key: value for key, value in options.items() if key != "correction"}
    made = skeleton(other, neuron(name, fine=False), x, 2, **shape)
    made.graph.model.load_state_dict(snn.net.state_dict())
    with torch.no_grad():
        assert torch.equal(made.graph.model(x), snn(x))


def test_log_probabilities_are_left_to_the_caller() -> None:
    net, x = style("helped"), smooth(48)
    for training in (False, True):
        snn = bitspike.ann2snn(net.train(training), MultiBit(4, 4, decay=1.0), x, 1, fine_tune=1)
        assert snn.report is not None and snn.report.outside == "LogSoftmax (log_softmax)"
        assert "left outside: LogSoftmax (log_softmax)" in str(snn.report)
        with torch.no_grad():
            assert relative(F.log_softmax(snn(x), 1), net.eval()(x)) < 0.01
