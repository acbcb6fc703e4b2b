"""docs/migration.md against the update equations of SpikingJelly and snnTorch: the code runs, every row holds."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitspike
import foreign
from bitspike.functional import ATan, FastSigmoid, Sigmoid
from bitspike.layers import Linear, Recurrent
from bitspike.neurons import LIF, Integer, Neuron, Ternary

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SAME_TEXT = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
TAU, V, R, D = 3.0, 0.75, 0.25, 3


@pytest.fixture(scope="module")
def page() -> Iterator[dict[str, Any]]:
    """What the page's code defines, all its blocks run in order."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in {**foreign.spikingjelly(), **foreign.snntorch()}.items():
            patch.setitem(sys.modules, name, module)
        made, printed = types.ModuleType("docs_migration_peers"), ""
        patch.setitem(sys.modules, made.__name__, made)
        with torch.random.fork_rng(devices=[]):
            for match in FENCE.finditer(PAGE):
                line = PAGE.count("\n", 0, match.start(2))
                if match[1] in ("python", "py"):
                    heard = io.StringIO()
                    with contextlib.redirect_stdout(heard):
                        exec(compile("\n" * line + match[2], "migration.md", "exec"), made.__dict__)
                    printed = heard.getvalue()
                elif match[1] in ("text", "output"):
                    assert doctest.OutputChecker().check_output(match[2], printed, SAME_TEXT), f"line {line}: {printed}"
        yield made.__dict__


def right(cell: str) -> str:
    """The code of the right cell of the row that begins with a left cell."""
    rows = [row for row in PAGE.splitlines() if row.startswith(f"| {cell} |")]
    assert len(rows) == 1, cell
    return re.findall(r"`([^`]+)`", rows[0].split(" | ", 1)[1])[0]


def currents(signed: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(12, 5, 40, generator=generator, dtype=torch.float64)
    return (x if signed else x + 0.4).requires_grad_()


def compare(theirs: Any, ours: Neuron, x: Tensor, gradients: bool = True) -> float:
    """Spikes equal, gradients close; returns the rate."""
    ours = ours.double()
    wanted, got = theirs(x), ours(x)
    assert torch.equal(got, wanted.to(got.dtype))
    rate = float((got != 0).double().mean())
    assert 0.02 < rate < 0.98
    if gradients:
        weights = torch.linspace(-1, 1, got.numel(), dtype=got.dtype).view_as(got)
        one, other = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (wanted, got))
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6) and one.abs().max() > 0
    return rate


JELLY: dict[str, Any] = {
    "`IFNode()`": lambda: foreign.IFNode(1.0),
    "`LIFNode(tau, decay_input=False)`": lambda: foreign.LIFNode(TAU, False),
    "`LIFNode(tau)` (`decay_input=True`)": lambda: foreign.LIFNode(TAU, True, V),
    "`ParametricLIFNode(tau, decay_input=False)`": lambda: foreign.ParametricLIFNode(TAU, False),
    "`ParametricLIFNode(tau)`": lambda: foreign.ParametricLIFNode(TAU, True, V),
    "`neuron.ILIFNode(tau)`, D levels": lambda: foreign.ILIFNode(D, TAU, V),
    "`neuron.TernaryLIFNode(tau, decay_input=False)`": lambda: foreign.TernaryLIFNode(TAU, False, V),
}


@pytest.mark.parametrize("cell", JELLY)
def test_rows_of_spikingjellys_neurons(cell: str) -> None:
    node, names = JELLY[cell]().double(), {"LIF": LIF, "Integer": Integer, "Ternary": Ternary, "D": D}
    ours = eval(right(cell), {**names, "tau": TAU, "v_threshold": V})
    x = currents(signed="Ternary" in cell)
    compare(lambda x: foreign.over_time(node, x), ours, x, gradients=False)


@pytest.mark.parametrize("v_reset", [0.0, None, R, -R])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("grad", [foreign.ATan(2.0), foreign.Sigmoid(4.0), foreign.ATan(5.0)], ids=["a2", "s4", "a5"])
@pytest.mark.parametrize("kind", ["IF", "LIF", "LIF with input", "PLIF", "PLIF with input"])
def test_the_map_of_spikingjelly(
    page: dict[str, Any], kind: str, grad: Any, detach: bool, v_reset: float | None
) -> None:
    build = {"IF": foreign.IFNode, "LIF": foreign.LIFNode, "PLIF": foreign.ParametricLIFNode}[kind.split()[0]]
    first = () if kind == "IF" else (TAU, kind.endswith("input"))
    node = build(*first, V, v_reset, grad, detach).double()
    ours = page["lif"](node)
    compare(lambda x: foreign.over_time(node, x), ours, currents())
    assert ours.membrane.reset_kind == ("soft" if v_reset is None else "hard")
    if kind == "PLIF":
        x = currents()
        y, z = foreign.over_time(node, x), ours(x)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        (y * weights).sum().backward()
        (z * weights).sum().backward()
        assert torch.allclose(-node.w.grad, ours.membrane.raw_decay.grad, rtol=1e-4) and node.w.grad.abs() > 0


@pytest.mark.parametrize("kind", [foreign.IFNode, foreign.LIFNode, foreign.ParametricLIFNode])
def test_networks_with_one_kind_of_neuron(page: dict[str, Any], kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 20), kind(v_threshold=0.1), nn.Linear(20, 9), kind(v_threshold=0.1))
    mapping = eval(re.findall(r"upgrade\(jelly, (\{.*?lif\})", PAGE)[0], page)
    x = 3 * torch.rand(7, 6)
    net = bitspike.upgrade(model, mapping, x, T=5, readout="steps").eval()
    with torch.no_grad():
        wanted = foreign.over_time(model, x.expand(5, 7, 6))
    assert torch.equal(net(x), wanted) and 0 < wanted.mean() < 1


def test_neurons_that_no_lif_is_are_refused(page: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="QIFNode is none"):
        page["lif"](foreign.QIFNode())
    for wrong in ({"reset_mechanism": "none"}, {}, {"reset_mechanism": "zero", "inhibition": True}):
        with pytest.raises(ValueError, match=r"no LIF has the spikes of a Leaky"):
            page["leaky"](foreign.Leaky(0.9, **wrong))
    for wrong in ({"reset_mechanism": "zero", "state_quant": abs}, {"reset_delay": False}):
        with pytest.raises(ValueError, match=r"no LIF has the spikes"):
            page["leaky"](foreign.Leaky(1.0, **wrong))


GRADS = {
    "default": (None, ATan(2.0)),
    "atan(2.0)": (foreign.atan_slope(2.0), ATan(2.0)),
    "sigmoid(25)": (foreign.sigmoid_slope(25.0), Sigmoid(25.0)),
    "fast_sigmoid(25)": (foreign.fast_slope(25.0), FastSigmoid(25.0)),
    "atan(0.5)": (foreign.atan_slope(0.5), ATan(0.5)),
}


@pytest.mark.parametrize("grad", GRADS)
@pytest.mark.parametrize("beta", [0.9, 1.0])
@pytest.mark.parametrize("reset", ["zero", "subtract", "zero at once"])
def test_the_map_of_snntorch(page: dict[str, Any], reset: str, beta: float, grad: str) -> None:
    slope, wanted = GRADS[grad]
    spike = None if slope is None else foreign.spike_function(slope, True)
    mechanism, delay = reset.split()[0], "at once" not in reset
    node = foreign.Leaky(beta, V, spike, mechanism, graded_spikes_factor=1.5, reset_delay=delay).double()
    if reset == "subtract" and beta < 1:
        with pytest.raises(ValueError, match="no LIF has the spikes"):
            page["leaky"](node)
        return
    ours = page["leaky"](node)
    compare(lambda x: foreign.handed_on(node, x), ours, currents())
    assert type(ours.surrogate) is type(wanted)
    sharp, given = (vars(s).get("alpha", vars(s).get("slope")) for s in (ours.surrogate, wanted))
    assert sharp == pytest.approx(given, rel=1e-3)


def test_rows_of_snntorch() -> None:
    for cell, node in (
        ('`Leaky(beta, reset_mechanism="zero")`', foreign.Leaky(0.9, reset_mechanism="zero")),
        ('`Leaky(1.0)` (`"subtract"`)', foreign.Leaky(1.0)),
    ):
        compare(
            lambda x, node=node: foreign.handed_on(node, x), eval(right(cell), {"LIF": LIF, "beta": 0.9}), currents()
        )
    soft, x = foreign.Leaky(0.9), currents()
    assert not torch.equal(
        foreign.handed_on(soft, x).double(), LIF(decay=0.9, reset="soft").double()(x)
    )  # "nothing has"


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "element-wise"])
def test_rows_of_recurrent_containers(linear: bool) -> None:
    """SpikingJelly's containers by their equation, i_t = f(x_t, s_{t−1}): a linear map of both, or their sum."""
    torch.manual_seed(2)
    node, whole = foreign.LIFNode(TAU, False, V).double(), nn.Linear(3 + 40, 40).double()
    x, s, wanted = 2 * torch.randn(9, 5, 3 if linear else 40, dtype=torch.float64), torch.zeros(5, 40).double(), []
    currents = []
    for step in x:
        current = whole(torch.cat([step, s], 1)) if linear else step + s
        currents.append(current)
        s = foreign.over_time(node, torch.stack(currents))[-1]
        wanted.append(s)
    layer = Recurrent(LIF(V, 1 - 1 / TAU), Linear(40, 40, bias=False)).double()
    layer.synapse.weight.data = whole.weight.data[:, 3:].clone() if linear else torch.eye(40).double()
    before = Linear(3, 40).double()
    before.load_state_dict({"weight": whole.weight[:, :3].detach(), "bias": whole.bias.detach()}, strict=False)
    with torch.no_grad():
        got = layer(before(x) if linear else x)
    assert torch.equal(got, torch.stack(wanted)) and 0.02 < got.mean() < 0.98


def test_learned_betas_are_learned(page: dict[str, Any]) -> None:
    ours = page["leaky"](foreign.Leaky(0.9, reset_mechanism="zero", learn_beta=True))
    assert ours.membrane.raw_decay is not None and ours.membrane.decay().item() == pytest.approx(0.9)


def test_other_gradients_are_refused(page: dict[str, Any]) -> None:
    for slope in (lambda x: torch.ones_like(x), torch.zeros_like, lambda x: (x.abs() < 0.5).to(x.dtype)):
        with pytest.raises(ValueError, match="no surrogate of bitspike's"):
            page["surrogate_of"](foreign.spike_function(slope, False))
    with pytest.raises(ValueError, match="no surrogate of bitspike's"):
        page["surrogate_of"](lambda x: torch.sigmoid(4 * x))  # it fires no spikes
    with pytest.raises(ValueError, match="no surrogate of bitspike's"):
        page["surrogate_of"](foreign.spike_function(foreign.fast_slope(25.0), False), 2.0)
