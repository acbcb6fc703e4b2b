"""What layers that run whole hold inside: it is named, norms see the steps as they are told to."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike import upgrade
from bitspike.layers import BatchNorm, Linear, TimeLayer
from bitspike.neurons import LIF, MultiBit
from bitspike.upgrade import Merged


class Branch(nn.Module):
    """Branches on values, as only a leaf may; ``written`` is what it does then."""

    def __init__(self, written: Callable[[Any, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.fc, self.norm, self.act, self.idle = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.ReLU6()
        self.written = written or (lambda s, x: s.act(s.norm(s.fc(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x) if x.isfinite().all() else self.idle(x)


def model_of(*blocks: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), *blocks, nn.Linear(6, 2))


SPELLED: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, str]]] = {
    "module": (lambda s, x: s.act(s.fc(x)), {}),
    "F.relu": (lambda s, x: F.relu(s.fc(x)), {"2.relu": "ReLU"}),
    "relu_": (lambda s, x: s.fc(x).relu_(), {"2.relu": "ReLU"}),
    "torch.relu": (lambda s, x: torch.relu(s.fc(x)), {"2.relu": "ReLU"}),
    "clamp": (lambda s, x: s.fc(x).clamp(min=0), {"2.clamp": "ReLU"}),
    "bounded clamp": (lambda s, x: s.fc(x).clamp(0, 1), {"2.clamp": "Hardtanh"}),
    "a shifted clamp": (lambda s, x: s.fc(x).clamp(max=1), {}),
    "gelu": (lambda s, x: F.gelu(s.fc(x)), {"2.gelu": "GELU"}),
    "sigmoid": (lambda s, x: s.fc(x).sigmoid(), {"2.sigmoid": "Sigmoid"}),
}


@pytest.mark.parametrize("name", SPELLED)
def test_activations_inside_of_leaves_are_named(name: str) -> None:
    forward, found = SPELLED[name]
    with pytest.warns(UserWarning, match=r"\d activations that the mapping names stay .*2\.act.*smaller parts"):
        net = upgrade(model_of(Branch(forward)), {nn.ReLU: MultiBit()}, leaves=(Branch,))
    assert net.report.left_alone == {"2.act": "ReLU", "2.idle": "ReLU6", **found}
    assert net.report.inside == {"2.fc": "Linear", "2.norm": "BatchNorm1d"}
    assert "2.act: ReLU" in str(net.report) and "2.fc: Linear" in str(net.report)
    assert net.report.as_dict()["inside"] == net.report.inside
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_what_the_mapping_leaves_alone_is_named_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = upgrade(model_of(Branch()), {"1": LIF()}, leaves=(Branch,))
    assert set(net.report.left_alone) == {"2.act", "2.idle"}


def test_a_network_that_is_one_leaf_is_refused_with_what_it_holds() -> None:
    with pytest.raises(ValueError, match=r"these are: none \(not those inside of leaves.*: 0\.act, 0\.idle\), got Re"):
        upgrade(nn.Sequential(Branch()), {nn.ReLU: LIF()}, torch.randn(3, 6), leaves=(Branch,))


def test_mapped_classes_inside_of_leaves() -> None:
    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(2 * x)

    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steep = Steep()

        def forward(self, x: Tensor) -> Tensor:
            return self.steep(x)

    model = nn.Sequential(nn.Linear(4, 6), Steep(), nn.Linear(6, 6), Holds())
    with pytest.warns(UserWarning, match=r"1 activations .*: 3\.steep;"):
        net = upgrade(model, {Steep: LIF()}, leaves=(Holds,))
    assert net.report.left_alone == {"3.steep": "Steep", "3.steep.relu": "ReLU"}


def test_torchs_own_blocks_are_looked_into() -> None:
    block = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.block, self.head = nn.Linear(4, 6), block, nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(F.relu(self.fc(x))).mean(1))

    with pytest.warns(UserWarning, match=r"1 activations .*: block\.relu;"):
        net = upgrade(Net(), {nn.ReLU: LIF()}, torch.randn(5, 7, 4))
    assert net.report.left_alone == {"block.relu": "ReLU"}
    assert {"block.linear1": "Linear", "block.norm1": "LayerNorm"}.items() <= net.report.inside.items()
    assert torch.backends.mha.get_fastpath_enabled()


def test_activations_with_the_batch_elsewhere_are_named() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.fc(x)).t().sigmoid().t())

    assert upgrade(Net(), {nn.ReLU: LIF()}).report.left_alone == {"sigmoid": "Sigmoid"}


def functional(s: Any, x: Tensor) -> Tensor:
    norm = s.norm
    return s.act(F.batch_norm(s.fc(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, s.training))


@pytest.mark.parametrize("forward", [None, functional], ids=["module", "function"])
@pytest.mark.parametrize("mode", ["joint", "per_step"])
def test_norms_inside_of_leaves_see_the_steps_as_told(mode: str, forward: Any) -> None:
    torch.manual_seed(1)
    model = model_of(Branch(forward))
    x = torch.randn(3, 7, 4) * torch.tensor([0.5, 1.0, 3.0]).view(3, 1, 1)
    options: dict[str, Any] = {"encoder": None, "readout": "steps", "norm": mode}
    mapping: Any = {"1": nn.ReLU()}
    plain = nn.Sequential(model[0], model[1], model[2].fc, model[2].norm, model[2].act, model[3])
    wanted = upgrade(plain, mapping, x[0], **options).train()
    net = upgrade(model, mapping, x[0], leaves=(Branch,), **options).train()
    y = net(x)
    assert torch.allclose(y, wanted(x), atol=1e-5) and y.abs().max() > 0
    ours = next(m for m in net.modules() if isinstance(m, nn.BatchNorm1d))
    theirs = next(m for m in wanted.modules() if isinstance(m, BatchNorm))
    assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-6)
    assert torch.allclose(ours.running_var, theirs.running_var, atol=1e-5)
    assert torch.allclose(net.eval()(x), wanted.eval()(x), atol=1e-5)
    leaf = next(m for m in net.modules() if isinstance(m, Merged) and isinstance(m.body, Branch))
    assert leaf.by_step == (mode == "per_step")


def test_layers_of_ours_are_looked_into_where_users_wrote_them() -> None:
    class Own(TimeLayer):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(x)

    net = nn.Sequential(Linear(4, 6), nn.ReLU(), Own(), Linear(6, 2))
    with pytest.warns(UserWarning, match=r"1 activations .*: 2\.act;"):
        made = upgrade(net, {nn.ReLU: LIF()})
    assert made.report.left_alone == {"2.act": "ReLU"}
