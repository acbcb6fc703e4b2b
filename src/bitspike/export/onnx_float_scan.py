"""A step with its states as a loop over a chunk of steps: ONNX's Scan around what was traced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitspike.checks import message
from bitspike.export.onnx.nodes import need_onnx, need_onnxruntime

_IN = "body_"
"""Before every name inside the loop."""


def looped(data: bytes, sample: Sequence[int], steps: int, shape: Sequence[int], timed: bool) -> bytes:
    """A model of one step → one of a chunk.

    What depends on a repeated sample alone stands before the loop, which carries it along.

    Args:
        data: x [B, ...] and states → what comes out [B, ...], and states, each NAME.next. sample: shape of one sample.
        steps: of one call, each on the same sample; 0: the input is [steps, B, ...], as many as come.
        shape: of what comes out, one sample. timed: whether all of it is wanted, [steps, B, ...]; else the last step's.
    """
    onnx = need_onnx()
    make, model = onnx.helper, onnx.load_model_from_string(data)
    for node in model.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            must = "no function may choose between branches in a loop"
            raise ValueError(message("export to onnx-float", must, node.name, "take form=unrolled, or --to onnx"))
    made = _set_aside(model.graph)
    given = [value for value in model.graph.input if value.name != "input"]
    parts = _Parts(model.graph, repeats=bool(steps))
    parts.carried = _measured(onnx, model, parts.moved)
    entry = _shaped(onnx, "input", [*([] if steps else ["steps"]), "batch", *sample])
    body = _body(onnx, parts, given, made, None if steps else ["batch", *sample], ["batch", *shape])
    states = [value.name for value in given]
    held = [f"{value.name}.left" for value in parts.carried]
    sources = [*states, *(value.name for value in parts.carried), "chunk" if steps else "input"]
    results = [*(f"{name}.next" for name in states), *held, "output" if timed else "sent"]
    nodes, constants = list(parts.outside), _constants(parts.initial, parts.outside, {})
    if steps:
        constants.append(onnx.numpy_helper.from_array(np.zeros((steps, 1), np.float32), "chunk"))
    nodes.append(make.make_node("Scan", sources, results, "loop", body=body, num_scan_inputs=1))
    if not timed:
        constants.append(onnx.numpy_helper.from_array(np.array(-1, np.int64), "last"))
        nodes.append(make.make_node("Gather", ["sent", "last"], ["output"], "end", axis=0))
    outs = [_shaped(onnx, "output", [*([steps or "steps"] if timed else []), "batch", *shape])]
    outs += [_called(value, f"{value.name}.next") for value in given]
    model.graph.CopyFrom(make.make_graph(nodes, "chunk_of_steps", [entry, *given], outs, constants))
    onnx.checker.check_model(model)
    found: bytes = model.SerializeToString(deterministic=True)
    return found


def _set_aside(graph: Any) -> dict[str, str]:
    """Give the outputs of a graph other names, theirs are those of the loop's; old name → new one."""
    made = {value.name: f"made_{value.name}" for value in graph.output}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [made.get(name, name) for name in names]
    for value in graph.output:
        value.name = made[value.name]
    return made


def _body(
    onnx: Any, parts: _Parts, given: list[Any], made: Mapping[str, str], x: list[Any] | None, out: list[Any]
) -> Any:
    """The graph of one step: states, what is carried, and x (None: a zero) → states, what is carried, what is sent."""
    make, held = onnx.helper, {value.name: f"{_IN}held_{i}" for i, value in enumerate(parts.carried)}
    named = {name: f"{_IN}{name}" for node in parts.inside for name in (*node.input, *node.output) if name}
    named |= {value.name: f"{_IN}{value.name}" for value in given} | held
    nodes = []
    for node in parts.inside:
        copied = _called(node, f"{_IN}{node.name}")
        copied.input[:] = [named.get(name, name) for name in node.input]
        copied.output[:] = [named.get(name, name) for name in node.output]
        nodes.append(copied)
    kept = [(named[value.name], named[made[f"{value.name}.next"]], value) for value in given]
    kept += [(held[value.name], held[value.name], value) for value in parts.carried]
    scanned, outs = (f"{_IN}input", x) if x else (f"{_IN}zero", [1]), []
    for name, source, value in kept:
        nodes.append(make.make_node("Identity", [source], [f"{name}.next"], f"{name}.after"))
        outs.append(_called(value, f"{name}.next"))
    # zeros, added somewhere: OpenVINO drops what no node reads, and with it the number of steps
    kind, sources = ("Identity", [named[made["output"]]]) if x else ("Add", [named[made["output"]], scanned[0]])
    nodes.append(make.make_node(kind, sources, [f"{_IN}sent"], f"{_IN}sending"))
    ins = [_called(value, name) for name, _, value in kept]
    return make.make_graph(
        nodes,
        "step",
        [*ins, _shaped(onnx, *scanned)],
        [*outs, _shaped(onnx, f"{_IN}sent", out)],
        _constants(parts.initial, parts.inside, named),
    )


class _Parts:
    """The nodes of a step: those before the loop, those in it, and what goes from the first to the second.

    Args:
        repeats: whether the input is the same at all steps.

    Attributes:
        inside, outside: nodes in order; what is made of constants alone is on each side that reads it.
        moved: names of values that the loop carries along; carried: the same with their types, once they are known.
        initial: name → constant.
    """

    carried: list[Any]

    def __init__(self, graph: Any, repeats: bool) -> None:
        self.initial = {tensor.name: tensor for tensor in graph.initializer}
        fixed, steady = set(self.initial), {"input"}
        plain: list[Any] = []
        before: list[Any] = []
        inside: list[Any] = []
        for node in graph.node:
            given = {name for name in node.input if name}
            if given <= fixed:
                fixed.update(node.output)
                plain.append(node)
            elif repeats and given <= fixed | steady:
                steady.update(node.output)
                before.append(node)
            else:
                inside.append(node)
        wanted = {name for node in inside for name in node.input} | {value.name for value in graph.output}
        self.moved = sorted(wanted & steady) if repeats else []
        self.inside = [*_used(plain, wanted), *inside]
        self.outside = [*_used(plain, {name for node in before for name in node.input}), *before]


def _measured(onnx: Any, model: Any, names: list[str]) -> list[Any]:
    """Values of a model with types and sides, from runs on batches of 2 and of 3: inference does not know them all."""
    if not names:
        return []
    told = type(model)()
    told.CopyFrom(model)
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in _known(told.graph))
    runs = []
    for batch in (2, 3):
        fed = {
            value.name: np.zeros([batch if side.dim_param else side.dim_value for side in _sides(value)], np.float32)
            for value in model.graph.input
        }
        asked = [name for name in names if name != "input"]
        runs.append({**fed, **dict(zip(asked, ran(told.SerializeToString(), fed, asked), strict=True))})
    found = []
    for name in names:
        pair = [run[name] for run in runs]
        both = zip(*(value.shape for value in pair), strict=True)
        sides = [n if n == m else "batch" if (n, m) == (2, 3) else None for n, m in both]
        kind = onnx.helper.np_dtype_to_tensor_dtype(pair[0].dtype)
        found.append(onnx.helper.make_tensor_value_info(name, kind, sides))
    return found


def _known(graph: Any) -> set[str]:
    return {value.name for value in (*graph.input, *graph.output)}


def _sides(value: Any) -> Any:
    return value.type.tensor_type.shape.dim


def ran(data: bytes, fed: Mapping[str, Any], names: list[str]) -> list[Any]:
    """What ONNX Runtime makes of a model.

    Raises:
        ImportError: it is not installed. ValueError: it does not run the model.
    """
    runtime = need_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return list(session.run(names, dict(fed)))
    except Exception as error:  # its classes have no other one in common
        must, got = "ONNX Runtime must run it", str(error).partition("\n")[0]
        raise ValueError(message("export to onnx-float", must, got, "take --to onnx")) from error


def _used(nodes: list[Any], wanted: set[str]) -> list[Any]:
    """Those of some nodes, in order, that make what is wanted."""
    found, needed = [], set(wanted)
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            found.append(node)
    return found[::-1]


def _constants(initial: Mapping[str, Any], nodes: Sequence[Any], named: Mapping[str, str]) -> list[Any]:
    """The constants that nodes read, under their new names."""
    read = {name for node in nodes for name in node.input}
    return [_called(tensor, named.get(name, name)) for name, tensor in initial.items() if name in read]


def _called(record: Any, name: str) -> Any:
    """A copy of a node, value or constant with another name."""
    copied = type(record)()
    copied.CopyFrom(record)
    copied.name = name
    return copied


def _shaped(onnx: Any, name: str, sides: Sequence[Any]) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(sides))
