"""Tracing by running: a user's forward is executed on inputs, and every call of torch is written down.

Code that reads shapes, branches on them or calls libraries that want tensors runs as it is. What it computes from the
size of the batch is found by running a second batch of another size: a number that grows with it becomes a multiple of
the size of axis 0 in the graph. All other sizes are those of the sample, so the network takes no others.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from bitspike.graph.modes import UntraceableError, note_mode, watched

_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
_NAMES = {"truediv": "truediv", "div": "truediv", "and": "and_", "or": "or_"}
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "neg", "invert", "getitem", "setitem", "abs", "pos")
_SHAPE = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "storage_offset", "__len__"),
    *("is_floating_point", "is_complex", "is_signed", "element_size", "__hash__", "__repr__", "__format__", "type"),
    *("is_pinned", "is_same_size", "is_inference", "has_names", "get_device"),
}
_READ = {
    *("shape", "ndim", "dtype", "device", "is_cuda", "is_cpu", "requires_grad", "layout", "names", "is_sparse"),
    *("itemsize", "nbytes", "is_leaf", "grad_fn", "_version", "is_quantized", "is_meta", "is_mps", "is_nested"),
}


def _operators() -> dict[Any, tuple[Callable[..., Any], bool]]:
    """Special methods of tensors → (function of `operator`, whether the operands change places)."""
    found: dict[Any, tuple[Callable[..., Any], bool]] = {}
    for name in _OPERATORS:
        plain = getattr(operator, _NAMES.get(name, name))
        for prefix, swapped in (("", False), ("r", True), ("i", False)):
            method = getattr(Tensor, f"__{prefix}{name}__", None)
            if method is not None:
                found[method] = (getattr(operator, f"i{name}") if prefix == "i" else plain, swapped)
    for name in _COMPARISONS:
        method = getattr(Tensor, f"__{name}__", None)
        if method is not None:
            found[method] = (getattr(operator, name), False)
    return found


_SPECIAL = _operators()


class _Recorder(TorchFunctionMode):
    """Writes a graph while the forward runs. ``leaf``: (module, name) → whether it is called whole."""

    def __init__(self, root: nn.Module, leaf: Callable[[nn.Module, str], bool], line: Callable[[], str]) -> None:
        super().__init__()
        self.root, self.leaf, self.line = root, leaf, line
        self.graph = fx.Graph()
        self.names = {id(module): name for name, module in root.named_modules()}
        tensors = [*root.named_parameters(remove_duplicate=False), *root.named_buffers(remove_duplicate=False)]
        self.held = {id(tensor): name for name, tensor in reversed(tensors)}
        self.nodes: dict[int, fx.Node] = {}
        self.alive: list[Any] = []  # keeps ids from being given away
        self.constants: list[Tensor] = []
        self.carries: set[int] = set()
        self.path: list[str] = []
        self.inside = 0
        self.out: Any = None

    def record(self, x: Tensor) -> fx.Graph:
        """Run the root on inputs; returns the graph of the run."""
        self._note(x, self._create("placeholder", "x", (), {}), True)
        call = nn.Module.__call__

        def traced(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return self._module(call, module, args, kwargs)

        with mock.patch.object(nn.Module, "__call__", traced), watched(lambda: not self.inside, Tensor), self:
            self.out = self.root(x)
        self._create("output", "output", (self._argument(self.out),), {})
        self.graph.lint()
        return self.graph

    def _module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        name = self.names.get(id(module))
        if self.inside:
            return call(module, *args, **kwargs)
        if name is None:
            raise UntraceableError(f"{type(module).__name__} is called, which is no part of the model", "")
        path = name.partition(".")[2]
        if module is self.root or not (self.leaf(module, path) or isinstance(module, torch.jit.ScriptModule)):
            self.path.append(path)
            try:
                return call(module, *args, **kwargs)
            finally:
                self.path.pop()
        given = self._argument(args), self._argument(kwargs)
        self.inside += 1
        try:
            out = call(module, *args, **kwargs)
        finally:
            self.inside -= 1
        self._result(out, self._create("call_module", name, *given), True)
        return out

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.inside:
            return func(*args, **kwargs)
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        carries = any(id(tensor) in self.carries for tensor in tensors)
        # Arguments are written down before the call: it may write into them.
        described = self._describe(func, args, kwargs)
        out = func(*args, **kwargs)
        if any(isinstance(value, Tensor) for value in tree_leaves(out)):
            self._result(out, self._create(*described), carries)
        elif carries and not _reads_shape(func):
            if out is not None:
                made = type(out).__name__
                raise UntraceableError(
                    f"{_name(func)} makes a {made} of values that depend on the input{self.line()}", ""
                )
            self._create(*described)
        return out

    def _describe(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, ...]:
        given, named = self._argument(args), self._argument(kwargs)
        if func in _SPECIAL:
            target, swapped = _SPECIAL[func]
            return "call_function", target, tuple(reversed(given)) if swapped else given, named
        name = _name(func)
        if name == "__get__":
            return "call_function", getattr, (given[0], func.__self__.__name__), {}
        if getattr(Tensor, name, None) is func and isinstance(args[0], Tensor):
            return "call_method", name, given, named
        return "call_function", func, given, named

    def _create(self, op: str, target: Any, args: Any, kwargs: Any) -> fx.Node:
        node = self.graph.create_node(op, target, args, kwargs)
        node.meta["inside"] = self.path[-1] if self.path else ""
        node.meta["line"] = self.line()
        note_mode(node)
        return node

    def _result(self, out: Any, node: fx.Node, carries: bool) -> None:
        if isinstance(out, Tensor):
            self._note(out, node, carries)
        elif isinstance(out, (tuple, list)):
            for index, part in enumerate(out):
                if isinstance(part, (Tensor, tuple, list)):
                    taken = self._create("call_function", operator.getitem, (node, index), {})
                    self._result(part, taken, carries)
        elif isinstance(out, dict):
            for key, part in out.items():
                self._result(part, self._create("call_function", operator.getitem, (node, key), {}), carries)

    def _note(self, tensor: Tensor, node: fx.Node, carries: bool) -> None:
        self.nodes[id(tensor)] = node
        self.alive.append(tensor)
        if carries:
            self.carries.add(id(tensor))

    def _argument(self, value: Any) -> Any:
        """A value as an argument of a node: tensors are nodes."""
        if isinstance(value, Tensor):
            return self._node(value)
        if isinstance(value, slice):
            return slice(*(self._argument(part) for part in (value.start, value.stop, value.step)))
        if isinstance(value, dict):
            return {key: self._argument(part) for key, part in value.items()}
        if isinstance(value, tuple):
            parts = [self._argument(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        return [self._argument(part) for part in value] if isinstance(value, list) else value

    def _node(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self.nodes:
            name = self.held.get(id(tensor))
            if name is None:
                name = f"_tensor_constant{len(self.constants)}"
                self.constants.append(tensor.detach())
            self._note(tensor, self._create("get_attr", name, (), {}), False)
        return self.nodes[id(tensor)]


def _name(func: Any) -> str:
    return str(getattr(func, "__name__", func))


def _reads_shape(func: Any) -> bool:
    if _name(func) == "__get__":
        return func.__self__.__name__ in _READ
    return _name(func) in _SHAPE


@dataclass(frozen=True)
class Run:
    """The graph of a run, and the ids of the tensors in it that depend on the input."""

    graph: fx.Graph
    carries: set[int]
    runs: list[_Recorder]  # they keep the tensors, and so their ids


def recorded(root: nn.Module, leaf: Callable[[nn.Module, str], bool], x: Tensor, line: Callable[[], str]) -> Run:
    """The graph of a forward, found by running it on two batches.

    Args:
        root: in the mode that is to be traced. leaf: (module, name below the root) → whether it is called whole.
        x: inputs [B, ...], B >= 2. line: where in the user's code the run is.

    Raises:
        UntraceableError: the forward reads values, loops over the batch, or its constants depend on the input.
    """
    more = torch.cat([x, x[:1] * 0.5 if x.is_floating_point() else x[:1]]).flip(0)
    runs = [_Recorder(root, leaf, line) for _ in range(2)]
    graphs = [run.record(batch.clone()) for run, batch in zip(runs, (x, more), strict=True)]
    for mine, theirs in zip(runs[0].constants, runs[-1].constants, strict=False):
        if mine.shape != theirs.shape or not torch.equal(mine, theirs):
            raise UntraceableError("a tensor made outside of torch's calls depends on the input or on its batch", "")
    _free_batch(graphs[0], graphs[1], len(x), len(more))
    for index, constant in enumerate(runs[0].constants):
        root.register_buffer(f"_tensor_constant{index}", constant.clone(), persistent=False)
    if not root.training:
        _replay(root, graphs[0], more, runs[1].out)
    return Run(graphs[0], {carried for run in runs for carried in run.carries}, runs)


@torch.no_grad()
def _replay(root: nn.Module, graph: fx.Graph, x: Tensor, wanted: Any) -> None:
    """Raise unless the graph computes what the forward did; a write into a view of a tensor, say, leaves no trace."""
    pairs = zip(tree_leaves(fx.Interpreter(root, graph=graph).run(x.clone())), tree_leaves(wanted), strict=True)
    tensors = [(a, b) for a, b in pairs if isinstance(b, Tensor)]
    if not all(a.shape == b.shape and torch.allclose(a, b, 1e-4, 1e-5, equal_nan=True) for a, b in tensors):
        what = "what is written down computes something else than the forward did, which keeps a state, draws numbers"
        raise UntraceableError(f"{what}, or writes in place", "write new tensors; keep states and numbers out of it")


def _free_batch(graph: fx.Graph, other: fx.Graph, first: int, second: int) -> None:
    """Write numbers that are multiples of the batch, as the second graph shows, as such."""
    ours, theirs = list(graph.nodes), list(other.nodes)
    number = [{node: index for index, node in enumerate(nodes)} for nodes in (ours, theirs)]
    made: dict[int, fx.Node] = {}

    def multiple(factor: int) -> fx.Node:
        if factor not in made:
            with graph.inserting_after(ours[0]):
                size = made.get(1) or graph.call_method("size", (ours[0], 0))
            size.meta |= {"inside": "", "line": "", "grad": True}
            made[1] = size
            if factor != 1:
                with graph.inserting_after(size):
                    made[factor] = graph.call_function(operator.mul, (size, factor))
                made[factor].meta |= {"inside": "", "line": "", "grad": True}
        return made[factor]

    def merge(a: Any, b: Any, node: fx.Node) -> Any:
        if isinstance(a, fx.Node) and isinstance(b, fx.Node) and number[0][a] == number[1][b]:
            return a
        if type(a) is type(b):
            if isinstance(a, slice):
                return slice(*(merge(getattr(a, k), getattr(b, k), node) for k in ("start", "stop", "step")))
            if isinstance(a, dict) and a.keys() == b.keys():
                return {key: merge(a[key], b[key], node) for key in a}
            if isinstance(a, (tuple, list)) and len(a) == len(b):
                parts = [merge(one, two, node) for one, two in zip(a, b, strict=True)]
                return type(a)(*parts) if hasattr(a, "_fields") else type(a)(parts)
            if isinstance(a, int) and a != b and a % first == 0 and a // first * second == b:
                return multiple(a // first)
            if a is b or a == b:
                return a
        raise UntraceableError(f"{node.format_node()} depends on the size of the batch", "")

    same = len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=False):
        if not same or (a.op, str(a.target)) != (b.op, str(b.target)):
            raise UntraceableError(f"another batch size takes another path, from {a.format_node()} on", "")
        a.args, a.kwargs = merge(tuple(a.args), tuple(b.args), a), merge(dict(a.kwargs), dict(b.kwargs), a)
