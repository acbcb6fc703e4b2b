"""Folded networks as ONNX loops and steps: chunk after chunk what a stream gives; whatever mixes steps is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.export import export
from bitspike.export.onnx_float import FORMS
from bitspike.export.onnx_float_scan import looped
from bitspike.layers import (
    BatchNorm,
    Conv2d,
    Flatten,
    Frames,
    Gain,
    Linear,
    MeanReadout,
    Recurrent,
    Repeat,
    Restimulate,
    StepReadout,
    Synapse,
    TallyPool,
    Windows,
)
from bitspike.neurons import LIF, NEURONS, MultiBit
from exchange import ran
from random_networks import draw, tuned
from random_networks.plan import chooser

onnx = pytest.importorskip("onnx", reason="not run: onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="not run: onnxruntime is not installed")


def late(*keep: float) -> MeanReadout:
    """A read-out that leaves out steps."""
    readout = MeanReadout(len(keep))
    assert readout.keep is not None
    readout.keep.copy_(torch.tensor(keep))
    return readout


def net(neuron: nn.Module, *more: nn.Module, steps: int = 0, readout: nn.Module | None = None) -> nn.Module:
    """4 → 6 → 3, over sequences or (steps > 0) of a repeated sample."""
    first = [Repeat(steps)] if steps else []
    return nn.Sequential(*first, Linear(4, 6), neuron, *more, Linear(6, 3), readout or MeanReadout())


def image() -> nn.Module:
    """A convolution in front, whose currents are the same at all steps."""
    torch.manual_seed(2)
    body = [Conv2d(1, 4, 3, padding=1), BatchNorm(4), MultiBit(2, 0, decay=0.5), Conv2d(4, 4, 3), LIF(decay=0.5)]
    return nn.Sequential(Repeat(3), *body, Flatten(), Linear(36, 3), MeanReadout())


STREAMED: dict[str, Callable[[], nn.Module]] = {
    "mean": lambda: net(LIF(), steps=3),
    "every step": lambda: net(LIF(), steps=3, readout=StepReadout()),
    "sequence": lambda: net(LIF(decay=0.5, reset="soft")),
    "sequence, every step": lambda: net(LIF(), readout=StepReadout()),
    "late": lambda: net(LIF(), steps=3, readout=late(0, 0, 0, 1, 0, 1)),
    "late sequence": lambda: net(LIF(), readout=late(0, 1, 0)),
    "gain by step": lambda: net(LIF(), Gain(torch.tensor([[1.0], [0.5], [3.0]]))),
    "gain by step and channel": lambda: net(LIF(), Gain(torch.arange(24.0).reshape(4, 6)), steps=3),
    "no neuron": lambda: nn.Sequential(Repeat(3), Linear(4, 3), StepReadout()),
    "widths by step": lambda: net(NEURONS["adaptive"](steps=2, decay=0.5), steps=3),
    "recurrent": lambda: net(Recurrent(LIF(), Linear(6, 6))),
    "starts at a half": lambda: net(NEURONS["signed"](1, decay=1.0, initial=0.5)),
    "images": image,
}


def made(network: nn.Module, folder: Path, form: str = "scan") -> tuple[Any, Any, Any, dict[str, Any]]:
    """(folded, a few samples or a sequence of them, session, states at the start)."""
    torch.manual_seed(0)
    first = next(iter(network.modules()))
    many = any(isinstance(module, Repeat) for module in first.modules())
    shape = (1, 5, 5) if any(isinstance(module, Conv2d) for module in first.modules()) else (4,)
    x = torch.rand(*(() if many else (5,)), 7, *shape) * 3 - 1
    for module in network.modules():
        if isinstance(module, Synapse):
            module.weight.data *= 2  # so that neurons fire
    folded = bitspike.fold(network.eval(), x)
    files = export(folded, "onnx-float", folder / "m.onnx", form=form, shape=",".join(map(str, shape))).files
    return folded, x, *loaded(files, 7)


def loaded(files: Any, batch: int) -> tuple[Any, dict[str, Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    run = onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
    sides = {value.name: value.shape for value in run.get_inputs()}
    starts = dict(np.load(files[1]).items())
    return run, {k: np.repeat(v, batch, 0) if sides[k][0] == "batch" else v for k, v in starts.items()}


def called(run: Any, x: Any, states: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(what came out, the states after it)."""
    names = [value.name for value in run.get_outputs()]
    found = dict(zip(names, run.run(names, {"input": x, **states}), strict=True))
    return found["output"], {name: found[f"{name}.next"] for name in states}


@pytest.mark.parametrize("name", STREAMED)
def test_chunk_after_chunk_is_a_stream(name: str, tmp_path: Path) -> None:
    """Beyond the steps that the network was made for, too: means go on, the last constants serve all later steps."""
    folded, x, run, states = made(STREAMED[name](), tmp_path)
    graph, kept = folded.graph, None
    repeats = graph.batch_axis == 0
    for call in range(3):
        chunk = x if repeats else torch.rand(1 + 2 * call, *x.shape[1:]) * 3 - 1
        with torch.no_grad():
            steps = chunk[None].repeat(3, *[1] * chunk.dim()) if repeats else chunk
            expected, kept = bitspike.stream(graph, steps, kept)
            if repeats and call == 0:
                np.testing.assert_allclose(expected, folded(x), atol=1e-5)
        found, states = called(run, chunk.numpy(), states)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert np.ptp(found) > 0.1


def test_what_a_repeated_sample_alone_decides_stands_before_the_loop(tmp_path: Path) -> None:
    made(image(), tmp_path)
    graph = onnx.load(tmp_path / "m.onnx").graph
    (loop,) = (node for node in graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    assert [sum(node.op_type == "Conv" for node in part.node) for part in (graph, body)] == [1, 1]


@pytest.mark.parametrize("name", ["mean", "late sequence", "images"])
def test_one_file_serves_every_batch(name: str, tmp_path: Path) -> None:
    folded, x, run, _ = made(STREAMED[name](), tmp_path)
    axis = folded.graph.batch_axis
    for batch in (1, 2, 11):
        _, states = loaded([tmp_path / "m.onnx", tmp_path / "m.start.npz"], batch)
        part = torch.cat([x, x], axis).narrow(axis, 0, batch)
        with torch.no_grad():
            np.testing.assert_allclose(called(run, part.numpy(), states)[0], folded(part), atol=1e-5)


def test_names_of_states_are_told(tmp_path: Path) -> None:
    _, _, run, states = made(STREAMED["late sequence"](), tmp_path)
    meta = run.get_modelmeta().custom_metadata_map
    assert json.loads(meta["bitspike.states"]) == list(states)
    assert "steps" in states and any(name.endswith(".sum") for name in states)


class Around(nn.Module):
    """A network with a function between its neurons and what follows, or behind all of it."""

    def __init__(self, between: Callable[[Tensor], Tensor], behind: Callable[[Tensor], Tensor], steps: int) -> None:
        super().__init__()
        self.first, self.last = nn.Sequential(Repeat(steps), Linear(4, 6), LIF()), nn.Sequential(Linear(6, 3))
        self.readout, self.between, self.behind = MeanReadout(), between, behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.readout(self.last(self.between(self.first(x)))))


class Stimulated(nn.Module):
    def __init__(self, over: str) -> None:
        super().__init__()
        self.first, self.again = nn.Sequential(Repeat(3), Linear(4, 6), LIF()), Restimulate(6, over=over)
        self.last = nn.Sequential(LIF(), Linear(6, 3), MeanReadout())

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.first(x)
        return self.last(spikes + self.again(spikes))


def same(x: Tensor) -> Tensor:
    return x


MIXING: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "flip": (lambda: Around(lambda x: x.flip(0), same, 3), r"flip mixes steps: take form=unrolled"),
    "sums": (lambda: Around(lambda x: x.cumsum(0), same, 3), r"cumsum mixes steps"),
    "roll": (lambda: Around(lambda x: x.roll(1, 0), same, 3), r"roll mixes steps"),
    "steps written down": (lambda: Around(lambda x: x.view(3, -1, 6), same, 3), r"view mixes steps"),
    "tokens": (lambda: Around(lambda x: x * x.mean((0, 1)), same, 3), r"mean mixes steps"),
    "whole": (lambda: Stimulated("whole"), r"again \(Restimulate\) remembers or mixes steps"),
    "first": (lambda: Stimulated("first"), r"again \(Restimulate\) remembers or mixes steps"),
    "windows": (lambda: net(LIF(), Windows(1), steps=4), r"\(Windows\) remembers or mixes steps"),
    "tally": (lambda: net(LIF(), TallyPool(nn.MaxPool1d(1)), steps=4), r"\(TallyPool\) remembers or mixes steps"),
}


@pytest.mark.parametrize("form", ["scan", "step"])
@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_steps_is_refused(name: str, form: str, tmp_path: Path) -> None:
    """A step of such a network is not a step of the network, and nothing in the graph would show it."""
    make, said = MIXING[name]
    network = bitspike.fold(make().eval(), torch.rand(7, 4))
    with pytest.raises(ValueError, match=said):
        export(network, "onnx-float", tmp_path / "m.onnx", form=form, shape="4")
    assert not list(tmp_path.iterdir())


def test_functions_that_keep_steps_apart_stay(tmp_path: Path) -> None:
    network = Around(lambda x: torch.cat(x.flip(-1).split(3, -1)[::-1], -1) * x.mean(-1, keepdim=True), same, 3)
    folded, x, run, states = made(network, tmp_path)
    with torch.no_grad():
        np.testing.assert_allclose(called(run, x.numpy(), states)[0], folded(x), atol=1e-5)


def test_a_step_that_would_lose_the_mean_is_refused_and_a_loop_has_it(tmp_path: Path) -> None:
    """A function of a mean is not the mean of the function, and the caller cannot know which steps count."""
    behind = Around(same, lambda y: torch.softmax(y, -1), 3)
    for network, said in ((behind, "softmax reads a mean"), (STREAMED["late"](), r"\(MeanReadout\) leaves out steps")):
        with pytest.raises(ValueError, match=f"{said}.*take form=scan"):
            made(network, tmp_path, "step")
        folded, x, run, states = made(network, tmp_path)
        with torch.no_grad():
            np.testing.assert_allclose(called(run, x.numpy(), states)[0], folded(x), atol=1e-5)


def test_functions_before_the_encoder_see_samples(tmp_path: Path) -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(LIF(), steps=3)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.flatten(1) * 2)

    x = torch.rand(7, 2, 2)
    network = bitspike.fold(Before().eval(), x)
    with torch.no_grad():
        expected = network(x).numpy()
    for form in ("scan", "step"):
        run, states = loaded(export(network, "onnx-float", tmp_path / "m.onnx", form=form, shape="2,2").files, 7)
        total: Any = 0.0
        for _ in range(3 if form == "step" else 1):
            found, states = called(run, x.numpy(), states)
            total = total + found
        np.testing.assert_allclose(total / (3 if form == "step" else 1), expected, atol=1e-5)


def test_a_sequence_has_no_steps_to_unroll_and_two_outputs_are_refused(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Sequential(Repeat(3), Linear(4, 6), LIF()), MeanReadout()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            spikes = self.first(x)
            return self.last(spikes), spikes

    sequence = bitspike.fold(net(LIF()).eval(), torch.rand(5, 7, 4))
    with pytest.raises(ValueError, match=r"no number of steps: give steps=N, or form=scan or step"):
        export(sequence, "onnx-float", tmp_path / "m.onnx", shape="4")
    two = bitspike.fold(Two().eval(), torch.rand(7, 4))
    for form in FORMS:
        with pytest.raises(ValueError, match=r"the network returns 2 tensors: export graph\.only"):
            export(two, "onnx-float", tmp_path / "m.onnx", form=form, shape="4")


@pytest.mark.parametrize("readout", [MeanReadout, StepReadout])
def test_samples_of_frames(readout: type[nn.Module], tmp_path: Path) -> None:
    """Unrolled they are what the network takes, [B, T, ...]; a loop takes steps of them, as a stream does."""
    torch.manual_seed(0)
    model = nn.Sequential(Frames(5), *list(net(LIF(decay=0.5), readout=readout()))).eval()
    x = torch.rand(7, 5, 4) * 6 - 2
    network = bitspike.fold(model, x)
    with torch.no_grad():
        expected = network(x).numpy()
    assert np.ptp(expected) > 0.1
    files = export(network, "onnx-float", tmp_path / "m.onnx").files  # the shape is that of what fold was shown
    run = onnxruntime.InferenceSession(files[0], providers=["CPUExecutionProvider"])
    assert [*run.get_inputs()[0].shape] == ["batch", 5, 4]
    np.testing.assert_allclose(run.run(None, {"input": x.numpy()})[0], expected, atol=1e-5)
    run, states = loaded(export(network, "onnx-float", tmp_path / "l.onnx", form="scan", shape="5,4").files, 7)
    found = []
    for chunk in x.transpose(0, 1).numpy()[:2], x.transpose(0, 1).numpy()[2:]:
        each, states = called(run, chunk, states)
        found.append(each)
    got = np.concatenate(found) if readout is StepReadout else found[-1]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    for form in FORMS:
        with pytest.raises(ValueError, match=r"shape 4: samples begin with their steps, 5: give shape=5,\.\.\."):
            export(network, "onnx-float", tmp_path / "n.onnx", form=form, shape="4")


@pytest.mark.parametrize("form", ["scan", "step"])
def test_what_reads_samples_before_they_are_steps_is_refused(form: str, tmp_path: Path) -> None:
    """The batch of a step once stood where their time had been, so samples were mixed."""

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frames, self.net = Frames(5), net(LIF(decay=0.5))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(self.frames(x - x.mean(1, keepdim=True)))  # type: ignore[no-any-return]

    network = bitspike.fold(Centred().eval(), torch.rand(7, 5, 4))
    with pytest.raises(ValueError, match="reads whole samples before they are steps: take form=unrolled"):
        export(network, "onnx-float", tmp_path / "m.onnx", form=form)
    export(network, "onnx-float", tmp_path / "m.onnx")


def test_samples_of_fewer_frames(tmp_path: Path) -> None:
    """A graph is unrolled for the number of steps of its sample."""
    torch.manual_seed(0)
    network = bitspike.fold(nn.Sequential(Frames(5, ragged=True), *list(net(LIF()))).eval(), torch.rand(7, 5, 4))
    x = torch.rand(7, 3, 4) * 6 - 2
    made = export(network, "onnx-float", tmp_path / "m.onnx", shape="3,4")
    run = onnxruntime.InferenceSession(made.files[0], providers=["CPUExecutionProvider"])
    with torch.no_grad():
        np.testing.assert_allclose(run.run(None, {"input": x.numpy()})[0], network(x), atol=1e-5)
    assert made.facts["steps"] == 3
    with pytest.raises(ValueError, match="samples begin with their steps, at most 5"):
        export(network, "onnx-float", tmp_path / "m.onnx", shape="6,4")


def test_sequences_are_unrolled_for_as_many_steps_as_one_asks(tmp_path: Path) -> None:
    x = torch.rand(6, 7, 4) * 6 - 2
    network = bitspike.fold(net(LIF(decay=0.5)).eval(), x)
    made = export(network, "onnx-float", tmp_path / "m.onnx", steps=6)
    run = onnxruntime.InferenceSession(made.files[0], providers=["CPUExecutionProvider"])
    assert [*run.get_inputs()[0].shape] == [6, "batch", 4]
    for batch in (7, 2):
        with torch.no_grad():
            np.testing.assert_allclose(
                run.run(None, {"input": x[:, :batch].numpy()})[0], network(x[:, :batch]), atol=1e-5
            )
    assert made.facts["steps"] == 6


def test_every_step_of_an_unrolled_network_comes_out(tmp_path: Path) -> None:
    """Its batch is axis 1, which was once taken for a size that a layer fixes."""
    x = torch.rand(7, 4)
    network = bitspike.fold(net(LIF(), steps=3, readout=StepReadout()).eval(), x)
    export(network, "onnx-float", tmp_path / "m.onnx", shape="4")
    run = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert run.get_outputs()[0].shape == [3, "batch", 3]
    with torch.no_grad():
        np.testing.assert_allclose(run.run(None, {"input": x.numpy()})[0], network(x), atol=1e-5)


def one_rate(seed: int) -> tuple[nn.Module, Tensor, str]:
    """A random network most of which a loop can say: steps are the same everywhere, and no operator is unknown."""
    choose = chooser(seed)
    unsaid = re.compile(
        r"squeeze|windows|refined|join|first|whole|tally|adaptive (a|m)|shuffle|poisson|latency|delta|phase", re.I
    )

    def chosen(name: str, options: Any, row: Any) -> Any:
        return choose(name, [each for each in options if not unsaid.search(str(each))] or options, row)

    plan = draw(seed, chosen, {"sends": "one"})  # all that the target says
    return *tuned(plan, 16), str(plan)


@pytest.mark.slow
def test_random_networks(tmp_path: Path) -> None:
    """As a loop they give the network's outputs and go on as a stream; unrolled the same; flips of 1 sample in 100."""
    compared = flips = refused = 0
    seen: set[str] = set()
    for seed in range(16):
        model, x, what = one_rate(seed)
        network, x = bitspike.fold(model.float(), x.float()), x.float()
        axis = network.graph.batch_axis
        shape = ",".join(map(str, x.shape[axis + 1 :]))
        try:
            found = export(network, "onnx-float", tmp_path / "m.onnx", form="scan", shape=shape)
        except ValueError as error:
            assert re.search("mixes steps|must know every function|fix the size|divisor of its own", str(error)), what
            refused += 1
            continue
        seen.update(word for word in ("repeat", "frames", "events", "per_step", "by step", "late") if word in what)
        run, states = loaded(found.files, x.shape[axis])
        with torch.no_grad():
            if "given frames" in what:
                fed = steps = x.transpose(0, 1)
            elif axis == 0:
                fed, steps = x, x[None].repeat(found.facts["steps"], *[1] * x.dim())  # type: ignore[index]
            else:
                fed = steps = x
            first, kept = bitspike.stream(network.graph, steps)
            second, _ = bitspike.stream(network.graph, steps, kept)
            pairs = [(network(x), first), (second, second)]
        flipped = np.zeros(x.shape[axis], bool)  # such a sample goes on with another membrane
        for expected, other in pairs:
            y, states = called(run, fed.numpy(), states)
            size = 1e-4 * max(1.0, float(expected.abs().max()))
            far = [np.abs(y - each.numpy()).max(-1) > size for each in (expected, other)]
            flipped |= np.minimum(*(part if part.ndim == 1 else part.max(0) for part in far))
        flips, compared = flips + int(flipped.sum()), compared + x.shape[axis]
    print(f"{refused} refused, {flips} of {compared} samples flipped")
    assert compared >= 150 and flips <= compared // 100, (compared, flips)
    assert len(seen) == 6, seen


def test_a_branch_in_a_step_is_refused() -> None:
    """Its graph would read names of the step, which the loop gives others."""
    one = onnx.helper.make_tensor_value_info("y", 1, ["batch", 4])
    body = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["input"], ["y"])], "b", [], [one])
    branch = onnx.helper.make_node("If", ["c"], ["output"], "choice", then_branch=body, else_branch=body)
    truth = onnx.numpy_helper.from_array(np.array(True), "c")
    ends = [[onnx.helper.make_tensor_value_info(name, 1, ["batch", 4])] for name in ("input", "output")]
    model = onnx.helper.make_model(onnx.helper.make_graph([branch], "g", *ends, [truth]))
    with pytest.raises(ValueError, match="no function may choose between branches in a loop, got choice"):
        looped(model.SerializeToString(), (4,), 2, (4,), True)


@pytest.mark.slow
def test_openvino_gives_what_a_stream_gives(tmp_path: Path) -> None:
    for i, name in enumerate(STREAMED):
        folder = tmp_path / str(i)
        folder.mkdir()
        folded, x, _, _ = made(STREAMED[name](), folder)
        graph, kept, calls, answers = folded.graph, None, [], []
        for call in range(3):
            chunk = x + 0.25 * call
            with torch.no_grad():
                steps = chunk[None].repeat(3, *[1] * chunk.dim()) if graph.batch_axis == 0 else chunk
                expected, kept = bitspike.stream(graph, steps, kept)
            calls.append(chunk.numpy())
            answers.append(expected.numpy())
        starts = {f"start {name}": start for name, start in np.load(folder / "m.start.npz").items()}
        np.savez(tmp_path / f"net{i}.npz", x=np.stack(calls), y=np.stack(answers), batch=7, **starts)
        (folder / "m.onnx").rename(tmp_path / f"net{i}.onnx")
    found = ran("openvino_run.py", str(tmp_path), "1e-4")
    assert len(found) == len(STREAMED) and not {name: row for name, row in found.items() if row[0]}
