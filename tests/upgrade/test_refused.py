"""What `upgrade` cannot do raises, names module and line, and says what to do; foreign neurons in their usual forms."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike import upgrade
from bitspike.neurons import LIF, MultiBit

ROOT = Path(__file__).resolve().parents[2]
RELU = {nn.ReLU: MultiBit()}


class Inner(nn.Module):
    """Two linear layers; ``written`` is the forward."""

    def __init__(self, written: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.written, self.fc1, self.fc2 = written, nn.Linear(4, 6), nn.Linear(6, 4)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.written(self, x)


def write(s: Any, x: Tensor) -> Tensor:
    y = s.fc1(x)
    y[:, 0] = 0.0
    return s.fc2(y.relu())


def alias(s: Any, x: Tensor) -> Tensor:
    y = s.fc1(x)
    z = y.view(-1, 6)
    y += 1
    return s.fc2(z.relu() + y)


def keep(s: Any, x: Tensor) -> Tensor:
    s.membrane = s.fc1(x)
    return s.fc2(s.membrane.relu())


BRANCH = r"TraceError in module '0' at .*test_refused.py:\d+ \(.*\): .*control flow; .* leaves"
REFUSED: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "branch": (lambda s, x: s.fc2(s.fc1(x).relu() if x.sum() > 0 else s.fc1(x)), BRANCH),
    "constant noise": (lambda s, x: s.fc2(F.relu(s.fc1(x) + torch.randn(6))), r"a difference at .* in module '0'"),
    "noise": (lambda s, x: s.fc2(F.relu(s.fc1(x) + torch.randn_like(s.fc1(x)))), r"another one at randn_like in"),
    "dropout": (lambda s, x: s.fc2(F.dropout(F.relu(s.fc1(x)))), r"another one at dropout in module '0' .*self\."),
    "assignment": (write, r"TypeError in module '0' at .*item assignment; write it as a new tensor"),
    "alias": (alias, r"suspects: add in module '0' \(.*refused.py:\d+\); write in-place"),
    "state": (keep, r"module '0' must keep no value of the forward, got state in its attribute 'membrane'"),
    "mean": (lambda s, x: s.fc2(F.relu(s.fc1(x) - x.mean(0).sum())), r"others of the batch.* at sub in module '0' \("),
    "softmax": (lambda s, x: s.fc2(F.relu(s.fc1(x))).softmax(0), r"others of the batch.* at softmax in module '0'"),
    "batch": (lambda s, x: s.fc2(F.relu(s.fc1(x).view(5, 2, 3)).view(-1, 6)), r"RuntimeError at view in .* x\.shape"),
    "norm": (lambda s, x: s.fc2(F.relu(s.norm(s.fc1(x)))), r"others of the batch.* at module '0\.norm' \(.*:\d+\)"),
    "time first": (lambda s, x: s.fc2(F.relu(s.fc1(x).t()).t()), r"relu in module '0' .* must have the batch"),
    "other names": (lambda s, x: s.fc2(s.fc1(x).tanh()), r"these are: 0\.tanh \(Tanh\), got ReLU that match none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_forward_that_cannot_be_upgraded_is_refused_by_place(name: str) -> None:
    forward, message = REFUSED[name]
    model = nn.Sequential(Inner(forward, norm=nn.BatchNorm1d(6, track_running_stats=False)), nn.ReLU())
    if name == "other names":
        model = nn.Sequential(model[0])
    with pytest.raises(ValueError, match=r"(?s)^upgrade: .*" + message):
        upgrade(model, RELU)


OUTPUTS = {
    "number": (lambda s, x: s.fc1(x).relu().sum(), r"a tensor \[\]"),
    "parameter": (lambda s, x: (s.fc1(x).relu(), s.fc1.weight), "tuple"),
    "nothing": (lambda s, x: (s.fc1(x).relu(), None), "tuple"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_other_outputs(name: str) -> None:
    forward, got = OUTPUTS[name]
    with pytest.raises(ValueError, match=rf"must return tensors \[B, ...\] .*, got {got}; wrap"):
        upgrade(Inner(forward), RELU)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRUCell])
def test_recurrent_modules_are_named(kind: type[nn.Module]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            options = {} if kind is nn.GRUCell else {"batch_first": True}
            self.memory, self.last = kind(4, 6, **options), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.memory(x if kind is nn.GRUCell else x[:, None])
            return self.last(F.relu(y if kind is nn.GRUCell else y[0][:, 0]))

    with pytest.raises(
        ValueError, match=rf"'memory' .*\({kind.__name__}\) has a memory .*leaves=\(nn\.{kind.__name__},\)"
    ):
        upgrade(Recurrent(), RELU, torch.randn(4, 4))
    report = upgrade(Recurrent(), RELU, torch.randn(4, 4), leaves=(kind,)).report
    assert report.uncounted == [{"LSTM": "getitem_1 (memory: LSTM)", "GRUCell": "memory"}[kind.__name__]]


def test_more_inputs() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return F.relu(x + y)

    with pytest.raises(ValueError, match=r"with one input .* missing 1 required positional argument: 'y'"):
        upgrade(Two(), RELU)


@pytest.mark.parametrize(
    ("mapping", "error", "message"),
    [
        ({}, TypeError, "a dict with an entry"),
        (LIF(), TypeError, "a dict with an entry"),
        ({F.relu: LIF()}, TypeError, r"nn\.ReLU stands for F\.relu"),
        ({nn.ReLU: LIF}, TypeError, r"the value of ReLU must be a neuron.*such as LIF\(\)"),
        ({nn.ReLU: "lif"}, TypeError, "the value of ReLU must be a neuron"),
        ({nn.ReLU: nn.Linear(2, 2)}, TypeError, r"upgrade relu: the mapping must give a neuron.*got Linear"),
        ({"layer.*": LIF()}, ValueError, r"these are: relu \(ReLU\), got 'layer\.\*' that match none"),
    ],
)
def test_a_wrong_mapping(mapping: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        upgrade(Inner(lambda s, x: s.fc2(s.fc1(x).relu())), mapping)


def test_wrong_samples_and_options() -> None:
    model = Inner(lambda s, x: s.fc2(s.fc1(x).relu()))
    with pytest.raises(ValueError, match=r"must run on the sample .*RuntimeError at module 'fc1' \(.*:\d+\)"):
        upgrade(model, RELU, torch.randn(3, 5))
    with pytest.raises(ValueError, match=r"the sample must be \[B, ...\]"):
        upgrade(model, RELU, torch.randn(4))
    with pytest.raises(ValueError, match="the sample must be finite"):
        upgrade(model, RELU, torch.full((2, 4), torch.nan))
    with pytest.raises(ValueError, match="no sample; pass sample="):
        upgrade(nn.Sequential(nn.ReLU()), RELU)
    with pytest.raises(ValueError, match="norm must be one of 'joint', 'per_step'"):
        upgrade(model, RELU, norm="threshold")
    with pytest.raises(TypeError, match=r"must be an nn\.Module, got function"):
        upgrade(write, RELU)  # type: ignore[arg-type]
    cumulative = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, momentum=None), nn.ReLU())
    with pytest.raises(ValueError, match=r"module '1'.* has only the mode \"joint\", got per_step"):
        upgrade(cumulative, RELU, norm="per_step")


class SpikingNeuron(nn.Module):
    """Stands in for snnTorch's base class, which is known by its name."""


class Leaky(SpikingNeuron):
    """As snnTorch's Leaky: a membrane in a buffer or handed on, one step a call."""

    def __init__(self, init_hidden: bool = False, output: bool = False) -> None:
        super().__init__()
        self.init_hidden, self.output = init_hidden, output
        self.register_buffer("mem", torch.zeros(0), False)

    def forward(self, x: Tensor, mem: Tensor | None = None) -> Any:
        mem = self.mem if mem is None else mem
        self.mem = 0.5 * (mem if mem.shape == x.shape else torch.zeros_like(x)) + x
        spikes = (self.mem > 1).to(x.dtype)
        return spikes if self.init_hidden and not self.output else (spikes, self.mem)


class Node(nn.Module):
    """As SpikingJelly's nodes: memories by name, a step mode."""

    def __init__(self) -> None:
        super().__init__()
        self._memories, self.step_mode = {"v": 0.0}, "s"

    def forward(self, x: Tensor) -> Tensor:
        self._memories["v"] = self._memories["v"] * 0.5 + x
        return (self._memories["v"] > 1).to(x.dtype)


def once(s: Any, x: Tensor) -> Tensor:
    spikes, _ = s.lif(s.fc1(x), torch.zeros(0))
    return s.fc2(spikes)


def loop(s: Any, x: Tensor) -> Tensor:
    mem, recorded = torch.zeros(0), []
    for _ in range(3):
        spikes, mem = s.lif(s.fc1(x), mem)
        recorded.append(s.fc2(spikes))
    return torch.stack(recorded)


def leaks(s: Any, x: Tensor) -> Tensor:
    spikes, mem = s.lif(s.fc1(x))
    return s.fc2(spikes + mem)


FOREIGN = {
    "hidden": nn.Sequential(nn.Linear(4, 6), Leaky(init_hidden=True), nn.Linear(6, 4)),
    "node": nn.Sequential(nn.Linear(4, 6), Node(), nn.Linear(6, 4)),
    "tuple": Inner(once, lif=Leaky()),
    "tuple at the end": nn.Sequential(nn.Linear(4, 6), Leaky(init_hidden=True, output=True)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_neurons_become_ours(name: str) -> None:
    model = FOREIGN[name]
    net = upgrade(model, {Leaky if name != "node" else Node: LIF(threshold=1.0, decay=0.5)}, T=3, readout="steps")
    x = torch.randn(5, 4)
    weights = [m for m in net.body.modules() if isinstance(m, nn.Module) and hasattr(m, "connect")]
    currents = weights[0](x.expand(3, 5, 4))
    wanted = LIF(threshold=1.0, decay=0.5)(currents)
    assert torch.equal(net(x), weights[1](wanted) if len(weights) > 1 else wanted)
    assert len(net.report.neurons) == 1 and "a ReLU for each replaced module" in net.report.compared


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Inner(loop, lif=Leaky()),
            r"module 'lif' \(.*:\d+\), snnTorch's Leaky, must be called once .*3 calls.* one step",
        ),
        (
            Inner(leaks, lif=Leaky()),
            r"the membrane of module 'lif' \(.*:\d+\) must not be used.*a use in add in the forw",
        ),
        (
            Inner(lambda s, x: s.lif(s.fc1(x))[1], lif=Leaky()),
            r"membrane of module 'lif'.*a use in the return of the for",
        ),
    ],
    ids=["loop", "membrane", "membrane returned"],
)
def test_states_in_the_forward_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        upgrade(model, {Leaky: LIF()})


def test_modules_with_memory_must_be_mapped() -> None:
    with pytest.raises(ValueError, match=r"module '1' \(Leaky\) is one, got no neuron for it; add \{Leaky: ...\}"):
        upgrade(FOREIGN["hidden"], RELU)
    with pytest.raises(ValueError, match=r"module '1' \(Node\) is one, got no neuron for it; add \{Node: ...\}"):
        upgrade(FOREIGN["node"], {Node: None})
    multi = nn.Sequential(nn.Linear(4, 6), Node())
    multi[1].step_mode = "m"  # type: ignore[assignment]
    with pytest.raises(
        ValueError, match=r"module '1' \(Node\) must be in single-step mode, got step_mode 'm'; call func"
    ):
        upgrade(multi, {Node: LIF()})


def test_states_of_an_earlier_call_are_named() -> None:
    model = nn.Sequential(nn.Linear(4, 6), Node())
    model(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"no result of an earlier call.*reset_net"):
        upgrade(model, {Node: LIF()})


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("snntorch", "spikingjelly")), reason="peers are not installed"
)
def test_real_models_of_spikingjelly_and_snntorch() -> None:
    script = ROOT / "benchmarks" / "peers" / "upgrade.py"
    assert subprocess.run([sys.executable, str(script)], check=False).returncode == 0
