"""From a folded network to an integer program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, one_of
from bitspike.graph import Graph, Node, trace
from bitspike.layers import check_numbers
from bitspike.lower.density import measured_densities
from bitspike.lower.lowering import Lowering, Options
from bitspike.lower.measured import Measured, measure
from bitspike.lower.rules.given import Given, Pixels, error_of, first_wire, given, sent
from bitspike.lower.rules.time import logits
from bitspike.lower.table import lowered
from bitspike.lower.targets import sends_steps, targets_of
from bitspike.lower.wire import Refused, TooWide, Wire, wire
from bitspike.runtime import INPUT, Builder, Program, ProgramError, Value
from bitspike.runtime.engine.planner import DENSITY


def compile(
    folded: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    weight_bits: int = 8,
    spike_bits: int = 8,
    input_bits: int = 8,
    activation_bits: int = 16,
    pixels: Pixels | None = None,
    classes: Sequence[str] = (),
    info: Mapping[str, Any] | None = None,
) -> Program:
    """Lower a folded network to a program of integer operations.

    Integer weights and levels stay what they are. Real weights become ``weight_bits`` an output channel, real spikes
    ``spike_bits`` levels, the input signed levels; membranes count in units of their layer's step, so that thresholds
    are powers of two. Where all constants are exactly representable, the program sends the very spikes and logits of
    the network in float64; what had to be rounded stands in ``CompileReport.of(program)``.

    Args:
        folded: what `bitspike.fold` or `bitspike.expand_unary` returned; it is not changed.
        calibration: inputs of the network, one batch or several; they choose ranges, never what is proved.
        weight_bits: of real weights, 8 or 16. spike_bits: of real spikes, 4, 8 or 16.
        input_bits: of real inputs, signed, 8 or 16. activation_bits: of real signals that a synapse reads, 8 or 16.
        pixels: the program takes raw images of these constants instead of normalised numbers.
        classes: names of the outputs. info: JSON for people; "targets" is what outputs stand for if not
            "classes": "labels" (those above 0) or "numbers"; "compile" holds the report,
            "density" the share of what every synapse reads that is not 0 on calibration data.

    Raises:
        ValueError: what has no integer operation, every layer by name with the reason; no calibration data.

    >>> import torch, bitspike
    >>> from bitspike.layers import Linear, MeanReadout, Repeat
    >>> net = nn.Sequential(Repeat(2), Linear(2, 3), bitspike.neurons.LIF(), Linear(3, 2), MeanReadout())
    >>> x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    >>> program = bitspike.compile(bitspike.fold(net, x), x)
    >>> program(x.numpy()).values.shape
    (64, 2)
    """
    for name, bits, known in (
        ("weight_bits", weight_bits, (8, 16)),
        ("spike_bits", spike_bits, (4, 8, 16)),
        ("input_bits", input_bits, (8, 16)),
        ("activation_bits", activation_bits, (8, 16)),
    ):
        one_of("compile", name, bits, known)
    graph = folded if isinstance(folded, Graph) else getattr(folded, "graph", None)
    graph = graph if isinstance(graph, Graph) else trace(folded)
    check_numbers("compile", graph.model)
    graph.model.eval()
    batches = [calibration] if isinstance(calibration, Tensor) else list(calibration)
    measured = measure(graph, batches)
    options = Options(weight_bits, spike_bits, input_bits, activation_bits)
    found = given(graph, measured, options, pixels)
    low = Lowering(graph, Builder(found.record), measured, options)
    low.report.notes += found.notes
    with torch.no_grad():
        output = _lower(low, found)
    plain = low.builder.finish(output, classes)
    _compare(low, found, plain, graph, batches, targets_of(info or {}))
    facts: dict[str, Any] = {
        DENSITY: measured_densities(plain, found, graph, batches[0]),
        "compile": low.report.as_dict(),
    }
    return low.builder.finish(output, classes, {**(info or {}), **facts})


def _lower(low: Lowering, found: Given) -> str:
    """Run the rules in order; raise with everything that was refused."""
    refused: list[str] = []
    stand_ins: set[str] = set()
    output = ""
    for node in low.graph:
        try:
            if node.kind == "output":
                output = _output(low, node)
            elif node.name == found.node:
                low.wires[node.name] = first_wire(low, found)
            elif node.kind != "input":
                low.wires[node.name] = lowered(low, node)
        except (Refused, ProgramError) as reason:
            made_up = stand_ins.intersection(node.inputs)
            stand_ins.add(node.name)
            low.wires[node.name] = _stand_in(low, node.name)
            if made_up and isinstance(reason, (TooWide, ProgramError)):
                continue  # its numbers are those of a value that nothing computes
            what = f" ({type(node.module).__name__})" if node.module is not None else ""
            refused.append(f"{node.path or node.name}{what}: {str(reason).rstrip('.')}")
        else:
            if stand_ins.intersection(node.inputs):
                stand_ins.add(node.name)
    if refused:
        must = "every layer must have an integer operation"
        raise bad_value("compile", must, f"{len(refused)} without: {'; '.join(refused)}", "replace them")
    return output


def _output(low: Lowering, node: Node) -> str:
    if len(node.inputs) != 1:
        names = ", ".join(map(repr, low.graph.outputs))
        raise Refused(
            f"a program has one output; compile a network that returns one of them, graph.only(name): {names}"
        )
    x = logits(low, low.straightened(node.inputs[0]), node.inputs[0], "output")
    if x.name == INPUT:
        raise Refused("nothing is between input and output")
    return x.name


def _stand_in(low: Lowering, name: str) -> Wire:
    """A value that nothing computes, so that the nodes behind a refused one can be looked at, too."""
    shape = low.measured.shapes.get(name, (1, 1, 1))
    if len(shape) < 3:
        shape = (1, *shape, 1)[:3]
    made = low.free(f"{name}.refused")
    low.builder.values[made] = Value(tuple(shape[2:6]), -127, 127, 0, shape[0])
    return wire(made)


@torch.no_grad()
def _compare(
    low: Lowering, found: Given, program: Program, graph: Graph, batches: Sequence[Tensor], targets: str
) -> None:
    """Run the calibration data through both, and note what was clamped and how outputs differ."""
    report = low.report
    if found.pixels is not None or (found.record.scale is None and graph.batch_axis == 0):
        report.notes.append("the calibration data is not what the program is fed with, so it was not run on it")
        return
    alike, total = 0.0, 0
    for batch in batches:
        result = program(sent(graph, found, batch.detach()).cpu().numpy())
        expected = graph.run(batch).detach().double().cpu().numpy()
        got = result.values
        report.max_logit_difference = max(report.max_logit_difference, float(np.abs(got - expected).max()))
        report.input_error = max(report.input_error, error_of(program, found, batch))
        for name, count in result.clamped.items():
            report.clamped[name] = report.clamped.get(name, 0) + count
        count, axis = batch.shape[graph.batch_axis], 1 + sends_steps(program)
        if targets == "classes":
            alike += float((got.argmax(axis) == expected.argmax(axis)).mean()) * count
        elif targets == "labels":
            alike += float(((got > 0) == (expected > 0)).all(axis).mean()) * count
        total += count
    if targets == "numbers":
        report.notes.append(f"outputs are numbers, which differ by at most {report.max_logit_difference:.3g}")
        return
    report.agreement = alike / total


__all__ = ["Measured", "Pixels", "compile"]
