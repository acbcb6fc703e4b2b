"""One network of all mechanisms at once: trained, its bits and T learned, folded, costed, streamed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, stream
from bitspike.allocation import Allocation, AllocationConfig
from bitspike.allocation.averages import Averages
from bitspike.allocation.forecast import Forecast
from bitspike.cost import allocation_of, bit_budget, cost
from bitspike.data import ImageSet, Splits
from bitspike.fold import Folded
from bitspike.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Linear,
    MeanReadout,
    Refined,
    Repeat,
    Restimulate,
    Windows,
)
from bitspike.neurons import Adaptive, Integer, MultiBit, Neuron, Real, Ternary
from bitspike.quantizers import LearnedBits, Sign, Uniform
from bitspike.training import loop, recipe_from_mapping
from bitspike.training.job import measure
from networks import rng, spikes_of

C, SIDE, CLASSES = 6, 8, 3
CONFIG = AllocationConfig(
    weight_target=2.5, spike_target=2.0, steps_target=1.7, weight_pull=0.1, spike_pull=0.1, steps_pull=0.1, grid=20
)


class Mixed(nn.Module):
    """Ternary with a trained amplitude; real spikes into ±1 weights; learned bits and T, 4 → 2 frames → 3, 2, 1 steps.

    A shortcut carries ternary spikes; the multi-bit layer is stimulated again by what the layer before it sent. For
    images all frames are the image, and the 2 windows are not learned, which budgets do not allow.
    """

    def __init__(self, images: bool = False) -> None:
        super().__init__()
        learned = LearnedBits(4)
        self.encoder: nn.Module = Repeat(4) if images else nn.Identity()
        self.windows = Windows(2, frames=4, learn_T=not images)
        self.conv1, self.norm1 = Conv2d(2, C, 3, padding=1, weight=Uniform(8)), BatchNorm(C)
        self.ternary = Ternary(threshold=0.5, train_amplitude="layer").replicate(C)
        self.conv2, self.norm2 = Conv2d(C, C, 3, padding=1, weight=learned), BatchNorm(C)
        self.real = Real(threshold=0.5, train_amplitude="layer").replicate(C)
        self.conv3, self.norm3 = Conv2d(C, C, 3, padding=1, weight=Sign("input")), BatchNorm(C)
        self.adaptive = Refined(Adaptive(3), T=3, learn_T=True).replicate(C)
        self.conv4, self.norm4 = Conv2d(C, C, 3, padding=1, weight=learned), BatchNorm(C)
        self.restimulate = Restimulate(C)
        self.multibit = Refined(MultiBit(1, 2, learn_bits="fraction"), T=2, learn_T=True).replicate(C)
        self.pool = AvgPool2d(2)
        self.conv5, self.norm5 = Conv2d(C, C, 3, padding=1, weight=learned), BatchNorm(C)
        self.integer = Refined(Integer(7, learn_bits="integer"), T=1, learn_T=True).replicate(C)
        self.flatten, self.classifier = Flatten(), Linear(C * SIDE * SIDE // 4, CLASSES, weight=learned)
        self.readout = MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        """Frames [4, B, 2, 8, 8], or images [B, 2, 8, 8] → [B, 3]."""
        a = self.ternary(self.norm1(self.conv1(self.windows(self.encoder(x)))))
        b = self.real(self.norm2(self.conv2(a)))
        c = self.adaptive(self.norm3(self.conv3(b)) + a)
        d = self.multibit(self.norm4(self.conv4(c)) + self.restimulate(c))
        e = self.integer(self.norm5(self.conv5(self.pool(d))))
        return self.readout(self.classifier(self.flatten(e)))  # type: ignore[no-any-return]


def task(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy frames; the class is the third of the rows that is brighter, the first frame is noise alone."""
    labels = torch.arange(count) % CLASSES
    x = torch.randn(4, count, 2, SIDE, SIDE, generator=rng(seed)) * 0.5
    for index, label in enumerate(labels.tolist()):
        x[1:, index, :, 3 * label : 3 * label + 2] += 1.5
    return x, labels


@pytest.fixture(scope="module")
def trained() -> tuple[Mixed, dict[str, Any]]:
    """(network after 60 steps, what was seen on the way)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Mixed()
    allocation = Allocation(net, CONFIG)
    averages = Averages(allocation, torch.zeros(4, 1, 2, SIDE, SIDE))
    groups = allocation.groups()
    own = {id(p) for parameters in groups.values() for p in parameters}
    rates = {"bits": 0.8, "step": 0.1, "steps": 0.5}
    rest = [p for p in net.parameters() if id(p) not in own]
    optimiser = torch.optim.SGD(
        [{"params": rest, "momentum": 0.9}, *({"params": p, "lr": rates[kind]} for kind, p in groups.items())], lr=0.02
    )
    seen: dict[str, Any] = {"before": averages.values(), "losses": [], "changed": set(), "first": allocation.in_use()}
    allocation.start(task(48, 0)[0])
    for step in range(60):
        x, labels = task(48, step)
        loss = nn.functional.cross_entropy(net(x), labels)
        optimiser.zero_grad()
        (loss + averages()).backward()
        optimiser.step()
        seen["changed"] |= set(allocation.settle(x, optimiser))
        seen["losses"].append(loss.item())
    seen |= {"after": averages.values(), "last": allocation.in_use(), "graded": [n for n in allocation.spikes]}
    return net.eval(), seen


@pytest.fixture(scope="module")
def folded(trained: tuple[Mixed, dict[str, Any]]) -> tuple[Mixed, Folded, Tensor]:
    """(network in float64, folded, samples)."""
    net, x = copy.deepcopy(trained[0]).double(), task(24, 99)[0].double()
    return net, fold(net, x), x


def test_it_learns_its_task_and_its_allocation(trained: tuple[Mixed, dict[str, Any]]) -> None:
    net, seen = trained
    assert sum(seen["losses"][-5:]) < 0.5 * sum(seen["losses"][:5])
    x, labels = task(90, 1000)
    assert (net(x).argmax(1) == labels).float().mean() > 0.8
    targets = {"weights": 2.5, "spikes": 2.0, "steps": 1.7}
    for kind, target in targets.items():
        assert abs(seen["after"][kind] - target) < 0.6 * abs(seen["before"][kind] - target), kind
    assert set(seen["graded"]) == {"adaptive.neuron", "multibit.neuron", "integer.neuron"}
    assert set(seen["last"]["steps"]) == {"windows", "adaptive", "multibit", "integer"}
    assert set(seen["last"]["weights"]) == {"conv2", "conv4", "conv5", "classifier"}
    assert all(seen["first"][kind] != seen["last"][kind] for kind in targets) and len(seen["changed"]) >= 4


def test_a_checkpoint_holds_the_allocation(trained: tuple[Mixed, dict[str, Any]]) -> None:
    net, _ = trained
    twin = Mixed().eval()
    twin.load_state_dict(net.state_dict())
    x, _ = task(6, 7)
    assert torch.equal(twin(x), net(x))
    assert Allocation(twin, CONFIG).in_use() == Allocation(net, CONFIG).in_use()


def test_it_folds(folded: tuple[Mixed, Folded, Tensor]) -> None:
    """No flip where both get the same spikes; every neuron fires; all but real spikes are integers."""
    net, small, x = folded
    report = small.report
    assert report.forced_flips == 0 and report.max_logit_difference_forced < 1e-9
    assert set(report.layers) == {"ternary", "real", "adaptive_neuron", "multibit_neuron", "integer_neuron"}
    assert all(0.02 < layer.rate < 0.999 for layer in report.layers.values())
    values, levels = spikes_of(small.graph, x)
    assert torch.allclose(values, net(x), atol=1e-9)
    for node in small.graph.of_kind("neuron"):
        assert isinstance(node.module, Neuron)
        if not node.module.format.real:
            assert torch.equal(levels[node.name], levels[node.name].round())
            assert levels[node.name].abs().max() <= node.module.format.high


def test_its_cost_is_that_of_its_allocation(folded: tuple[Mixed, Folded, Tensor]) -> None:
    net, small, x = folded
    counted = cost(small.graph, x)
    rows = {row["name"]: row for row in allocation_of(counted)}
    weights = {name: m.quantizer.format.bits for name, m in net.named_modules() if isinstance(m, (Conv2d, Linear))}
    assert {name: row["weight_bits"] for name, row in rows.items()} == weights
    frames = net.windows.T
    assert [rows[name]["T"] for name in ("conv1", "conv2", "conv3")] == [frames] * 3
    assert rows["conv4"]["T"] == net.adaptive.time_steps
    assert rows["conv2"]["spike_bits"] == 2 and rows["conv3"]["spike_bits"] == 32
    assert rows["conv4"]["spike_bits"] == net.adaptive.format.bits
    layer = {row.name: row for row in counted.synapses}
    macs = C * C * 9 * SIDE * SIDE
    assert layer["conv4"].s_ace == macs * weights["conv4"] * net.adaptive.format.bits * net.adaptive.time_steps
    assert layer["conv2"].s_ace == macs * weights["conv2"] * 2 * frames
    assert layer["conv2"].multiplications == layer["conv3"].multiplications == 0  # ternary spikes, ±1 weights
    assert layer["conv2"].adds > 0 and layer["conv3"].adds > 0 and layer["conv4"].shift_adds > 0
    assert {row.kind for row in counted.layers} >= {"synapse", "affine", "attention"}
    assert bit_budget(counted)["mean_weight_bits"] < 8


@pytest.mark.parametrize("sizes", [[4], [1, 3], [2, 1, 1], [1, 1, 1, 1]])
def test_a_stream_equals_the_batch(folded: tuple[Mixed, Folded, Tensor], sizes: list[int]) -> None:
    net, small, x = folded
    for network, whole in ((net, net(x)), (small.graph, small(x))):
        states, y = None, torch.zeros(())
        for part in x.split(sizes):
            y, states = stream(network, part, states)
        assert torch.equal(y, whole)


def splits() -> Splits:
    """Images whose class is the third of the rows that is brighter."""

    def part(count: int, seed: int) -> ImageSet:
        labels = torch.arange(count) % CLASSES
        pixels = torch.randint(0, 100, (count, 2, SIDE, SIDE), generator=rng(seed))
        for index, label in enumerate(labels.tolist()):
            pixels[index, :, 3 * label : 3 * label + 2] += 100
        return ImageSet(pixels.to(torch.uint8), labels, tuple("abc"), 255, (0.3,) * 2, (0.3,) * 2, "rows")

    return Splits(part(192, 0), part(48, 1), part(48, 2))


def test_it_keeps_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole training loop: pressure, repair, frozen fine-tuning, folding, verdict; then streamed."""
    start = Forecast(Allocation(Mixed(images=True), AllocationConfig()), torch.zeros(2, 2, SIDE, SIDE))
    first = start.values(["s-ace", "size"], start.state)
    shares = {"s-ace": 0.9, "size": 0.85, "ns-ace": 0.72}  # of the S-ACE for NS-ACE too
    limits = {name: share * first.get(name, first["s-ace"])[0] for name, share in shares.items()}
    recipe = recipe_from_mapping(
        {
            "name": "mixed",
            "data": {"name": "digits", "batch_size": 16},
            "model": {"name": "mlp", "T": 1},
            "neuron": {"name": "lif"},
            "weight": {"name": "float"},
            "train": {"epochs": 6, "lr": 0.05, "threads": 1},
            "allocation": {"refined": True, "learn_steps": True, "grid": 20, "bits_lr": 0.3, "budget": limits},
        }
    )
    monkeypatch.setattr(loop, "build_model", lambda *_: Mixed(images=True))
    data = splits()
    run = loop.fit(recipe, data)
    small, result = measure(recipe, data, run)
    verdict = result["budget"]
    assert verdict["met"] and verdict["used"] >= 0.9 and set(verdict["budgets"]) == set(limits)
    assert all(row["used"] <= 1 for row in verdict["budgets"].values())
    before, after = (run.history[at]["allocation"] for at in (0, -1))
    assert all(before[kind] != after[kind] for kind in ("weights", "spikes", "steps"))
    assert run.history[0]["budget_used"] > 1.1 and result["test_accuracy"] > 0.8
    x = data.test.normalise(data.test.images[:5])
    whole, states, y = small(x), None, torch.zeros(())
    for _ in range(4):  # the frames that the encoder sends
        y, states = stream(small.graph, x[None], states)
    assert torch.allclose(y, whole, atol=1e-6) and whole.argmax(1).tolist() == run.model(x).argmax(1).tolist()
