"""Which places a mapping means, which layers are translated, and what runs with time merged into the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from bitspike import upgrade
from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, Flatten, GlobalAvgPool, MaxPool2d, SumPool2d
from bitspike.neurons import LIF, MultiBit, Neuron, Ternary
from bitspike.upgrade import Convolution, Merged
from bitspike.upgrade.transposed import TransposedConvolution


class Net(nn.Module):
    """A forward given as a function of the module; its layers by keyword."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.written = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def dense(forward: Callable[[Any, Tensor], Any], **more: Any) -> Net:
    """fc1: 4 → 6, fc2: 6 → 3."""
    return Net(forward, fc1=nn.Linear(4, 6), fc2=nn.Linear(6, 3), **more)


def as_it_was(model: nn.Module, sample: Tensor, **options: Any) -> tuple[nn.Module, Any]:
    """Upgrade with ReLUs in the place of ReLUs: every step must give what the model gives; (network, report)."""
    net = upgrade(model.eval(), {nn.ReLU: nn.ReLU()}, sample, encoder=None, readout="steps", **options)
    steps = torch.stack([sample, 0.5 * sample.flip(0), sample.roll(1, 0) - 0.1])
    with torch.no_grad():
        wanted = torch.stack([model(step) for step in steps])
        assert torch.allclose(net(steps), wanted, atol=1e-5), "the time-merged network computes something else"
    assert wanted.abs().max() > 0
    return net, net.report


SPELLINGS = {
    "F.relu": lambda s, x: s.fc2(F.relu(s.fc1(x))),
    "F.relu_": lambda s, x: s.fc2(F.relu_(s.fc1(x))),
    "inplace": lambda s, x: s.fc2(F.relu(s.fc1(x), inplace=True)),
    "keyword": lambda s, x: s.fc2(F.relu(input=s.fc1(x))),
    "torch.relu": lambda s, x: s.fc2(torch.relu(s.fc1(x))),
    "x.relu()": lambda s, x: s.fc2(s.fc1(x).relu()),
    "x.relu_()": lambda s, x: s.fc2(s.fc1(x).relu_()),
    "clamp": lambda s, x: s.fc2(s.fc1(x).clamp(min=0)),
    "torch.clamp": lambda s, x: s.fc2(torch.clamp(s.fc1(x), 0)),
    "clamp_min": lambda s, x: s.fc2(s.fc1(x).clamp_min(0.0)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_relu(spelling: str) -> None:
    model = dense(SPELLINGS[spelling])
    net = upgrade(model, {nn.ReLU: MultiBit()}, T=3)
    assert list(net.report.neurons.values()) == ["ReLU → MultiBit"] and not net.report.merged
    neuron = next(m for m in net.modules() if isinstance(m, Neuron))
    x = 3 * torch.randn(5, 4)
    wanted = torch.stack([model.fc2(s) for s in neuron(model.fc1(x).expand(3, 5, 6))]).mean(0)
    assert torch.allclose(net(x), wanted, atol=1e-6) and wanted.abs().max() > 0


def test_a_bounded_clamp_is_no_relu() -> None:
    with pytest.raises(ValueError, match="every key must match a place"):
        upgrade(dense(lambda s, x: s.fc2(s.fc1(x).clamp(0, 1))), {nn.ReLU: LIF()})


@pytest.mark.parametrize(
    ("kind", "call"),
    [(nn.GELU, F.gelu), (nn.Sigmoid, torch.sigmoid), (nn.Tanh, lambda x: x.tanh()), (nn.SiLU, F.silu)],
)
def test_other_activations_by_function(kind: type[nn.Module], call: Callable[[Tensor], Tensor]) -> None:
    model = dense(lambda s, x: s.fc2(F.relu(call(s.fc1(x)))))
    assert list(upgrade(model, {kind: LIF()}).report.left_alone.values()) == ["ReLU"]
    assert list(upgrade(model, {nn.ReLU: LIF()}).report.left_alone.values()) == [kind.__name__]


def test_names_patterns_and_classes() -> None:
    inner = lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU6())  # noqa: E731
    model = nn.Sequential(inner(), inner(), nn.ReLU())
    mapping = {nn.ReLU: LIF(), "1.*": Ternary(), "1.1": MultiBit(), nn.ReLU6: None}
    report = upgrade(model, mapping).report
    assert report.neurons == {
        "0.1": "ReLU → LIF", "1.1": "ReLU → MultiBit", "1.3": "ReLU6 → Ternary", "2": "ReLU → LIF"
    }  # fmt: skip
    assert report.left_alone == {"0.3": "ReLU6"}


def test_a_function_makes_the_neuron_from_what_it_replaces() -> None:
    class Steep(nn.Module):
        def __init__(self, slope: float) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.tensor(slope))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.slope * x)

    model = nn.Sequential(nn.Linear(4, 4), Steep(2.0), nn.Linear(4, 4), Steep(4.0))
    net = upgrade(model, {Steep: lambda steep: LIF(threshold=1 / steep.slope.item())})
    assert [m.threshold for m in net.modules() if isinstance(m, LIF)] == [0.5, 0.25]
    assert net.report.dropped == ["1.slope", "3.slope"] and "1.slope" in str(net.report)
    with pytest.raises(ValueError, match=r"upgrade 1: .* got None from the mapping"):
        upgrade(model, {Steep: lambda steep: None})


def test_a_reused_module_is_split_and_sized_per_call() -> None:
    model = Net(
        lambda s, x: s.c(s.act(s.b(s.act(s.a(x))))),
        a=nn.Linear(4, 6),
        b=nn.Linear(6, 9),
        c=nn.Linear(9, 2),
        act=nn.ReLU(),
    )
    net = upgrade(model, {nn.ReLU: LIF(train_amplitude="channel")})
    assert net.report.split == {"act": ["act", "act_1"]}
    sizes = [m.emission.raw_amplitude.numel() for m in net.modules() if isinstance(m, Neuron)]
    assert sizes == [6, 9]


def test_one_call_of_a_reused_module_may_stay() -> None:
    model = dense(lambda s, x: s.fc2(s.act(s.fc1(s.act(x)))), act=nn.ReLU())
    report = upgrade(model, {"act_1": LIF()}).report
    assert report.neurons == {"act_1": "ReLU → LIF"} and report.left_alone == {"act": "ReLU"}


LAYERS: dict[str, tuple[nn.Module, type[nn.Module]]] = {
    "conv": (nn.Conv2d(4, 6, 3, 2, 1), Conv2d),
    "conv without bias": (nn.Conv2d(4, 6, (3, 3), (1, 1), (1, 1), bias=False), Conv2d),
    "rectangle": (nn.Conv2d(4, 6, (3, 1), padding=(1, 0)), Convolution),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2), Convolution),
    "same": (nn.Conv2d(4, 6, 3, padding="same"), Convolution),
    "reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), Convolution),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), Convolution),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, bias=False), Convolution),
    "transposed": (nn.ConvTranspose2d(4, 6, 3), TransposedConvolution),
    "norm": (nn.BatchNorm2d(4), BatchNorm),
    "norm without affine": (nn.BatchNorm2d(4, affine=False), BatchNorm),
    "cumulative norm": (nn.BatchNorm2d(4, momentum=None), Merged),
    "group norm": (nn.GroupNorm(2, 4), Merged),
    "average": (nn.AvgPool2d(2), AvgPool2d),
    "padded average": (nn.AvgPool2d(3, 2, 1), AvgPool2d),
    "average of cut windows": (nn.AvgPool2d(3, 2, ceil_mode=True), AvgPool2d),
    "padded average of cut windows": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), AvgPool2d),
    "sum of cut windows": (nn.AvgPool2d(3, 2, ceil_mode=True, divisor_override=1), Merged),
    "sum": (nn.AvgPool2d(2, divisor_override=1), SumPool2d),
    "padded sum": (nn.AvgPool2d(3, 2, 1, count_include_pad=False, divisor_override=1), SumPool2d),
    "sum as a norm": (nn.LPPool2d(1, 2), SumPool2d),
    "overlapping sum as a norm": (nn.LPPool2d(1.0, (3, 3), 2), SumPool2d),
    "half a sum": (nn.AvgPool2d(2, divisor_override=2), Merged),
    "norm 2": (nn.LPPool2d(2, 2), Merged),
    "norm 1 of cut windows": (nn.LPPool2d(1, 3, 2, ceil_mode=True), Merged),
    "average without padding": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), Merged),
    "maximum": (nn.MaxPool2d(2), MaxPool2d),
    "padded maximum": (nn.MaxPool2d(3, 2, 1), Merged),
    "dropout": (nn.Dropout(0.5), nn.Dropout),
    "channel dropout": (nn.Dropout2d(0.5), Merged),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), Merged),
}


@pytest.mark.parametrize("name", LAYERS)
def test_translated_or_merged(name: str) -> None:
    torch.manual_seed(1)
    layer, kind = LAYERS[name]
    if isinstance(layer, nn.BatchNorm2d):
        layer(1 + 2 * torch.randn(9, 4, 5, 5))
    model, sample = nn.Sequential(nn.ReLU(), layer, nn.Flatten()), torch.randn(5, 4, 8, 8)
    net, report = as_it_was(model, sample, leaves=(nn.GRU,))
    assert type(net.body.get_submodule("1")) is kind
    assert ("1" in report.merged) == (kind is Merged) and ("1" in report.translated) == (kind is not Merged)
    weights = any(True for _ in layer.parameters()) and name not in ("group norm", "cumulative norm")
    assert report.uncounted == (["1"] if kind is Merged and weights else [])
    bitspike.fold(upgrade(model, {nn.ReLU: MultiBit(amplitude=1.37)}, sample).eval(), sample)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: F.adaptive_avg_pool2d(x, (1, 1)).view(x.size(0), -1),
        lambda x: F.avg_pool2d(x, x.size(3)).view(x.size(0), -1),
        lambda x: F.avg_pool2d(x, x.shape[2:]).squeeze(),
        lambda x: x.mean((2, 3)),
        lambda x: x.mean([-2, -1]),
        lambda x: torch.mean(x, dim=(2, 3), keepdim=True).reshape(-1, 4),
        lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
    ],
)
def test_global_average_pools(pool: Callable[[Tensor], Tensor]) -> None:
    net, report = as_it_was(Net(lambda s, x: s.fc(pool(x.relu())), fc=nn.Linear(4, 3)), torch.randn(5, 4, 6, 6))
    assert not report.merged and any(isinstance(m, GlobalAvgPool) for m in net.modules())
    assert net(torch.randn(2, 3, 4, 6, 6)).shape == (2, 3, 3)


@pytest.mark.parametrize(
    "pool", [lambda x: F.lp_pool2d(x, 1, 3), lambda x: F.avg_pool2d(x, 3, stride=3, divisor_override=1)]
)
def test_sum_pools_as_functions(pool: Callable[[Tensor], Tensor]) -> None:
    net, report = as_it_was(
        Net(lambda s, x: s.fc(pool(x.relu()).flatten(1)), fc=nn.Linear(16, 3)), torch.randn(5, 4, 6, 6)
    )
    assert not report.merged and [m.kernel for m in net.modules() if isinstance(m, SumPool2d)] == [3]


def test_a_global_sum_is_no_mean() -> None:
    model = Net(lambda s, x: s.fc(F.avg_pool2d(x.relu(), x.size(3), divisor_override=1).flatten(1)), fc=nn.Linear(4, 3))
    _, report = as_it_was(model, torch.randn(5, 4, 6, 6))
    assert set(report.merged.values()) == {"avg_pool2d"}


def test_a_pool_that_keeps_its_axes_stays() -> None:
    model = Net(
        lambda s, x: s.b(x.relu() * s.a(F.adaptive_avg_pool2d(x, 1))), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 2, 3)
    )
    _, report = as_it_was(model, torch.randn(5, 4, 6, 6))
    assert not report.merged and {"mul", "AdaptiveAvgPool2d"} <= set(report.translated.values())


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(-1, 36),
        lambda x: x.reshape(x.shape[0], 36).clone(),
        lambda x: torch.flatten(x, start_dim=1),
        lambda x: x.contiguous().flatten(1).view(x.size(0), 36),
        None,
    ],
)
def test_flattening(flatten: Callable[[Tensor], Tensor] | None) -> None:
    model = Net(
        lambda s, x: s.fc((flatten or s.flat)(s.conv(x).relu())),
        conv=nn.Conv2d(2, 4, 2),
        flat=nn.Flatten(),
        fc=nn.Linear(36, 3),
    )
    net, report = as_it_was(model, torch.randn(5, 2, 4, 4))
    assert not report.merged and sum(isinstance(m, Flatten) for m in net.modules()) == 1


def test_functional_pools_and_dropout_become_layers() -> None:
    def forward(s: Net, x: Tensor) -> Tensor:
        x = F.max_pool2d(s.conv(x).relu(), 2)
        return s.fc(F.dropout(F.avg_pool2d(x, 2, stride=1), 0.25, training=s.training).flatten(1))

    net, report = as_it_was(Net(forward, conv=nn.Conv2d(2, 4, 3), fc=nn.Linear(16, 3)), torch.randn(5, 2, 8, 8))
    assert not report.merged and {MaxPool2d, AvgPool2d, nn.Dropout} <= {type(m) for m in net.modules()}
    dropout = next(m for m in net.modules() if isinstance(m, nn.Dropout))
    assert dropout.p == 0.25 and not dropout.training and net.train() and dropout.training
    x = torch.ones(1, 400, 2, 8, 8)
    assert not torch.equal(net(x)[0, :200], net(x)[0, 200:])


MERGED: dict[str, tuple[Callable[[Any, Tensor], Tensor], tuple[int, ...]]] = {
    "parameters": (lambda s, x: s.fc2((s.fc1(x) + s.p).relu() * s.p[0]), (4,)),
    "scalars": (lambda s, x: s.fc2(2 * s.fc1(x).relu() + 1), (4,)),
    "chunks": (lambda s, x: s.fc2(torch.cat(s.fc1(x).relu().chunk(2, 1)[::-1], 1)), (4,)),
    "tuples": (lambda s, x: s.fc2(s.fc1(x).relu().sort(1)[0] + s.fc1(x).max(1, keepdim=True).values), (4,)),
    "sizes": (lambda s, x: s.fc2(s.fc1(x).relu() + torch.zeros_like(x).new_ones(x.shape[0], 6)), (4,)),
    "broadcast": (lambda s, x: (s.fc2(s.fc1(x).relu()) + s.fc2(s.fc1(x)).mean(1).unsqueeze(1)).sum(1), (7, 4)),
    "sequences": (lambda s, x: s.fc2(s.fc1(x.transpose(0, 1)).transpose(0, 1).relu()).mean(1), (7, 4)),
    "attention": (lambda s, x: s.fc2(s.att(*[s.fc1(x).relu()] * 3)[0]).mean(1), (7, 4)),
    "class token": (lambda s, x: s.fc2(torch.cat([s.q.expand(x.shape[0], -1, -1), s.fc1(x).relu()], 1)[:, 1]), (7, 4)),
    "recurrent": (lambda s, x: s.fc2(s.gru(s.fc1(x).relu())[0][:, -1]), (7, 4)),
    "layer norm": (lambda s, x: s.fc2(s.norm(s.fc1(x).relu())), (4,)),
    "softmax": (lambda s, x: F.log_softmax(s.fc2(s.fc1(x).relu()), dim=1), (4,)),
}  # fmt: skip


@pytest.mark.parametrize("name", MERGED)
def test_what_has_no_layer_runs_merged(name: str) -> None:
    torch.manual_seed(2)
    forward, shape = MERGED[name]
    model = dense(
        forward,
        p=nn.Parameter(torch.randn(6)),
        q=nn.Parameter(torch.randn(1, 1, 6)),
        att=nn.MultiheadAttention(6, 2, batch_first=True),
        gru=nn.GRU(6, 6, batch_first=True),
        norm=nn.LayerNorm(6),
    )
    sample = torch.randn(5, *shape)
    net, report = as_it_was(model, sample, leaves=(nn.GRU,))
    assert report.merged and net.report.difference < 1e-4
    spiking = upgrade(model, {nn.ReLU: MultiBit(amplitude=1.37)}, sample, T=3, leaves=(nn.GRU,)).eval()
    spiking.train()(sample).sum().backward()
    trained = {name.split(".")[-1]: p.grad for name, p in spiking.named_parameters() if "fc1" in name}
    assert set(trained) == {"weight", "bias"} and all(grad.abs().max() > 0 for grad in trained.values())
    graph, sequence = bitspike.trace(spiking.eval()), spiking.encoder(sample)
    _, states = bitspike.stream(graph, sequence[:1])
    assert torch.allclose(bitspike.stream(graph, sequence[1:], states)[0], spiking(sample), atol=1e-5)
    folded = bitspike.fold(spiking, sample)
    assert torch.allclose(folded(sample), spiking(sample), atol=1e-4)


def test_user_leaves_run_whole() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x) if self.training else x

    model = nn.Sequential(nn.Linear(4, 4), Noise(), nn.ReLU())
    with pytest.warns(UserWarning, match=r"in training alone is left out: randn_like in module '1'"):
        assert upgrade(model, {nn.ReLU: LIF()}).report.only_in_training
    net = upgrade(model, {nn.ReLU: LIF()}, leaves=(Noise,))
    assert net.report.merged == {"1": "Noise"} and isinstance(net.body.get_submodule("1"), Merged)


def test_in_place_writes_are_followed_through_names() -> None:
    def forward(s: Net, x: Tensor) -> Tensor:
        y = s.fc1(x)
        z = s.act(y)
        return s.fc2(y + z)  # y has been written to

    as_it_was(dense(forward, act=nn.ReLU(inplace=True)), torch.randn(5, 4))


def test_the_shape_of_the_input_is_made_up() -> None:
    lenet = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(864, 10))
    report = upgrade(lenet, {nn.ReLU: LIF()}).report
    assert report.guessed and report.sample == (5, 1, 28, 28) and "made up" in str(report)
    given = upgrade(lenet, {nn.ReLU: LIF()}, torch.randn(1, 1, 28, 28)).report
    assert not given.guessed and given.sample == (3, 1, 28, 28)


def test_names_that_torch_has_taken() -> None:
    model = Net(lambda s, x: s.graph(s.code(x).float().relu()), graph=nn.Linear(4, 2), code=nn.Linear(4, 4))
    net = upgrade(model, {nn.ReLU: LIF()})
    assert {"graph_", "code_"} <= {name for name, _ in net.body.named_modules()}
    assert net(torch.randn(3, 4)).shape == (3, 2)


def test_the_report_as_plain_values() -> None:
    report = upgrade(dense(lambda s, x: s.fc2(s.fc1(x).relu()).sigmoid()), {nn.ReLU: LIF()}).report
    found = report.as_dict()
    assert found["neurons"] == {"relu": "ReLU → LIF"} and found["left_alone"] == {"sigmoid": "Sigmoid"}
    assert (
        "relu: ReLU → LIF" in str(report) and "sigmoid: Sigmoid" in str(report) and "batch norm: joint" in str(report)
    )
