"""What a network costs per sample: operations by kind, bits, bytes.

Counting rule (design): a synapse adds or subtracts where its spikes or its weights are ±1 or ternary; multi-bit
spikes against other weights shift and add once per set bit; every other pair is a multiplication. Silent neurons cost
nothing; factors that are powers of two are shifts. Zero padding is counted as if it were data, and so are zero weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.checks import finite
from bitspike.formats import SpikeFormat, WeightFormat
from bitspike.functional import popcount
from bitspike.graph import Graph, Node, trace
from bitspike.layers import Affine, BatchNorm, Gain, Synapse
from bitspike.neurons import Neuron
from bitspike.observe import levels_of


@dataclass
class LayerCost:
    """Cost of one synapse, affine map, norm, gain or emission, per sample, all time steps together.

    Attributes:
        name: graph node. kind: "synapse", "affine", "gain", "norm" or "amplitude". role: of a synapse.
        T: time steps. input_bits, weight_bits: bits of an incoming value and of a weight (32 where real).
        rate: share of non-zero incoming values. set_bits: mean set bits of an incoming integer (0 where real).
        macs: multiply-accumulates of one step if nothing were silent.
        adds, shift_adds, multiplications: operations of all steps.
        parameters: weights and biases. size_bits: as packed, scales and biases as 32-bit numbers.
    """

    name: str
    kind: str
    role: str
    T: int
    input_bits: int = 32
    weight_bits: int = 32
    rate: float = 1.0
    set_bits: float = 0.0
    macs: int = 0
    adds: float = 0.0
    shift_adds: float = 0.0
    multiplications: float = 0.0
    parameters: int = 0
    size_bits: int = 0


@dataclass
class Cost:
    """Layer costs and their totals.

    Attributes:
        layers: one row each. samples: number of samples the rates were measured on.
    """

    samples: int
    layers: list[LayerCost] = field(default_factory=list)

    def total(self, quantity: str, without: Iterable[str] = ()) -> float:
        """Sum of one attribute over the layers, leaving out synapses of the given roles."""
        left_out = set(without)
        return sum(float(getattr(layer, quantity)) for layer in self.layers if layer.role not in left_out)

    @property
    def size_bytes(self) -> float:
        """Weights as packed, with their scales, biases and affine maps, in bytes."""
        return self.total("size_bits") / 8

    def as_dict(self) -> dict[str, Any]:
        """Totals with and without the first, last and down-sampling layers, and the rows."""
        kinds = ("adds", "shift_adds", "multiplications", "macs", "parameters")
        apart = ("first", "last", "downsample")
        return {
            "samples": self.samples,
            "size_bytes": self.size_bytes,
            **{kind: self.total(kind) for kind in kinds},
            "hidden_only": {kind: self.total(kind, apart) for kind in kinds},
            "layers": [asdict(layer) for layer in self.layers],
        }


@torch.no_grad()
def cost(net: nn.Module | Graph, x: Tensor) -> Cost:
    """Measure a network on samples.

    Args:
        net: network in evaluation mode, or its graph; count the *folded* one for deployment. x: inputs [B, ...].

    Returns:
        `Cost` per sample (means over the B samples).

    Raises:
        ValueError: NaN or inf in the samples, or an untraceable network.

    >>> from bitspike.layers import Linear; from bitspike.neurons import LIF
    >>> net = nn.Sequential(LIF(), Linear(4, 3, bias=False))
    >>> c = cost(net, torch.tensor([[[2.0, 2.0, 0.0, 0.0]]])); c.total("adds"), c.total("multiplications")
    (6.0, 0.0)
    """
    finite("cost", "the sample", x)
    graph = net if isinstance(net, Graph) else trace(net)
    result = Cost(0)

    def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        module = node.module
        if isinstance(module, Synapse):
            before = graph[node.inputs[0]]
            neuron = graph[before.sources[0]].module if before.sources else None
            result.layers.append(_synapse(node, module, before.format, neuron, args[0], value))
        elif isinstance(module, (Affine, BatchNorm, Gain)):
            result.layers.append(_elementwise(node, module, args[0], value))
        elif isinstance(module, Neuron) and not (module.emission.scale() == 1).all():
            result.layers.append(_amplitude(node, module, value))
        return value

    graph.run(x, handler=handle)
    result.samples = x.shape[graph.batch_axis]
    return result


def _synapse(
    node: Node, module: Synapse, spikes: SpikeFormat | None, neuron: nn.Module | None, x: Tensor, y: Tensor
) -> LayerCost:
    weights: WeightFormat = module.quantizer.format
    steps, macs = x.shape[0], module.macs(tuple(y.shape))
    rate = float((x != 0).double().mean())
    row = LayerCost(node.name, "synapse", module.role, steps, 32, weights.bits, rate, macs=macs)
    integer = spikes is not None and not spikes.real
    if spikes is not None and integer:
        levels = _levels(neuron, x) if isinstance(neuron, Neuron) else x
        row.input_bits = spikes.bits
        row.set_bits = float(popcount(levels, 16).double().mean())
    events = macs * steps * rate
    if (spikes is not None and integer and spikes.adds) or weights.adds:
        row.adds = events
    elif integer:
        row.shift_adds = macs * steps * row.set_bits
    else:
        row.multiplications = events
    own_bias = module.bias.numel() if module.bias is not None else 0
    row.adds += y.numel() / y.shape[1] if own_bias else 0.0
    row.parameters = module.weight.numel() + own_bias
    scales = {"none": 0, "layer": 1, "output": module.weight.shape[0], "input": module.weight.shape[1]}
    factors = 0 if weights.real else scales[weights.scale]
    row.size_bits = module.weight.numel() * weights.bits + 32 * (own_bias + factors)
    return row


def _levels(neuron: Neuron, x: Tensor) -> Tensor:
    """Integer levels of spikes that may have been flattened after the neuron."""
    scale = neuron.emission.scale()
    if scale.dim() == 1 and x.dim() == 3 and x.shape[2] != scale.numel():
        scale = scale.repeat_interleave(x.shape[2] // scale.numel())
        return (x.double() / scale).round()
    return levels_of(neuron, x)


def _elementwise(node: Node, module: Affine | BatchNorm | Gain, x: Tensor, y: Tensor) -> LayerCost:
    per_sample = y.numel() / y.shape[1]
    kind = "affine" if isinstance(module, Affine) else "gain" if isinstance(module, Gain) else "norm"
    row = LayerCost(node.name, kind, kind, y.shape[0], rate=float((x != 0).double().mean()))
    row.multiplications = per_sample * (row.rate if kind == "gain" else 1.0)
    if isinstance(module, Gain) and _shifts(module.factor):
        row.multiplications = 0.0
    row.adds = 0.0 if kind == "gain" else per_sample
    numbers = {"affine": 2, "norm": 4, "gain": 1}[kind]
    size = module.factor.numel() if isinstance(module, Gain) else y.shape[2]
    row.parameters = size * (2 if kind == "norm" else numbers)
    row.size_bits = 32 * size * numbers
    return row


def _shifts(factor: Tensor) -> bool:
    """Whether every factor is ± a power of two: a shift, not counted as a multiplication."""
    return bool((torch.frexp(factor)[0].abs() == 0.5).all())


def _amplitude(node: Node, module: Neuron, s: Tensor) -> LayerCost:
    """An unfolded amplitude: one multiplication per spike; a power of two is a shift and costs nothing here."""
    row = LayerCost(node.name, "amplitude", "amplitude", s.shape[0], module.format.bits)
    row.rate = float((s != 0).double().mean())
    scale = module.emission.scale()
    if not _shifts(scale):
        row.multiplications = s.numel() / s.shape[1] * row.rate
    row.parameters = scale.numel() if module.emission.raw_amplitude is not None else 0
    row.size_bits = 32 * row.parameters
    return row
