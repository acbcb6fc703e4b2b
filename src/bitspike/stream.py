"""Running a whole network chunk by chunk, with explicit state."""

from __future__ import annotations

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

    Chunks of any length give the result of the whole run. State is keyed by call site: one module called twice has
    two states. A mean read-out carries its sum and count, so the output is the mean over all steps so far.

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
    time_first("stream", x_seq)
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
        reason = _objection(node) or _moves_time(node, graph, args)
        if reason:
            raise bad_value("stream", "every node must be causal and known", f"{node.name} ({reason})", "see stream()")
        if isinstance(module, Windows):
            value, after[node.name] = module.stream_step(args[0], before.get(node.name), max(steps))
            return value
        if isinstance(module, TimeLayer) and module.stateful:
            step: Callable[..., Any] = module.stream_step
            value, after[node.name] = step(*args, before.get(node.name))
            return value
        return call()

    if before and set(before) != stateful:
        must = f"the states must be those of {sorted(stateful)}"
        raise bad_value("stream", must, sorted(before), "pass what the last call returned, or None to start")
    return graph.run(x_seq, handler=handle), after


def _blocks(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Node → steps of each input that it takes at once: layers that change T, and sums behind such layers."""
    found: dict[str, tuple[int, ...]] = {}
    sums: dict[str, tuple[int, ...]] = {}
    moved = any(isinstance(node.module, Windows) for node in graph)
    for node in graph:
        steps, module = tuple(graph[name].T for name in node.inputs), node.module
        squeezes = isinstance(module, Squeeze) and not module.passes(max(steps))
        if squeezes or (isinstance(module, Join) and len(set(steps)) > 1):
            if min(steps) > 0:
                found[node.name] = steps
        elif len(steps) > 1 and (node.kind in ("add", "concat") or isinstance(module, Join)):
            sums[node.name] = (1,) * len(steps)
    return found | sums if found or moved else {}


def _work(node: Node, graph: Graph, args: tuple[Any, ...]) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
    """What a layer, sum or concatenation does with its inputs, and the inputs."""
    if node.kind != "concat":
        return node.module if node.module is not None else lambda *parts: sum(parts[1:], parts[0]), args
    reason = _moves_time(node, graph, args)
    if reason:
        raise bad_value("stream", "every node must be causal and known", f"{node.name} ({reason})", "see stream()")
    axis = axis_of(graph.items[node.name], args[0][0].dim())
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
        return (total / steps if steps else total), state
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
    if module is not None and not isinstance(module, (nn.ReLU, nn.Identity, nn.Dropout)):
        return f"torch's {type(module).__name__}, which is not known to be causal; wrap it in a TimeLayer"
    return ""
