"""The folded network in floating point as ONNX, as torch's own exporter traces it."""

from __future__ import annotations

import copy
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_unflatten

from bitspike.checks import message
from bitspike.export.onnx.nodes import IR_VERSION, OPSET, need_onnx
from bitspike.export.onnx_float_scan import looped, ran
from bitspike.export.onnx_float_steps import Begun, Step, adds, objections, sums
from bitspike.export.target import TARGETS, Exported, Reads, Source, Target
from bitspike.files import write_bytes_atomic
from bitspike.graph import Graph, Node
from bitspike.graph.surgery import Surgery
from bitspike.layers import Encoder, Frames, MeanReadout, StepReadout

FORMS = ("unrolled", "scan", "step")
_CHECKED = 19
"""Samples that are drawn for a check."""
_CHUNK = 3
"""Steps of a check where a network does not say how many it has."""


@TARGETS.register("onnx-float")
class OnnxFloat(Target):
    """Float32 sums in whatever order a runtime takes them: a membrane within their rounding of a threshold may flip."""

    reads: ClassVar[Reads] = "network"
    about = "the folded network in float32 as an ONNX graph: all steps, or one or more with their state"
    suffix = ".onnx"
    options: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "form": ("unrolled", "unrolled: all steps; scan: a chunk of steps, step: one, both with states in and out"),
        "shape": ("", "of one sample, as in 1,28,28; left out: of the one that fold was shown"),
        "steps": (0, "to unroll, of a network without an encoder"),
    }

    def losses(self, source: Source, options: Mapping[str, Any]) -> list[str]:
        form, graph = options["form"], _graph(source)
        if form not in FORMS:
            return [f"form {form!r}: choose one of {', '.join(FORMS)}"]
        sample = _shape(graph, options)
        if sample is None:
            return [f"shape {options['shape']!r}: give that of one sample, as in shape=1,28,28"]
        found = _unshaped(graph, sample) or _untaken(graph, sample)
        if found:
            return found
        if graph.reads_indices:
            found.append("the input is numbers of words: let the graph begin behind the embedding")
        (output,) = graph.of_kind("output")
        if len(output.inputs) > 1:
            names = ", ".join(graph.outputs)
            count = len(output.inputs)
            found.append(f"the network returns {count} tensors: export graph.only(name) for each of {names}")
        if any(parameter.device.type != "cpu" for parameter in graph.model.parameters()):
            found.append("the network is not on the CPU: move it there")
        counts = form == "unrolled" and graph.batch_axis == 1
        if counts and options["steps"] < 1:
            found.append("without an encoder the network has no number of steps: give steps=N, or form=scan or step")
        if not counts and options["steps"]:
            found.append(f"steps={options['steps']} says nothing here: leave it out")
        for node in graph:
            if isinstance(node.module, Encoder) and not (node.module.repeats or isinstance(node.module, Frames)):
                kind = type(node.module).__name__
                found.append(f"{node.name} ({kind}) makes its own spikes: encode outside, export what is behind")
            if _divides(graph, node):
                found.append(f"{node.name} averages by a divisor of its own, which torch's exporter forgets: --to onnx")
        if form != "unrolled":
            found += _before_frames(graph)
        if form != "unrolled" and not found:
            graph, sample = _behind_frames(graph, sample)
            found += objections(graph, sample, carries=form == "scan")
        return found

    def write(self, source: Source, path: Path, options: Mapping[str, Any]) -> Exported:
        graph, form = _graph(source), options["form"]
        sample = _shape(graph, options) or ()
        dtype = next((p.dtype for p in graph.model.parameters() if p.is_floating_point()), torch.float32)
        if dtype != torch.float32:
            graph = Surgery(graph).finish()
            graph.model.float()
        if form != "unrolled":
            graph, sample = _behind_frames(graph, sample)
        if form == "step":
            graph = _unread(graph)
        steps = options["steps"] or (sample[0] if _frames(graph) else _steps(graph))
        lead = () if graph.batch_axis == 0 or form == "step" else (steps if form == "unrolled" else _CHUNK,)
        begun = Begun(graph, sample, carries=form == "scan")
        names = [] if form == "unrolled" else begun.names
        whole = _Whole(graph, begun) if form == "unrolled" else Step(graph, begun, form == "scan")
        whole.eval()  # torch's exporter restores this mode
        traces = []
        for batch in (2, 3):
            states = begun.many(batch) if names else []
            x = torch.zeros(*(lead if form == "unrolled" else ()), batch, *sample)
            traces.append(_traced(whole, (x, *states), names, begun, len(lead) if form == "unrolled" else 0))
        data = freed(*traces)
        if form == "scan":
            data = looped(data, sample, steps if graph.batch_axis == 0 else 0, begun.shape, begun.timed)
        _checked(data, graph.model if form == "scan" else whole, (*lead, _CHECKED, *sample), len(sample), begun, names)
        files = [path]
        facts = {"form": form, "steps": steps, "bytes": len(data), "states": names}
        write_bytes_atomic(path, data)
        if form != "unrolled":
            files.append(path.with_suffix(".start.npz"))
            _write_starts(files[1], names, begun.starts)
        return Exported(tuple(files), _notes(form, graph.batch_axis == 0), facts)


def _graph(source: Source) -> Graph:
    if source.graph is None:
        raise TypeError(message("export to onnx-float", "the source must be a folded network", "none", "fold it"))
    return source.graph


def _shape(graph: Graph, options: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Of one sample: the one that was given, else the one that the network was shown; None: neither."""
    if not options["shape"]:
        return graph.sample_shape
    sides = options["shape"].split(",")
    return tuple(map(int, sides)) if all(side.strip().isdigit() and int(side) for side in sides) else None


def _frames(graph: Graph) -> Frames | None:
    return next((node.module for node in graph if isinstance(node.module, Frames)), None)


def _unshaped(graph: Graph, sample: tuple[int, ...]) -> list[str]:
    """What is wrong with the number of steps of a sample that has a time axis."""
    frames = _frames(graph)
    if frames is None or (len(sample) > 1 and (1 if frames.ragged else frames.T) <= sample[0] <= frames.T):
        return []
    steps = f"{'at most ' * frames.ragged}{frames.T}"
    return [f"shape {','.join(map(str, sample))}: samples begin with their steps, {steps}: give shape={frames.T},..."]


def _untaken(graph: Graph, sample: tuple[int, ...]) -> list[str]:
    """What the network says of zeros of a shape that it was not shown."""
    if sample == graph.sample_shape or graph.reads_indices:
        return []
    kind = next((p.dtype for p in graph.model.parameters() if p.is_floating_point()), torch.float32)
    device = next((p.device for p in graph.model.parameters()), torch.device("cpu"))
    lead = () if graph.batch_axis == 0 else (1,)
    try:
        with torch.no_grad():
            copy.deepcopy(graph.model).eval()(torch.zeros(*lead, 1, *sample, dtype=kind, device=device))
    except (RuntimeError, ValueError, TypeError) as error:
        shown = "" if graph.sample_shape is None else f"; it was shown {','.join(map(str, graph.sample_shape))}"
        return [f"shape {','.join(map(str, sample))}: the network does not take it{shown}: {error}"]
    return []


def _before_frames(graph: Graph) -> list[str]:
    """What else reads samples of frames: where a loop takes steps, it would take their batch for their time."""
    if _frames(graph) is None:
        return []
    given = {node.name for node in graph.of_kind("input")}
    others = [n.name for n in graph if given.intersection(n.inputs) and not isinstance(n.module, Frames)]
    return [f"{name} reads whole samples before they are steps: take form=unrolled" for name in others]


def _behind_frames(graph: Graph, sample: tuple[int, ...]) -> tuple[Graph, tuple[int, ...]]:
    """The network behind an encoder that only puts steps first, and the shape of one step; any other as it is."""
    if _frames(graph) is None:
        return graph, sample
    edit = Surgery(graph)
    for item in edit:
        if isinstance(edit.get(item), Frames):
            edit.remove(item)
    return edit.finish(), sample[1:]


def _divides(graph: Graph, node: Node) -> bool:
    """Whether a pool of torch has another divisor than the size of its windows."""
    inside = [] if node.module is None else list(node.module.modules())
    own = any(getattr(module, "divisor_override", None) for module in inside)
    return own or graph.items[node.name].kwargs.get("divisor_override") is not None


def _steps(graph: Graph) -> int:
    return max((node.T for node in graph), default=1)


class _Whole(nn.Module):
    """Samples or sequences → what comes out; neurons step by step, from states that follow the size of the batch."""

    def __init__(self, graph: Graph, begun: Begun) -> None:
        super().__init__()
        self.net, self.begun = graph.model, begun
        object.__setattr__(self, "graph", graph)

    def forward(self, x: Tensor) -> Any:
        def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
            module: Any = node.module
            if isinstance(module, MeanReadout):
                return _mean(module, args[0])
            if adds(module):
                return sums(module, args[0])
            if node.kind != "neuron":
                return call()
            leaves = [args[0][0] * 0 + start for start in self.begun.parts[node.name]]
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


def _unread(graph: Graph) -> Graph:
    """The graph with the logits of every step in place of their mean."""
    edit = Surgery(graph)
    for item in edit:
        if isinstance(edit.get(item), MeanReadout):
            edit.put(item, StepReadout())
    return edit.finish()


def _traced(module: nn.Module, args: tuple[Tensor, ...], names: list[str], begun: Begun, axis: int) -> Any:
    """The model as torch traces it, without what names this machine's torch. axis: of the batch in the input."""
    onnx = need_onnx()
    axes = {"input": {axis: "batch"}, "output": {int(begun.timed and not isinstance(module, Step)): "batch"}}
    own = [name for name in names if name not in begun.shared]
    axes |= {name: {0: "batch"} for state in own for name in (state, f"{state}.next")}
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
            got += _caller(module, args, got)
            raise ValueError(message("export to onnx-float", must, got, "take --to onnx")) from None
    model = onnx.load_model_from_string(held.getvalue())
    model.ir_version, model.producer_name, model.producer_version = IR_VERSION, "bitspike", ""
    for node in model.graph.node:
        node.doc_string = ""
        _spell_out_padding(node)
    entry = model.metadata_props.add()
    entry.key, entry.value = "bitspike.states", json.dumps(names)
    return model


def _caller(module: nn.Module, args: tuple[Tensor, ...], said: str) -> str:
    """Where the function of torch is called that a message names, " in LAYER"; "" where it names none."""
    function = re.search(r"aten::\w+", said)
    if function is None:
        return ""
    nodes = torch.jit.trace(module, args, check_trace=False).inlined_graph.nodes()
    scopes = [node.scopeName() for node in nodes if node.kind() == function.group()]
    layers = dict.fromkeys(name for scope in scopes for name in re.findall(r"__module\.net\.(\w+)", scope)[:1])
    return f" in {', '.join(layers)}" if layers else ""


def _spell_out_padding(node: Any) -> None:
    """Say a padding that keeps the size as numbers: runtimes do not take it beside a dilation. Strides are 1 there."""
    known = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type != "Conv" or "auto_pad" not in known or known["auto_pad"].s != b"SAME_UPPER":
        return
    kernel = list(known["kernel_shape"].ints)
    spread = list(known["dilations"].ints) if "dilations" in known else [1] * len(kernel)
    added = [step * (side - 1) for step, side in zip(spread, kernel, strict=True)]
    node.attribute.remove(known["auto_pad"])
    pads = [*(n // 2 for n in added), *(n - n // 2 for n in added)]
    node.attribute.append(need_onnx().helper.make_attribute("pads", pads))


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


def _checked(data: bytes, module: nn.Module, shape: tuple[int, ...], axes: int, begun: Begun, names: list[str]) -> None:
    """Run the graph once and compare it: what torch's exporter cannot say it may leave out without a word.

    On drawn inputs, every other one large so that neurons fire; single spikes may flip, so half must agree.

    Args:
        module: takes an input of that shape, and the states if it is a `Step`. axes: those of a sample.
    """
    draw = torch.Generator().manual_seed(0)
    x, large = torch.rand(shape, generator=draw), 4 * torch.randn(shape, generator=draw)
    every = torch.arange(_CHECKED).reshape(-1, *[1] * axes) % 2 == 1
    x = torch.where(every, large, x)
    states = begun.many(_CHECKED) if names else []
    with torch.no_grad():
        expected = module(x, *states) if isinstance(module, Step) else module(x)
    first = (expected if isinstance(expected, Tensor) else expected[0]).double().numpy()
    fed = {"input": x.numpy(), **{name: state.numpy() for name, state in zip(names, states, strict=False)}}
    found = ran(data, fed, ["output"])[0]
    if found.shape != first.shape:
        must = f"ONNX Runtime must return {list(first.shape)}"
        raise ValueError(message("export to onnx-float", must, list(found.shape), "take --to onnx"))
    axis = int(begun.timed and not isinstance(module, Step))
    rows = [np.moveaxis(part, axis, 0).reshape(_CHECKED, -1) for part in (found, first)]
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


def _notes(form: str, repeats: bool) -> tuple[str, ...]:
    notes = [
        "Input: what the network itself takes. Sums are float32 in the runtime's order, so a spike whose membrane is "
        "within their rounding of a threshold may flip; for equal integers take --to onnx.",
        "In OpenVINO set INFERENCE_PRECISION_HINT to f32; its default may be bfloat16, where many spikes flip.",
    ]
    begin = "which start as the .start.npz beside it says (repeat them along the batch, if they have it)"
    if form == "scan":
        how = "the sample is repeated for all steps of the network" if repeats else "as many steps as the input has"
        notes.append(
            f"A call takes a chunk ({how}) and the states, {begin}; it returns what comes out, of a mean read-out the "
            "mean over all steps so far, and the states for the next chunk."
        )
    if form == "step":
        notes.append(
            f"A call takes one step and the states, {begin}; it returns the step's output: of a mean read-out the mean "
            "is left to the caller."
        )
    return tuple(notes)
