"""Values of the step before: what they must agree with, and which operations run step by step because of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .ops import OPERATIONS, Operation
from .spec import INPUT, Op, Value


@dataclass(frozen=True)
class Part:
    """Operations, by their place in the program, that run one after the other; ``loops``: for one step at a time."""

    operations: tuple[int, ...]
    loops: bool = False


def echoes_of(operations: Sequence[Operation]) -> dict[int, str]:
    """Place of every echo → the value that it holds back."""
    return {i: made.attributes["of"] for i, made in enumerate(operations) if made.op.kind == "echo"}


def check_echoes(operations: Sequence[Operation], known: Mapping[str, Value]) -> None:
    """Raise `ProgramError` unless each echo is what it says, and has a step whenever the program's input has one."""
    found = echoes_of(operations)
    if not found:
        return
    own = in_step(made.op for made in operations)
    for place, name in found.items():
        made = operations[place]
        if name not in known:
            raise made.bad("of must name a value that is written", repr(name), "correct it")
        if known[name] != made.written[0]:
            raise made.bad(f"it must be declared as what it echoes, {known[name]}", made.written[0], "correct it")
        for what in (made.op.inputs[0], name):
            if what not in own:
                must = "its input and what it echoes must have the steps of the program's input"
                raise made.bad(must, f"{what}, behind windows", "leave windows out before it")


def in_step(rows: Iterable[Op]) -> set[str]:
    """Values that get one step with every step of the input."""
    found = {INPUT}
    for op in rows:
        kind = OPERATIONS[op.kind]
        if not kind.rates and not kind.final and found.issuperset(op.inputs):
            found.update(op.outputs)
    return found


def parts_of(operations: tuple[Operation, ...]) -> tuple[Part, ...]:
    """The order in which to run whole chunks: what feeds itself through echoes is one part."""
    echoes = echoes_of(operations)
    if not echoes:
        return tuple(Part((i,)) for i in range(len(operations)))
    writer = {name: i for i, made in enumerate(operations) for name in made.op.outputs}
    before = [[writer[name] for name in made.op.inputs if name in writer] for made in operations]
    for place, name in echoes.items():
        before[place] = [*before[place], *([writer[name]] if name in writer else [])]
    owner = _components(before)
    members: dict[int, list[int]] = {}
    for i, own in enumerate(owner):
        members.setdefault(own, []).append(i)
    needs = {own: {owner[j] for i in rows for j in before[i]} - {own} for own, rows in members.items()}
    readers: dict[int, list[int]] = {}
    for own, others in needs.items():
        for other in others:
            readers.setdefault(other, []).append(own)
    open_ = {own: len(others) for own, others in needs.items()}
    ready = [(members[own][0], own) for own, count in open_.items() if not count]
    heapq.heapify(ready)
    done: list[Part] = []
    while ready:
        _, own = heapq.heappop(ready)
        rows = tuple(members[own])
        done.append(Part(rows, len(rows) > 1 or rows[0] in before[rows[0]]))
        for reader in readers.get(own, ()):
            open_[reader] -= 1
            if not open_[reader]:
                heapq.heappush(ready, (members[reader][0], reader))
    return tuple(done)


def _components(before: Sequence[Sequence[int]]) -> list[int]:
    """Node → number of its strongly connected component (Tarjan's algorithm, without recursion)."""
    count = len(before)
    index, low, owner = [-1] * count, [0] * count, [-1] * count
    stack: list[int] = []
    number = found = 0
    for root in range(count):
        if index[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            node, at = work.pop()
            if at == 0:
                index[node] = low[node] = number
                number += 1
                stack.append(node)
            else:
                low[node] = min(low[node], low[before[node][at - 1]])
            for at in range(at, len(before[node])):  # noqa: B020 (goes on where it stopped)
                other = before[node][at]
                if index[other] < 0:
                    work += [(node, at + 1), (other, 0)]
                    break
                if owner[other] < 0:
                    low[node] = min(low[node], index[other])
            else:
                if low[node] == index[node]:
                    while True:
                        top = stack.pop()
                        owner[top] = found
                        if top == node:
                            break
                    found += 1
    return owner


def no_echoes(where: str, operations: Sequence[Operation]) -> list[str]:
    """For a target that runs forward only: what it cannot say, each by its place."""
    return [f"echo {operations[i].op.name}: spikes come back a step later, {where}" for i in echoes_of(operations)]


__all__ = ["Part", "check_echoes", "echoes_of", "in_step", "no_echoes", "parts_of"]
