"""Pictures of a membrane and of levels: bars are what the neuron sends, what cannot be drawn is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bitspike import cost, observe
from bitspike.layers import Linear
from bitspike.neurons import LIF, MultiBit, Neuron, Real, Ternary
from bitspike.report import activity_picture, allocation_picture, cost_picture, membrane_picture

CURRENTS = torch.tensor([0.1, 0.7, 1.0, -2.5, 3.0])


def heights(axes: Any) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


@pytest.mark.parametrize("neuron", [LIF(), MultiBit(1, 1), Ternary()], ids=lambda n: type(n).__name__)
def test_a_membrane_reaches_its_threshold_where_there_is_a_spike(neuron: Neuron) -> None:
    _, membrane, spikes = membrane_picture(neuron, CURRENTS, "one $neuron").axes
    u = torch.as_tensor(membrane.lines[0].get_ydata())
    k = torch.tensor(heights(spikes))
    line = membrane.lines[1].get_ydata()[0]
    assert ((u >= line) == (k > 0)).all() and (k != 0).any() and (k == 0).any()
    sent = neuron.emission.levels(neuron(CURRENTS.reshape(-1, 1, 1))).flatten()
    assert torch.equal(k, sent.detach().round())


def test_bars_are_shares_of_levels() -> None:
    activity = observe(nn.Sequential(MultiBit(1, 1)), [torch.tensor([[[0.0, 0.5, 1.5, 9.0]]])])
    (axes,) = activity_picture(activity, "levels").axes
    layer = next(iter(activity.values()))
    wanted = [100 * n / layer.sent for k, n in sorted(layer.histogram.items()) if k]
    assert heights(axes) == wanted and len(wanted) > 1
    assert axes.get_title() == f"_0: {100 * layer.rate:.3g} %"


def test_many_levels_share_bars() -> None:
    activity = observe(nn.Sequential(MultiBit(6, 0)), [torch.arange(64.0).reshape(1, 1, 64)])
    (axes,) = activity_picture(activity).axes
    assert sum(heights(axes)) == pytest.approx(100 * 63 / 64) and len(axes.patches) == 17


def test_what_cannot_be_drawn(refuses: Any) -> None:
    with refuses("membrane_picture", "[T]", "[2, 3]"):
        membrane_picture(LIF(), torch.zeros(2, 3))
    with refuses("membrane_picture", "[T]", "[0]"):
        membrane_picture(LIF(), torch.zeros(0))
    with pytest.raises(ValueError, match="membrane_picture"):
        membrane_picture(LIF(), torch.tensor([float("nan")]))
    with pytest.raises(ValueError, match="activity_picture"):
        activity_picture(observe(nn.Sequential(Real()), [torch.ones(1, 1, 1)]))


def test_pictures_of_a_notebook_write_no_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counted = cost(nn.Sequential(LIF(), Linear(3, 2)), torch.ones(2, 1, 3))
    figures = [allocation_picture(counted, None, "bits"), cost_picture(counted, None, "cost")]
    assert all(figure.axes for figure in figures) and not list(tmp_path.iterdir())
