"""The steps that every network goes through, each held to a reference of its own."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import reference
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from zoo import Case

import bitspike
from bitspike.cost import cost
from bitspike.lower import compare
from bitspike.neurons import LIF, MultiBit, Signed

T = 3
NEURON = LIF(threshold=0.5, decay=0.5, reset="soft", surrogate="rectangle")
STEPS = ("upgrade", "gradients", "fold", "cost", "stream", "compile", "train", "convert", "compile ann")
WIDE = {"input_bits": 16, "weight_bits": 16, "spike_bits": 16}


@dataclass(frozen=True)
class Outcome:
    """`kind`: "ok", "refused", "different", "crash" or "-" (not run, because of what came before)."""

    kind: str
    detail: str = ""


class DifferenceError(Exception):
    """The result is not that of the reference."""


def measure(case: Case, seed: int = 0) -> dict[str, Outcome]:
    """Every step of one network → its outcome."""
    torch.manual_seed(seed)
    model, x = randomised(case.build()).double(), case.sample(6)
    x = x.double() if x.is_floating_point() else x
    found = dict.fromkeys(STEPS, Outcome("-"))
    net: Any = None
    snn: Any = None

    def upgrade() -> str:
        nonlocal net
        net = bitspike.upgrade(model, dict.fromkeys(case.activations, NEURON), x, T=T)
        net.eval()
        with torch.no_grad():
            wanted = reference.run(model, x, NEURON, case.activations, T)
            mapped = {kind.__name__ for kind in case.activations}
            kept = [name for name, kind in net.report.left_alone.items() if kind in mapped]
            if kept:
                return f"activations that stay, as the report says: {', '.join(kept)}"
            return f"{difference(net(x), wanted):.0e}"

    def gradients() -> str:
        ours, theirs = sizes(net, net(x)), sizes(model, reference.run(model, x, NEURON, case.activations, T))
        missing = [size for size in theirs if not any(abs(size - other) <= 1e-7 * (1 + size) for other in ours)]
        if missing or abs(sum(ours) - sum(theirs)) > 1e-7 * (1 + sum(theirs)):
            raise DifferenceError(f"gradient sizes {short(ours)}, reference {short(theirs)}")
        return f"{len(theirs)} parameters"

    def fold() -> str:
        with torch.no_grad():
            folded = bitspike.fold(net, x)
            return f"{difference(folded(x), net(x), 1e-9):.0e}"

    def count() -> str:
        counted = cost(net, x)
        wanted = reference.products(model, x, NEURON, case.activations, T)
        rows = [row for row in counted.layers if row.kind == "synapse"]
        macs, real = sum(row.macs * row.T for row in rows), sum(row.multiplications for row in rows)
        named = f"; named uncounted: {', '.join(counted.uncounted)}" if counted.uncounted else ""
        text = f"{macs:,.0f} macs, {real:,.0f} multiplications"
        wanted_text = f"reference {wanted.macs / len(x):,.0f}, {wanted.real / len(x):,.0f}"
        off = abs(macs - wanted.macs / len(x)) > 0.5, abs(real - wanted.real / len(x)) > 1e-6 * wanted.macs
        if any(off) and not named:
            raise DifferenceError(f"{text}; {wanted_text}")
        return text + (f"; {wanted_text}{named}" if any(off) else "")

    def stream() -> str:
        graph, sequence, states, parts = bitspike.trace(net), net.encoder(x), None, []
        with torch.no_grad():
            for chunk in (sequence[:1], sequence[1:]):
                out, states = bitspike.stream(graph, chunk, states)
                parts.append(out)
            return f"{difference(parts[-1], net(x), 1e-12):.0e}"

    def convert() -> str:
        nonlocal snn
        many = case.sample(64)
        many = many.double() if many.is_floating_point() else many
        neuron: Any = MultiBit(4, 4, decay=1.0)
        try:
            snn = bitspike.ann2snn(model, neuron, many, T=1)
        except ValueError as error:
            if "take Signed" not in str(error):
                raise
            neuron = Signed(255, decay=1.0)  # the remedy that the message names
            snn = bitspike.ann2snn(model, neuron, many, T=1)
        with torch.no_grad():
            ours, theirs = tree_leaves(snn(x)), tree_leaves(model(x))
        if snn.report is not None and snn.report.outside.startswith("LogSoftmax"):
            ours = [value.log_softmax(1) for value in ours]
        errors = [float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True)]
        if max(errors) > 0.1:
            raise DifferenceError(f"relative error {max(errors):.3f} with 8-bit spikes")
        return f"error {max(errors):.4f} ({type(neuron).__name__})"

    def lowered(network: Any) -> str:
        folded = bitspike.fold(network, x)
        program = bitspike.compile(folded, x, **WIDE)
        kept = compare(program, folded, [x])
        spikes = sum(layer.spikes for layer in kept.layers.values())
        off = kept.max_logit_difference_forced / max(kept.largest_logit, 1e-9)
        text = f"{kept.forced_flips} flips of {spikes} spikes, outputs off by {off:.0e} where spikes are given"
        if off > 5e-3 or kept.forced_flips > 0.05 * spikes:
            raise DifferenceError(text)
        return text

    later: dict[str, Callable[[], str]] = {
        "gradients": gradients,
        "fold": fold,
        "cost": count,
        "stream": stream,
        "compile": lambda: lowered(net),
        "train": lambda: train(net, x),  # the last one: it changes the network
    }
    found["upgrade"] = attempt(upgrade)
    if found["upgrade"].kind == "ok":
        found |= {name: attempt(step) for name, step in later.items() if name not in case.skips}
    found["convert"] = attempt(convert)
    if found["convert"].kind == "ok":
        found["compile ann"] = attempt(lambda: lowered(snn))
    return found


def attempt(step: Callable[[], str]) -> Outcome:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Outcome("ok", step())
    except DifferenceError as error:
        return Outcome("different", str(error))
    except Exception as error:
        text = " ".join(str(error).split())
        where = traceback.extract_tb(error.__traceback__)[-1]
        ours = isinstance(error, ValueError | TypeError) and re.match(r"[\w.\[\] ,'()]+: ", text)
        if ours and "/bitspike/" in where.filename:
            return Outcome("refused", text)
        return Outcome(
            "crash", f"{type(error).__name__}: {text[:200]} ({where.filename.split('/')[-1]}:{where.lineno})"
        )


def randomised(model: nn.Module) -> nn.Module:
    """Batch norms as training leaves them: positive and negative factors, statistics that are not 0 and 1."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.3, 1.5)  # type: ignore[union-attr]
                module.weight.uniform_(0.5, 2.0).mul_(torch.where(torch.rand_like(module.weight) < 0.1, -1, 1))
                module.bias.normal_(0.2, 0.3)
    return model.eval()


def train(net: nn.Module, x: Tensor) -> str:
    """Some steps of SGD: finite, and every parameter moves that a gradient reaches in the reference's sense."""
    net.train()
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(4):
        loss = sum((out**2).mean() for out in tree_leaves(net(x)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimiser.step()
    bad = [name for name, value in net.named_parameters() if not bool(value.isfinite().all())]
    if bad:
        raise DifferenceError(f"not finite after training: {', '.join(bad)}")
    moved = sum(not torch.equal(before[name], value) for name, value in net.named_parameters())
    return f"{moved} of {len(before)} parameters moved"


def difference(ours: Any, theirs: Any, bound: float = 1e-9) -> float:
    """Greatest relative difference; raises beyond the bound."""
    pairs = list(zip(tree_leaves(ours), tree_leaves(theirs), strict=True))
    for a, b in pairs:
        if a.shape != b.shape:
            raise DifferenceError(f"shape {list(a.shape)}, reference {list(b.shape)}")
    gap = max(float((a - b).abs().max() / (1 + b.abs().max())) for a, b in pairs)
    if not gap <= bound:
        raise DifferenceError(f"off by {gap:.1e}")
    return gap


def sizes(net: nn.Module, out: Any) -> list[float]:
    """Norms of the gradients of a fixed sum of all outputs, sorted; parameters without one are left out."""
    total = sum(
        (value * torch.linspace(-1, 1, value.numel(), dtype=value.dtype).view_as(value)).sum()
        for value in tree_leaves(out)
    )
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)  # type: ignore[arg-type]
    return sorted(float(g.norm()) for g in found if g is not None and float(g.norm()) > 1e-12)


def short(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in values) + "]"
