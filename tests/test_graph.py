"""The traced graph: kinds, formats, sources and T of every edge; reuse; errors that name module and line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import SpikeFormat, stream, trace
from bitspike.graph import Node
from bitspike.layers import (
    Affine,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Gain,
    Latency,
    Linear,
    MaxPool2d,
    MeanReadout,
    Poisson,
    Repeat,
    StepReadout,
)
from bitspike.neurons import LIF, Integer, Neuron
from networks import make_neuron, pool_net, samples, small_cnn


def test_a_module_that_shows_values_of_nodes() -> None:
    net, x = small_cnn(LIF(), T=2), samples(3, dtype=torch.float32)
    graph, seen = trace(net), {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        seen[node.name] = call()
        return seen[node.name]

    wanted = graph.run(x, handler=note)
    module = graph.showing(["body_2", "add", "body_2"])
    output, (spikes, total, again) = module(x)
    assert torch.equal(output, wanted) and torch.equal(spikes, seen["body_2"]) and torch.equal(again, spikes)
    assert torch.equal(total, seen["add"])
    assert {id(p) for p in module.parameters()} == {id(p) for p in net.parameters()}
    assert graph.showing([])(x)[1] == []


def test_kinds_edges_and_time_of_the_residual_network() -> None:
    graph = trace(small_cnn(LIF(), T=5))
    rows = {node.name: (node.kind, node.T, node.inputs) for node in graph}
    assert [name for name, (kind, _, _) in rows.items() if kind == "input"] == ["x"]
    assert rows["encoder"] == ("layer", 5, ("x",)) and rows["x"][1] == 0
    assert rows["body_0"] == ("synapse", 5, ("encoder",))
    assert rows["body_2"] == ("neuron", 5, ("body_1",))
    assert rows["add"] == ("add", 5, ("body_3_norm2", "body_2"))
    assert rows["body_3_neuron2"] == ("neuron", 5, ("add",))
    assert rows["readout"] == ("layer", 0, ("body_7",)) and rows["output"][:2] == ("output", 0)
    assert graph["body_2"].consumers == ("body_3_conv1", "add")
    assert graph["body_3_conv1"].path == "body.3.conv1" and graph["add"].path == ""
    assert graph["add"].module is None and isinstance(graph["body_2"].module, LIF)
    for node in graph:
        assert all(node.name in graph[name].consumers for name in node.inputs)
        assert all(node.name in graph[name].inputs for name in node.consumers)


@pytest.mark.parametrize("spiking", ["lif", "ternary", "multibit", "integer", "real"])
def test_formats_live_on_edges_made_of_unchanged_spikes(spiking: str) -> None:
    neuron = make_neuron(spiking, amplitude=2.0)
    graph = trace(pool_net(neuron))
    spikes = {node.name for node in graph if node.format is not None}
    neurons = {f"neuron{i}" for i in range(1, 5)}
    assert spikes == neurons | {"pool1", "dropout", "pool2", "flatten"}
    assert all(graph[name].format == neuron.format for name in spikes)
    assert graph["pool1"].sources == ("neuron1",) and graph["flatten"].sources == ("neuron4",)
    assert graph["dropout"].sources == ("neuron2",) and graph["neuron3"].sources == ("neuron3",)
    assert graph["add"].sources == () and graph["norm3"].sources == () and graph["conv4"].sources == ()


def test_what_changes_spikes_loses_their_format_and_linear_layers_keep_the_source() -> None:
    def behind(layer: nn.Module) -> Node:
        return trace(nn.Sequential(LIF(), layer))["_1"]

    assert behind(AvgPool2d(2)).format == SpikeFormat(0, 4, amplitude="layer")  # four of them, a quarter each
    for layer in (Gain(torch.tensor(0.5)), StepReadout()):
        assert behind(layer).format is None and behind(layer).sources == ("_0",)
    for layer in (MaxPool2d(2), Flatten(), nn.Identity(), nn.Dropout()):
        assert behind(layer).format == SpikeFormat() and behind(layer).sources == ("_0",)
    for layer in (BatchNorm(1), Affine(torch.ones(1), torch.zeros(1)), Linear(1, 1), nn.ReLU()):
        assert behind(layer).format is None and behind(layer).sources == ()


def test_encoders_declare_what_they_emit() -> None:
    formats = {e: trace(nn.Sequential(e(3), Flatten()))["_1"].format for e in (Repeat, Poisson, Latency)}
    assert formats == {Repeat: None, Poisson: SpikeFormat(), Latency: SpikeFormat()}


def test_time_steps_without_and_behind_an_encoder() -> None:
    assert {node.T for node in trace(nn.Sequential(Linear(1, 1), LIF(), MeanReadout()))} == {0}
    graph = trace(nn.Sequential(Repeat(7), LIF(), MeanReadout()))
    assert [node.T for node in graph] == [0, 7, 7, 0, 0]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron, self.again = LIF(), nn.Sequential(Linear(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.again(self.neuron(self.again(x))))


def test_every_call_of_a_module_is_a_node_of_its_own() -> None:
    graph = trace(Twice())
    assert [node.name for node in graph] == ["x", "again_0", "neuron", "again_1", "neuron_1", "output"]
    assert [node.path for node in graph.of_kind("neuron")] == ["neuron", "neuron"]
    assert graph["neuron"].module is graph["neuron_1"].module
    assert graph["neuron_1"].sources == ("neuron_1",)


class Joins(nn.Module):
    def __init__(self, how: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.how = LIF(), LIF(), how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.one(x), self.two(x))


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (lambda a, b: a + b, "add"),
        (torch.add, "add"),
        (lambda a, b: a.add(b), "add"),
        (lambda a, b: a.add_(b), "add"),
        (lambda a, b: a - b, "function"),
        (lambda a, b: a * b, "function"),
        (torch.maximum, "function"),
    ],
)
def test_only_additions_are_additions(how: Callable[[Tensor, Tensor], Tensor], kind: str) -> None:
    graph = trace(Joins(how))
    joined = graph[graph["output"].inputs[0]]
    assert joined.kind == kind and set(joined.inputs) == {"one", "two"}
    assert joined.format == (SpikeFormat(0, 2) if kind == "add" else None) and joined.sources == ()


def test_running_the_graph_is_running_the_network() -> None:
    model, x = small_cnn(make_neuron("multibit")).double().eval(), samples(3)
    graph = trace(model)
    seen: list[str] = []

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        seen.append(node.name)
        return call()

    with torch.no_grad():
        assert torch.equal(graph.run(x), model(x)) and torch.equal(graph.run(x, handler=note), model(x))
    assert seen == [node.name for node in graph if node.kind not in ("input", "output")]


def test_a_handler_may_replace_values() -> None:
    graph = trace(nn.Sequential(LIF(), Linear(2, 2, bias=False), StepReadout()))

    def silence(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        return torch.zeros_like(args[0]) if isinstance(node.module, Neuron) else call()

    x = torch.full((1, 1, 2), 5.0)
    assert graph.run(x).abs().sum() > 0 and graph.run(x, handler=silence).abs().sum() == 0


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Loops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for row in x:
            x = x + row
        return x


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("lost")


@pytest.mark.parametrize(
    ("cls", "error", "statement"),
    [
        (Branches, "TraceError", "if x.sum() > 0:"),
        (Loops, "TraceError", "for row in x:"),
        (Fails, "KeyError", "raise KeyError"),
    ],
)
def test_code_that_cannot_be_traced_is_named_by_module_and_line(
    cls: type[nn.Module], error: str, statement: str
) -> None:
    lines, start = inspect.getsourcelines(cls)
    line = start + next(i for i, text in enumerate(lines) if statement in text)
    model = nn.Sequential(LIF(), nn.Sequential(LIF(), cls()), Integer(2))
    place = rf"graph: the network must be traceable.*{error} in module '1\.1' at .*test_graph\.py:{line}:"
    with pytest.raises(ValueError, match=place) as caught:
        trace(model)
    assert str(caught.value).endswith("move the branch on tensor values into a leaf layer (a TimeLayer).")
    with pytest.raises(ValueError, match=rf"{error} in module '{cls.__name__}' at .*test_graph\.py:{line}:"):
        trace(cls())


def test_errors_while_running_stay_those_of_the_layers() -> None:
    """torch.fx would append several lines of its own."""
    graph = trace(nn.Sequential(Conv2d(3, 4, 3), LIF()))
    with pytest.raises(ValueError, match=r"^Conv2d: the input must have 3 channels, got \[1, 1, 2, 8, 8\]") as caught:
        graph.run(torch.zeros(1, 1, 2, 8, 8))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^Conv2d: [^\n]*$"):
        stream(graph, torch.zeros(1, 1, 2, 8, 8))
