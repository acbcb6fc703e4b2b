"""One dispatch point: order of preference, refusals, demands, export; it explains itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bitspike.neurons import LIF
from bitspike.ops import Kernel, choose, dispatch, explain, register, table, using
from bitspike.ops.scan import scan_reference


@pytest.fixture
def own_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A table with the reference of "scan" alone, to which tests may add."""
    monkeypatch.setattr(dispatch, "_KERNELS", {"scan": {"reference": dispatch._KERNELS["scan"]["reference"]}})
    yield
    assert dispatch._OVERRIDE == {}


def refuse(reason: str | None) -> Any:
    return lambda facts: reason


def test_the_reference_is_in_the_table_and_last() -> None:
    kernels = [kernel for kernel in table() if kernel.operation == "scan"]
    assert kernels[0] == Kernel("scan", "reference", "any", scan_reference, kernels[0].refuses)
    assert explain("scan", "cpu").endswith("reference: taken")


@pytest.mark.usefixtures("own_table")
def test_a_later_kernel_is_preferred_and_falls_back() -> None:
    register("scan", "fast", print)
    assert choose("scan", "cpu").name == "fast"
    assert explain("scan", "cpu") == "fast: taken"
    register("scan", "faster", print, refuses=refuse("decay is learned"))
    register("scan", "elsewhere", print, device="cuda")
    assert choose("scan", "cpu").name == "fast"
    assert explain("scan", "cpu").splitlines() == [
        "elsewhere: it runs on cuda, the tensor is on cpu",
        "faster: decay is learned",
        "fast: taken",
    ]
    assert choose("scan", "cuda").name == "elsewhere"


@pytest.mark.usefixtures("own_table")
def test_refusals_see_the_facts() -> None:
    register("scan", "picky", print, refuses=lambda facts: None if facts == 1 else "not 1")
    assert [choose("scan", "cpu", facts).name for facts in (1, 2)] == ["picky", "reference"]


@pytest.mark.usefixtures("own_table")
def test_a_demand_never_falls_back(refuses: Any) -> None:
    register("scan", "picky", print, refuses=refuse("decay is learned"))
    register("scan", "elsewhere", print, device="cuda")
    with using("picky"), refuses("dispatch scan", "'picky'", "got decay is learned"):
        choose("scan", "cpu")
    with using("elsewhere"), refuses("dispatch scan", "'elsewhere'", "it runs on cuda"):
        choose("scan", "cpu")
    assert choose("scan", "cpu").name == "reference"


@pytest.mark.usefixtures("own_table")
def test_demands_nest_and_end() -> None:
    register("scan", "fast", print)
    with using("reference"):
        assert explain("scan", "cpu").splitlines() == ["fast: overridden", "reference: taken"]
        with using("fast"):
            assert choose("scan", "cpu").name == "fast"
        assert choose("scan", "cpu").name == "reference"
        with pytest.raises(KeyError), using("fast"):
            raise KeyError
        assert choose("scan", "cpu").name == "reference"
    assert choose("scan", "cpu").name == "fast"


@pytest.mark.usefixtures("own_table")
def test_a_neuron_runs_what_is_chosen() -> None:
    calls = []

    def counted(neuron: Any, x_seq: Tensor, *rest: Any) -> Any:
        calls.append(len(x_seq))
        return scan_reference(neuron, x_seq, *rest)

    register("scan", "counted", counted)
    neuron, x = LIF(), torch.randn(3, 2, 4)
    with using("reference"):
        wanted = neuron(x)
    assert calls == []
    assert torch.equal(neuron(x), wanted)
    assert calls == [3]


@pytest.mark.usefixtures("own_table")
def test_an_export_takes_the_reference() -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("a fast kernel was exported")

    register("scan", "broken", broken)
    x = torch.randn(2, 3, 4)
    with using("reference"):
        wanted = LIF()(x)
    program = torch.export.export(LIF(), (x,)).module()
    assert torch.equal(program(x), wanted)
    with pytest.raises(RuntimeError, match="exported"):
        LIF()(x)


@pytest.mark.usefixtures("own_table")
def test_bad_names(refuses: Any) -> None:
    with refuses("using(scan)", "'reference'", "did you mean 'reference'?"), using("referense"):
        pass
    with refuses("dispatch", "operation must be one of 'scan'", "'skan'"):
        choose("skan", "cpu")
    with refuses("dispatch", "operation must be one of 'scan'", "'skan'"):
        explain("skan", "cpu")
    with pytest.raises(TypeError, match=r'name of its type, got device; e.g. "cpu"'):
        explain("scan", torch.device("cpu"))  # type: ignore[arg-type]
    with refuses("dispatch", "operation must be one of 'scan'", "'skan'"), using("reference", "skan"):
        pass
    with refuses("dispatch", "registered once", "'reference'"):
        register("scan", "reference", print)
