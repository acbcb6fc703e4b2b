"""Graphs of NIR that others make: nodes do what NIR, or their maker, says; refusals by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bitspike.export import read_nir
from networks import dyadic, rng

nir = pytest.importorskip("nir", reason="not run: the package nir is not installed")


def steps_of(node: Any, x: np.ndarray, dt: float) -> np.ndarray:
    """NIR's own equations, a step of Euler's method at a time, in float32."""
    one = np.float32
    v, sent = np.zeros(x.shape[1:], one), []
    for current in x.astype(one):
        if type(node).__name__ == "IF":
            u = v + node.r.astype(one) * current
        else:
            leak, drive = 1 - one(dt) / node.tau.astype(one), one(dt) / node.tau.astype(one)
            u = leak * v + drive * (node.v_leak.astype(one) + node.r.astype(one) * current)
        z = u > node.v_threshold.astype(one)
        v = np.where(z, node.v_reset.astype(one), u)
        sent.append(z)
    return np.stack(sent).astype(one)


def grid(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


CELLS: dict[str, Callable[[], Any]] = {
    "if": lambda: nir.IF(r=grid(1, 1, 1), v_threshold=grid(1, 1, 1)),
    "if, r": lambda: nir.IF(r=grid(1, 2, 0.5), v_threshold=grid(1, 1, 1)),
    "if, reset": lambda: nir.IF(r=grid(1, 1, 1), v_threshold=grid(1, 1, 1), v_reset=grid(-0.5, -0.5, -0.5)),
    "lif": lambda: nir.LIF(tau=grid(2, 2, 2), r=grid(2, 2, 2), v_leak=grid(0, 0, 0), v_threshold=grid(1, 1, 1)),
    "lif, r 1": lambda: nir.LIF(
        tau=grid(2, 2, 2), r=grid(1, 1, 1), v_leak=grid(0, 0, 0), v_threshold=grid(0.5, 0.5, 0.5)
    ),
    "lif, leak": lambda: nir.LIF(
        tau=grid(2, 2, 2), r=grid(2, 4, 8), v_leak=grid(0.5, 1, 0), v_threshold=grid(1, 1, 1)
    ),
    "lif, reset": lambda: nir.LIF(
        tau=grid(4, 4, 4), r=grid(4, 4, 4), v_leak=grid(0.25, 0.25, 0.25), v_threshold=grid(1, 1, 1),
        v_reset=grid(0.5, 0.5, 0.5),
    ),
    "lif, channels": lambda: nir.LIF(
        tau=grid(2, 4, 2), r=grid(2, 4, 2), v_leak=grid(0, 0, 0), v_threshold=grid(1, 0.5, 0.75)
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CELLS)
def test_nodes_of_others_do_what_NIR_says(what: str, tmp_path: Path) -> None:  # noqa: N802
    """On a grid, where membranes meet thresholds: NIR fires above them, not at them."""
    node = CELLS[what]()
    x = dyadic(torch.rand(12, 64, 3, generator=rng(0)) * 1.5 - 0.25, 8).numpy()
    graph = nir.NIRGraph.from_list(nir.Affine(np.eye(3, dtype=np.float32), grid(0, 0, 0)), node)
    nir.write(tmp_path / "net.nir", graph)
    net = read_nir(tmp_path / "net.nir", dt=1.0)
    wanted = steps_of(node, x, 1.0)
    assert 0.02 < wanted.mean() < 0.98
    assert np.array_equal(net(torch.from_numpy(x)).detach().numpy(), wanted)


def test_a_threshold_is_above_not_at(tmp_path: Path) -> None:
    graph = nir.NIRGraph.from_list(nir.Linear(np.eye(1, dtype=np.float32)), nir.Threshold(grid(0.5)))
    nir.write(tmp_path / "net.nir", graph)
    x = torch.tensor([0.5, float(np.nextafter(np.float32(0.5), np.float32(1)))]).reshape(2, 1, 1)
    assert read_nir(tmp_path / "net.nir")(x).flatten().tolist() == [0.0, 1.0]


def written(tmp_path: Path, *nodes: Any, edges: list[tuple[str, str]] | None = None) -> Path:
    path = tmp_path / "net.nir"
    if edges is None:
        graph = nir.NIRGraph.from_list(*nodes, type_check=False)
    else:
        graph = nir.NIRGraph(dict(nodes), edges, type_check=False)
    nir.write(path, graph)
    return path


def test_edges_into_a_node_are_added(tmp_path: Path) -> None:
    eye = np.eye(2, dtype=np.float32)
    nodes = [
        ("in", nir.Input(np.array([2]))),
        ("a", nir.Linear(eye)),
        ("b", nir.Linear(2 * eye)),
        ("out", nir.Output(np.array([2]))),
    ]
    path = written(tmp_path, *nodes, edges=[("in", "a"), ("in", "b"), ("a", "out"), ("b", "out")])
    x = torch.rand(3, 4, 2)
    assert torch.equal(read_nir(path)(x), x + 2 * x)


def test_graphs_inside_graphs(tmp_path: Path) -> None:
    inner = nir.NIRGraph.from_list(
        nir.Linear(3 * np.eye(2, dtype=np.float32)), nir.IF(r=grid(1, 1), v_threshold=grid(1, 1))
    )
    nodes = [("in", nir.Input(np.array([2]))), ("g", inner), ("out", nir.Output(np.array([2])))]
    path = written(tmp_path, *nodes, edges=[("in", "g"), ("g", "out")])
    assert read_nir(path)(torch.ones(1, 1, 2)).flatten().tolist() == [1.0, 1.0]


def lif(n: int = 2, **other: Any) -> Any:
    ones = np.ones(n, np.float32)
    return nir.LIF(**{"tau": 2 * ones, "r": 2 * ones, "v_leak": 0 * ones, "v_threshold": ones, **other})


UNREAD: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "cuba": (
        lambda: [nir.CubaLIF(*(grid(1, 1) for _ in range(5)))],
        r"cubalif \(CubaLIF\): its synapses have a state",
    ),
    "li": (lambda: [nir.LI(grid(1, 1), grid(1, 1), grid(0, 0))], r"li \(LI\): it integrates without firing"),
    "delay": (lambda: [nir.Delay(grid(1, 1))], r"delay \(Delay\)"),
    "several": (lambda: [nir.Delay(grid(1, 1)), nir.I(grid(1, 1))], r"2 that are none: .*Delay.*I\)"),
    "nan": (lambda: [nir.Affine(np.full((2, 2), np.nan), grid(0, 0))], "its weight must be finite"),
    "tau": (lambda: [lif(tau=grid(-1, -1))], "tau must be > 0"),
    "dt": (lambda: [lif(tau=grid(0.5, 0.5))], "dt = 1 is more than its tau 0.5"),
    "threshold": (lambda: [lif(v_threshold=grid(-1, -1))], "its threshold must lie above its reset value"),
    "places": (
        lambda: [nir.Scale(np.array([[1, 2], [3, 4]], np.float32))],
        "differs within a channel",
    ),
    "flatten": (lambda: [nir.Flatten(np.array([2, 2, 2]), 1, -1)], "it flattens some axes"),
}


@pytest.mark.parametrize("what", UNREAD)
def test_nodes_that_are_no_layers_are_named(what: str, tmp_path: Path) -> None:
    make, said = UNREAD[what]
    with pytest.raises(ValueError, match=said):
        read_nir(written(tmp_path, *make()), dt=1.0)


def test_layers_of_others_do_what_torch_does(tmp_path: Path) -> None:
    """Convolutions of every kind, pools that are not square, in one chain."""
    r = np.random.default_rng(0)
    first = r.standard_normal((4, 1, 3, 2)).astype(np.float32), r.standard_normal(4).astype(np.float32)
    second = r.standard_normal((4, 4, 3, 3)).astype(np.float32), r.standard_normal(4).astype(np.float32)
    nodes = [
        nir.Conv2d((9, 8), first[0], (2, 1), (1, 0), (1, 2), 2, first[1]),
        nir.AvgPool2d(np.array([2, 1]), np.array([1, 1]), np.array([1, 0])),
        nir.Conv2d((6, 6), second[0], 1, "same", 1, 1, second[1]),
        nir.SumPool2d(np.array([1, 2]), np.array([1, 2]), np.array([0, 1])),
        nir.Flatten(np.array([4, 6, 4]), 0, -1),
    ]
    path = written(tmp_path, nir.Input(np.array([2, 9, 8])), *nodes)
    x = torch.rand(3, 5, 2, 9, 8)
    merged = x.flatten(0, 1)
    weights = [torch.from_numpy(each) for each in (*first, *second)]
    y = F.conv2d(merged, weights[0], weights[1], (2, 1), (1, 0), (1, 2), 2)
    y = F.conv2d(F.avg_pool2d(y, (2, 1), 1, (1, 0)), weights[2], weights[3], 1, "same")
    y = F.avg_pool2d(y, (1, 2), (1, 2), (0, 1), divisor_override=1).flatten(1).unflatten(0, (3, 5))
    assert torch.equal(read_nir(path)(x), y)


def test_a_row_of_others(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    path = written(tmp_path, nir.Input(np.array([2, 9])), nir.Conv1d(9, weight, 2, 1, 2, 1, grid(1, 2, 3)))
    x = torch.rand(3, 5, 2, 9)
    y = F.conv1d(x.flatten(0, 1), torch.from_numpy(weight), torch.tensor([1.0, 2.0, 3.0]), 2, 1, 2)
    assert torch.equal(read_nir(path)(x), y.unflatten(0, (3, 5)))


def test_neurons_of_sinabs(tmp_path: Path) -> None:
    """Soft reset, as many spikes as the membrane holds thresholds, exp(-1/τ) a step."""
    node = lif(3, tau=grid(2, 2, 2), r=grid(1, 1, 1), v_threshold=grid(0.75, 0.75, 0.75))
    path = written(tmp_path, node)
    x = torch.rand(8, 32, 3, generator=rng(0)) * 4 - 1
    v, wanted, decay = torch.zeros(32, 3), [], float(np.float32(np.exp(-0.5)))
    for current in x:
        u = decay * v + current
        k = torch.where(u > 0, torch.div(u, 0.75, rounding_mode="trunc"), 0.0)
        v = u - k * 0.75
        wanted.append(k)
    assert torch.stack(wanted).max() > 1
    with pytest.warns(UserWarning, match="must have Sinabs' defaults"):
        net = read_nir(path, maker="sinabs")
    assert torch.equal(net(x), torch.stack(wanted))


def test_a_maker_whose_files_leave_something_open(tmp_path: Path) -> None:
    path = written(tmp_path, lif(tau=grid(2e-4, 2e-4)))
    with pytest.warns(UserWarning, match="made with reset_mechanism='zero'"):
        net = read_nir(path, maker="snntorch")
    assert net(torch.tensor([[[0.75, 0.5]], [[0.75, 1.0]]])).flatten().tolist() == [0.0, 0.0, 1.0, 1.0]


def test_neurons_of_norse(tmp_path: Path) -> None:
    """It writes dt·τ for τ, and its membranes start where they leak to."""
    leak = grid(0.25, 0.25)
    node = lif(2, tau=grid(2.0**-19, 2.0**-19), r=grid(1, 1), v_leak=leak, v_threshold=grid(0.5, 0.5))
    x = dyadic(torch.rand(8, 32, 2, generator=rng(0)) * 2 - 0.5, 8)
    v, wanted = torch.full((32, 2), 0.25), []
    for current in x:
        u = v + 0.5 * (current + 0.25 - v)
        z = (u > 0.5).float()
        v = (1 - z) * u
        wanted.append(z)
    assert torch.equal(read_nir(written(tmp_path, node), 2.0**-10, maker="norse")(x), torch.stack(wanted))


def test_a_time_step_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lif \(LIF\): a LIF needs the time step"):
        read_nir(written(tmp_path, lif()))


def test_loops_are_refused(tmp_path: Path) -> None:
    eye = np.eye(2, dtype=np.float32)
    nodes = [("in", nir.Input(np.array([2]))), ("a", nir.Linear(eye)), ("n", lif()), ("out", nir.Output(np.array([2])))]
    path = written(tmp_path, *nodes, edges=[("in", "a"), ("a", "n"), ("n", "a"), ("n", "out")])
    with pytest.raises(ValueError, match="without loops, got a loop among or before a, n"):
        read_nir(path, dt=1.0)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    path.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="the file must be one of NIR"):
        read_nir(path)
    with pytest.raises(ValueError, match="the file must be one of NIR"):
        read_nir(tmp_path / "absent.nir")
    with pytest.raises(ValueError, match="did you mean 'norse'"):
        read_nir(path, maker="nors")


@pytest.mark.parametrize(("name", "got"), [("none.nir", "nothing of this name"), (".", "a folder")])
def test_a_file_that_is_not_there_is_named(name: str, got: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"must be one of NIR, got {got}; check the path"):
        read_nir(tmp_path / name)
