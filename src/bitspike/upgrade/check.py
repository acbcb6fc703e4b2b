"""Running a user's graph on a sample, and the time-merged network beside it, node by node."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from bitspike.checks import bad_value, finite, floating, is_indices
from bitspike.layers import Synapse
from bitspike.upgrade.trace import place

STEPS = 3
_SAMPLES = 5
_SIDES = (32, 28, 224, 64, 8, 16, 96, 128)
_FIRST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}

Values = dict[fx.Node, list[Any]]


def different_steps(sample: Tensor) -> list[Tensor]:
    """A few inputs [B, ...], another one at every step, so that mixing the batch is seen."""
    if not is_indices(sample):
        floating("upgrade", sample)
    finite("upgrade", "the sample", sample)
    if sample.dim() < 2 or not len(sample):
        raise bad_value("upgrade", "the sample must be [B, ...]", list(sample.shape), "pass inputs of the model")
    few = sample.detach()[:_SAMPLES]
    if len(few) == 1:
        few = few.repeat(3, *[1] * (few.dim() - 1)) if is_indices(few) else torch.cat([few, 0.9 * few, 0.8 * few])
    if is_indices(few):
        return [torch.cat([few, few.flip(1)]).roll(t, 0)[: len(few)] for t in range(STEPS)]
    return [few.roll(t, 0) * (1 - 0.25 * t) for t in range(STEPS)]


class _Recorder(fx.Interpreter):
    def __init__(
        self, root: nn.Module, graph: fx.Graph, stateful: Collection[fx.Node], note: Callable[..., None]
    ) -> None:
        super().__init__(root, garbage_collect_values=True, graph=graph)
        self.stateful, self.note = stateful, note
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = self._stand_in(n) if n in self.stateful else super().run_node(n)
        except Exception as error:
            must = "the model must run on the sample in evaluation mode"
            got = f"{type(error).__name__} at {place(n)}: {error}"
            raise bad_value("upgrade", must, got, "pass a sample [B, ...] that it takes") from error
        self.note(n, value)
        return value

    def _stand_in(self, n: fx.Node) -> Any:
        """A ReLU in place of a neuron with memory, its result packed as the neuron packs its spikes."""
        (x, *rest), _ = self.fetch_args_kwargs_from_env(n)
        found = copy.deepcopy(self.module.get_submodule(str(n.target)))(x, *rest)
        spikes = found[0] if isinstance(found, tuple) else found
        if not isinstance(spikes, Tensor) or spikes.shape != x.shape:
            raise ValueError("a neuron must return spikes shaped like its current, or a tuple that begins with them")
        return (F.relu(x), *found[1:]) if isinstance(found, tuple) else F.relu(x)


@torch.no_grad()
def record(root: nn.Module, graph: fx.Graph, steps: list[Tensor], stateful: Collection[fx.Node]) -> Values:
    """Run a user's graph on every step by itself; returns the value of each node at each step.

    Args:
        stateful: nodes of neurons with memory, for which a ReLU stands in.
    """
    values: Values = {node: [] for node in graph.nodes}

    def note(node: fx.Node, value: Any) -> None:
        values[node].append(value)

    for x in steps:
        _Recorder(root, graph, stateful, note).run(x.clone())
    return values


def check_repeatable(
    root: nn.Module, graph: fx.Graph, x: Tensor, stateful: Collection[fx.Node], values: Values
) -> None:
    """Run the first step again and raise `ValueError`, naming the place, if anything comes out differently."""
    for node, again in record(root, graph, [x], stateful).items():
        pairs = zip(tree_leaves(again[0]), tree_leaves(values[node][0]), strict=False)
        if any(isinstance(a, Tensor) and _difference(a, b)[0] > 0 for a, b in pairs):
            must = "the model must give the same result twice in evaluation mode"
            todo = "pass training=self.training to dropout; keep random numbers and states out of the forward"
            raise bad_value("upgrade", must, f"another one at {place(node)}", todo)


@torch.no_grad()
def check_trace(model: nn.Module, steps: list[Tensor], outputs: list[Tensor], suspects: list[fx.Node]) -> float:
    """Compare the traced graph with the model itself; returns the greatest difference.

    Args:
        model: a copy to run, without neurons that remember. suspects: what may have written in place.
    """
    model.eval()
    worst = 0.0
    for x, got in zip(steps, outputs, strict=True):
        pairs = zip(tree_leaves(got), tree_leaves(model(x.clone())), strict=True)
        found = [(*_difference(ours, theirs), ours) for ours, theirs in pairs]
        worst = max([worst, *(difference for difference, _, _ in found)])
        wrong = [difference for difference, size, ours in found if not difference <= _tolerance(ours) * size]
        if wrong:
            difference = max(wrong)
            must = "the traced code must compute what the model does"
            where = ", ".join(place(n) for n in suspects) or type(model).__name__
            todo = "write in-place operations (+=, relu_) as ordinary ones; read nothing that an earlier call has kept"
            raise bad_value("upgrade", must, f"a difference of {difference:.3g}; suspects: {where}", todo)
    return worst


class _Merged(fx.Interpreter):
    def __init__(self, body: fx.GraphModule, origin: dict[str, fx.Node], values: Values) -> None:
        super().__init__(body, garbage_collect_values=True)
        self.origin, self.values, self.worst = origin, values, 0.0
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        origin = self.origin.get(n.name)
        try:
            value = super().run_node(n)
        except Exception as error:
            must = "every operation must run with time merged into the batch"
            got = f"{type(error).__name__} at {place(origin) if origin else n.name}: {error}"
            raise bad_value("upgrade", must, got, "take the batch size from x.shape[0], never from a number") from error
        if origin is not None:
            self._compare(origin, value)
        return value

    def _compare(self, origin: fx.Node, value: Tensor) -> None:
        wanted = torch.stack([v[0] if isinstance(v, tuple) else v for v in self.values[origin]])
        if wanted.numel() != value.numel():
            raise bad_value("upgrade", f"{place(origin)} must keep its shape", list(value.shape), "report it")
        difference, size = _difference(value.reshape(wanted.shape), wanted)
        self.worst = max(self.worst, difference)
        if wanted.is_floating_point() and not difference <= _tolerance(wanted) * size:
            must = "no sample may depend on the others of the batch, into which time is merged"
            todo = "work along other axes than the batch, or leave this part outside and upgrade the rest"
            raise bad_value("upgrade", must, f"a difference of {difference:.3g} at {place(origin)}", todo)


@torch.no_grad()
def check_merged(body: fx.GraphModule, steps: list[Tensor], origin: dict[str, fx.Node], values: Values) -> float:
    """Run the time-merged network, its activations still the original ones, and compare every node with every step.

    Args:
        origin: node of the body → node of the user's graph. values: what `record` returned.

    Raises:
        ValueError: a node that fails or differs; names its place.
    """
    checker = _Merged(body, origin, values)
    checker.run(torch.stack(steps))
    return checker.worst


def _difference(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Greatest difference, and the greatest value to judge it by."""
    if a.shape != b.shape:
        return float("inf"), 1.0
    a, b = a.detach().double(), b.detach().double()
    same = (a == b) | (a.isnan() & b.isnan())
    difference = torch.where(same, 0.0, (a - b).abs())
    size = torch.where(b.isfinite(), b, 0.0).abs()
    return (float(difference.max()), max(float(size.max()), 1e-6)) if a.numel() else (0.0, 1.0)


def _tolerance(x: Tensor) -> float:
    """Of the greatest value; a GPU's convolutions keep 11 bits and choose their algorithm by the batch."""
    known = x.device.type == "cpu" or x.dtype == torch.float64
    return _TOLERANCE.get(x.dtype, 3e-2) if known else 3e-2


@torch.no_grad()
def guess_sample(root: nn.Module, graph: fx.Graph, stateful: Collection[fx.Node], over_time: bool = False) -> Tensor:
    """Random inputs [5, ...] of a shape that the first layer takes and the model runs on.

    Args:
        over_time: whether the model takes [T, B, ...].

    Raises:
        ValueError: no usual shape fits; asks for a sample.
    """
    first = next((m for m in _leaves(root, graph) if isinstance(m, (*_FIRST, Synapse))), None)
    shapes: list[tuple[int, ...]] = []
    if first is not None and isinstance(first.weight, Tensor):
        channels = first.weight.shape[1] * int(getattr(first, "groups", 1))
        axes = first.weight.dim() - 2
        shapes = [(channels, *[side] * axes) for side in (_SIDES if axes else _SIDES[:1])]
    like = next((p for p in root.parameters() if p.is_floating_point()), None)
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        x = torch.randn(_SAMPLES, *shape, generator=generator).to(like)
        try:
            record(root, graph, [x.unsqueeze(0) if over_time else x], stateful)
        except ValueError:
            continue
        return x
    raise bad_value("upgrade", "the shape of the input must be known", "no sample", "pass sample=..., inputs [B, ...]")


def _leaves(root: nn.Module, graph: fx.Graph) -> list[nn.Module]:
    return [root.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"]
