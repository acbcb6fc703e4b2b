"""Learned bits and time steps between optimiser steps: use what the parameters ask for, and renew step sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from bitspike.allocation.config import AllocationConfig
from bitspike.checks import bad_value
from bitspike.functional import LEAST_STEP, Widths, asked, learns_bits
from bitspike.functional.renewal import best_step, columns, kept_range, start_step
from bitspike.graph import Graph, Node, trace
from bitspike.layers import Refined, Synapse, Windows
from bitspike.neurons import Neuron
from bitspike.observe import potentials


class Allocation:
    """Reads and sets the bits and time steps of every layer of a network.

    Everything of a network that has learned bits, step sizes or time steps; it does nothing where there is none.

    A renewal happens at every change of a rounded width, outside the compiled graph, from values of all processes: for
    weights the latent weights, for spikes the membranes of the present batch. It is the same in every process.

    Args:
        model: the network. config: table [allocation] of the recipe.
    """

    def __init__(self, model: nn.Module, config: AllocationConfig) -> None:
        self.model: nn.Module = model
        self.config: AllocationConfig = config
        named = list(model.named_modules())
        self.weights: dict[str, tuple[Synapse, Widths]] = {}
        self.spikes: dict[str, Widths] = {}
        for name, module in named:
            if isinstance(module, Synapse) and learns_bits(module.quantizer):
                if module.quantizer.format.spacing != "uniform":  # step sizes are renewed for equidistant levels
                    must, got = "learned bits need equidistant levels", module.quantizer.format.label()
                    raise bad_value(f"[allocation] {name}", must, got, "learn no bits there, or take learned_bits")
                self.weights[name] = (module, module.quantizer)
            if isinstance(module, Neuron) and learns_bits(module):
                self.spikes[name] = module
        self.refined: dict[str, Refined] = {name: m for name, m in named if isinstance(m, Refined)}
        inside = {id(m.before) for m in self.refined.values()}
        self.windows: dict[str, Windows] = {
            name: m for name, m in named if isinstance(m, Windows) and id(m) not in inside
        }
        self.renews: dict[str, bool] = {"weights": config.renewal != "none", "spikes": config.renewal != "none"}
        self.extremes: dict[str, Tensor] = {}
        self._graph: Graph | None = None

    @property
    def learned(self) -> list[Widths]:
        """Neurons and quantizers whose bits are learned."""
        parts = [*(q for _, q in self.weights.values()), *self.spikes.values()]
        return [part for part in parts if part.raw_bits is not None]

    @property
    def timed(self) -> dict[str, Refined | Windows]:
        """What has a T of its own, by module name: refined neurons, then `Windows` outside of them."""
        return {**self.refined, **self.windows}

    @property
    def active(self) -> bool:
        """Whether bits or time steps are learned."""
        return bool(self.learned) or any(m.raw_steps is not None for m in self.timed.values())

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that have learning rates of their own: "bits", "step" (sizes) and "steps" (T)."""
        parts = [*(q for _, q in self.weights.values()), *self.spikes.values()]
        raw = [m.raw_steps for m in self.timed.values()]
        found = {
            "bits": [part.raw_bits for part in parts if part.raw_bits is not None],
            "step": [step for part in parts if (step := part.step_parameter()) is not None],
            "steps": [steps for steps in raw if steps is not None],
        }
        return {kind: parameters for kind, parameters in found.items() if parameters}

    def unstarted(self, left: list[str]) -> set[str]:
        """Neurons whose step sizes are among the parameters that a warm start left as built."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        steps = {name: part.step_parameter() for name, part in self.spikes.items()}
        return {name for name, step in steps.items() if step is not None and names.get(id(step)) in left}

    @torch.no_grad()
    def start(self, x: Tensor, only: set[str] | None = None) -> None:
        """Initial step sizes of spikes from the first batch x, layer by layer; layers without current keep theirs.

        Args:
            x: the batch. only: neurons to start; None for all.
        """
        names = set(self.spikes) if only is None else only
        if self.config.start != "batch" or not names:
            return

        def begin(part: Widths, current: Tensor) -> None:
            step = part.step_parameter()
            if step is None:
                return
            bits = int(part.width.max())
            found = start_step(columns(current, part.channel_axis), part.levels(bits)[1])
            found = found.to(step.dtype).expand(step.shape[-1:] or (1,))
            step.copy_(torch.where(found > 0, found, step).reshape(step.shape))

        self._look(x, names, lambda name, part, current: begin(part, current))

    @torch.no_grad()
    def settle(self, x: Tensor, optimiser: torch.optim.Optimizer | None = None) -> list[str]:
        """After an optimiser step on the batch x: put widths and T to use; names of the layers whose width changed."""
        learned = [m for m in self.timed.values() if m.raw_steps is not None]
        wanted = torch.stack([m.wanted_steps() for m in learned]).tolist() if learned else []
        for timed, steps in zip(learned, wanted, strict=True):
            if timed.time_steps != steps:
                timed.refresh()
        changed = self._changed()
        if not changed:
            return []
        for name, (synapse, part) in self.weights.items():  # in one order in every process
            if name not in changed:
                continue
            if self.renews["weights"]:
                values = columns(synapse.weight.detach(), part.channel_axis)
                self._renew(name, part, [values], optimiser, synapse.quantizer.to_int(synapse.weight.detach())[1])
            part.refresh()
        spikes = changed & self.spikes.keys()
        stepped = {name for name in spikes if self.spikes[name].step_parameter() is not None}
        if stepped and self.renews["spikes"]:

            def renew(name: str, part: Widths, current: Tensor) -> None:
                u = potentials(cast(Neuron, part), current)
                rows = part.width.numel()
                steps = [u] if rows == 1 else [u[t : t + 1] for t in range(min(rows, len(u)))]
                if rows > 1 and len(u) > rows:
                    steps[-1] = u[rows - 1 :]
                self._renew(name, part, [columns(v, part.channel_axis) for v in steps], optimiser)
                part.refresh()

            self._look(x, stepped, renew)
        for name in spikes:  # those without renewal, and those the batch did not reach
            self.spikes[name].refresh()
        return sorted(changed)

    def _changed(self) -> set[str]:
        """Layers whose wanted width is not the one in use; waits for the device once."""
        parts = {**{name: q for name, (_, q) in self.weights.items()}, **self.spikes}
        named = {name: part for name, part in parts.items() if part.raw_bits is not None}
        if not named:
            return set()
        differ = torch.stack([(part.wanted_width() != part.width).any() for part in named.values()])
        return {name for name, changed in zip(named, differ.tolist(), strict=True) if changed}

    def _renew(
        self,
        name: str,
        part: Widths,
        values: list[Tensor],
        optimiser: torch.optim.Optimizer | None,
        used: Tensor | None = None,
    ) -> None:
        """New step sizes of the rows (time steps) whose width changes.

        Args:
            values: [N, C] of each row. used: step sizes in use, of weights; None: of spikes, whose values are shares.
        """
        old, new = part.width.reshape(-1).tolist(), asked(name, part.wanted_width()).reshape(-1).tolist()
        parameter = part.step_parameter()
        if parameter is None:
            return
        steps = parameter.reshape(len(old), -1) if part.width.dim() else parameter.reshape(1, -1)
        result, touched = steps.clone(), []
        steps = steps.clamp(min=LEAST_STEP) if used is None else used.reshape(steps.shape)  # what is in use
        for row, x in enumerate(values):
            if old[row] == new[row]:
                continue
            touched.append(row)
            low, high, stride = part.levels(new[row])
            if self.config.renewal == "range":
                result[row] = kept_range(steps[row], part.levels(old[row])[1], high)
                continue
            found = best_step(x, steps[row].to(x.dtype), low, high, stride, self.config.grid, used is None)
            if self.config.extreme == "growing":
                key = f"{name}.{row}"
                widest = torch.maximum(self.extremes.get(key, torch.zeros_like(found)), found * high)
                self.extremes[key] = widest
                found = widest / high
            result[row] = found.to(result.dtype)
        parameter.copy_(result.reshape(parameter.shape))
        if optimiser is not None and self.config.momentum == "reset":
            for key in ("momentum_buffer", "exp_avg"):
                buffer = optimiser.state.get(parameter, {}).get(key)
                if buffer is not None:
                    buffer.reshape(result.shape)[touched] = 0.0

    def _look(self, x: Tensor, names: set[str], see: Callable[[str, Widths, Tensor], None]) -> None:
        """Run the network on x and show each named neuron its current, before it fires; nothing else changes."""
        self._graph = trace(self.model) if self._graph is None else self._graph
        left = set(names)

        def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
            if node.path in left and node.kind == "neuron":
                left.remove(node.path)
                current = args[0]
                see(node.path, self.spikes[node.path], current.float() if current.dtype.itemsize < 4 else current)
            return call()

        with _untouched(self.model):
            self._graph.run(x, handler=handle)

    def close_epoch(self, epochs: int, averages: dict[str, float], initial: dict[str, float]) -> None:
        """After ``epochs`` epochs: end a renewal whose average has come near its target, or whose time is over."""
        config = self.config
        for kind, target in (("weights", config.weight_target), ("spikes", config.spike_target)):
            if config.renewal_epochs is not None and epochs >= config.renewal_epochs:
                self.renews[kind] = False
            if target is None or not config.renewal_ratio or kind not in averages:
                continue
            way, left = initial[kind] - target, averages[kind] - target
            near = math.copysign(1, way) * left < config.renewal_ratio * abs(way)
            if (near and epochs >= config.renewal_after) or way == 0:
                self.renews[kind] = False

    def in_use(self) -> dict[str, dict[str, float]]:
        """Bits and T in use where they are learned, by kind and module; bits that differ by time step as their mean."""
        spikes = {name: part for name, part in self.spikes.items() if part.raw_bits is not None}
        return {
            "weights": {name: float(q.width) for name, (_, q) in self.weights.items() if q.raw_bits is not None},
            "spikes": {name: float(part.width.double().mean()) for name, part in spikes.items()},
            "steps": {name: float(m.time_steps) for name, m in self.timed.items() if m.raw_steps is not None},
        }

    def capture(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, facts) for a checkpoint; widths, step sizes and T are in the network's own state."""
        return dict(self.extremes), dict(self.renews)

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse of `capture`."""
        self.extremes = dict(tensors)
        self.renews = dict(facts)


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Within the block the running statistics and the random generator may change; after it they are as before."""
    kept = {name: value.clone() for name, value in model.named_buffers() if value.is_floating_point()}
    devices = [p.device for p in model.parameters() if p.device.type == "cuda"][:1]
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for name, value in model.named_buffers():
            if name in kept:
                value.copy_(kept[name])
