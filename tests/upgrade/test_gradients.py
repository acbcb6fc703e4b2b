"""What a forward says of gradients holds behind `upgrade` and `trace`: no_grad and its kin, detach, frozen weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import bitspike
from bitspike import upgrade
from bitspike.layers import Conv2d, Detach, Flatten, Linear
from bitspike.neurons import LIF, MultiBit

STEPS: dict[str, Any] = {"encoder": None, "readout": "steps"}


class Frozen(nn.Module):
    """A convolution, norm, ReLU and pool, and a head behind them; ``written`` is the forward."""

    def __init__(self, written: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.written, self.conv, self.norm = written, nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.act, self.fc, self.head = nn.ReLU(), nn.Linear(36, 6), nn.Linear(6, 3)

    def features(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def block(s: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = s.features(x)
    return s.head(F.relu(s.fc(x.flatten(1))))


def inference(s: Any, x: Tensor) -> Tensor:
    with torch.inference_mode():
        x = F.adaptive_avg_pool2d(s.features(x), 3)
    return s.head(F.relu(s.fc(x.flatten(1).clone())))


def switched(s: Any, x: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    x = s.features(x)
    torch.set_grad_enabled(True)
    return s.head(F.relu(s.fc(x.flatten(1))))


def never(s: Any, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(s.training and s.act.inplace):
        x = s.features(x)
    return s.head(F.relu(s.fc(x.flatten(1))))


@torch.no_grad()
def helper(s: Any, x: Tensor) -> Tensor:
    return s.features(x)


def again_inside(s: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = s.features(x)
        with torch.enable_grad():
            y = s.fc(x.flatten(1))
    return s.head(F.relu(y))


def branches(s: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        left, right = s.features(x).chunk(2, 1)
        sizes = left.shape
    return s.head(F.relu(s.fc(torch.cat([right, left], 1).view(sizes[0], -1))))


def in_place(s: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = s.conv(x)
        y *= 2
    y = y + 1
    return s.head(F.relu(s.fc(s.act(s.norm(y)).flatten(1))))


HEAD = {"fc.weight", "fc.bias", "head.weight", "head.bias"}
NORM = {"norm.weight", "norm.bias"}
FORWARDS: dict[str, tuple[Callable[[Any, Tensor], Tensor], set[str]]] = {
    "no_grad": (block, HEAD),
    "inference_mode": (inference, HEAD),
    "set_grad_enabled": (switched, HEAD),
    "set_grad_enabled block": (never, HEAD),
    "decorated helper": (lambda s, x: s.head(F.relu(s.fc(helper(s, x).flatten(1)))), HEAD),
    "enable_grad inside": (again_inside, HEAD),
    "tuples and sizes": (branches, HEAD),
    "in place": (in_place, HEAD | NORM),
    "detach": (lambda s, x: s.head(F.relu(s.fc(s.features(x).detach().flatten(1)))), HEAD),
    "detach_": (lambda s, x: s.head(F.relu(s.fc(s.features(x).detach_().flatten(1)))), HEAD),
    "torch.detach": (lambda s, x: s.head(F.relu(s.fc(torch.detach(s.features(x)).flatten(1)))), HEAD),
    "data": (lambda s, x: s.head(F.relu(s.fc(s.features(x).data.flatten(1)))), HEAD),
    "the pool is the end": (
        lambda s, x: s.head(s.fc(torch.cat([F.adaptive_avg_pool2d(s.features(x), 1).detach()] * 9, 1).flatten(1))),
        HEAD,
    ),
    "none": (lambda s, x: s.head(F.relu(s.fc(s.features(x).flatten(1)))), HEAD | NORM | {"conv.weight", "conv.bias"}),
}


def live(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model


@pytest.mark.parametrize("ambient", [False, True], ids=["in no_grad", "plain"])
@pytest.mark.parametrize("name", FORWARDS)
def test_every_parameter_has_the_gradient_that_the_forward_gives_it(name: str, ambient: bool) -> None:
    torch.manual_seed(1)
    forward, trained = FORWARDS[name]
    model = live(Frozen(forward)).eval()
    x = torch.randn(5, 1, 5, 5)
    with torch.set_grad_enabled(ambient):
        net = upgrade(model, {nn.ReLU: nn.ReLU()}, x, **STEPS)
    assert torch.is_grad_enabled()
    weights = torch.linspace(-1, 1, 30).view(2, 5, 3)
    (net(torch.stack([x, x.flip(0)])) * weights).sum().backward()
    (torch.stack([model(x), model(x.flip(0))]) * weights).sum().backward()
    ours, theirs = dict(net.body.named_parameters()), dict(model.named_parameters())
    assert {key for key, p in theirs.items() if p.grad is not None} == trained
    assert {key for key, p in ours.items() if p.grad is not None} == trained
    for key in trained:
        assert torch.allclose(ours[key].grad, theirs[key].grad, atol=1e-5) and theirs[key].grad.abs().max() > 0
    frozen = {key.split(".")[0] for key in theirs} - {key.split(".")[0] for key in trained}
    named = {key.split(".")[0] for key in net.report.frozen}
    assert named == (frozen if "detach" not in name and name not in ("data", "the pool is the end") else set())
    assert ("without gradient, as the forward says: conv" in str(net.report)) == bool(net.report.frozen)


@pytest.mark.parametrize("name", [n for n in FORWARDS if n not in ("none", "tuples and sizes", "in place")])
def test_what_is_frozen_stays_so_in_every_pass(name: str) -> None:
    torch.manual_seed(2)
    model, x = live(Frozen(FORWARDS[name][0])), torch.randn(5, 1, 5, 5)
    net = upgrade(model, {nn.ReLU: MultiBit(amplitude=1.37)}, x, T=3).eval()
    wanted, sequence = net(x), net.encoder(x)
    graph = bitspike.trace(net)
    assert any(isinstance(node.module, Detach) for node in graph)
    _, states = bitspike.stream(graph, sequence[:1])
    y, _ = bitspike.stream(graph, sequence[1:], states)
    folded = bitspike.fold(net, x)
    assert torch.allclose(y, wanted, atol=1e-5) and torch.allclose(folded(x), wanted, atol=1e-4)
    for output, network in ((y, net), (folded(x), folded), (copy.deepcopy(graph).run(x), None)):
        assert output.requires_grad
        if network is not None:
            network.zero_grad()
            output.sum().backward()
            got = {key.split(".")[-2] for key, p in network.named_parameters() if p.grad is not None}
            assert {key.removeprefix("body_") for key in got} == {"fc", "head"}
    counted, free = bitspike.cost(folded.graph, x), bitspike.cost(bitspike.fold(_thawed(net), x).graph, x)
    assert counted.as_dict() == free.as_dict() if name == "no_grad" else "detached" not in str(counted.uncounted)


def _thawed(net: nn.Module) -> nn.Module:
    """The same network without its detaches."""
    thawed = copy.deepcopy(net)
    for key, module in list(thawed.body.named_modules()):
        if isinstance(module, Detach):
            setattr(thawed.body, key, nn.Identity())
    return thawed


def test_conversion_takes_frozen_backbones() -> None:
    torch.manual_seed(3)
    x = torch.randn(16, 1, 5, 5)
    frozen, free = (live(Frozen(FORWARDS[name][0])).eval() for name in ("no_grad", "none"))
    free.load_state_dict(frozen.state_dict())
    frozen.conv.requires_grad_(False), frozen.norm.requires_grad_(False)
    one, other = (bitspike.ann2snn(model, MultiBit(2, 1, decay=1.0), x, T=2) for model in (frozen, free))
    assert torch.equal(one(x), other(x))
    one(x).sum().backward()
    trained = {k.split(".")[-2] for k, p in one.named_parameters() if p.grad is not None and "weight" in k}
    assert trained == {"body_fc", "body_head"}
    assert not any(p.requires_grad for k, p in one.named_parameters() if "body_conv.weight" in k)


def test_networks_of_our_own_layers_keep_their_modes() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fire, self.flat, self.fc = Conv2d(1, 4, 3), LIF(), Flatten(), Linear(36, 3)

        @torch.no_grad()
        def features(self, x: Tensor) -> Tensor:
            return self.fire(self.conv(x))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.flat(self.features(x)))

    torch.manual_seed(4)
    net, x = Own(), 4 * torch.randn(3, 5, 1, 5, 5)
    graph = bitspike.trace(net)
    graph.run(x).sum().backward()
    assert net.fc.weight.grad is not None and net.fc.weight.grad.abs().max() > 0 and net.conv.weight.grad is None
    assert torch.equal(graph.run(x), net(x)) and torch.equal(graph.model(x), net(x))
    assert graph.model.training and not bitspike.trace(net.eval()).model.training

    class Plain(Own):
        def forward(self, x: Tensor) -> Tensor:
            return self.fire(self.conv(self.fire(x).detach()))

    own = Plain()
    nodes = {node.name: node for node in bitspike.trace(own)}
    assert nodes["detach_detached"].format == nodes["fire"].format is not None
    y, _ = bitspike.stream(own, x)
    assert torch.equal(y, own(x))


def test_frozen_parameters_stay_frozen_through_a_fold() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    model[:2].requires_grad_(False)
    x = torch.randn(5, 1, 5, 5)
    net = upgrade(model, {nn.ReLU: MultiBit(amplitude=1.37)}, x).eval()
    assert {key for key, p in net.body.named_parameters() if p.requires_grad} == {"4.weight", "4.bias"}
    kept = {key for key, p in bitspike.fold(net, x).named_parameters() if p.requires_grad}
    assert {key.split(".")[-2] for key in kept} == {"body_4"}


class Round(torch.autograd.Function):
    """Rounds; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Rounds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Round.apply(x)  # type: ignore[no-any-return]


def cast(s: Any, x: Tensor, enabled: bool = True) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        x = s.features(x)
    return s.head(F.relu(s.fc(x.float().flatten(1))))


def scaled(s: Any, x: Tensor) -> Tensor:
    y = s.features(x)
    with torch.no_grad():
        y *= 2
    return s.head(F.relu(s.fc(y.flatten(1))))


def hooked(s: Any, x: Tensor) -> Tensor:
    y = s.features(x)
    y.register_hook(lambda grad: -grad)
    return s.head(F.relu(s.fc(y.flatten(1))))


def saving(reentrant: bool) -> Callable[[Any, Tensor], Tensor]:
    return lambda s, x: s.head(F.relu(s.fc(checkpoint(s.features, x, use_reentrant=reentrant).flatten(1))))


LOST: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "autocast": (
        cast,
        r"autocast\('cpu', enabled=True\) in the forward.*; take it out of the forward and call the net",
    ),
    "island": (lambda s, x: cast(s, x, False), r"autocast\('cpu', enabled=False\) in the forward"),
    "decorated": (
        lambda s, x: s.head(F.relu(s.fc(torch.autocast("cpu", torch.bfloat16)(s.features)(x).flatten(1)))),
        "autocast",
    ),
    "function": (
        lambda s, x: s.head(Round.apply(s.fc(s.act(x).flatten(1)))),
        r"Round\.apply, a torch\.auto.*in leaves",
    ),
    "checkpoint": (saving(False), r"torch\.utils\.checkpoint, or .*; call the function itself in the forward"),
    "reentrant": (saving(True), r"torch\.utils\.checkpoint, or .*; call the function itself in the forward"),
    "in place": (scaled, r"what is computed with gradients must not be written in place without them, got i?mul in"),
    "hook": (hooked, r"register_hook makes a RemovableHandle .*test_gradients.py:\d+\).*name its class in leaves"),
}


@pytest.mark.parametrize("name", LOST)
def test_what_a_trace_would_lose_is_refused_by_place(name: str) -> None:
    forward, message = LOST[name]
    with pytest.raises(ValueError, match=r"(?s)^upgrade: .*" + message):
        upgrade(Frozen(forward), {nn.ReLU: LIF()}, torch.randn(5, 1, 5, 5))
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    assert Round.apply(torch.ones(1)) == 1  # as it was before


def test_the_remedies_work() -> None:
    torch.manual_seed(5)
    x = 3 * torch.randn(5, 4)
    model = nn.Sequential(nn.Linear(4, 6), Rounds(), nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(ValueError, match="name its class in leaves"):
        upgrade(model, {nn.ReLU: LIF()}, x)
    net = upgrade(model, {nn.ReLU: LIF(surrogate="atan:2.0")}, x, leaves=(Rounds,))
    net(x).square().sum().backward()
    assert net.body.get_submodule("0").weight.grad.abs().max() > 0
    own = nn.Sequential(Linear(4, 6), Rounds())
    with pytest.raises(ValueError, match=r"graph: .*Round\.apply.*call it in a leaf layer \(a TimeLayer\)"):
        bitspike.trace(own)
    plain = upgrade(Frozen(block), {nn.ReLU: LIF()}, torch.randn(5, 1, 5, 5))
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(torch.randn(5, 1, 5, 5)).shape == (5, 3)


def test_a_changed_module_is_not_taken_for_torchs() -> None:
    x = torch.randn(5, 4)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model[2].register_full_backward_hook(lambda module, into, out: (2 * into[0],))
    net = upgrade(model, {nn.ReLU: nn.ReLU()}, x, **STEPS)
    net(x.unsqueeze(0)).sum().backward()
    model(x).sum().backward()
    assert torch.allclose(net.body.get_submodule("0").weight.grad, model[0].weight.grad)
    assert model[0].weight.grad.abs().max() > 0
