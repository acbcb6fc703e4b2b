"""Programs of one step for FINN and hls4ml: QONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bitspike.checks import message
from bitspike.export.onnx.nodes import Nodes
from bitspike.export.qonnx.network import DOMAIN, Writer
from bitspike.export.target import TARGETS, Exported, Reads, Source, Target
from bitspike.files import write_bytes_atomic
from bitspike.runtime import INPUT


@TARGETS.register("qonnx")
class Qonnx(Target):
    """Weights and spikes through `Quant` and `BipolarQuant` at their bits; between them sums and one line a neuron.

    It reads the program, not the folded network: a `Quant` rounds, and only against integers can it be proved that
    rounding a float32 line gives every spike (`bitspike.export.qonnx.staircase`).
    """

    reads: ClassVar[Reads] = "program"
    about = "a program of one step with its bits, for FINN and hls4ml"
    suffix = ".onnx"
    options: ClassVar[Mapping[str, tuple[Any, str]]] = {"batch": (1, "samples a call; the tools want it fixed")}

    def losses(self, source: Source, options: Mapping[str, Any]) -> list[str]:
        if options["batch"] < 1:
            return [f"batch {options['batch']}: take 1 or more"]
        writer = _writer(source)
        writer.run()
        return writer.lost

    def write(self, source: Source, path: Path, options: Mapping[str, Any]) -> Exported:
        writer = _writer(source)
        name, program, nodes = writer.run(), writer.program, writer.nodes
        value, out = program.spec.input.value, writer.shapes[program.spec.sent_values[0]]
        _call_output(nodes, name)
        batch = options["batch"]
        graph = nodes.graph(
            "program",
            [nodes.info(INPUT, np.float32, (batch, *value.shape))],
            [nodes.info("output", np.float32, (batch, *out.shape))],
        )
        facts: dict[str, Any] = {
            "exponent": out.exponent,
            "classes": list(next(iter(program.spec.sent.values())).classes),
            "input": {"low": value.low, "high": value.high, "exponent": value.exponent},
        }
        if writer.then:
            facts["then"] = writer.then
        data = nodes.file(graph, facts, {DOMAIN: 1})
        write_bytes_atomic(path, data)
        kinds = [node.op_type for node in graph.node]
        quants = sum(kind in ("Quant", "BipolarQuant") for kind in kinds)
        notes: tuple[str, ...] = (
            f"Input: integers {value.low}..{value.high} as float32; the output's are integers too.",
            "Every spike is proved equal to the program's in float32; fewer bits for the lines may change some.",
        )
        if writer.then:
            notes += (
                "The output is the last layer's sums; bitspike.then in its metadata is the rescaling that is left: "
                "clamp(((x*multiplier + 2^(shift-1)) >> shift) + bias, low, high).",
            )
        return Exported((path,), notes, {**facts, "nodes": len(kinds), "quantizers": quants, "bytes": len(data)})


def _call_output(nodes: Nodes, name: str) -> None:
    """Call a value "output"; without a node for that, since hls4ml drops it and the output with it."""
    made = [node for node in nodes.nodes if name in node.output]
    if not made or any(name in node.input for node in nodes.nodes):
        nodes.named(name, "output")
    else:
        made[0].output[list(made[0].output).index(name)] = "output"


def _writer(source: Source) -> Writer:
    if source.program is None:
        raise TypeError(message("export to qonnx", "the source must be a program", "none", "compile the network"))
    return Writer(source.program)
