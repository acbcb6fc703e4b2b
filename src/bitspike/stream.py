"""Running a whole network chunk by chunk, with explicit state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, finite, time_first
from bitspike.graph import Graph, Node, trace
from bitspike.graph.moves import axis_of, cuts_channels, taken
from bitspike.layers import BatchNorm, Encoder, Join, MeanReadout, Squeeze, TimeLayer, Windows, check_numbers
from bitspike.neurons import Neuron

States = dict[str, Any]


def stream(net: nn.Module | Graph, x_seq: Tensor, states: States | None = None) -> tuple[Tensor, States]:
    """Run one chunk of an input sequence and return the state for the next.

    Chunks of any length give the same bits: all steps in one call, or one step a call. State is keyed by call site:
    one module called twice has two states. A mean read-out carries its sum and count, so the output is the mean over
    all steps so far.

    They are the bits of ``net(x)``, too, where the sums in linear maps, norms and means are exact: spikes and weights
    on a dyadic grid, as integer levels are. Elsewhere ``net(x)``, which gives a map all T·B rows at once, may differ by
    the rounding of its sums (BLAS orders them by the number of rows), and a spike within that rounding of a threshold
    may flip. Here such a layer runs step by step, always on B rows; ``stream(net, x_seq)[0]`` is the whole run in the
    bits of all others.

    Where layers differ in T (`Squeeze`, `Join`, `Windows`), a step is sent on when all that it is made of has come:
    until then layers behind keep their states, outputs per step have no step, and the mean over no step is 0.

    Args:
        net: a network in evaluation mode, or its traced graph (trace once, stream often).
        x_seq: [t, B, ...], t >= 1: the sequence that the network's encoder would emit.
        states: what the call for the chunk before returned; None for the first chunk.

    Returns:
        (output of the network for the steps so far, states).

    Raises:
        ValueError: NaN or inf in the weights (seen at the first chunk) or in the chunk (on a GPU, in the first one),
            training-mode norm, a non-causal layer, one that needs to know the length of its input and does not
            (see ``frames`` of `Windows`), or a function that may mix time; names the node.

    >>> import torch; from bitspike.neurons import LIF
    >>> net = nn.Sequential(LIF(decay=1.0)).eval(); x = torch.full((4, 1, 1), 0.5)
    >>> first, states = stream(net, x[:1]); rest, _ = stream(net, x[1:], states)
    >>> torch.equal(torch.cat([first, rest]), net(x))
    True
    """
    graph = net if isinstance(net, Graph) else trace(net)
    time_first("stream", x_seq, indices=graph.reads_indices)
    if states is None:
        check_numbers("stream", graph.model)
    if states is None or x_seq.device.type == "cpu":  # there a look at the values waits for nothing
        finite("stream", "the chunk", x_seq)
    before = {} if states is None else states
    after: States = {}
    blocks = _blocks(graph)
    own = {node.name for node in graph if node.kind == "neuron" or getattr(node.module, "stateful", False)}
    stateful = own | blocks.keys()

    def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        module = node.module
        if isinstance(module, Encoder):
            return args[0]
        if node.name in blocks:
            work, inputs = _work(node, graph, args)
            value, after[node.name] = _gather(work, inputs, blocks[node.name], before.get(node.name))
            return value
        if module is not None and any(isinstance(x, Tensor) and len(x) == 0 for x in args):
            value, state = _idle(module, args, before.get(node.name))
            if node.name in stateful:
                after[node.name] = state
            return value
        if node.kind == "neuron":
            value, after[node.name] = module.run(args[0], before.get(node.name))  # type: ignore[union-attr,operator]
            return value
        steps = {graph[name].T for name in node.inputs}
        if isinstance(module, Squeeze) and module.passes(max(steps)):
            return args[0]  # a chunk of a train that passes unchanged
        if isinstance(module, Join) and len(steps) == 1:
            return call()
        reason = _objection(node) or _moves_time(node, graph, args) or _mixes_lengths(node, steps)
        if reason:
            raise _refused(node, reason)
        if isinstance(module, Windows):
            value, after[node.name] = module.stream_step(args[0], before.get(node.name), max(steps))
            return value
        if isinstance(module, TimeLayer) and module.stateful:
            step: Callable[..., Any] = module.stream_step
            value, after[node.name] = step(*map(_fresh, args), before.get(node.name))
            return value
        return _by_step(module, args) if module is not None and not graph.items[node.name].kwargs else call()

    if before and set(before) != stateful:
        must = f"the states must be those of {sorted(stateful)}"
        raise bad_value("stream", must, sorted(before), "pass what the last call returned, or None to start")
    return graph.run(x_seq, handler=handle), after


def _blocks(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Node → steps of each input that it takes at once: layers that change T, sums that hold the one step of a mean
    for all steps of another branch, and sums behind such layers."""
    found: dict[str, tuple[int, ...]] = {}
    sums: dict[str, tuple[int, ...]] = {}
    moved = any(isinstance(node.module, Windows) for node in graph)
    for node in graph:
        steps, module = tuple(graph[name].T for name in node.inputs), node.module
        squeezes = isinstance(module, Squeeze) and not module.passes(max(steps))
        joins, holds = isinstance(module, Join), node.kind == "add" and set(steps) == {1, max(steps)}
        if squeezes or ((joins or holds) and len(set(steps)) > 1):
            if min(steps) > 0:
                found[node.name] = steps
        elif _mixes_lengths(node, set(steps)):
            continue  # which refuses it
        elif len(steps) > 1 and (node.kind in ("add", "concat") or joins):
            sums[node.name] = (1,) * len(steps)
    return found | sums if found or moved else {}


def _work(node: Node, graph: Graph, args: tuple[Any, ...]) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
    """What a layer, sum or concatenation does with its inputs, and the inputs."""
    if node.module is not None:
        return node.module, tuple(map(_fresh, args))
    item = graph.items[node.name]
    if node.kind == "add":
        if len(args) != len(node.inputs) or item.kwargs.keys() - {"alpha"}:
            raise _refused(node, "a sum of branches and numbers, or of arguments by name; write a + b")
        return lambda *parts: torch.add(*parts, alpha=item.kwargs.get("alpha", 1)), args
    reason = _moves_time(node, graph, args)
    if reason:
        raise _refused(node, reason)
    axis = axis_of(item, args[0][0].dim())
    return lambda *parts: torch.cat(parts, axis), tuple(args[0])


def _moves_time(node: Node, graph: Graph, args: tuple[Any, ...]) -> str:
    """Why a concatenation, split or slice cannot be streamed; "" where it leaves time and batch alone."""
    item, first = graph.items[node.name], args[0] if args else None
    if node.kind == "concat" and isinstance(first, (list, tuple)) and first and isinstance(first[0], Tensor):
        return "" if axis_of(item, first[0].dim()) >= 2 else "it joins steps or samples; join channels"
    if node.kind == "split" and isinstance(first, Tensor):
        return "" if cuts_channels(item, tuple(first.shape)) else "it cuts steps or samples; cut channels"
    if node.kind == "select" and isinstance(first, Tensor):
        return "" if taken(item, tuple(first.shape)) is not None else "it takes steps or samples; take channels"
    if node.kind == "select" and isinstance(first, tuple):
        return ""  # of a split, which was looked at
    return "" if node.kind not in ("concat", "split", "select") else "it cannot be read off; wrap it in a TimeLayer"


def _mixes_lengths(node: Node, steps: set[int]) -> str:
    """Why branches of so many steps (0: unknown) cannot be joined step by step; "" where they can."""
    known = steps - {0}
    if node.kind not in ("add", "concat") or (len(known) < 2 and (len(steps) < 2 or known != {1})):
        return ""
    return f"its branches have {' and '.join(str(n) if n else 'an unknown number of' for n in sorted(steps))} steps"


def _refused(node: Node, reason: str) -> ValueError:
    return bad_value("stream", "every node must be causal and known", f"{node.name} ({reason})", "see stream()")


def _fresh(x: Any) -> Any:
    """The same values in the order of their axes, on the border of a cache line: no bit depends on where they lie."""
    if not isinstance(x, Tensor):
        return x
    strides = [math.prod(x.shape[axis + 1 :]) for axis in range(x.dim())]
    plain = list(x.stride()) == strides and x.data_ptr() % 64 == 0
    return x if plain else x.clone(memory_format=torch.contiguous_format)


def _by_step(module: nn.Module, args: tuple[Any, ...]) -> Any:
    """A layer without state, run step by step unless it only moves values: the order of its sums, and so its bits,
    may depend on the number of rows, their layout and their place in memory."""
    exact = isinstance(module, (nn.ReLU, nn.Identity, nn.Dropout)) or getattr(module, "keeps_format", False)
    if exact or not all(isinstance(x, Tensor) for x in args):
        return module(*args)
    parts = [module(*map(_fresh, step)) for step in zip(*(x.split(1) for x in args), strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _gather(
    work: Callable[..., Tensor], args: tuple[Any, ...], sizes: tuple[int, ...], state: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(values of all whole blocks of steps, the steps that are left) of a layer or, without one, a sum."""
    kept = list(args) if state is None else [torch.cat(pair) for pair in zip(state, args, strict=True)]
    count = min(len(x) // size for x, size in zip(kept, sizes, strict=True))
    whole = [x[: count * size] for x, size in zip(kept, sizes, strict=True)]
    left = tuple(x[count * size :] for x, size in zip(kept, sizes, strict=True))
    if not count:
        return work(*(x.new_zeros(size, *x.shape[1:]) for x, size in zip(kept, sizes, strict=True)))[:0], left
    if max(sizes) == 1 and not isinstance(work, Squeeze):
        return work(*whole), left
    parts = zip(*(x.split(size) for x, size in zip(whole, sizes, strict=True)), strict=True)
    return torch.cat([work(*block) for block in parts]), left


def _idle(module: nn.Module, args: tuple[Any, ...], state: Any) -> tuple[Any, Any]:
    """(value, state) of a layer that gets no step: none to send, or the mean over the steps before."""
    if isinstance(module, MeanReadout):
        total, steps = (args[0].new_zeros(args[0].shape[1:]), 0) if state is None else state
        return module.mean(total, steps).to(args[0].dtype), state
    if isinstance(module, (Neuron, Windows)):
        return args[0], state
    return module(*(x.new_zeros(1, *x.shape[1:]) for x in args))[:0], state


def _objection(node: Node) -> str:
    module = node.module
    if isinstance(module, BatchNorm) and module.training:
        return "batch norm in training mode; call net.eval()"
    if isinstance(module, TimeLayer):
        return "" if module.causal else "it reads later time steps"
    if node.kind == "function":
        return "a function that may mix time; wrap it in a TimeLayer"
    if isinstance(module, nn.Unflatten) and isinstance(module.dim, int) and module.dim > 1:
        return ""  # time and batch stay as they are
    if module is not None and not isinstance(module, (nn.ReLU, nn.Identity, nn.Dropout)):
        return f"torch's {type(module).__name__}, which is not known to be causal; wrap it in a TimeLayer"
    return ""
