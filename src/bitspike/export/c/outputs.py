"""Outputs with names in C: an array of its own for each, their rows, what they are to be divided by."""

from __future__ import annotations

from dataclasses import dataclass

from bitspike.runtime import Program
from bitspike.runtime.ops import Operation
from bitspike.runtime.spec import Value

from .names import comment, string
from .schedule import Schedule, most_rows


@dataclass(frozen=True)
class Sent:
    """An output.

    Attributes:
        number: its place. name: its name. value: what is known of it. classes: names, or none.
        mean: the read-out that makes it, if one does, and counter: the place of the first output that it makes.
        most: rows that a step of a stream brings at most.
    """

    number: int
    name: str
    value: Value
    classes: tuple[str, ...]
    mean: Operation | None
    counter: int
    most: int

    @property
    def rows(self) -> int:
        """Rows of a whole run."""
        return 1 if self.mean is not None else self.value.steps

    @property
    def wide(self) -> bool:
        """Whether its numbers need 64 bits."""
        return self.value.dtype.itemsize == 8

    @property
    def type(self) -> str:
        """Of its numbers."""
        return "int64_t" if self.wide else "int32_t"


def sent_of(program: Program, found: Schedule) -> list[Sent]:
    """All outputs, in order."""
    means = {made.op.outputs[0]: made for made in program.operations if made.final}
    names = program.spec.sent_values
    rows = []
    for number, (name, each) in enumerate(program.spec.sent.items()):
        mean, most = means.get(each.value), most_rows(found, program, each.value)
        value = program.spec.values[each.value]
        rows.append(Sent(number, name, value, each.classes, mean, names.index(each.value), most))
    return rows


def defines(prefix: str, sent: list[Sent]) -> list[str]:
    """Macros of the header: how many there are, their names, and of each its sizes and classes."""
    m = prefix.upper()
    names = ", ".join(string(each.name) for each in sent)
    lines = [
        f"#define {m}_OUTPUTS {len(sent)}u /* outputs */",
        f"#define {m}_OUTPUT_NAMES {{ {names} }} /* initialiser of an array of strings */",
    ]
    for each in sent:
        own, shape = f"{m}_OUTPUT{each.number}", " x ".join(map(str, each.value.shape))
        e = each.value.exponent or 0
        lines += [
            f"#define {own}_SIZE {each.value.size}u /* {comment(each.name)}: numbers of one row: {shape} */",
            f"#define {own}_STEPS {each.rows}u /* rows that {prefix}_run writes */",
            f"#define {own}_MAX_ROWS {each.most}u /* rows that one {prefix}_step writes at most */",
            f"#define {own}_EXPONENT {e if e >= 0 else f'({e})'} "
            f"/* q means q / {prefix}_steps(c, {each.number}) * 2^-exponent */",
        ]
        if each.classes:
            classes = ", ".join(map(string, each.classes))
            lines.append(f"#define {own}_CLASSES {{ {classes} }} /* names of its numbers */")
    return lines


def struct(prefix: str, sent: list[Sent]) -> str:
    """The type that a caller fills with arrays."""
    m = prefix.upper()
    arrays = "\n".join(
        f"    {each.type} *y{each.number}; /* {comment(each.name)}: {m}_OUTPUT{each.number}_SIZE numbers a row */"
        for each in sent
    )
    return f"""/* Where outputs are written, each into an array of its caller's, and how many rows of each were. */
typedef struct {prefix}_outputs {{
{arrays}
    int32_t rows[{len(sent)}];
}} {prefix}_outputs;"""


def prototypes(prefix: str, sent: list[Sent]) -> str:
    """What a header says of the functions that write outputs."""
    p, m = prefix, prefix.upper()
    failing = any(each.mean is not None for each in sent)
    often = "returns 0; or -1, and nothing happens, after 2^31 - 1 steps" if failing else "returns 0"
    return f"""/* One step of a live stream. Writes rows of every output, {m}_OUTPUT<k>_MAX_ROWS at most, of one behind
   a mean read-out the sum of all steps so far, and says in y->rows how many; {often}. */
int {p}_step({p}_context *c, const {p}_input *x, {p}_outputs *y);

/* A whole sample from a fresh state: {m}_INPUT_STEPS steps in, {m}_OUTPUT<k>_STEPS rows out.
   Counters start at 0, too. */
void {p}_run({p}_context *c, const {p}_input *x, {p}_outputs *y);

/* What an output, by its place, is to be divided by for a mean; 1 where it is none. */
uint32_t {p}_steps(const {p}_context *c, int output);"""


def functions(
    prefix: str, sent: list[Sent], limits: list[str], totals: dict[int, str], held: bool, repeat: bool
) -> list[str]:
    """P_step, P_run and P_steps.

    Args:
        limits: lines of P_step that refuse too many steps. totals: output behind a mean → (array of sums, its size).
        held: whether a whole run of a repeated input is told so. repeat: whether it is repeated.
    """
    p, m = prefix, prefix.upper()
    plain = [each for each in sent if each.mean is None]
    lines = [f"int {p}_step({p}_context *c, const {p}_input *x, {p}_outputs *y)", "{", *limits]
    lines += ["    memset(c->rows, 0, sizeof c->rows);"] if plain else []
    lines.append(f"    {p}_advance(c, x, y);")
    for each in sent:
        if each.mean is None:
            lines.append(f"    y->rows[{each.number}] = (int32_t)c->rows[{each.number}];")
            continue
        cast = "" if each.wide else "(int32_t)"
        loop = f"for (uint32_t i = 0; i < {each.value.size}u; i++)"
        lines.append(f"    {loop} y->y{each.number}[i] = {cast}{totals[each.number]}[i];")
        lines.append(f"    y->rows[{each.number}] = 1;")
    lines += ["    return 0;", "}", "", f"void {p}_run({p}_context *c, const {p}_input *x, {p}_outputs *y)", "{"]
    lines += [f"    {p}_outputs at = *y;", f"    {p}_reset(c);", "    memset(y->rows, 0, sizeof y->rows);"]
    lines += ["    c->held = 1;"] if held else []
    lines += [f"    for (int t = 0; t < {m}_STEPS; t++) {{", f"        (void){p}_step(c, x, &at);"]
    for each in plain:
        k = each.number
        lines.append(f"        at.y{k} += (uint32_t)at.rows[{k}] * {m}_OUTPUT{k}_SIZE;")
        lines.append(f"        y->rows[{k}] += at.rows[{k}];")
    lines += [] if repeat else [f"        x += {m}_INPUT_SIZE;"]
    lines += ["    }", *(["    c->held = 0;"] if held else [])]
    lines += [f"    y->rows[{each.number}] = 1;" for each in sent if each.mean is not None]
    lines += ["}", "", f"uint32_t {p}_steps(const {p}_context *c, int output)", "{", "    (void)c;"]
    lines += ["    switch (output) {"]
    for each in sent:
        if each.mean is not None:
            counted = f"c->counted[{each.counter}]"
            lines.append(f"    case {each.number}: return {counted} ? {counted} : 1u;")
    return [*lines, "    default: return 1u;", "    }", "}", ""]
