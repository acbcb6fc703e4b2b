"""NIR: written and read back bit for bit; refusals by name; what is remembered must be what the nodes say."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitspike.export import TARGETS, export, read_nir
from bitspike.export.nir.cells import above, below, factor_of, time_constant
from bitspike.export.nir.package import CONVENTIONS
from bitspike.fold import Folded, fold
from bitspike.graph import trace
from bitspike.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Gain,
    Linear,
    MaxPool2d,
    MeanReadout,
    Poisson,
    Repeat,
    Squeeze,
)
from bitspike.neurons import LIF, Integer, MultiBit, Real, Ternary
from bitspike.observe import observe
from bitspike.quantizers import Sign
from export_nir_nets import spoken
from networks import dyadic, liven, make_neuron, rng, small_cnn

nir = pytest.importorskip("nir", reason="not run: the package nir is not installed")


def lively(model: nn.Module, x: Tensor) -> nn.Module:
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.running_var.fill_(0.25)
    return model


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 60))])
def test_what_is_written_comes_back(seed: int, tmp_path: Path) -> None:
    """Every output equal, bit by bit; and the network that was read writes the same nodes again."""
    model, x = spoken(seed)
    folded = fold(lively(model, x), x)
    made = export(folded, "nir", tmp_path / "net.nir")
    back = read_nir(made.files[0])
    with torch.no_grad():
        assert torch.equal(back(x), folded(x))
    again = export(back, "nir", tmp_path / "again.nir")
    first, second = (nir.read(path, type_check=False) for path in (*made.files, *again.files))
    kinds = [sorted(type(node).__name__ for node in graph.nodes.values()) for graph in (first, second)]
    assert kinds[0] == kinds[1] and len(first.edges) == len(second.edges)
    with torch.no_grad():
        assert torch.equal(read_nir(again.files[0])(x), folded(x))


def test_the_networks_fire() -> None:
    """Between them the random networks send and hold back spikes in most layers."""
    rates = []
    for seed in range(8):
        model, x = spoken(seed)
        found = observe(fold(lively(model, x), x).graph, [x])
        rates += [activity.rate for activity in found.values()]
    assert np.mean([0.02 < rate < 0.98 for rate in rates]) > 0.6


def test_float64_stays_float64(tmp_path: Path) -> None:
    model, x = spoken(1)
    folded = fold(model.double(), x.double())
    back = read_nir(export(folded, "nir", tmp_path / "net.nir").files[0])
    with torch.no_grad():
        assert torch.equal(back(x.double()), folded(x.double()))


def chain(neuron: nn.Module, *middle: nn.Module, encoder: nn.Module | None = None) -> Folded:
    torch.manual_seed(0)
    net = nn.Sequential(encoder or Repeat(3), Linear(6, 5), neuron, *middle, Linear(5, 2), MeanReadout()).eval()
    return fold(net, torch.rand(4, 6))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "ternary": (lambda: chain(Ternary()), r"_2 \(Ternary\): Ternary sends \{-1,0,1\}.*train LIF"),
    "multi-bit": (lambda: chain(MultiBit(2, 0)), r"_2 \(MultiBit\): MultiBit sends \{0..3\}"),
    "integer": (lambda: chain(Integer(3)), r"Integer sends .*expand_unary makes sub-steps"),
    "real": (lambda: chain(Real()), r"_2 \(Real\): Real sends real"),
    "soft": (lambda: chain(LIF(reset="soft")), r"_2 \(LIF\): LIF subtracts what it sends.*reset='hard'"),
    "initial": (lambda: chain(LIF(initial=0.25)), "starts at 0.25"),
    "floor": (lambda: chain(LIF(floor=-1.0)), "has the floor -1"),
    "poisson": (lambda: chain(LIF(), encoder=Poisson(3)), r"_0 \(Poisson\): NIR begins behind the encoder"),
    "steps": (lambda: chain(LIF(), Squeeze(2)), r"_3 \(Squeeze\): NIR has no such node; train one T"),
    "unfolded": (lambda: trace(nn.Sequential(Conv2d(1, 2, 3), BatchNorm(2))), r"_1 \(BatchNorm\).*fold the network"),
    "max pool": (lambda: trace(nn.Sequential(Conv2d(1, 2, 3), MaxPool2d(2))), r"_1 \(MaxPool2d\).*train AvgPool2d"),
    "recurrent edge": (lambda: trace(nn.Sequential(Linear(9, 2), nn.Tanh())), r"_1 \(Tanh\): NIR has no such node"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_it_cannot_say_is_named(what: str, tmp_path: Path) -> None:
    make, said = REFUSED[what]
    source = make()
    shape = {} if isinstance(source, Folded) else {"shape": "9" if what == "recurrent edge" else "1,8,8"}
    with pytest.raises(ValueError, match=said):
        export(source, "nir", tmp_path / "net.nir", **shape)
    assert not list(tmp_path.iterdir())


def test_everything_lost_is_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got 2 it cannot: .*Poisson.*Ternary"):
        export(chain(Ternary(), encoder=Poisson(2)), "nir", tmp_path / "net.nir")


@pytest.mark.parametrize(
    ("reader", "said"), [("snntorch", "snntorch reads no SumPool2d"), ("sinabs", "reads no Scale")]
)
def test_a_reader_that_lacks_a_node_is_named(reader: str, said: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    middle = AvgPool2d(2) if reader == "snntorch" else Gain(torch.tensor([2.0, 3.0, 0.5]))
    net = nn.Sequential(Repeat(2), Conv2d(1, 3, 3), LIF(), middle, LIF(), Flatten()).eval()
    folded = fold(net, torch.rand(2, 1, 6, 6))
    with pytest.raises(ValueError, match=said):
        export(folded, "nir", tmp_path / "net.nir", reader=reader)


def test_the_shape_must_be_known(tmp_path: Path) -> None:
    graph = trace(nn.Sequential(Linear(6, 2), LIF()))
    with pytest.raises(ValueError, match="shape of a sample must be known"):
        export(graph, "nir", tmp_path / "net.nir")
    with pytest.raises(ValueError, match="shape must be whole numbers"):
        export(graph, "nir", tmp_path / "net.nir", shape="6,x")
    assert export(graph, "nir", tmp_path / "net.nir", shape="6").files[0].exists()


def test_other_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"float32 or float64, on the CPU, got torch.bfloat16 on cpu"):
        export(chain(LIF()).to(torch.bfloat16), "nir", tmp_path / "net.nir")


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(ValueError, match=r"must take one value, got \['x', 'y'\]"):
        export(trace(Two()), "nir", tmp_path / "net.nir", shape="3")


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    folded = chain(LIF())
    first = export(folded, "nir", tmp_path / "a.nir").files[0].read_bytes()
    time.sleep(1.1)
    assert export(folded, "nir", tmp_path / "b.nir").files[0].read_bytes() == first


def test_names_that_NIR_uses_itself(tmp_path: Path) -> None:  # noqa: N802
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input, self.lif, self.output = Linear(3, 3), LIF(), Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.output(self.lif(self.input(x)))

    torch.manual_seed(0)
    x = torch.rand(4, 2, 3) * 3
    folded = fold(Net().eval(), x)
    back = read_nir(export(folded, "nir", tmp_path / "net.nir").files[0])
    assert torch.equal(back(x), folded(x))


@pytest.mark.parametrize("decay", [0.0, 0.1, 0.25, 0.3, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("dt", [1e-4, 1e-3, 2.0**-10, 1.0])
def test_the_time_constant_gives_the_decay_back(decay: float, dt: float) -> None:
    """As near as 1 − q comes in float32; exactly, unless the decay is finer than that."""
    wanted = np.float32(decay)
    found = factor_of(time_constant(np.asarray(wanted), dt), dt)
    assert found == wanted if decay >= 0.5 or decay in (0, 0.25) else abs(found - wanted) <= 2.0**-24


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_above_and_below(kind: Any) -> None:
    for value in np.array([1e-30, 0.3, 0.5, 1.0, 7.0], kind):
        assert below(value) < value == above(below(value))


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("reader", CONVENTIONS)
def test_a_file_for_any_reader_comes_back(reader: str, decay: float, tmp_path: Path) -> None:
    folded, x = chain(LIF(0.7, decay)), torch.rand(4, 6)
    made = export(folded, "nir", tmp_path / "net.nir", reader=reader)
    assert torch.equal(read_nir(made.files[0])(x), folded(x))
    kinds = {type(node).__name__ for node in nir.read(made.files[0]).nodes.values()}
    assert ("IF" in kinds) == (decay == 1 and reader != "snntorch")


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.75])
def test_units_of_norse_are_the_same_equation(decay: float, tmp_path: Path) -> None:
    """r = 1 and a smaller threshold: read as NIR says it, without what is remembered, the spikes are the same."""
    folded, x = chain(LIF(0.5, decay)), dyadic(torch.rand(4, 6), 8)
    with torch.no_grad():
        for module in folded.modules():
            if isinstance(module, Linear):
                module.weight.copy_((module.weight * 8).round() / 8)
    made = export(folded, "nir", tmp_path / "net.nir", reader="norse")

    def forget(graph: Any) -> None:
        graph.metadata = {}

    net = read_nir(changed(made.files[0], forget), dt=2.0**-10)
    assert torch.equal(net(x.expand(3, 4, 6)).mean(0), folded(x))


@pytest.mark.parametrize("neuron", [MultiBit(1, 0, reset="hard"), Integer(1, reset="hard"), LIF(amplitude=2.0)])
def test_any_neuron_that_is_binary(neuron: nn.Module, tmp_path: Path) -> None:
    folded, x = chain(neuron), torch.rand(4, 6)
    assert torch.equal(read_nir(export(folded, "nir", tmp_path / "net.nir").files[0])(x), folded(x))


def test_a_layer_with_a_hook_is_refused(tmp_path: Path) -> None:
    folded = chain(LIF())
    folded.graph.of_kind("synapse")[0].module.register_forward_hook(lambda module, args, y: 2 * y)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"_1 \(Linear\): it does more than its class says \(hooks\)"):
        export(folded, "nir", tmp_path / "net.nir")


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    graph = nir.read(path)
    change(graph)
    nir.write(path, graph)
    return path


def signs(factor: str = "layer") -> Folded:
    torch.manual_seed(0)
    hidden = Linear(6, 5, bias=False, weight=Sign(factor))
    return fold(nn.Sequential(Repeat(2), hidden, BatchNorm(5), LIF(), Linear(5, 2)).eval(), torch.rand(4, 6))


def test_a_file_changed_by_others_is_not_read_as_ours(tmp_path: Path) -> None:
    """What is remembered must be what the nodes say: an edited weight or threshold never comes back as it was."""
    folded = signs("none")
    changes: list[Callable[[Any], None]] = [
        lambda graph: graph.nodes["_1"].weight.__imul__(2),
        lambda graph: graph.nodes["_1"].bias.__iadd__(1),
        lambda graph: graph.nodes["_3"].v_threshold.__imul__(2),
        lambda graph: graph.nodes["_3"].tau.__imul__(2),
    ]
    for change in changes:
        path = changed(export(folded, "nir", tmp_path / "net.nir").files[0], change)
        with pytest.raises(ValueError, match="its numbers are not those that bitspike wrote"):
            read_nir(path)


def test_integers_come_back_as_integers(tmp_path: Path) -> None:
    folded = signs("layer")
    back = read_nir(export(folded, "nir", tmp_path / "net.nir").files[0])
    assert [s.module.quantizer.format.label() for s in back.graph.of_kind("synapse")] == ["±1", "float"]  # type: ignore[union-attr]


def test_residual_networks_of_models(tmp_path: Path) -> None:
    x = torch.randn(8, 2, 8, 8, generator=rng(0))
    net = liven(small_cnn(make_neuron("lif", decay=0.5)).float(), x)
    folded = fold(net, x)
    made = export(folded, "nir", tmp_path / "net.nir")
    assert made.facts is not None and made.facts["nodes"]["LIF"] > 2
    assert torch.equal(read_nir(made.files[0])(x), folded(x))


def test_its_options_are_said() -> None:
    assert TARGETS["nir"].reads == "network" and set(TARGETS["nir"].options) == {"reader", "shape"}


def test_the_walk_through_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
    code, said = page.split("## NIR")[1].split("```py\n")[1].split("```\n\n```text\n")
    with torch.random.fork_rng(devices=[]):
        exec(compile(code, "deploy.md", "exec"), {"folder": tmp_path})
    assert capsys.readouterr().out == said.split("```")[0]
