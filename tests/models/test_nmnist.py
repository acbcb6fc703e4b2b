"""The published N-MNIST network: against a forward pass written out, through fold, stream and cost; its accuracy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bitspike
from bitspike.cost import cost, quantized_ann
from bitspike.data import EventSet, load_events
from bitspike.layers import SumPool2d, Synapse
from bitspike.models import load_nmnist_checkpoint, nmnist_cnn
from bitspike.neurons import LIF, Integer, MultiBit, Neuron
from bitspike.quantizers import Uniform
from bitspike.sealed import amend
from networks import rng

NEURONS: dict[str, Callable[[], Neuron | None]] = {
    "one": lambda: None,
    "several": lambda: MultiBit(8, 0, decay=1.0, floor=-1.0),
    "several, rounding": lambda: Integer(255, decay=1.0, initial=-0.5, floor=-1.5),
}
SHAPES = {0: (16, 2, 5, 5), 2: (16, 16, 3, 3), 5: (8, 16, 3, 3), 9: (256, 128), 11: (10, 256)}
SCALE = {0: (0.05, 0.4), 2: (-0.02, 0.3), 5: (-0.01, 0.15), 9: (-0.02, 0.15), 11: (-0.01, 0.2)}


def tensors() -> dict[str, Tensor]:
    """Random multiples of 1/64, so that sums are exact, with the names and shapes of the file."""
    found = {}
    for place, shape in SHAPES.items():
        mean, deviation = SCALE[place]
        drawn = mean + deviation * torch.randn(shape, generator=rng(place))
        found[f"{place}.weight"] = (drawn * 64).round() / 64
    return found


@pytest.fixture
def published(tmp_path: Path) -> Path:
    torch.save(tensors(), tmp_path / "nmnist.pth")
    return tmp_path / "nmnist.pth"


@pytest.fixture
def events(tmp_path: Path) -> EventSet:
    """Synthetic recordings through a file: at random places, ON on one side of a diagonal."""
    rng = np.random.default_rng(0)
    counts = [2400, 3000, 1800, 2700]
    x, y = (rng.integers(0, 34, sum(counts)).astype(np.uint8) for _ in "xy")
    steps = rng.integers(0, 13, sum(counts)).astype(np.uint16)
    held = {"x": x, "y": y, "p_bits": np.packbits(x > y), "dt": steps}
    np.savez(tmp_path / "events.npz", **held, offsets=np.cumsum([0, *counts]), labels=np.arange(4))
    return load_events(tmp_path / "events.npz")


def forward(given: dict[str, Tensor], frames: Tensor, most: float) -> Tensor:
    """The network written out step by step: integrate from the floor −1 up, fire, subtract. Counts [B, 10]."""
    w = {int(name.split(".")[0]): value.to(frames.dtype) for name, value in given.items()}
    membranes: dict[int, Tensor] = {}

    def fire(place: int, current: Tensor) -> Tensor:
        u = torch.maximum(membranes.get(place, torch.zeros_like(current)) + current, torch.tensor(-1.0).to(current))
        k = u.floor().clamp(0, most)
        membranes[place] = u - k
        return k

    total = 0
    for x in frames:
        x = fire(0, F.conv2d(x, w[0], stride=2, padding=1))
        x = 4 * F.avg_pool2d(fire(2, F.conv2d(x, w[2], padding=1)), 2)
        x = 4 * F.avg_pool2d(fire(5, F.conv2d(x, w[5], padding=1)), 2)
        total = total + fire(11, F.linear(fire(9, F.linear(x.flatten(1), w[9])), w[11]))
    return total  # type: ignore[return-value]


@pytest.mark.parametrize("name", list(NEURONS))
def test_it_equals_a_forward_pass_written_out(name: str, published: Path, events: EventSet) -> None:
    """Spike counts, exactly (dyadic weights), and the floor is reached; every layer fires 2 to 98 % of the time."""
    net = load_nmnist_checkpoint(nmnist_cnn(NEURONS[name]()), published).eval()
    x = events.frames(range(4), T=16).float()
    assert x.sum() == (events.time_us < 16_000).sum() > 8000
    with torch.no_grad():
        counts = 16 * net(x)
        wanted = forward(tensors(), x, 1 if name == "one" else 255)
        assert torch.equal(counts, wanted) and wanted.std() > 0.5
        activity = bitspike.observe(net, [x])
    assert all(0.02 < layer.rate < 0.98 for layer in activity.values()), {n: a.rate for n, a in activity.items()}
    most = max(max(layer.histogram) for layer in activity.values())
    assert most == 1 if name == "one" else most > 2
    for module in net.modules():
        if isinstance(module, Neuron):
            amend(module.membrane, floor=None)
    with torch.no_grad():
        assert not torch.equal(16 * net(x), wanted)


@pytest.mark.parametrize("name", list(NEURONS))
def test_fold_and_stream_equal_it(name: str, published: Path, events: EventSet) -> None:
    net = load_nmnist_checkpoint(nmnist_cnn(NEURONS[name]()), published).eval()
    x = events.frames(range(4), T=12).float()
    folded = bitspike.fold(net, x)
    report = folded.report
    assert report.samples == 4 and report.forced_flips == report.end_to_end_flips == 0
    assert report.max_logit_difference_all == 0 and report.agreement == 1 and not report.gains and not report.affines
    with torch.no_grad():
        whole = net(x)
        assert torch.equal(folded(x), whole)
        for network in (net, folded.net):
            states, y = None, None
            for part in x.split((1, 4, 7)):
                y, states = bitspike.stream(network, part, states)
            assert y is not None and torch.equal(y, whole)


def test_cost_counts_pools_and_floors(published: Path, events: EventSet) -> None:
    """Sums of four 1-bit spikes are levels 0 to 4: the synapse behind adds shifted weights, it does not multiply."""
    T = 6
    net = load_nmnist_checkpoint(nmnist_cnn(), published).eval()
    x = events.frames(range(2), T).float()
    counted = cost(net, x)
    assert not counted.uncounted
    pools = [row for row in counted.elements if row.kind == "pool"]
    assert [(row.inputs, row.outputs) for row in pools] == [(16 * 16 * 16, 16 * 8 * 8), (8 * 8 * 8, 8 * 4 * 4)]
    assert [row.side_adds for row in pools] == [3.0 * T * 1024, 3.0 * T * 128]
    assert all(row.side_multiplications == row.shifts == row.comparisons == 0 for row in pools)
    first, second, third, hidden, last = counted.synapses
    assert [row.input_bits for row in (second, third, hidden, last)] == [1, 3, 3, 1]
    assert first.multiplications > 0 and not any(row.multiplications for row in (second, third, hidden, last))
    assert third.adds == hidden.adds == 0 and min(third.shift_adds, hidden.shift_adds) > 0 < second.adds
    assert third.set_bits >= third.rate > 0
    neurons = [row for row in counted.elements if row.kind == "neuron"]
    sizes = [4096, 4096, 512, 256, 10]
    assert [row.comparisons for row in neurons] == [n * (T + T - 1) for n in sizes]  # one bit a step; a floor between
    free = nmnist_cnn(LIF(decay=1.0, reset="soft"))
    rows = [row for row in cost(free.eval(), x).elements if row.kind == "neuron"]
    assert [row.comparisons for row in rows] == [n * T for n in sizes]
    ann = quantized_ann(counted)
    assert [row.side_adds for row in ann.elements if row.kind == "pool"] == [3.0 * 1024, 3.0 * 128]
    assert [row.comparisons for row in ann.elements if row.kind == "neuron"] == [3 * n for n in sizes]


def test_unary_expansion_runs_behind_a_sum_pool(published: Path, events: EventSet) -> None:
    """Sums of four spikes up to 3 become twelve binary sub-steps; the result is the same."""
    net = load_nmnist_checkpoint(nmnist_cnn(Integer(3, decay=1.0, initial=-0.5, floor=-1.5)), published).eval()
    x = events.frames([0, 3], T=5).float()
    folded = bitspike.fold(net, x)
    with torch.no_grad():
        assert torch.equal(bitspike.expand_unary(folded.net).run(x), folded(x))


def test_the_analog_network_is_relu(published: Path, events: EventSet) -> None:
    net = load_nmnist_checkpoint(nmnist_cnn(nn.ReLU()), published).eval()
    x = events.frames(range(4), T=1, step_us=10**6).float()
    w = tensors()
    y = F.relu(F.conv2d(F.relu(F.conv2d(x[0], w["0.weight"], stride=2, padding=1)), w["2.weight"], padding=1))
    y = F.relu(F.conv2d(4 * F.avg_pool2d(y, 2), w["5.weight"], padding=1))
    y = F.relu(F.linear(F.relu(F.linear((4 * F.avg_pool2d(y, 2)).flatten(1), w["9.weight"])), w["11.weight"]))
    torch.testing.assert_close(net(x), y)
    assert y.std() > 0


def test_quantizers_start_from_the_loaded_weights(published: Path) -> None:
    net = nmnist_cnn()
    for module in net.modules():
        if isinstance(module, Synapse):
            module.quantize_with(Uniform(4))
    load_nmnist_checkpoint(net, published)
    for module in net.modules():
        if isinstance(module, Synapse):
            assert torch.equal(module.quantizer(module.weight), Uniform(4).replicate(module.weight)(module.weight))
    assert [m.kernel for m in net if isinstance(m, SumPool2d)] == [2, 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {**tensors(), "9.bias": torch.zeros(256)},
            r"got 1 unknown \(9\.bias, …\); build nmnist_cnn",
        ),
        ({name: value for name, value in tensors().items() if name != "5.weight"}, r"got 1 missing \(5\.weight"),
        (
            {**tensors(), "9.weight": torch.zeros(256, 512)},
            r"9\.weight must have the shape .* \[256, 512\] for",
        ),
        ({**tensors(), "0.weight": torch.full((16, 2, 5, 5), torch.nan)}, r"'0\.weight' must be finite"),
        ({"state_dict": tensors()}, "must hold a dict of tensors"),
        ([torch.zeros(1)], "must hold a dict of tensors, got list"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    net = nmnist_cnn()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=words) as caught:
        load_nmnist_checkpoint(net, path)
    assert str(caught.value).startswith("load_nmnist_checkpoint ") and "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match="checkpoint that holds tensors and nothing to execute"):
        load_nmnist_checkpoint(net, path)


def real(name: str) -> nn.Module:
    path = Path(os.environ["BITSPIKE_DATA"]) / "checkpoints" / "nir_nmnist_cnn_ann_weights.pth"
    return load_nmnist_checkpoint(nmnist_cnn(NEURONS[name]()), path).eval()


def correct(net: nn.Module, file: str, count: int) -> int:
    """Recordings whose class is the neuron that sent most in 300 steps of 1 ms."""
    data = load_events(Path(os.environ["BITSPIKE_DATA"]) / "nmnist" / file)
    right = 0
    with torch.no_grad():
        for numbers in torch.arange(count).split(25):
            found = net(data.frames(numbers.tolist()).float()).argmax(1)
            right += int((found == data.labels[numbers]).sum())
    return right


@pytest.mark.data
@pytest.mark.parametrize(("name", "right"), [("one", 98), ("several", 96)])
def test_accuracy_on_100_test_recordings(name: str, right: int) -> None:
    """98 and 96 as measured by the keepers of the data; one recording may differ by rounding."""
    assert abs(correct(real(name), "nmnist_test100.npz", 100) - right) <= 1


@pytest.mark.data
@pytest.mark.slow
def test_accuracy_on_300_training_recordings() -> None:
    """98.7 % with several spikes a step, as measured by the keepers of the data."""
    assert abs(correct(real("several"), "nmnist_train1000.npz", 300) - 296) <= 1


@pytest.mark.data
def test_real_recordings_through_fold_stream_and_cost() -> None:
    net = real("one")
    data = load_events(Path(os.environ["BITSPIKE_DATA"]) / "nmnist" / "nmnist_train1000.npz")
    x = data.frames(range(4), T=100).float()
    folded = bitspike.fold(net, x)
    assert folded.report.end_to_end_flips == 0 and all(r.rate > 0.001 for r in folded.report.layers.values())
    states, y = None, None
    with torch.no_grad():
        for part in x.split(30):
            y, states = bitspike.stream(folded.net, part, states)
        torch.testing.assert_close(y, net(x), rtol=0, atol=0)
    counted = cost(folded.graph, x)
    assert not counted.uncounted
    assert [row.multiplications > 0 for row in counted.synapses] == [True, False, False, False, False]
