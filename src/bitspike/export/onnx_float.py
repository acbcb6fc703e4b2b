"""The folded network in floating point as ONNX, as torch's own exporter traces it."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from bitspike.checks import message
from bitspike.export.onnx.nodes import IR_VERSION, OPSET, need_onnx
from bitspike.export.target import TARGETS, Exported, Source, Target
from bitspike.files import write_bytes_atomic
from bitspike.graph import Graph, Node
from bitspike.graph.surgery import Surgery
from bitspike.layers import AvgPool2d, Encoder, MeanReadout, Squeeze, StepReadout, SumPool2d, TimeLayer

FORMS = ("unrolled", "step")
_CHECKED = 19
"""Samples that are drawn for a check."""


@TARGETS.register("onnx-float")
class OnnxFloat(Target):
    """Float32 sums in whatever order a runtime takes them: a membrane within their rounding of a threshold may flip."""

    reads = "network"
    about = "the folded network in float32 as an ONNX graph: all steps, or one with its state"
    suffix = ".onnx"
    options: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "form": ("unrolled", "unrolled: all steps; step: one step, with states in and out"),
        "shape": ("", "of one sample, as in 1,28,28"),
    }

    def losses(self, source: Source, options: Mapping[str, Any]) -> list[str]:
        if options["form"] not in FORMS:
            return [f"form {options['form']!r}: choose one of {', '.join(FORMS)}"]
        if _shape(options) is None:
            return [f"shape {options['shape']!r}: give that of one sample, as in shape=1,28,28"]
        graph, found = _graph(source), []
        if graph.reads_indices:
            found.append("the input is numbers of words: let the graph begin behind the embedding")
        step = options["form"] == "step"
        for node in graph:
            module, kind = node.module, type(node.module).__name__
            if isinstance(module, Encoder) and not module.repeats:
                found.append(f"{node.name} ({kind}) draws its spikes: encode outside, and export the network behind")
            if step and not isinstance(module, Encoder | MeanReadout | StepReadout) and _remembers(graph, node):
                found.append(f"{node.name} ({kind}) remembers or mixes steps: take form=unrolled, or --to onnx")
        return found

    def write(self, source: Source, path: Path, options: Mapping[str, Any]) -> Exported:
        graph, sample = _graph(source), _shape(options) or ()
        dtype = next((p.dtype for p in graph.model.parameters() if p.is_floating_point()), torch.float32)
        if dtype != torch.float32:
            graph = Surgery(graph).finish()
            graph.model.float()
        step = options["form"] == "step"
        files = [path]
        if step:
            graph = _unread(graph)
        begun = _Begun(graph, sample)
        names, starts = (begun.names, [part for parts in begun.starts.values() for part in parts]) if step else ([], [])
        lead = () if step or graph.batch_axis == 0 else (_steps(graph),)
        whole = (_Step(graph, begun) if step else _Whole(graph, begun)).eval()  # torch's exporter restores this mode
        traces = []
        for batch in (2, 3):
            states = (start.expand(batch, *start.shape[1:]).clone() for start in starts)
            traces.append(_traced(whole, (torch.zeros(*lead, batch, *sample), *states), names, len(lead)))
        data = freed(*traces)
        _checked(data, whole, (*lead, _CHECKED, *sample), names, starts)
        if step:
            files.append(path.with_suffix(".start.npz"))
        facts = {"form": options["form"], "steps": _steps(graph), "bytes": len(data), "states": names}
        write_bytes_atomic(path, data)
        if step:
            _write_starts(files[1], names, starts)
        return Exported(tuple(files), _notes(step), facts)


def _graph(source: Source) -> Graph:
    if source.graph is None:
        raise TypeError(message("export to onnx-float", "the source must be a folded network", "none", "fold it"))
    return source.graph


def _shape(options: Mapping[str, Any]) -> tuple[int, ...] | None:
    sides = options["shape"].split(",")
    return tuple(map(int, sides)) if all(side.strip().isdigit() and int(side) for side in sides) else None


def _steps(graph: Graph) -> int:
    return max((node.T for node in graph), default=1)


def _remembers(graph: Graph, node: Node) -> bool:
    """Whether a layer that is no neuron keeps state, or sees several steps at once."""
    module = node.module
    if node.kind == "neuron" or module is None:
        return len({graph[name].T for name in node.inputs}) > 1
    if isinstance(module, Squeeze):
        return not module.passes(max(graph[name].T for name in node.inputs))
    stateful = isinstance(module, TimeLayer) and module.stateful
    return stateful or len({graph[name].T for name in node.inputs} | {node.T}) > 1


class _Begun:
    """What every neuron's state is before the first step, as one sample [1, ...] shows it."""

    def __init__(self, graph: Graph, sample: tuple[int, ...]) -> None:
        self.specs: dict[str, Any] = {}
        self.starts: dict[str, list[Tensor]] = {}
        one = torch.zeros(1, *sample) if graph.batch_axis == 0 else torch.zeros(1, 1, *sample)
        with torch.no_grad():
            graph.run(one, handler=self._begin)

    def _begin(self, node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        if node.kind != "neuron":
            return call()
        module: Any = node.module
        state = module.initial_state(args[0][0])
        leaves, self.specs[node.name] = tree_flatten(state)
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or leaf.shape != args[0][0].shape:
                must = f"states of {node.name} ({type(module).__name__}) must have the shape of its current"
                got = list(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__
                raise ValueError(message("export to onnx-float", must, got, "take --to onnx"))
        self.starts[node.name] = [leaf.detach() for leaf in leaves]
        return module.run(args[0], state)[0]

    @property
    def names(self) -> list[str]:
        """Of all tensors of state."""
        return [f"{name}.{i}" for name, parts in self.starts.items() for i in range(len(parts))]


class _Whole(nn.Module):
    """Samples or sequences → what comes out; neurons step by step, from states that follow the size of the batch."""

    def __init__(self, graph: Graph, begun: _Begun) -> None:
        super().__init__()
        self.net, self.begun = graph.model, begun
        object.__setattr__(self, "graph", graph)

    def forward(self, x: Tensor) -> Any:
        def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
            module: Any = node.module
            if isinstance(module, MeanReadout):
                return _mean(module, args[0])
            if _adds(module):
                return _sums(module, args[0])
            if node.kind != "neuron":
                return call()
            leaves = [args[0][0] * 0 + start for start in self.begun.starts[node.name]]
            state, spikes = tree_unflatten(leaves, self.begun.specs[node.name]), []
            for current in args[0]:
                spike, state = module.step(current, state)
                spikes.append(spike)
            return torch.stack(spikes)

        return self.graph.run(x, handler=handle)  # type: ignore[operator,union-attr]


def _mean(module: MeanReadout, x: Tensor) -> Tensor:
    """What the read-out makes of all steps, without the zeros it begins with, whose batch the tracer would fix."""
    keep = [1.0] * len(x) if module.keep is None else module.keep.tolist()
    kept = [logits * keep[min(t, len(keep) - 1)] for t, logits in enumerate(x)]
    return module.mean(sum(kept[1:], kept[0]), len(kept))


def _adds(module: Any) -> bool:
    return isinstance(module, SumPool2d) or (isinstance(module, AvgPool2d) and module.divisor > 0)


def _sums(pool: Any, x: Tensor) -> Tensor:
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


class _Step(nn.Module):
    """x [B, ...] and states → what comes out, and states."""

    def __init__(self, graph: Graph, begun: _Begun) -> None:
        super().__init__()
        self.net, self.begun = graph.model, begun
        object.__setattr__(self, "graph", graph)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        left, after = list(states), list[Tensor]()

        def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
            module: Any = node.module
            if isinstance(module, Encoder):
                return args[0]
            if _adds(module):
                return _sums(module, args[0])
            if node.kind != "neuron":
                return call()
            spec = self.begun.specs[node.name]
            state = tree_unflatten([left.pop(0) for _ in range(spec.num_leaves)], spec)
            spikes, state = module.step(args[0][0], state)
            after.extend(tree_flatten(state)[0])
            return spikes[None]

        out = self.graph.run(x[None], handler=handle)  # type: ignore[operator,union-attr]
        return (out[0], *after)


def _unread(graph: Graph) -> Graph:
    """The graph with the logits of every step in place of their mean."""
    edit = Surgery(graph)
    for item in edit:
        if isinstance(edit.get(item), MeanReadout):
            edit.put(item, StepReadout())
    return edit.finish()


def _traced(module: nn.Module, args: tuple[Tensor, ...], names: list[str], batch: int) -> Any:
    """The model as torch traces it, without what names this machine's torch."""
    onnx = need_onnx()
    axes = {"input": {batch: "batch"}, "output": {0: "batch"}}
    axes |= {name: {0: "batch"} for state in names for name in (state, f"{state}.next")}
    held = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # where it fails it prints graphs
        warnings.simplefilter("ignore")  # of the tracer, about checks on shapes, and of its age
        try:
            torch.onnx.export(
                module,
                args,
                held,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=OPSET,
                input_names=["input", *names],
                output_names=["output", *(f"{name}.next" for name in names)],
                dynamic_axes=axes,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            must, got = "torch's exporter must know every function", str(error).partition("\n")[0]
            raise ValueError(message("export to onnx-float", must, got, "take --to onnx")) from None
    model = onnx.load_model_from_string(held.getvalue())
    model.ir_version, model.producer_name, model.producer_version = IR_VERSION, "bitspike", ""
    for node in model.graph.node:
        node.doc_string = ""
    entry = model.metadata_props.add()
    entry.key, entry.value = "bitspike.states", json.dumps(names)
    return model


def freed(model: Any, other: Any) -> bytes:
    """The bytes of a model of which two traces, with batches of 2 and of 3, are known: for batches of any size.

    Where they differ, a shape was written down as numbers. In what a `Reshape` asks for the size of the batch becomes
    -1; at any other place it would be wrong for other batches, and is refused.
    """
    onnx = need_onnx()
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, i))

    def only_asked_for(name: str) -> bool:
        found = readers.get(name, [])
        return bool(found) and all(
            (node.op_type == "Reshape" and i == 1) or (node.op_type == "Concat" and only_asked_for(node.output[0]))
            for node, i in found
        )

    for node, twin in zip(model.graph.node, other.graph.node, strict=False):
        if node == twin:
            continue
        same = node.op_type == twin.op_type == "Constant" and only_asked_for(node.output[0])
        parts = [onnx.numpy_helper.to_array(each.attribute[0].t) for each in (node, twin)] if same else []
        free = parts[0] != parts[1] if same and parts[0].shape == parts[1].shape else np.zeros(0, bool)
        if free.sum() != 1 or parts[0][free] != 2 or parts[1][free] != 3:
            raise _fixed(node.name)
        for each in (node, twin):
            shape = np.where(free, -1, parts[0])
            each.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(shape, each.attribute[0].t.name))
    if model.graph != other.graph:
        raise _fixed("a constant")
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _checked(data: bytes, module: nn.Module, shape: tuple[int, ...], names: list[str], starts: list[Tensor]) -> None:
    """Run the graph once and compare it: what torch's exporter cannot say it may leave out without a word.

    On drawn inputs; single spikes may flip, so half of the samples must agree.
    """
    try:
        import onnxruntime
    except ImportError as error:
        text = message(
            "export to onnx-float", "onnxruntime must be installed", error, "run `pip install bitspike[onnx]`"
        )
        raise ImportError(text) from error
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    states = [start.expand(_CHECKED, *start.shape[1:]) for start in starts]
    with torch.no_grad():
        expected = module(x, *states)
    first = (expected if isinstance(expected, Tensor) else expected[0]).double().numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    fed = {"input": x.numpy(), **{name: state.numpy() for name, state in zip(names, states, strict=True)}}
    found = session.run(["output"], fed)[0]
    rows = [
        np.moveaxis(part, (0 if part.shape[0] == _CHECKED else 1), 0).reshape(_CHECKED, -1) for part in (found, first)
    ]
    far = np.abs(rows[0] - rows[1]).max(1) > 1e-3 * max(1.0, float(np.abs(rows[1]).max()))
    if far.sum() * 2 > _CHECKED:
        must = f"at least half of {_CHECKED} drawn samples must agree with the network in ONNX Runtime"
        raise ValueError(message("export to onnx-float", must, f"{int(far.sum())} that do not", "take --to onnx"))


def _fixed(name: str) -> ValueError:
    must = "no layer may fix the size of the batch"
    return ValueError(message("export to onnx-float", must, name, "take --to onnx"))


def _write_starts(path: Path, names: list[str], starts: list[Tensor]) -> None:
    """An npz file with the same bytes for the same numbers."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for name, start in zip(names, starts, strict=True):
            part = io.BytesIO()
            np.save(part, start.float().numpy())
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())
    write_bytes_atomic(path, held.getvalue())


def _notes(step: bool) -> tuple[str, ...]:
    notes = [
        "Input: what the network itself takes. Sums are float32 in the runtime's order, so a spike whose membrane is "
        "within their rounding of a threshold may flip; for equal integers take --to onnx.",
        "In OpenVINO set INFERENCE_PRECISION_HINT to f32; its default may be bfloat16, where many spikes flip.",
    ]
    if step:
        notes.append(
            "A call takes one step and the states, which start as the .start.npz beside it says (repeat it along the "
            "batch); it returns the step's output: of a mean read-out the mean is left to the caller."
        )
    return tuple(notes)
