"""Small networks in which every layer fires: randomised norms, factors and shifts, dyadic and power-of-two variants."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.graph import Graph, Node, trace
from bitspike.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    MeanReadout,
    Repeat,
    Synapse,
)
from bitspike.models import Network, Policy, study_cnn
from bitspike.neurons import NEURONS, Neuron
from bitspike.observe import levels_of
from bitspike.quantizers import Quantizer, Sign, TernaryWeight, Uniform

WIDTH = 6
SHAPE = (2, 8, 8)
SPIKING = ("lif", "ternary", "multibit", "integer", "real")
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
}


def make_neuron(name: str, **options: Any) -> Neuron:
    """A registered neuron; options that its class does not take (the reset of "real") are dropped."""
    known = inspect.signature(NEURONS[name]).parameters
    return NEURONS[name](**{key: value for key, value in options.items() if key in known})


def samples(count: int, seed: int = 0, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Normal inputs [B, C, H, W]."""
    return torch.randn(count, *shape, generator=rng(seed), dtype=dtype)


def rng(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def small_cnn(neuron: Neuron, weight: Quantizer | None = None, seed: int = 0, **options: Any) -> Network:
    """`study_cnn` on 2×8×8 inputs, silent about inert factors; all its layers but the first take ``weight``."""
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


@torch.no_grad()
def liven(model: nn.Module, x: Tensor, seed: int = 1) -> nn.Module:
    """Randomise factors, norms (negative, zero and tiny γ) and shifts so that every layer fires; in evaluation mode."""
    generator = rng(seed)
    model.to(x.dtype).eval()

    def noise(like: Tensor, size: float) -> Tensor:
        return size * torch.randn(like.shape, generator=generator, dtype=like.dtype)

    for module in model.modules():
        if isinstance(module, Neuron) and module.emission.raw_amplitude is not None:
            raw = module.emission.raw_amplitude
            raw.mul_(noise(raw, 0.3).exp()) if module.emission.raw else raw.add_(noise(raw, 0.3))
        if isinstance(module, Quantizer):
            for name, value in module.named_parameters():
                value.add_(noise(value, 0.3)) if name == "factor.raw_factor" else value.mul_(noise(value, 0.3).exp())
        if isinstance(module, Synapse) and module.bias is not None:
            module.bias.copy_(noise(module.bias, 0.3))
    graph = trace(model)

    def tune(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        module, first = node.module, threshold_behind(graph, node)
        if isinstance(module, BatchNorm):
            axes = [axis for axis in range(args[0].dim()) if axis != 2]
            mean, deviation = args[0].mean(axes), args[0].std(axes).clamp(min=1e-3)
            module.running_mean.copy_(mean + noise(mean, 0.2) * deviation)
            module.running_var.copy_((deviation * noise(mean, 0.2).exp()).square())
            weight = (1 + noise(mean, 0.2)) * 1.5 * first
            weight[0], weight[1], weight[2] = 0.0, 1e-6, -weight[2]
            module.weight.copy_(weight / module.height)
            module.bias.copy_(first * (0.7 + noise(mean, 0.4)))
        elif isinstance(module, Synapse) and module.bias is not None and _fires(graph, node):
            axes = [axis for axis in range(call().dim()) if axis != 2]
            y = call()
            module.bias.add_(first - y.mean(axes) - 0.5 * y.std(axes))
        return call()

    graph.run(x, handler=tune)
    return model


def threshold_behind(graph: Graph, node: Node) -> float:
    """First threshold of the next neuron behind a node; 1 where there is none."""
    for name in node.consumers:
        module = graph[name].module
        return module.stairs.first if isinstance(module, Neuron) else threshold_behind(graph, graph[name])
    return 1.0


def _fires(graph: Graph, node: Node) -> bool:
    return any(isinstance(graph[name].module, Neuron) for name in node.consumers)


@torch.no_grad()
def spikes_of(graph: Graph, x: Tensor) -> tuple[Any, dict[str, Tensor]]:
    """(output, node name → levels [T, B, ...]) of one run."""
    levels: dict[str, Tensor] = {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, Neuron):
            levels[node.name] = levels_of(node.module, value).clone()
        return value

    return graph.run(x, handler=note), levels


def exact_log(target: float, dtype: torch.dtype) -> Tensor:
    """A number whose `torch.exp` is exactly ``target``, both in ``dtype``."""
    raw = torch.tensor(math.log(target), dtype=dtype)
    for _ in range(64):
        value = float(raw.exp())
        if value == target:
            return raw
        raw = torch.nextafter(raw, torch.tensor(math.inf if value < target else -math.inf, dtype=dtype))
    raise AssertionError(f"no {dtype} number has the exponential {target}")


@torch.no_grad()
def make_dyadic(model: nn.Module, factors: Iterable[float] = (0.5, 2.0, 1.0)) -> nn.Module:
    """Round weights, shifts and norms to multiples of 1/16 and factors, steps and amplitudes to powers of two."""
    wanted = list(factors)

    def powers(like: Tensor, as_log: bool) -> Tensor:
        values = [wanted[i % len(wanted)] for i in range(like.numel())]
        chosen = torch.stack([exact_log(v, like.dtype) if as_log else torch.tensor(v, dtype=like.dtype) for v in values])
        return chosen.reshape(like.shape)

    for module in model.modules():
        if isinstance(module, Neuron) and module.emission.raw_amplitude is not None:
            raw = module.emission.raw_amplitude
            raw.copy_(powers(raw, not module.emission.raw))
        if isinstance(module, Quantizer):
            for name, value in module.named_parameters():
                value.copy_(powers(value, name == "factor.raw_factor"))
        if isinstance(module, Synapse):
            for value in (module.weight, module.bias):
                if value is not None:
                    value.copy_(dyadic(value))
        if isinstance(module, BatchNorm):
            module.weight.copy_(dyadic(module.weight))
            module.bias.copy_(dyadic(module.bias))
            module.running_mean.copy_(dyadic(module.running_mean))
            module.running_var.fill_(1.0 - module.eps)
    return model


def dyadic(x: Tensor, steps: int = 16) -> Tensor:
    """Rounded to multiples of 1/steps, a power of two."""
    return torch.round(x * steps) / steps


