"""Tables name every optional hook of neurons and quantizers: they are compared with what the library looks up."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from torch import nn

import bitspike
from bitspike.ann2snn.rectifier import Rectifies
from bitspike.functional import Widths
from bitspike.neurons import NEURONS, Neuron
from bitspike.neurons.base import HOOKS as OF_NEURONS
from bitspike.quantizers import QUANTIZERS, LearnedBits, Quantizer
from bitspike.quantizers.base import HOOKS as OF_QUANTIZERS
from bitspike.registry import Registry
from bitspike.sealed import Sealed
from bitspike.testing.neuron import PARTS

ROOT = Path(inspect.getfile(bitspike)).parent
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Table:
    """What is known of one kind of module.

    Attributes:
        base, registry, protocols, hooks: where names come from. owners: classes with a signature of every method.
        required: parts that it must have. final: of the base, and nobody defines them anew; old: names of before.
        read: what files call such a module where they ask it for something. folder: of its variants.
        others: attributes of variants that are read from something else of such a name.
    """

    base: type[nn.Module]
    registry: Registry[Any]
    protocols: tuple[type, ...]
    owners: tuple[type, ...]
    hooks: tuple[str, ...]
    required: frozenset[str]
    final: frozenset[str]
    read: frozenset[str]
    folder: str
    others: frozenset[str] = frozenset()


TABLES = {
    "a neuron": Table(
        Neuron,
        NEURONS,
        (Widths, Rectifies),
        (Neuron, Widths, Rectifies, NEURONS["real"], NEURONS["adaptive"]),
        OF_NEURONS,
        frozenset({*PARTS, "initial_state", "step"} - {"constants"}),
        frozenset({"forward", "replicate", "normalised", "record_spikes", "extra_repr", "features_last"})
        | {"unit_like", "announce", "takes_back"},
        frozenset({"neuron", "module", "part", "own", "twin", "made"}),
        "neurons",
        frozenset({"steps"}),  # of read-outs
    ),
    "a quantizer": Table(
        Quantizer,
        QUANTIZERS,
        (Widths,),
        (Quantizer, Widths, LearnedBits),
        OF_QUANTIZERS,
        frozenset({"format", "initialise", "to_int", "forward"}),
        frozenset({"bits", "replicate", "extra_repr"}),
        frozenset({"quantizer", "q", "part", "own"}),
        "quantizers",
        frozenset({"top", "factor"}),  # of parts of data sets, and of a lowered value
    ),
}
both = pytest.mark.parametrize("kind", list(TABLES))


def own_names(kind: type) -> set[str]:
    """Public names that a class of the library adds to those of a module."""
    found = {name for base in kind.__mro__ if base.__module__.startswith("bitspike.") for name in vars(base)}
    return {name for name in found if not name.startswith("_")} - set(dir(nn.Module()))


def names_of_a_protocol(kind: type) -> set[str]:
    return {name for name in {*get_type_hints(kind), *vars(kind)} if not name.startswith("_")}


def looked_up(table: Table) -> set[str]:
    """Every name that files other than those of variants read from what they call such a module."""
    found = set()
    base = ROOT / table.folder / "base.py"
    for path in ROOT.rglob("*.py"):
        if path.parent == base.parent and path != base:
            continue
        read = table.read | ({"self"} if path == base else set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and last(node.value) in read:
                found.add(node.attr)
            asks = isinstance(node, ast.Call) and last(node.func) in ("getattr", "hasattr")
            if asks and last(node.args[0]) in read and isinstance(node.args[1], ast.Constant):
                found.add(str(node.args[1].value))
    return found


def last(value: ast.expr) -> str:
    """The last name of an expression such as `trial.neuron`."""
    return ast.unparse(value).rsplit(".", 1)[-1]


@both
def test_the_table_has_every_hook_in_order(kind: str) -> None:
    table = TABLES[kind]
    section = PAGE.split(f"\n### What {kind} may add\n", 1)[1]
    lines = section.split("\n| hook | ", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    hooks = [row[0].strip("`") for row in cells]
    assert [hook.split("(")[0] for hook in hooks] == list(table.hooks)
    assert all(len(row) == 3 and all(row) for row in cells)
    for hook in (hook for hook in hooks if "(" in hook):
        name = hook.split("(")[0]
        owner = next(owner for owner in table.owners if hasattr(owner, name))
        given = list(inspect.signature(getattr(owner, name)).parameters)[1:]
        assert hook == f"{name}({', '.join(given)})"


@both
def test_what_the_base_leaves_open_is_a_part_or_a_hook(kind: str) -> None:
    table = TABLES[kind]
    declared = {name for name in set(get_type_hints(table.base)) - set(get_type_hints(nn.Module)) if name[0] != "_"}
    names = (own_names(table.base) | declared) - own_names(Sealed)
    assert names <= table.required | table.final | set(table.hooks)
    assert issubclass(table.base, Sealed) and own_names(Sealed) <= set(re.findall(r"`(\w+)`", PAGE))


@both
def test_protocols_are_hooks(kind: str) -> None:
    table = TABLES[kind]
    assert set().union(*map(names_of_a_protocol, table.protocols)) - table.required <= set(table.hooks)


@both
def test_what_is_looked_up_on_some_variant_alone_is_a_hook(kind: str) -> None:
    table, names = TABLES[kind], set()
    for _, variant in table.registry.items():
        made = variant()
        held = {*vars(made), *made._buffers, *made._parameters, *made._modules} - set(vars(nn.Module()))
        names |= own_names(variant) | {name for name in held if not name.startswith("_")}
    assert (names & looked_up(table)) - table.required - table.final - set(table.hooks) == table.others


@both
def test_every_hook_is_looked_up(kind: str) -> None:
    assert set(TABLES[kind].hooks) <= looked_up(TABLES[kind])
