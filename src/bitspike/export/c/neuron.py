"""One step of a neuron."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.runtime.arithmetic import half
from bitspike.runtime.limits import INT32

from .names import literal
from .scalars import saturated, shifted
from .schedule import Task
from .writing import Function


def fire(f: Function, task: Task, made: Any) -> None:
    """Charge, fire, reset, emit, as the interpreter's `Fire` says."""
    at, (name, *more) = made.attributes, made.op.outputs
    number = f.unit.numbers[name]
    v, u, k, fired = f"{f.state(f'{made.op.name}.v')}[i]", f"u{number}", f"q{number}", f"a{number}"
    if made.op.name not in f.unit.fires:
        f.unit.fires.append(made.op.name)
    _charge(f, task, made, v, u)
    _level(f, made, u, k, fired)
    if at["cancel"]:
        sent = f"{f.state(f'{made.op.name}.sent')}[i]"
        f.body.append(f"if ({k} < -(int64_t){sent}) {k} = (int32_t)(-(int64_t){sent});")
        saturated(f, task, f"e{number}", f"(int64_t){sent} + {k}", *INT32)
        f.body += [f"{sent} = e{number};"]
    if at["reset"] == "hard":
        condition = f"{k} != 0" if made.tables["gate"] is None else fired
        f.body.append(f"{v} = {condition} ? 0 : {u};")
    else:
        charge = f.constant(made.tables["charge"])
        top, most = max(at["count"]), int(made.tables["charge"].max())
        if not at["cancel"] and top * most <= INT32[1]:  # from u towards 0, and not far beyond
            f.body.append(f"{v} = {u} - {k} * {charge};")
        else:
            saturated(f, task, f"z{number}", f"(int64_t){u} - (int64_t){k} * {charge}", *INT32)
            f.body.append(f"{v} = z{number};")
    up, down = at["up"], at["down"]
    sent_out = k if up == down == 1 else f"{k} * {up}"
    if up != down:
        sent_out = f"{k} >= 0 ? {k} * {up} : {k} * {down}"
    f.result(name, sent_out)
    if more:
        f.result(more[0], u)


def _charge(f: Function, task: Task, made: Any, v: str, u: str) -> None:
    multiplier, shift = made.attributes["decay"]
    left = f"(int64_t){v}"
    if multiplier == 0:
        left = "(int64_t)0"
    elif multiplier != 1 << shift:
        product = left if multiplier == 1 else f"{left} * {multiplier}"
        left = shifted(f"{product} + {literal(half(shift))}", shift, INT32[0] * multiplier + half(shift))
    saturated(f, task, u, f"{left} + {f.load(task.reads[0])}", *INT32)
    if made.tables["floor"] is not None:
        floor = f.constant(made.tables["floor"])
        f.body.append(f"if ({u} < {floor}) {u} = {floor};")


def _level(f: Function, made: Any, u: str, k: str, fired: str) -> None:
    at, count = made.attributes, made.attributes["count"]
    least = f.constant(made.tables["first"], unsigned=True)
    if at["signed"]:
        n = f"m{k[1:]}"
        f.body.append(f"uint32_t {n} = {u} < 0 ? 0u - (uint32_t){u} : (uint32_t){u};")
        reached = f"{n} >= {least}"
    else:
        n, reached = f"(uint32_t){u}", f"{u} >= {_signed(least)}"
    if max(count) == 1:
        f.body.append(f"int32_t {k} = {reached};")
    else:
        top = f.constant(np.array(count).reshape(-1, 1), unsigned=True)
        f.body += [
            f"int32_t {k} = 0;",
            f"if ({reached}) {{",
            f"uint32_t l{k} = ({n} - {least}) / {f.constant(made.tables['spacing'], unsigned=True)} + 1u;",
            f"{k} = l{k} < {top} ? (int32_t)l{k} : {_signed(top)};",
            "}",
        ]
    if made.tables["gate"] is not None:
        f.body += [f"int {fired} = {u} >= {f.constant(made.tables['gate'])};", f"if (!{fired}) {k} = 0;"]
    if at["signed"]:
        f.body.append(f"if ({u} < 0) {k} = -{k};")


def _signed(expression: str) -> str:
    """A constant of type uint32_t as an int32_t."""
    return expression[:-1] if expression.endswith("u") else f"(int32_t){expression}"
