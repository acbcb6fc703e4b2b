"""An exported network in PyTorch, over lists of steps or with time merged into the batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from network import Exported, Layer
from torch import Tensor, nn


class Fire(nn.Module):
    """Integrate and fire with soft reset: [T, B, ...] → integer levels."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.first, self.spacing, self.count = layer["first"], layer["spacing"], layer["count"]
        self.signed, self.cancels = layer["signed"], layer["cancels"]
        self.initial, self.charge = layer["initial"], layer["charge"]

    def level(self, u: Tensor) -> Tensor:
        """Level of a membrane."""
        if self.count == 1:
            up = (u >= self.first).to(u.dtype)
            return up - (u <= -self.first).to(u.dtype) if self.signed else up
        size = u.abs() if self.signed else u
        k = torch.clamp(torch.floor((size - self.first) / self.spacing) + 1, 0, self.count)
        return k * u.sign() if self.signed else k

    def forward(self, x: Tensor) -> Tensor:
        """Currents [T, B, ...]."""
        v: Any = self.initial
        sent: Any = 0.0
        found = []
        for current in x.unbind(0):
            u = current + v
            k = self.level(u)
            if self.cancels:
                k = torch.maximum(k, -sent) if found else k.clamp_min(0)
                sent = sent + k
            v = u - k * self.charge
            found.append(k)
        return torch.stack(found)


class Plain(nn.Module):
    """The network; [B, C, H, W] → logits [B, K].

    What comes before the repetition runs once. Layers without memory see time merged into the batch.

    Args:
        exported: the network. fire: makes the neuron of a row, a module from [T, B, ...] to [T, B, ...].
        rounded: inputs are rounded as the program's are.
    """

    def __init__(self, exported: Exported, fire: Any = Fire, rounded: bool = True) -> None:
        super().__init__()
        self.exported, self.T, self.rounded = exported, exported.T, rounded
        self.parts = nn.ModuleDict()
        self.rates: dict[str, float] | None = None
        for layer in exported.layers:
            name = layer["name"]
            if layer["kind"] in ("conv", "linear"):
                weight, bias = map(torch.from_numpy, exported.real(layer))
                outputs, inputs, *sides = weight.shape
                made: Any
                if sides:
                    made = nn.Conv2d(inputs, outputs, sides[0], layer["stride"], layer["padding"])
                else:
                    made = nn.Linear(inputs, outputs)
                made.weight.data, made.bias.data = weight, bias
                self.parts[name] = made.requires_grad_(False)
            elif layer["kind"] == "neuron":
                self.parts[name] = fire(layer)
            elif layer["kind"] == "gain":
                self.register_buffer(f"factor_{name}", torch.from_numpy(exported.factor(layer)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        if self.rounded:
            step = self.exported.given["step"]
            x = torch.clamp(torch.round(x / step), self.exported.given["low"], self.exported.given["high"]) * step
        T, B = self.T, x.shape[0]
        values: dict[str, Tensor] = {}
        once: set[str] = set()
        for layer in self.exported.layers:
            name, kind = layer["name"], layer["kind"]
            inputs = [values[source] for source in layer["inputs"]]
            if kind == "input":
                values[name] = x
                once.add(name)
                continue
            if kind == "repeat":
                values[name] = inputs[0]
                once.add(name)
                continue
            if kind in ("neuron", "readout"):
                steps = inputs[0].unsqueeze(0).expand(T, *inputs[0].shape)
                if layer["inputs"][0] not in once:
                    steps = inputs[0].unflatten(0, (T, B))
                if kind == "readout":
                    values[name] = self._mean(steps, layer["keep"])
                else:
                    y = self.parts[name](steps)
                    if self.rates is not None:
                        self.rates[name] = float((y != 0).float().mean())
                    values[name] = y.flatten(0, 1)
                continue
            if all(source in once for source in layer["inputs"]):
                once.add(name)
            values[name] = self._memoryless(layer, inputs)
        return values[self.exported.layers[-1]["name"]]

    def _mean(self, x: Tensor, keep: list[float]) -> Tensor:
        kept = [step for step, weight in zip(x.unbind(0), keep, strict=True) if weight]
        return torch.stack(kept).mean(0)

    def _memoryless(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        """A layer without memory."""
        kind, x = layer["kind"], inputs[0]
        if kind in ("conv", "linear"):
            return self.parts[layer["name"]](x)  # type: ignore[no-any-return]
        if kind == "gain":
            return x * getattr(self, f"factor_{layer['name']}")  # type: ignore[no-any-return]
        if kind == "add":
            return inputs[0] + inputs[1]
        if kind == "pad":
            return F.pad(x[..., :: layer["stride"], :: layer["stride"]], (0, 0, 0, 0, layer["before"], layer["behind"]))
        if kind == "pool":
            return F.avg_pool2d(x, layer["kernel"], layer["stride"]) * layer["factor"]
        if kind == "average":
            mean = x.mean((2, 3))
            return mean * layer["divisor"] if layer["divisor"] else mean
        assert kind == "output", kind
        return x
