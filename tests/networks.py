"""Small networks in which every layer fires: randomised norms, factors and shifts, or dyadic ones; and their traces."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.functional import Stairs, learns_bits
from bitspike.graph import Graph, Node, trace
from bitspike.layers import BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, MeanReadout, Repeat, Synapse
from bitspike.models import Network, Policy, study_cnn
from bitspike.neurons import NEURONS, Neuron
from bitspike.observe import levels_of
from bitspike.quantizers import LearnedBits, PowerOfTwo, Quantizer, Sign, TernaryWeight, Uniform

WIDTH = 6
SHAPE = (2, 8, 8)
SPIKING = ("lif", "ternary", "multibit", "integer", "real", "adaptive")
WEIGHTS: dict[str, Callable[[], Quantizer | None]] = {
    "float": lambda: None,
    "sign-none": lambda: Sign("none"),
    "sign-layer": lambda: Sign("layer"),
    "sign-output": lambda: Sign("output"),
    "sign-input": lambda: Sign("input"),
    "ternary-none": lambda: TernaryWeight("none"),
    "ternary-layer": lambda: TernaryWeight("layer"),
    "ternary-output": lambda: TernaryWeight("output"),
    "ternary-input": lambda: TernaryWeight("input"),
    "uniform1-layer": lambda: Uniform(1),
    "uniform4-layer": lambda: Uniform(4),
    "uniform3-output": lambda: Uniform(3, "output"),
    "power4-layer": lambda: PowerOfTwo(4),
    "power3-output": lambda: PowerOfTwo(3, "output"),
    "learned3-layer": lambda: LearnedBits(3),
    "learned1-output": lambda: LearnedBits(1, scale="output"),
}


def rng(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def samples(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal inputs [B, 2, 8, 8]."""
    return torch.randn(count, *SHAPE, generator=rng(seed), dtype=dtype)


def dyadic(x: Tensor, steps: int = 16) -> Tensor:
    """Rounded to multiples of 1/steps, a power of two."""
    return torch.round(x * steps) / steps


def make_neuron(name: str, **options: Any) -> Neuron:
    """A registered neuron; options that its class does not take (the reset of "real") are dropped.

    The step size of "adaptive" is its amplitude, and it must be given a decay below 1 to learn one.
    """
    if name == "adaptive":
        options |= {"sharing": "channel"} if options.get("train_amplitude") == "channel" else {}
        options |= {"threshold": options["amplitude"]} if options.get("amplitude", 0) > 0 else {}
        options |= {} if "decay" in options else {"decay": 0.5}
    known = inspect.signature(NEURONS[name]).parameters
    return NEURONS[name](**{key: value for key, value in options.items() if key in known})


def small_cnn(neuron: Neuron, weight: Quantizer | None = None, seed: int = 0, **options: Any) -> Network:
    """`study_cnn` on 2×8×8 inputs, silent about inert factors; unless told, ``weight`` serves every layer."""
    given = {"shape": SHAPE, "classes": 5, "width": WIDTH, "stem_stride": 1, "policy": Policy(), **options}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(seed)
        return study_cnn(neuron, weight, **given)


class PoolNet(nn.Module):
    """Max pools, biased convolutions with and without norm, a norm of spikes, a shortcut that carries pooled spikes."""

    def __init__(self, neuron: Neuron, weight: Quantizer | None = None, T: int = 2, norm: str = "joint") -> None:
        super().__init__()
        self.encoder = Repeat(T)
        self.conv1, self.norm1 = Conv2d(SHAPE[0], WIDTH, 3, padding=1, bias=True), BatchNorm(WIDTH, norm)
        self.neuron1, self.pool1 = neuron.replicate(WIDTH), MaxPool2d(2)
        self.conv2, self.norm2 = Conv2d(WIDTH, WIDTH, 3, padding=1, bias=True, weight=weight), BatchNorm(WIDTH, norm)
        self.neuron2, self.dropout = neuron.replicate(WIDTH), nn.Dropout(0.5)
        self.norm3, self.neuron3 = BatchNorm(WIDTH, norm), neuron.replicate(WIDTH)
        self.conv4, self.neuron4 = Conv2d(WIDTH, 5, 2, bias=True, weight=weight), neuron.replicate(5)
        self.pool2, self.flatten = MaxPool2d(2, 1), Flatten()
        self.classifier, self.readout = Linear(20, 4, weight=weight), MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        """[B, 2, 8, 8] → [B, 4]."""
        a = self.pool1(self.neuron1(self.norm1(self.conv1(self.encoder(x)))))
        b = self.dropout(self.neuron2(self.norm2(self.conv2(a))))
        c = self.neuron3(self.norm3(b) + a)
        d = self.pool2(self.neuron4(self.conv4(c)))
        return self.readout(self.classifier(self.flatten(d)))


def pool_net(neuron: Neuron, weight: Quantizer | None = None, seed: int = 0, **options: Any) -> PoolNet:
    """`PoolNet` initialised from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PoolNet(neuron, weight, **options)


NETS: dict[str, Callable[..., nn.Module]] = {"study_cnn": small_cnn, "pool_net": pool_net}


@torch.no_grad()
def liven(model: nn.Module, x: Tensor, seed: int = 1, grid: int | None = None) -> nn.Module:
    """Randomise factors, norms (negative, zero and tiny γ) and shifts so that every layer fires; evaluation mode.

    Args:
        model: changed in place, and brought to the dtype of x. x: inputs that norms and shifts are tuned on.
        grid: if given, weights, shifts and norms become multiples of 1/grid; factors, steps, deviations and trained
            amplitudes powers of two.
    """
    generator = rng(seed)
    model.to(x.dtype).eval()
    step = (lambda v: v) if grid is None else (lambda v: dyadic(v, grid))

    def noise(like: Tensor, size: float) -> Tensor:
        return size * torch.randn(like.shape, generator=generator, dtype=like.dtype)

    for module in model.modules():
        if isinstance(module, Neuron) and module.emission.raw_amplitude is not None:
            _spread(module.emission.raw_amplitude, noise, not module.emission.raw, grid)
        if isinstance(module, Quantizer):
            for name, value in module.named_parameters():
                if name == "raw_bits":
                    continue
                _spread(value, noise, name == "factor.raw_factor", grid)
        if isinstance(module, Synapse):
            module.weight.copy_(step(module.weight))
            if module.bias is not None:
                module.bias.copy_(step(noise(module.bias, 0.3)))
    graph = trace(model)
    means: dict[str, Tensor] = {}

    def tune(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        module, stairs = node.module, stairs_behind(graph, node)
        first, reach = stairs.first, 1.5 * stairs.first + 0.5 * stairs.spacing * (stairs.count - 1)
        if isinstance(module, BatchNorm):
            mean, deviation = _statistics(args[0])
            deviation = (deviation.clamp(min=1e-3) * noise(mean, 0.2).exp()).log2()
            deviation = (deviation.round() if grid else deviation).exp2()
            module.running_mean.copy_(step(mean + noise(mean, 0.2) * deviation))
            module.running_var.copy_(deviation.square())
            if grid:
                module.eps = 0.0
            weight = step((1 + noise(mean, 0.2)) * reach)
            weight[0], weight[1], weight[2] = 0.0, 2.0**-20, -weight[2]
            module.weight.copy_(weight / module.height)
            sums = [graph[name] for name in node.consumers if graph[name].kind == "add"]
            beside = [means[name] for addition in sums for name in addition.inputs if name in means]
            module.bias.copy_(step(first * (0.7 + noise(mean, 0.4)) - sum(beside)))
        elif isinstance(module, Synapse) and module.bias is not None and _feeds_neuron(graph, node):
            mean, deviation = _statistics(call())
            while learns_bits(module.quantizer) and float(deviation.max()) > 4 * reach:  # or every neuron fires
                module.quantizer.step_parameter().mul_(0.5)
                mean, deviation = _statistics(call())
            module.bias.copy_(step(module.bias + first - mean - 0.5 * deviation))
        value = call()
        if isinstance(value, Tensor) and value.dim() > 2:  # a split has pieces
            means[node.name] = _statistics(value)[0]
        return value

    graph.run(x, handler=tune)
    return model


def _spread(raw: Tensor, noise: Callable[[Tensor, float], Tensor], is_log: bool, grid: int | None) -> None:
    """Scatter a trained factor around its value; onto powers of two if there is a grid."""
    value = (raw.exp() if is_log else raw) * noise(raw, 0.8 if grid else 0.3).exp()
    if grid:
        value = value.abs().log2().round().clamp(-2 if is_log else -20, 2).exp2() * value.sign()
    if is_log and grid:
        logs = [exact_log(float(v), raw.dtype) for v in value.flatten()]
        raw.copy_(torch.stack(logs).reshape(raw.shape))
    else:
        raw.copy_(value.log() if is_log else value)


def exact_log(target: float, dtype: torch.dtype) -> Tensor:
    """A number whose `torch.exp` is exactly ``target``, both in ``dtype``; there is one for 1/4 to 4, not beyond."""
    raw = torch.tensor(math.log(target), dtype=dtype)
    for _ in range(64):
        value = float(raw.exp())
        if value == target:
            return raw
        raw = torch.nextafter(raw, torch.tensor(math.inf if value < target else -math.inf, dtype=dtype))
    raise AssertionError(f"no {dtype} number has the exponential {target}")


def stairs_behind(graph: Graph, node: Node) -> Stairs:
    """Levels of the next neuron behind a node; one at 1 where there is none."""
    for name in node.consumers:
        module = graph[name].module
        return module.stairs if isinstance(module, Neuron) else stairs_behind(graph, graph[name])
    return Stairs()


def _feeds_neuron(graph: Graph, node: Node) -> bool:
    return any(isinstance(graph[name].module, Neuron) for name in node.consumers)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    axes = [axis for axis in range(x.dim()) if axis != 2]
    return x.mean(axes), x.std(axes)


@torch.no_grad()
def spikes_of(net: nn.Module | Graph, x: Tensor) -> tuple[Any, dict[str, Tensor]]:
    """(output, node name → levels [T, B, ...], or values of real spikes) of one run."""
    graph = net if isinstance(net, Graph) else trace(net)
    levels: dict[str, Tensor] = {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, Neuron):
            levels[node.name] = levels_of(node.module, value).clone()
        return value

    return graph.run(x, handler=note), levels


def flips_between(one: dict[str, Tensor], other: dict[str, Tensor], real: bool) -> dict[str, Tensor]:
    """node name → where two traces differ: in the level, or for real spikes in whether there is one."""
    if not real:
        return {n: one[n] != other[n] for n in one}
    return {n: ((one[n] != 0) != (other[n] != 0)) | one[n].isnan() | other[n].isnan() for n in one}


def flipped_samples(flips: dict[str, Tensor]) -> Tensor:
    """Samples [B] in which any spike differs."""
    return torch.stack([f.flatten(2).any(2).any(0) for f in flips.values()]).any(0)


def values_of(net: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[Any, ...]]]:
    """Output and arguments of every call, by node."""
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, tuple[Any, ...]] = {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        outputs[node.name], inputs[node.name] = call(), args
        return outputs[node.name]

    trace(net).run(x, handler=note)
    return outputs, inputs
