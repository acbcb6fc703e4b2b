"""A folded network one step at a time: what cannot be said so, and a step that carries means and clocks, too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from bitspike.checks import message
from bitspike.graph import Graph, Node
from bitspike.layers import AvgPool2d, Encoder, Gain, MeanReadout, Squeeze, SumPool2d, TimeLayer
from bitspike.neurons.emission import over_time

CLOCK = "steps"
"""Name of the state that counts steps, where constants differ from step to step."""
_DRAWN, _BATCH = 3, 2


def objections(graph: Graph, sample: tuple[int, ...], carries: bool) -> list[str]:
    """Every layer that is not the same at all steps, each by its place.

    Args:
        sample: shape of one sample. carries: whether means and clocks are states, so that what needs them may stay.
    """
    found, behind = [], {node.name for node in graph if isinstance(node.module, MeanReadout)}
    todo = "take form=unrolled, or --to onnx" if graph.batch_axis == 0 else "take --to onnx"
    for node in graph:
        module, at = node.module, f"{node.name} ({type(node.module).__name__})"
        late = behind.intersection(node.inputs)
        if late:
            behind.add(node.name)
        if node.kind == "output" or isinstance(module, Encoder) or (carries and isinstance(module, MeanReadout | Gain)):
            continue
        if isinstance(module, MeanReadout):
            if module.keep is not None and not bool((module.keep == 1).all()):
                found.append(f"{at} leaves out steps: take form=scan, which carries the mean")
        elif _remembers(graph, node):
            found.append(f"{at} remembers or mixes steps: {todo}")
        elif late and not carries:
            found.append(f"{node.name} reads a mean over steps: take form=scan, which carries the mean")
    return found or [f"{name} mixes steps: {todo}" for name in _mixing(graph, sample)]


def _remembers(graph: Graph, node: Node) -> bool:
    """Whether a layer that is no neuron keeps state, or sees several steps at once."""
    module = node.module
    if node.kind == "neuron" or module is None:
        return len({graph[name].T for name in node.inputs}) > 1
    if isinstance(module, Squeeze):
        return not module.passes(max(graph[name].T for name in node.inputs))
    stateful = isinstance(module, TimeLayer) and (module.stateful or not module.causal)
    return stateful or len({graph[name].T for name in node.inputs} | {node.T}) > 1


def _mixing(graph: Graph, sample: tuple[int, ...]) -> list[str]:
    """Functions and layers that give all steps together something else than each alone, on drawn numbers."""
    draw = torch.Generator().manual_seed(0)
    whole, single = (_values(graph, sample, steps) for steps in (_DRAWN, 1))
    timed, found = graph.timed, []
    for node in graph:
        passed = node.kind in ("input", "output", "neuron") or isinstance(node.module, Encoder | MeanReadout | Gain)
        if passed or not timed.intersection(node.inputs):
            continue
        try:
            pairs = [_drawn(whole[name], single[name], draw) for name in node.inputs]
            together = graph.again(node.name, dict(zip(node.inputs, (pair[0] for pair in pairs), strict=True)))
            alone = [
                graph.again(node.name, dict(zip(node.inputs, (pair[1][t] for pair in pairs), strict=True)))
                for t in range(_DRAWN)
            ]
            same = _alike(together, alone)
        except (ValueError, TypeError, RuntimeError, IndexError, KeyError):
            same = False  # a number of steps that is written into the code
        if not same:
            found.append(node.name)
    return found


def _values(graph: Graph, sample: tuple[int, ...], steps: int) -> dict[str, Any]:
    """What every node returns for so many drawn steps; without those behind one that fails."""
    found: dict[str, Any] = {}
    like = next((p for p in graph.model.parameters() if p.is_floating_point()), torch.zeros(()))
    lead = (_BATCH,) if graph.batch_axis == 0 else (steps, _BATCH)
    x = torch.rand(*lead, *sample, generator=torch.Generator().manual_seed(0)).to(like.dtype)

    def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        encodes = isinstance(node.module, Encoder)
        found[node.name] = args[0].unsqueeze(0).expand(steps, *args[0].shape) if encodes else call()
        return found[node.name]

    found |= {node.name: x for node in graph.of_kind("input")}
    with torch.no_grad(), suppress(ValueError, TypeError, RuntimeError, IndexError):  # readers of it are named
        graph.run(x, handler=handle)
    return found


def _drawn(whole: Any, single: Any, draw: torch.Generator) -> tuple[Any, list[Any]]:
    """A value of all steps in drawn numbers, and the same numbers step by step; what is no tensor stays."""
    if isinstance(whole, tuple | list):
        parts = [_drawn(*pair, draw) for pair in zip(whole, single, strict=True)]
        return tuple(part[0] for part in parts), [tuple(part[1][t] for part in parts) for t in range(_DRAWN)]
    if not isinstance(whole, Tensor):
        return whole, [single] * _DRAWN
    if whole.shape == single.shape and not whole.is_floating_point():
        return whole, [single] * _DRAWN
    if whole.shape != (_DRAWN * single.shape[0], *single.shape[1:]):
        raise ValueError(list(whole.shape))
    drawn = torch.rand(whole.shape, generator=draw).to(whole.dtype)
    return drawn, list(drawn.split(single.shape[0]))


def _alike(together: Any, alone: list[Any]) -> bool:
    """Whether a result for all steps is the results of the steps, one behind the other."""
    if isinstance(together, tuple | list):
        return all(_alike(part, [each[i] for each in alone]) for i, part in enumerate(together))
    if not isinstance(together, Tensor):
        return True
    joined = torch.cat(alone)
    return together.shape == joined.shape and torch.allclose(together, joined, 1e-4, 1e-4, equal_nan=True)


def adds(module: Any) -> bool:
    """Whether a pool sends sums, not means."""
    return isinstance(module, SumPool2d) or (isinstance(module, AvgPool2d) and module.divisor > 0)


def sums(pool: Any, x: Tensor) -> Tensor:
    """A pool of sums as a convolution: torch's exporter forgets the divisor of an average and writes the mean."""
    merged, k = x.flatten(0, 1), pool.kernel
    channels, height, width = (int(side) for side in x.shape[2:])
    sizes = pool.sizes(height, width) if isinstance(pool, AvgPool2d) else torch.ones(1, 1)
    counts = sizes.shape if isinstance(pool, AvgPool2d) and pool.ceil else (0, 0)
    more = [
        max((n - 1) * pool.stride + k - side - 2 * pool.padding, 0)
        for n, side in zip(counts, (height, width), strict=True)
    ]
    p = pool.padding
    merged = nn.functional.pad(merged, (p, p + more[1], p, p + more[0]))
    ones = torch.ones(channels, 1, k, k)
    found = nn.functional.conv2d(merged, ones, stride=pool.stride, groups=channels)
    if isinstance(pool, AvgPool2d):
        found = found * (pool.divisor // sizes).to(found)
    return found.unflatten(0, x.shape[:2])


class Begun:
    """What every state is before the first step, as one sample [1, ...] shows it.

    Args:
        carries: means over the steps so far are states, and so is the clock where constants differ from step to step.

    Attributes:
        names, starts: of all tensors of state, [1, ...] each. shared: names of those that all samples share.
        specs: neuron → how its tensors make a state. parts: neuron → its tensors.
        timed: whether what comes out has an axis of steps. shape: of what comes out, without steps and batch.
    """

    def __init__(self, graph: Graph, sample: tuple[int, ...], carries: bool = False) -> None:
        self.specs: dict[str, Any] = {}
        self.parts: dict[str, list[Tensor]] = {}
        sums: dict[str, Tensor] = {}

        def begin(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
            if isinstance(node.module, MeanReadout):
                sums[node.name] = torch.zeros_like(args[0][0])
            return self._begin(node, args) if node.kind == "neuron" else call()

        one = torch.zeros(1, *sample) if graph.batch_axis == 0 else torch.zeros(1, 1, *sample)
        with torch.no_grad():
            out = graph.run(one, handler=begin)
        if not isinstance(out, Tensor):
            must, todo = "the network must return one tensor", "export a network for each"
            raise ValueError(message("export to onnx-float", must, f"a {type(out).__name__}", todo))
        (behind,) = graph.of_kind("output")
        self.timed: bool = bool(graph.timed.intersection(behind.inputs))
        self.shape: tuple[int, ...] = tuple(out.shape[1 + self.timed :])
        known = {f"{name}.{i}": part for name, parts in self.parts.items() for i, part in enumerate(parts)}
        shared: dict[str, Tensor] = {}
        if carries:
            known |= {f"{name}.sum": total for name, total in sums.items()}
            shared = {f"{name}.count": torch.zeros(1) for name in sums}
            if any(_keeps(node.module) or _changes(node.module) for node in graph):
                shared[CLOCK] = torch.zeros(1)
        self.shared: frozenset[str] = frozenset(shared)
        known = known | shared
        self.names: list[str] = list(known)
        self.starts: list[Tensor] = list(known.values())

    def _begin(self, node: Node, args: tuple[Any, ...]) -> Any:
        module: Any = node.module
        state = module.initial_state(args[0][0])
        leaves, self.specs[node.name] = tree_flatten(state)
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or leaf.shape != args[0][0].shape:
                must = f"states of {node.name} ({type(module).__name__}) must have the shape of its current"
                got = list(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__
                raise ValueError(message("export to onnx-float", must, got, "take --to onnx"))
        self.parts[node.name] = [leaf.detach() for leaf in leaves]
        return module.run(args[0], state)[0]

    def many(self, batch: int) -> list[Tensor]:
        """All starts for so many samples."""
        pairs = zip(self.names, self.starts, strict=True)
        return [part if name in self.shared else part.expand(batch, *part.shape[1:]).clone() for name, part in pairs]


def _keeps(module: Any) -> bool:
    return isinstance(module, MeanReadout) and module.keep is not None


def _changes(module: Any) -> bool:
    return isinstance(module, Gain) and module.stateful


def _row(rows: Tensor, clock: Tensor) -> Tensor:
    """That of the present step, [1, ...]: the last one for all later steps."""
    return rows.index_select(0, clock.clamp(max=len(rows) - 1).to(torch.int64))


def _mean(module: MeanReadout, name: str, x: Tensor, left: dict[str, Tensor], after: dict[str, Tensor]) -> Tensor:
    """Over all steps so far that count, as a stream has it; x [B, ...] is the present one."""
    total, count = left[f"{name}.sum"], left[f"{name}.count"]
    if module.keep is None:
        total, count = total + x, count + 1
    else:
        weight = _row(module.keep.to(x.dtype), left[CLOCK])
        total, count = total + x * weight, count + weight
    after |= {f"{name}.sum": total, f"{name}.count": count}
    return total / count.clamp(min=1)


class Step(nn.Module):
    """x [B, ...] and states → what comes out, and states.

    Args:
        carries: means over the steps so far and the clock are states, too.
    """

    graph: Graph

    def __init__(self, graph: Graph, begun: Begun, carries: bool = False) -> None:
        super().__init__()
        self.net: nn.Module = graph.model
        self.begun: Begun = begun
        self.carries: bool = carries
        object.__setattr__(self, "graph", graph)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        left = dict(zip(self.begun.names, states, strict=True))
        after: dict[str, Tensor] = {}

        def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
            module: Any = node.module
            if isinstance(module, Encoder):
                return args[0][None]
            if adds(module):
                return sums(module, args[0])
            if self.carries and isinstance(module, MeanReadout):
                return _mean(module, node.name, args[0][0], left, after)
            if self.carries and _changes(module):
                row = _row(module.factor, left[CLOCK])
                return args[0] * over_time(row, args[0], module.channel_dim)
            if node.kind != "neuron":
                return call()
            spec = self.begun.specs[node.name]
            state = tree_unflatten([left[f"{node.name}.{i}"] for i in range(spec.num_leaves)], spec)
            spikes, state = module.step(args[0][0], state)
            after.update({f"{node.name}.{i}": leaf for i, leaf in enumerate(tree_flatten(state)[0])})
            return spikes[None]

        out = self.graph.run(x if self.graph.batch_axis == 0 else x[None], handler=handle)
        if CLOCK in left:
            after[CLOCK] = left[CLOCK] + 1
        return (out[0] if self.begun.timed else out, *(after[name] for name in self.begun.names))
