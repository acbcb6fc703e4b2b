"""Targets of one output name those that a source has, and the way out: the part for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bitspike
from bitspike.export import export
from bitspike.layers import Linear, Repeat, StepReadout
from bitspike.neurons import LIF
from bitspike.runtime import INPUT, Builder, Input, Program, Value


def places(names: tuple[str, ...]) -> Program:
    """A program of one step, whose sums come out under each name."""
    b = Builder(Input(Value((2,), -8, 7)))
    weight = b.constant(np.array([[1, -1], [2, 1]]))
    return b.finish({name: b.add("linear", [INPUT], tensors={"weight": weight}, name=f"sum {name}") for name in names})


class Both(nn.Module):
    """Two heads on spikes, as a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.body, self.neuron = Repeat(2), Linear(4, 5), LIF(reset="hard")
        self.kind, self.where, self.readout = Linear(5, 3), Linear(5, 2), StepReadout()

    def forward(self, x: torch.Tensor) -> Any:
        s = self.neuron(self.body(self.encoder(x)))
        return {"kind": self.readout(self.kind(s)), "where": self.readout(self.where(s))}


@pytest.mark.parametrize(("to", "suffix"), [("qonnx", ".onnx"), ("page", ".html")])
def test_programs_of_several_outputs_are_refused(to: str, suffix: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"outputs map, kind: .*compile graph\.only\(name\), or take --to"):
        export(places(("map", "kind")), to, tmp_path / f"m{suffix}")
    assert not list(tmp_path.iterdir())


def test_one_output_with_a_name_is_no_loss(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="not run: onnx is not installed")
    found = export(places(("map",)), "qonnx", tmp_path / "m.onnx")
    assert found.facts is not None and found.facts["exponent"] == 0


@pytest.mark.parametrize(("to", "suffix", "package"), [("nir", ".nir", "nir"), ("onnx-float", ".onnx", "onnx")])
def test_networks_of_several_outputs_are_refused(to: str, suffix: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package, reason=f"not run: {package} is not installed")
    torch.manual_seed(0)
    folded = bitspike.fold(Both().eval(), torch.rand(4, 4))
    with pytest.raises(ValueError, match=r"graph\.only\(name\).* kind, where"):
        export(folded, to, tmp_path / f"m{suffix}", shape="4")
    assert export(folded.graph.only("kind"), to, tmp_path / f"m{suffix}", shape="4").files
