"""The header: what a program that includes it sees."""

from __future__ import annotations

from .names import ctype, literal, string
from .outputs import defines as named
from .outputs import prototypes, sent_of, struct
from .schedule import most_rows
from .writing import Unit


def header(unit: Unit, fields: list[str]) -> str:
    """Sizes, types, functions and names."""
    p, m, program = unit.prefix, unit.prefix.upper(), unit.program
    spec = program.spec
    given = spec.input
    sizes = {
        "INPUT_SIZE": (given.value.size, "numbers of one step: " + " x ".join(map(str, given.value.shape))),
        "INPUT_LOW": (given.value.low, "least number of the input"),
        "INPUT_HIGH": (given.value.high, "greatest number of the input"),
        "INPUT_STEPS": (1 if given.repeat else given.value.steps, f"steps that {p}_run reads"),
        "STEPS": (given.value.steps, "steps of a sample"),
        **({} if spec.outputs else _one_output(unit)),
        "OPERATIONS": (len(unit.clamps), "operations that may clamp, and count it"),
        "OBSERVED_COUNT": (len(unit.fires), "operations that send spikes"),
    }
    defines = [f"#define {m}_{name} {_bracketed(k)} /* {text} */" for name, (k, text) in sizes.items()]
    defines += [
        _list(f"{m}_OPERATION_NAMES", [string(name) for name in unit.clamps], "initialiser of an array of strings"),
        _list(f"{m}_OBSERVED_NAMES", [string(name) for name in unit.fires], "initialiser of an array of strings"),
        _list(
            f"{m}_OBSERVED_SIZES", [str(unit.values[_sent(unit, name)].size) for name in unit.fires], "numbers of each"
        ),
    ]
    sent = sent_of(program, unit.found)
    if spec.outputs:
        defines += named(p, sent)
    else:
        defines.append(_list(f"{m}_CLASSES", [string(name) for name in spec.classes], "names of the outputs, or none"))
    output = struct(p, sent) if spec.outputs else f"typedef {sent[0].type} {p}_output;"
    final = sent[0].mean is not None
    calls = prototypes(p, sent) if spec.outputs else _one_prototypes(p, final)
    quantizes = (
        ""
        if given.scale is None
        else f"""
#ifndef {m}_NO_FLOAT
/* Real numbers of one step, {m}_INPUT_SIZE of them, to the input's integers. Returns 0; -1 where one is not finite. */
int {p}_quantize(const float *x, {p}_input *q);
#endif
"""
    )
    inner = "\n".join(f"    {line}" for line in fields)
    return f"""/* {p}: a spiking network of integers, written by bitspike. C99; no allocation, no state of its own.

   A stream: {p}_reset once, then {p}_step for every step. A sample: {p}_run.
   Where the macro {m}_OBSERVE(index, pointer, count, bytes, is_signed) is defined when {p}.c is compiled, it is
   called with the levels that an operation sends, at every step.
*/
#ifndef {m}_H
#define {m}_H

#include <stdint.h>

{chr(10).join(defines)}

typedef {ctype(given.value.dtype)} {p}_input;
{output}

/* Everything that a network remembers; as many as there are streams. Its members are no part of the interface. */
typedef struct {p}_context {{
{inner}
}} {p}_context;
#define {m}_CONTEXT_BYTES sizeof({p}_context)

#ifdef __cplusplus
extern "C" {{
#endif

/* Start afresh. */
void {p}_reset({p}_context *c);

{calls}

/* Numbers that an operation has clamped since the reset, by its place in {m}_OPERATION_NAMES. */
uint64_t {p}_clamped(const {p}_context *c, int operation);
{quantizes}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _one_output(unit: Unit) -> dict[str, tuple[int, str]]:
    """Sizes of the output, where it has no name."""
    p, spec = unit.prefix, unit.program.spec
    (sent,) = sent_of(unit.program, unit.found)
    output = sent.value
    return {
        "OUTPUT_SIZE": (output.size, "numbers of one row of the output: " + " x ".join(map(str, output.shape))),
        "OUTPUT_STEPS": (sent.rows, f"rows that {p}_run writes"),
        "MAX_OUTPUTS": (most_rows(unit.found, unit.program, spec.output), f"rows that one {p}_step writes at most"),
        "EXPONENT": (output.exponent or 0, f"an output q means q / {p}_steps(c) * 2^-exponent"),
    }


def _one_prototypes(p: str, final: bool) -> str:
    """The functions that write the output, where it has no name."""
    m, note = p.upper(), _row_note(final)
    rows = f"{m}_MAX_OUTPUTS rows at most"
    return f"""/* One step of a live stream. Writes y, {rows}, and returns how many it wrote{note} */
int {p}_step({p}_context *c, const {p}_input *x, {p}_output *y);

/* A whole sample from a fresh state: {m}_INPUT_STEPS steps in, {m}_OUTPUT_STEPS rows out. Counters start at 0, too. */
void {p}_run({p}_context *c, const {p}_input *x, {p}_output *y);

/* What outputs are to be divided by for a mean; 1 where they are none. */
uint32_t {p}_steps(const {p}_context *c);"""


def _bracketed(k: int) -> str:
    return literal(k) if k >= 0 else f"({literal(k)})"


def _row_note(final: bool) -> str:
    if not final:
        return "."
    return ":\n   1, the sum of all steps so far; or -1, and nothing happens, after 2^31 - 1 steps."


def _sent(unit: Unit, name: str) -> str:
    made = next(made for made in unit.program.operations if made.op.name == name)
    return made.op.outputs[0]


def _list(name: str, items: list[str], what: str) -> str:
    return f"#define {name} {{ {', '.join(items)} }} /* {what} */" if items else f"/* {name}: none */"
