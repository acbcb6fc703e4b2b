"""Running a whole network chunk by chunk, with explicit state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from bitspike.checks import bad_value, time_first
from bitspike.graph import Graph, Node, trace
from bitspike.layers import BatchNorm, Encoder, Join, Squeeze, TimeLayer

States = dict[str, Any]


def stream(net: nn.Module | Graph, x_seq: Tensor, states: States | None = None) -> tuple[Tensor, States]:
    """Run one chunk of an input sequence and return the state for the next.

    Chunks of any length give the result of the whole run. State is keyed by call site: one module called twice has
    two states. A mean read-out carries its sum and count, so the output is the mean over all steps so far.

    Args:
        net: a network in evaluation mode, or its traced graph (trace once, stream often).
        x_seq: [t, B, ...], t >= 1: the sequence that the network's encoder would emit.
        states: what the call for the chunk before returned; None for the first chunk.

    Returns:
        (output of the network for the steps so far, states).

    Raises:
        ValueError: training-mode norm, a non-causal layer or a function that may mix time; names the node.

    >>> import torch; from bitspike.neurons import LIF
    >>> net = nn.Sequential(LIF(decay=1.0)).eval(); x = torch.full((4, 1, 1), 0.5)
    >>> first, states = stream(net, x[:1]); rest, _ = stream(net, x[1:], states)
    >>> torch.equal(torch.cat([first, rest]), net(x))
    True
    """
    graph = net if isinstance(net, Graph) else trace(net)
    time_first("stream", x_seq)
    before = {} if states is None else states
    after: States = {}

    def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        module = node.module
        if isinstance(module, Encoder):
            return args[0]
        if node.kind == "neuron":
            value, after[node.name] = module.run(args[0], before.get(node.name))  # type: ignore[union-attr,operator]
            return value
        steps = {graph[name].T for name in node.inputs}
        if isinstance(module, Squeeze) and module.passes(max(steps)):
            return args[0]  # a chunk of a train that passes unchanged
        if isinstance(module, Join) and len(steps) == 1:
            return call()
        reason = _objection(node)
        if reason:
            raise bad_value("stream", "every node must be causal and known", f"{node.name} ({reason})", "see stream()")
        if isinstance(module, TimeLayer) and module.stateful:
            step: Callable[..., Any] = module.stream_step
            value, after[node.name] = step(*args, before.get(node.name))
            return value
        return call()

    stateful = {node.name for node in graph if node.kind == "neuron" or getattr(node.module, "stateful", False)}
    if before and set(before) != stateful:
        must = f"the states must be those of {sorted(stateful)}"
        raise bad_value("stream", must, sorted(before), "pass what the last call returned, or None to start")
    return graph.run(x_seq, handler=handle), after


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
