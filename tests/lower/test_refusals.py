"""What no program does is refused by name of its layer, with a reason; docs/python.md lists the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from bitspike.lower.rules.functions.table import FUNCTIONS, MODULES, REASONS
from bitspike.neurons import LIF, MultiBit
from networks import rng

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_the_page_lists_what_is_refused() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.split("| refused | why | instead |")[1].split("\n\n")[0]
    assert not [name for name in REASONS if f"`{name}`" not in table]
    assert not set(REASONS) & (set(FUNCTIONS) | {kind.__name__ for kind in MODULES})


class Coded(nn.Module):
    """A linear map, an activation, code and another linear map."""

    def __init__(self, code: Callable[[Tensor], Tensor], out: int = 8) -> None:
        super().__init__()
        self.first, self.code, self.last = nn.Linear(6, 8), code, nn.Linear(out, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.code(F.relu(self.first(x))))


CODE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "norm": (nn.LayerNorm(8), "(Merged): LayerNorm divides by a deviation"),
    "softmax": (lambda x: x.softmax(-1), "body_softmax (Merged): softmax divides by a sum"),
    "quotient": (lambda x: x / (1 + x.flip(1)), "divides by a signal"),
    "einsum": (lambda x: torch.einsum("bi,bj->bi", x, x), "einsum has no integer operation; write it as matmul"),
    "sorted": (lambda x: x.sort(1)[0], "sort"),
    "running sums": (lambda x: x.cumsum(1), "body_cumsum (Merged): cumsum of torch has no integer operation"),
    "pole": (
        lambda x: torch.reciprocal(x - 0.5 * x.flip(1) + 0.25),
        "reciprocal is not finite on the range of its input",
    ),
    "standard deviation": (lambda x: x - x.std(1, keepdim=True), "std"),
}


@pytest.mark.parametrize("name", sorted(CODE))
def test_code_that_is_refused_is_named(name: str) -> None:
    code, words = CODE[name]
    x = torch.randn(16, 6, generator=rng(0))
    net = bitspike.upgrade(Coded(code).eval(), {nn.ReLU: LIF()}, x, T=2).eval()
    with pytest.raises(ValueError, match="compile: every layer must have an integer operation, got 1 without") as error:
        bitspike.compile(bitspike.fold(net, x), x)
    assert words in str(error.value)


def test_numbers_behind_a_refused_layer_are_no_reason() -> None:
    x = torch.randn(16, 6, generator=rng(0))

    def code(v: Tensor) -> Tensor:
        v = v.cumsum(1)
        return F.relu(v * 1e30) + v.sort(1)[0]

    net = bitspike.upgrade(Coded(code).eval(), {nn.ReLU: LIF()}, x, T=2).eval()
    with pytest.raises(ValueError, match="got 2 without") as error:
        bitspike.compile(bitspike.fold(net, x), x)
    assert "cumsum" in str(error.value) and "sort" in str(error.value) and "64 bits" not in str(error.value)


@pytest.mark.parametrize("T", [1, 2])
def test_operations_that_a_conversion_counts_need_one_step(T: int) -> None:
    x = torch.randn(64, 6, generator=rng(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Coded(lambda v: v * torch.sigmoid(v.flip(1))).eval()
    converted = bitspike.fold(bitspike.ann2snn(net, MultiBit(4, 4, decay=1.0), x, T=T), x)
    if T == 1:
        program = bitspike.compile(converted, x, activation_bits=16)
        wanted = net(x).detach()
        off = (torch.as_tensor(program(x.numpy()).values) - wanted).norm() / wanted.norm()
        assert float(off) < 0.1
        return
    with pytest.raises(ValueError, match="works on means over time at 2 steps") as error:
        bitspike.compile(converted, x)
    assert "convert with T=1" in str(error.value)


def test_an_output_without_an_axis_is_refused_beside_others_too() -> None:
    x = torch.randn(16, 6, generator=rng(0))

    class Two(Coded):
        def forward(self, x: Tensor) -> Any:
            return self.first(x), F.relu(self.first(x))[:, 0]

    two = bitspike.upgrade(Two(F.relu).eval(), {nn.ReLU: LIF()}, x, T=2).eval()
    with pytest.raises(ValueError, match=r"no axis beside the batch, .*or compile graph\.only\(name\)"):
        bitspike.compile(bitspike.fold(two, x), x)

    class Alone(Coded):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, 0]

    alone = bitspike.upgrade(Alone(F.relu).eval(), {nn.ReLU: LIF()}, x, T=2).eval()
    with pytest.raises(ValueError, match="no axis beside the batch"):
        bitspike.compile(bitspike.fold(alone, x), x)
