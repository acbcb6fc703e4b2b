"""Upgraded networks equal the ones built by hand, and fold, cost and stream take them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from bitspike import upgrade
from bitspike.layers import BatchNorm, Poisson, Synapse
from bitspike.models import Network, he_resnet20, study_cnn
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Ternary
from networks import SHAPE, flips_between, liven, samples, small_cnn, spikes_of


class Block(nn.Module):
    """The residual block of `study_cnn` as torch's users write it; one in-place ReLU used twice."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += self.shortcut(x)
        return self.relu(out)


class Twin(nn.Module):
    """`study_cnn` with 6 channels in torch's layers; ``way``: how relu, pool and flattening are written."""

    def __init__(self, way: str = "functions") -> None:
        super().__init__()
        self.way = way
        self.stem, self.norm = nn.Conv2d(SHAPE[0], 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6)
        self.block1, self.block2 = Block(6, 6, 1), Block(6, 12, 2)
        self.pool, self.flatten, self.relu = nn.AvgPool2d(2), nn.Flatten(), nn.ReLU()
        self.fc = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        if self.way == "functions":
            x = self.block2(self.block1(F.relu(x)))
            return self.fc(torch.flatten(F.avg_pool2d(x, 2), 1))
        if self.way == "methods":
            x = self.block2(self.block1(x.relu_()))
            return self.fc(F.avg_pool2d(x, kernel_size=(2, 2), stride=2).view(x.size(0), -1))
        if self.way == "shapes":
            x = self.block2(self.block1(torch.relu(input=x)))
            return self.fc(self.pool(x).reshape(x.shape[0], self.fc.in_features).contiguous())
        x = self.block2(self.block1(self.relu(x)))
        return self.fc(self.flatten(self.pool(x)))


BUILT = {
    "stem": "body.0", "norm": "body.1", "block1": "body.3", "block2": "body.4", "fc": "body.7"
}  # fmt: skip


def twins(neuron: Neuron, way: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """`study_cnn` with lively norms, and its twin upgraded with the same weights and the same trained amplitudes."""
    x = samples(12)
    built = liven(small_cnn(neuron, T=3), x)
    twin = Twin(way).double().eval()
    for ours, theirs in BUILT.items():
        state = {k: v for k, v in built.get_submodule(theirs).state_dict().items() if "neuron" not in k}
        missing, unexpected = getattr(twin, ours).load_state_dict(state, strict=False)
        assert not unexpected and all("num_batches_tracked" in key for key in missing)
    net = upgrade(twin, {nn.ReLU: neuron}, x, T=3)
    ours = [m for m in net.modules() if isinstance(m, Neuron)]
    theirs = [m for m in built.modules() if isinstance(m, Neuron)]
    for one, other in zip(ours, theirs, strict=True):
        one.load_state_dict(other.state_dict())
    return built, net, x


@pytest.mark.parametrize("way", ["functions", "methods", "shapes", "modules"])
def test_every_way_of_writing_gives_the_network_built_by_hand(way: str) -> None:
    built, net, x = twins(MultiBit(amplitude=1.37, train_amplitude="channel"), way)
    wanted, before = spikes_of(built, x)
    got, after = spikes_of(net, x)
    assert torch.equal(wanted, got)
    assert all(0.02 < float((levels != 0).double().mean()) < 0.98 for levels in before.values())
    assert len(before) == len(after) == 5
    assert not any(
        f.any() for f in flips_between(before, dict(zip(before, after.values(), strict=True)), False).values()
    )
    kinds = [[node.kind for node in bitspike.trace(n)] for n in (built, net)]
    assert kinds[0] == kinds[1]
    roles = [[m.role for m in n.modules() if isinstance(m, Synapse)] for n in (built, net)]
    assert sorted(roles[0]) == sorted(roles[1])
    assert net.report.merged == {} and net.report.left_alone == {} and len(net.report.neurons) == 5
    assert net.report.split["block1.relu"] == ["block1.relu", "block1.relu_1"]


@pytest.mark.parametrize(
    "neuron", [LIF(), Ternary(amplitude=1.37), MultiBit(), Integer(2)], ids=lambda n: type(n).__name__
)
def test_training_and_gradients_are_those_of_the_network_built_by_hand(neuron: Neuron) -> None:
    built, net, x = twins(neuron, "functions")
    weights = torch.linspace(-1, 1, 60, dtype=x.dtype).reshape(12, 5)
    for one in (built, net):
        (one.train()(x) * weights).sum().backward()
    theirs = built.body[3].conv1.weight.grad
    assert theirs.abs().max() > 0 and torch.allclose(net.body.block1.conv1.weight.grad, theirs, rtol=1e-9)
    assert torch.equal(net.body.norm.running_mean, built.body[1].running_mean)


def test_fold_cost_and_stream_take_it() -> None:
    built, net, x = twins(MultiBit(amplitude=1.37, train_amplitude="channel"), "methods")
    folded, wanted = bitspike.fold(net, x), bitspike.fold(built, x)
    assert folded.report.end_to_end_flips == 0 and folded.report.max_logit_difference < 1e-9
    assert sorted(folded.report.gains.values()) == sorted(wanted.report.gains.values())
    counted, other = (bitspike.cost(f.graph, x) for f in (folded, wanted))
    for kind in ("adds", "shift_adds", "multiplications", "macs"):
        assert counted.total(kind) == pytest.approx(other.total(kind)) and counted.total("macs") > 0
    graph, sequence = bitspike.trace(net), net.encoder(x)
    _, states = bitspike.stream(graph, sequence[:2])
    logits, _ = bitspike.stream(graph, sequence[2:], states)
    assert torch.equal(logits, net(x))


def test_a_network_of_ours_with_relu() -> None:
    torch.manual_seed(0)
    analog = he_resnet20(nn.ReLU(), T=1, width=4, shape=(3, 8, 8)).eval()
    x = 3 * torch.randn(4, 3, 8, 8)
    net = upgrade(analog, {nn.ReLU: MultiBit()}, T=3)
    built = he_resnet20(MultiBit(), T=3, width=4, shape=(3, 8, 8)).eval()
    built.load_state_dict(net.state_dict())
    assert list(net.state_dict()) == list(analog.state_dict())
    assert torch.equal(net(x), built(x)) and net(x).abs().max() > 0
    assert len(net.report.neurons) == 19 and net.report.guessed and "joint" in net.report.norm
    bitspike.fold(net, x)


def test_neurons_of_ours_can_be_exchanged() -> None:
    x = samples(3, dtype=torch.float32)
    built = small_cnn(LIF(), T=2, readout="steps")
    net = upgrade(built, {"3.*": Ternary(), LIF: MultiBit(train_amplitude="channel")}, x, T=4)
    assert (
        sorted(type(m).__name__ for m in net.modules() if isinstance(m, Neuron)) == ["MultiBit"] * 3 + ["Ternary"] * 2
    )
    assert net(x).shape == (4, 3, 5) and built(x).shape == (2, 3, 5)
    sequences = upgrade(built, {LIF: MultiBit()}, x, encoder=None, readout="mean")
    assert sequences(torch.stack([x, x])).shape == (3, 5)


def test_a_network_over_time_with_its_own_encoder_is_refused() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = study_cnn(LIF(), shape=SHAPE, width=4, stem_stride=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    with pytest.raises(ValueError, match=r"'net.encoder'; pass Network\(encoder, body, readout\)"):
        upgrade(Own(), {LIF: MultiBit()})
    assert isinstance(Own().net, Network)


def test_the_model_is_copied_and_its_modes_kept() -> None:
    model = Twin().train()
    model.block1.norm1.eval()
    before = copy.deepcopy(model.state_dict())
    net = upgrade(model, {nn.ReLU: LIF()})
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.training and not model.block1.norm1.training and model.block1.relu.inplace
    assert net.training and net.body.norm.training and not net.body.block1.norm1.training
    assert net.body.relu.training and not upgrade(model.eval(), {nn.ReLU: LIF()}).body.norm.training
    pointers = {p.data_ptr() for p in model.parameters()}
    assert not pointers & {p.data_ptr() for p in net.parameters()}
    assert len(list(net.parameters())) == len(list(model.parameters()))


def test_shared_and_frozen_parameters_stay_so() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
            self.b.weight = self.a.weight
            self.c.weight.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(F.relu(self.b(F.relu(self.a(F.relu(self.a(x)))))))

    net = upgrade(Tied(), {nn.ReLU: LIF()})
    assert net.body.b.weight is net.body.a.weight and not net.body.c.weight.requires_grad
    synapses = bitspike.trace(net).of_kind("synapse")
    assert [node.path for node in synapses] == ["body.a", "body.a", "body.b", "body.c"]


@pytest.mark.parametrize(("norm", "same"), [("joint", False), ("per_step", True)])
def test_how_batch_norm_sees_time(norm: str, same: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).train()
    net = upgrade(model, {nn.ReLU: LIF()}, encoder=None, readout="steps", norm=norm)
    assert net.report.norm.startswith(norm)
    layer = net.body.get_submodule("1")
    assert isinstance(layer, BatchNorm) and layer.mode == norm
    x = torch.randn(2, 6, 4) * torch.tensor([1.0, 5.0]).reshape(2, 1, 1)
    mean = layer(x).mean(1).abs().amax(1)
    assert bool((mean < 1e-5).all()) == same


def test_encoders_readouts_and_sequences() -> None:
    model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), torch.rand(5, 6)
    mapping = {nn.ReLU: LIF()}
    assert upgrade(model, mapping, T=4)(x).shape == (5, 2)
    assert upgrade(model, mapping, T=4, readout="steps")(x).shape == (4, 5, 2)
    assert upgrade(model, mapping, encoder="poisson", T=7, readout="steps")(x).shape == (7, 5, 2)
    assert upgrade(model, mapping, encoder=Poisson(6), readout="steps")(x).shape == (6, 5, 2)
    assert upgrade(model, mapping, encoder=None)(torch.rand(3, 5, 6)).shape == (5, 2)


def test_it_can_be_copied_pickled_and_traced_again() -> None:
    net, x = upgrade(Twin(), {nn.ReLU: MultiBit()}).eval(), torch.randn(3, *SHAPE)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x), net(x)) and twin.report.neurons == net.report.neurons
