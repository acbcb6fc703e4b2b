"""Networks that return several maps: one program of all, each with its shape and unit, held against the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.cli import main
from bitspike.files import read_json
from bitspike.graph.outputs import by_name
from bitspike.layers import Conv2d, Flatten, Linear, MeanReadout, Repeat
from bitspike.lower import CompileReport, compare, outputs
from bitspike.neurons import LIF, MultiBit
from bitspike.runtime import Program, load, save
from bitspike.testing import check_program
from lower_nets import WIDE, on_grid
from networks import dyadic
from vision_nets import KINDS, Detector, TwoHeads, spiking

NAMES = {"Detector": ("fine", "rest.0", "rest.1"), "TwoHeads": ("0", "1")}


def on_the_grid(made: type[nn.Module], kind: str) -> tuple[Any, Tensor]:
    net, x = spiking(made(), kind)
    x = dyadic(x.double())
    return bitspike.fold(on_grid(net.double(), x), x), x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", [Detector, TwoHeads])
def test_a_program_of_all_outputs_is_exact_on_a_dyadic_network(made: type[nn.Module], kind: str) -> None:
    folded, x = on_the_grid(made, kind)
    program, found = check_program(folded, x, exact=True, activation_bits=16, **WIDE)
    assert program.outputs == tuple(found.outputs) == NAMES[made.__name__]
    assert all(each.largest_logit > 0 and each.agreement == 1.0 for each in found.outputs.values())
    shapes = {name: each.levels.shape[1:] for name, each in program(x.numpy()).items()}
    assert shapes == {name: tuple(y.shape[1:]) for name, y in by_name(folded(x)).items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", [Detector, TwoHeads])
def test_each_output_lies_within_a_level_of_the_network(made: type[nn.Module], kind: str) -> None:
    """With the network's spikes forced: a level is what its activations are quantised to, a 2^-12 of the greatest."""
    net, x = spiking(made(), kind)
    folded = bitspike.fold(net, x)
    program = bitspike.compile(folded, x, activation_bits=16, **WIDE)
    found = compare(program, folded, [x])
    for each in found.outputs.values():
        assert 0 <= each.max_logit_difference_forced <= each.largest_logit * 2.0**-12
    assert found.max_logit_difference_forced == max(e.max_logit_difference_forced for e in found.outputs.values())
    ran = outputs(program, folded, [x])
    assert (
        ran.different == 0
        and tuple(ran.outputs) == program.outputs
        and set(ran.as_dict()["outputs"]) == set(ran.outputs)
    )


@pytest.mark.parametrize("made", [Detector, TwoHeads])
def test_an_output_is_that_of_the_part_for_it_alone(made: type[nn.Module]) -> None:
    folded, x = on_the_grid(made, "bits")
    whole = bitspike.compile(folded, x, activation_bits=16, **WIDE)
    for name, result in whole(x.numpy()).items():
        alone = bitspike.compile(folded.graph.only(name), x, activation_bits=16, **WIDE)
        got = alone(x.numpy())
        assert np.array_equal(got.levels, result.levels) and got.exponent == result.exponent
        assert len(alone.operations) < len(whole.operations)


class Heads(nn.Module):
    """Spikes of a layer, and what heads make of them; ``gives`` says how they are returned."""

    def __init__(self, gives: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.encoder, self.body, self.neuron = Repeat(3), Linear(4, 6), LIF()
        self.kind, self.where, self.readout, self.gives = Linear(6, 3), Linear(6, 2), MeanReadout(), gives

    def forward(self, x: Tensor) -> Any:
        return self.gives(self, self.neuron(self.body(self.encoder(x))))


def heads(gives: Callable[[Any, Tensor], Any]) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(24, 4)
    return bitspike.fold(Heads(gives).eval(), x), x


def both(net: Any, s: Tensor) -> dict[str, Tensor]:
    return {"kind": net.readout(net.kind(s)), "where": net.where(s)}


GIVES: dict[str, tuple[Callable[[Any, Tensor], Any], tuple[str, ...]]] = {
    "dict": (both, ("kind", "where")),
    "tuple": (lambda n, s: (n.kind(s), n.where(s)), ("0", "1")),
    "nested": (lambda n, s: {"a": [n.kind(s), {"b": n.where(s)}]}, ("a.0", "a.1.b")),
    "one in a dict": (lambda n, s: {"kind": n.readout(n.kind(s))}, ("kind",)),
    "one in a tuple": (lambda n, s: (n.kind(s),), ("0",)),
    "spikes": (lambda n, s: {"kind": n.kind(s), "spikes": s}, ("kind", "spikes")),
    "twice": (lambda n, s: (y := n.kind(s), y), ("0", "1")),
    "alone": (lambda n, s: n.readout(n.kind(s)), ("",)),
}


@pytest.mark.parametrize("name", GIVES)
def test_outputs_have_the_names_that_the_graph_gives_them(name: str, tmp_path: Path) -> None:
    gives, names = GIVES[name]
    folded, x = heads(gives)
    program = bitspike.compile(folded, x, weight_bits=16, input_bits=16)
    assert program.outputs == names == tuple(folded.graph.outputs)
    save(program, tmp_path / "m.bitspike")
    again, whole = load(tmp_path / "m.bitspike"), program.run(x.numpy())
    for key, result in again.run(x.numpy()).items():
        assert np.array_equal(result.levels, whole[key].levels)
        wanted = by_name(folded(x))[key].detach().numpy()
        assert np.abs(result.values - wanted).max() < 2.0**-8 * max(1.0, np.abs(wanted).max())
    assert isinstance(program(x.numpy()), dict) == (name != "alone")
    assert CompileReport.of(again) == CompileReport.of(program)
    assert ("outputs" in program.spec.info["compile"]) == (name != "alone")


def test_classes_and_targets_are_given_by_output() -> None:
    folded, x = heads(both)
    info = {"targets": {"where": "numbers"}}
    program = bitspike.compile(folded, x, classes={"kind": ["a", "b", "c"]}, info=info)
    report = CompileReport.of(program)
    assert program.spec.outputs["kind"].classes == ("a", "b", "c") and not program.spec.outputs["where"].classes
    assert report.outputs["where"]["agreement"] is None and report.agreement == report.outputs["kind"]["agreement"]
    assert "those of where are numbers, which differ by at most" in str(report) and "kind 1" in str(report)
    truth = {"kind": folded(x)["kind"].argmax(1), "where": folded(x)["where"].mean(0).detach()}
    found = outputs(program, folded, [(x, truth)])
    assert found.outputs["kind"].folded_accuracy == 1.0 and found.outputs["kind"].accuracy > 0.9
    assert found.outputs["where"].folded_error == pytest.approx(0, abs=1e-6) and found.outputs["where"].error < 0.1
    assert found.accuracy is None and compare(program, folded, [(x, truth)]).outputs["kind"].accuracy > 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": ["a", "b", "c"]}, "given by the name of one"),
        ({"classes": {"king": ["a"]}}, "given by the name of one"),
        ({"classes": {"where": ["a"]}}, "one for each number"),
        ({"info": {"targets": {"king": "numbers"}}}, "targets in info must be those of outputs"),
        ({"info": {"targets": {"kind": "colours"}}}, "targets in its info"),
    ],
)
def test_names_of_no_output_are_refused(options: Any, words: str) -> None:
    folded, x = heads(both)
    with pytest.raises(ValueError, match=words):
        bitspike.compile(folded, x, **options)


def test_labels_of_several_outputs_need_names() -> None:
    folded, x = heads(both)
    program = bitspike.compile(folded, x)
    for labels in (torch.zeros(24), {"king": torch.zeros(24)}):
        with pytest.raises(ValueError, match=r"compare: labels of a program whose outputs have names must be a dict"):
            compare(program, folded, [(x, labels)])
    other, _ = heads(lambda n, s: n.kind(s))
    with pytest.raises(ValueError, match="the network must have the program's outputs"):
        compare(program, other, [x])


def test_what_is_refused_names_the_output_and_the_way_out() -> None:
    class Softened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.soft = Heads(both), nn.Softmax(-1)

        def forward(self, x: Tensor) -> Any:
            found = self.net(x)
            return {**found, "chance": self.soft(found["where"])}

    torch.manual_seed(0)
    x = torch.randn(8, 4)
    folded = bitspike.fold(Softened().eval(), x)
    with pytest.raises(ValueError, match=r"1 without: .*graph\.only\(name\)") as told:
        bitspike.compile(folded, x)
    assert "Softmax" in str(told.value)
    assert bitspike.compile(folded.graph.only("kind"), x).outputs == ("",)
    folded, x = heads(lambda n, s: {"kind": n.kind(s), "pieces": s.split([2, 4], 2)})
    with pytest.raises(ValueError, match="'pieces': it is several tensors, the pieces of a split; return them one by"):
        bitspike.compile(folded, x)


class Places(nn.Module):
    """A map, and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.body, self.neuron = Repeat(2), Conv2d(1, 4, 3, padding=1), MultiBit(2, 1)
        self.map, self.flat, self.last, self.readout = Conv2d(4, 2, 1), Flatten(), Linear(64, 3), MeanReadout()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        s = self.neuron(self.body(self.encoder(x)))
        return {"kind": self.readout(self.last(self.flat(s))), "map": self.map(s)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("places")
    x = torch.rand(16, 1, 4, 4)
    program = bitspike.compile(bitspike.fold(Places().eval(), x), x, classes={"kind": ["a", "b", "c"]})
    save(program, folder / "m.bitspike")
    np.save(folder / "x.npy", x[:3].numpy())
    return folder / "m.bitspike"


def test_run_and_inspect_show_each_output(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, given = model.parent / "o.json", model.parent / "x.npy"
    main(["run", str(model), "--input", str(given), "--top", "2", "--json", str(out)])
    shown, document = capsys.readouterr().out, read_json(out)
    assert isinstance(document, dict) and "kind" in shown.splitlines()[0] and "2×2×4×4 from" in shown
    first, whole = document["predictions"][0]["outputs"], load(model)(np.load(given))
    assert [best["class"] for best in first["kind"]["classes"]] == [name for name, _ in whole["kind"].top(2)[0]]
    assert first["map"]["shape"] == [2, 2, 4, 4] and first["map"]["high"] == whole["map"].values[:, 0].max()
    main(["inspect", str(model), "--json", str(out)])
    shown, document = capsys.readouterr().out, read_json(out)
    assert isinstance(document, dict) and list(document["outputs"]) == ["kind", "map"] and "2 steps" in shown
    assert document["outputs"]["kind"]["classes"] == ["a", "b", "c"] and document["outputs"]["map"]["steps"] == 2
    main(["bench", str(model), "--calls", "3", "--warmup", "0"])
    assert "p50 ms" in capsys.readouterr().out
    main(["view", str(model), "--input", str(given), "--out", str(model.parent / "s.html"), "--json", str(out)])
    document = read_json(out)
    assert isinstance(document, dict) and list(document["samples"][0]["output"]) == ["kind", "map"]


def test_a_program_of_one_output_is_not_changed_by_a_name() -> None:
    """The same network, its output alone and in a dict: equal integers, equal operations."""
    (alone, x), (named, _) = heads(GIVES["alone"][0]), heads(GIVES["one in a dict"][0])
    plain, program = bitspike.compile(alone, x), bitspike.compile(named, x)
    assert np.array_equal(plain(x.numpy()).levels, program(x.numpy())["kind"].levels)
    assert [made.kind for made in plain.operations] == [made.kind for made in program.operations]
    assert isinstance(plain, Program) and plain.spec.output and not program.spec.output
