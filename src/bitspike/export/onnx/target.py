"""The integer program as an ONNX graph that no runtime can round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bitspike.checks import message
from bitspike.export.onnx.forms import Out, changes, outs_of, straight
from bitspike.export.onnx.loop import Loop
from bitspike.export.onnx.numbers import LIMIT
from bitspike.export.target import TARGETS, Exported, Reads, Source, Target
from bitspike.files import write_bytes_atomic
from bitspike.runtime import Program
from bitspike.runtime.echoes import no_echoes

FORMS = ("unrolled", "scan", "step")
_MOST = 2**23


@TARGETS.register("onnx")
class Onnx(Target):
    """Integers as float32 tensors that hold nothing but integers of 24 bits: see `bitspike.export.onnx.numbers`."""

    reads: ClassVar[Reads] = "program"
    about = "the integer program as an ONNX graph: a step with its state, or the whole window"
    suffix = ".onnx"
    options: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "form": ("unrolled", "unrolled or scan: the whole window; step: one step, with states in and out"),
        "int64": (False, "numbers beyond 32 bits come out as one int64, which OpenVINO computes in 32, not as digits"),
    }

    def losses(self, source: Source, options: Mapping[str, Any]) -> list[str]:
        program, form = _program(source), options["form"]
        if form not in FORMS:
            return [f"form {form!r}: choose one of {', '.join(FORMS)}"]
        found = no_echoes("and a graph runs forward: take --to c or wasm", program.operations)
        for made in program.operations:
            if form == "scan" and made.rates:
                found.append(f"{made.where} changes the number of steps, and a loop has one: take form=unrolled")
            if "weight" in made.constants and made.constants["weight"][0].size > _MOST:
                found.append(f"{made.where} adds up more than 2^23 products: split the layer")
            if made.op.kind == "sumpool" and _taps(made.attributes["kernel"]) > _MOST:
                found.append(f"{made.where} adds up more than 2^23 numbers: pool twice")
            if made.op.kind == "lookup" and made.read[0].high - made.attributes["first"] > LIMIT:
                found.append(f"{made.where} has a table of more than 2^24 numbers: rescale the input to fewer")
        for name in program.spec.outputs:
            before, _, last = name.rpartition(".")
            if last.isdecimal() and before in program.spec.outputs:
                found.append(f"output {name}: the digits of output {before} would have its name; rename a key")
        if program.spec.input.value.dtype == "uint32":
            found.append("the input has numbers beyond int32: rescale it")
        return found

    def write(self, source: Source, path: Path, options: Mapping[str, Any]) -> Exported:
        program, form = _program(source), options["form"]
        written = (
            Loop(program, options["int64"]).written()
            if form == "scan"
            else straight(program, form == "step", options["int64"])
        )
        value, outs = program.spec.input.value, outs_of(program)
        told = {name: _told(out, form) for name, out in outs.items()}
        rest = {key: fact for key, fact in told.get("", {}).items() if key == "divide_by"}
        facts = {
            "form": form,
            **({"outputs": told} if program.spec.outputs else {k: told[""][k] for k in ("exponent", "classes")}),
            "input": {
                "low": value.low,
                "high": value.high,
                "exponent": value.exponent,
                "scale": program.spec.input.scale,
            },
        }
        facts |= rest
        data = written.nodes.file(written.graph, facts)
        write_bytes_atomic(path, data)
        kinds = written.types if program.spec.outputs else written.types[""]
        count = {"nodes": len(written.graph.node), "states": len(written.states), "output": kinds}
        return Exported((path,), _notes(program, form, written.types), {**facts, **count, "bytes": len(data)})


def _told(out: Out, form: str) -> dict[str, Any]:
    """What a reader of the file has to know of an output."""
    found: dict[str, Any] = {"exponent": out.value.exponent, "classes": list(out.classes)}
    if out.mean is not None:
        keep = out.mean.attributes["keep"]
        steps = sum(keep[min(t, len(keep) - 1)] for t in range(out.mean.read[0].steps))
        found["divide_by"] = list(keep) if form == "step" else steps
    return found


def _program(source: Source) -> Program:
    if source.program is None:
        raise TypeError(message("export to onnx", "the source must be a program", "none", "compile the network"))
    return source.program


def _taps(kernel: Any) -> int:
    count = 1
    for k in kernel:
        count *= int(k)
    return count


def _notes(program: Program, form: str, kinds: Mapping[str, str]) -> tuple[str, ...]:
    given = program.spec.input
    notes = [
        f"Input: integers {given.value.low}..{given.value.high}, which the graph does not check; "
        "Program.quantize makes them of real numbers.",
        "Exact wherever float32 is: in OpenVINO set INFERENCE_PRECISION_HINT to f32, its default may be bfloat16.",
        "Numbers are clamped as in the program, but not counted.",
    ]
    if form == "step":
        what = f"{given.value.steps} steps, a window," if changes(program) else "one step"
        notes.append(f"A call takes {what} and the states; all states are zeros at the start of a sample.")
    for name, kind in kinds.items():
        which, called = (f"The output {name}", f"output.{name}") if name else ("The output", "output")
        if kind == "float32":
            notes.append(
                f"{which} may be wider than 32 bits and comes in digits: "
                f"the sum of {called}.i times 2^(11 i), in int64."
            )
        if kind == "int64":
            notes.append(f"{which} has 64 bits: OpenVINO computes 32 and is wrong beyond; leave int64=true out there.")
    return tuple(notes)
