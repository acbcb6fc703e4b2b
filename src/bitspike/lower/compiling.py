"""From a folded network to an integer program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, one_of
from bitspike.graph import Graph, trace
from bitspike.layers import check_numbers
from bitspike.lower.density import measured_densities
from bitspike.lower.figures import network_outputs
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
    classes: Sequence[str] | Mapping[str, Sequence[str]] = (),
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
        classes: names of the outputs; of a network that returns a dict or tuple by output, for those which have some.
        info: JSON for people; "targets" is what outputs stand for if not "classes": "labels" (those above 0) or
            "numbers", for all of them or as a dict by output; "compile" holds the report,
            "density" the share of what every synapse reads that is not 0 on calibration data.

    Returns:
        The program. That of a network which returns a dict or tuple has the outputs that ``graph.outputs`` names, and
        gives a dict by name; ``graph.only(name)`` is the part for one of them.

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
    targets = _targets(graph, info or {})
    with torch.no_grad():
        output = _lower(low, found)
    plain = low.builder.finish(output, classes)
    _compare(low, found, plain, graph, batches, targets)
    facts: dict[str, Any] = {
        DENSITY: measured_densities(plain, found, graph, batches[0]),
        "compile": low.report.as_dict(),
    }
    return low.builder.finish(output, classes, {**(info or {}), **facts})


def _targets(graph: Graph, info: Mapping[str, Any]) -> dict[str, str]:
    """Output → what it stands for."""
    given = info.get("targets")
    unknown = sorted(set(given) - set(graph.outputs)) if isinstance(given, Mapping) else []
    if unknown:
        must = f"targets in info must be those of outputs ({', '.join(map(repr, graph.outputs))})"
        raise bad_value("compile", must, ", ".join(map(repr, unknown)), "correct the names; see graph.outputs")
    return {name: targets_of(info, name) for name in graph.outputs}


def _lower(low: Lowering, found: Given) -> str | dict[str, str]:
    """Run the rules in order; raise with everything that was refused. Returns what comes out, by name if they have."""
    refused: list[str] = []
    stand_ins: set[str] = set()
    output: str | dict[str, str] = ""
    for node in low.graph:
        try:
            if node.kind == "output":
                output = _outputs(low)
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
        todo = "replace them" + (
            ", or compile graph.only(name), the part for one output" if len(low.graph.outputs) > 1 else ""
        )
        raise bad_value("compile", must, f"{len(refused)} without: {'; '.join(refused)}", todo)
    return output


def _outputs(low: Lowering) -> str | dict[str, str]:
    if not low.graph.outputs:
        raise Refused("the network returns no tensor")
    found, made = {}, dict[str, str]()
    for name, source in low.graph.outputs.items():
        if source not in made:
            made[source] = _output(low, source, name)
        found[name] = made[source]
    return found.get("", found)


def _output(low: Lowering, source: str, name: str) -> str:
    which = f"output {name!r}: " if name else ""
    x = low.straightened(source)
    if low.graph[source].kind == "split" or not isinstance(x, Wire):
        raise Refused(f"{which}it is several tensors, the pieces of a split; return them one by one")
    x = logits(low, x, source, f"output.{name}" if name else "output")
    if x.name == INPUT:
        raise Refused(f"{which}nothing is between input and output")
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
    low: Lowering, found: Given, program: Program, graph: Graph, batches: Sequence[Tensor], targets: Mapping[str, str]
) -> None:
    """Run the calibration data through both, and note what was clamped and how outputs differ."""
    report = low.report
    if found.pixels is not None or (found.record.scale is None and graph.batch_axis == 0):
        report.notes.append("the calibration data is not what the program is fed with, so it was not run on it")
        return
    alike, far, total = dict.fromkeys(targets, 0.0), dict.fromkeys(targets, 0.0), 0
    for batch in batches:
        results = program.run(sent(graph, found, batch.detach()).cpu().numpy())
        returned = network_outputs("compile", program, graph.run(batch))
        report.input_error = max(report.input_error, error_of(program, found, batch))
        for name, count in next(iter(results.values())).clamped.items():
            report.clamped[name] = report.clamped.get(name, 0) + count
        count = batch.shape[graph.batch_axis]
        for output, kind in targets.items():
            got, expected, axis = results[output].values, returned[output], 1 + sends_steps(program, output)
            far[output] = max(far[output], float(np.abs(got - expected).max()))
            if kind == "classes":
                alike[output] += float((got.argmax(axis) == expected.argmax(axis)).mean()) * count
            elif kind == "labels":
                alike[output] += float(((got > 0) == (expected > 0)).all(axis).mean()) * count
        total += count
    report.max_logit_difference = max(far.values())
    for output, kind in targets.items():
        if kind == "numbers":
            which = f"those of {output}" if output else "outputs"
            report.notes.append(f"{which} are numbers, which differ by at most {far[output]:.3g}")
    shares = {name: alike[name] / total for name, kind in targets.items() if kind != "numbers"}
    report.agreement = min(shares.values(), default=None)
    if program.spec.outputs:
        report.outputs = {n: {"agreement": shares.get(n), "max_logit_difference": far[n]} for n in targets}


__all__ = ["Measured", "Pixels", "compile"]
