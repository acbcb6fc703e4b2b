"""Blocks of vision networks: a U-Net, a detector with three maps, gates; through every pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.layers import Product
from bitspike.lower import CompileReport
from bitspike.testing import check_program
from lower_nets import WIDE, on_grid
from networks import dyadic
from vision_nets import KINDS, Branches, Detector, Gated, Masked, Squared, UNet, Voting, spiking

ALL = [UNet, Detector, Gated, Voting, Masked, Squared, Branches]


def flat(y: Any) -> list[Tensor]:
    found: list[Tensor] = torch.utils._pytree.tree_leaves(y)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", ALL)
def test_all_passes_agree(made: type[nn.Module], kind: str) -> None:
    torch.manual_seed(0)
    net, x = spiking(made(), kind)
    whole, folded = flat(net(x)), bitspike.fold(net, x)
    assert folded.report.forced_flips == 0
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(flat(folded(x)), whole, strict=True))
    graph, sequence = bitspike.trace(net), net.encoder(x)
    _, states = bitspike.stream(graph, sequence[:1])
    streamed, _ = bitspike.stream(graph, sequence[1:], states)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(flat(streamed), whole, strict=True))
    counted, after = bitspike.cost(net, x), bitspike.cost(folded.graph, x)
    assert not counted.uncounted and not after.uncounted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", ALL)
def test_programs_are_exact_on_a_grid(made: type[nn.Module], kind: str) -> None:
    """Every spike and output of the network in float64, by the interpreter and by engine, in parts and streamed."""
    torch.manual_seed(0)
    net, x = spiking(made(), kind)
    x = dyadic(x.double())
    folded = bitspike.fold(on_grid(net, x), x)
    for name in folded.graph.outputs:
        part = folded.graph.only(name)
        program, found = check_program(part, x, activation_bits=16, **WIDE)
        assert all(0.02 < layer.fired / layer.spikes < 0.98 for layer in found.layers.values()), found.table()
        assert np.array_equal(program(x.numpy()).values, part.run(x).detach().numpy())
        report = CompileReport.of(program)
        assert found.agreement == report.agreement == 1 and found.samples == len(x)


def test_one_output_is_a_part_of_the_network() -> None:
    net, x = spiking(Detector(), "bits")
    folded = bitspike.fold(net, x)
    assert list(folded.graph.outputs) == ["fine", "rest.0", "rest.1"]
    everything = folded(x)
    wanted = {"fine": everything["fine"], "rest.0": everything["rest"][0], "rest.1": everything["rest"][1]}
    sizes = {}
    for name, value in wanted.items():
        part = folded.graph.only(name)
        assert torch.equal(part.run(x), value) and list(part.outputs) == [""]
        sizes[name] = len(part.of_kind("synapse"))
    assert sizes == {"fine": 2, "rest.0": 5, "rest.1": 5}
    assert bitspike.compile(folded, x).outputs == ("fine", "rest.0", "rest.1")
    with pytest.raises(ValueError, match=r"the output must be one of .*'rest\.0'.*, got 'coarse'"):
        folded.graph.only("coarse")


@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_is_counted_by_hand(kind: str) -> None:
    """Pairs of which neither is silent; every set bit of the sparser factor a shift-addition."""
    torch.manual_seed(0)
    net, x = spiking(Gated(), kind)
    graph, pairs = bitspike.trace(net), []

    def note(node: Any, call: Any, args: Any) -> Any:
        if isinstance(node.module, Product):
            pairs.append(args)
        return call()

    graph.run(x, handler=note)
    row = next(row for row in bitspike.cost(net, x).layers if row.kind == "product")
    ((s, gate),) = pairs
    assert row.macs == 4 * 8 * 8 and gate.shape == (3, 3, 4, 1, 1)
    both = float(((s != 0) & (gate != 0)).sum()) / 3
    assert both > 0
    if kind == "ternary":
        assert (row.adds, row.shift_adds, row.multiplications) == (pytest.approx(both), 0, 0)
    else:
        assert row.adds == row.multiplications == 0 and row.shift_adds >= both


def test_outputs_of_one_name_are_refused() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"a": (x + 1,), "a.0": x + 2}

    with pytest.raises(ValueError, match=r"each output must have a name of its own, got 'a\.0' twice"):
        _ = bitspike.trace(Twice()).outputs
