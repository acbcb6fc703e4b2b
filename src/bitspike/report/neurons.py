"""Pictures of neurons at work: one membrane step by step, and the levels that every layer sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bitspike.checks import bad_value, finite, message
from bitspike.neurons import Neuron
from bitspike.observe import Activity, levels_of, potentials
from bitspike.report.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LAYERS, MOST_LEVELS = 64, 17
"""Panels of a picture at most; levels of a layer that have a bar of their own."""


@torch.no_grad()
def membrane_picture(neuron: Neuron, currents: Tensor, title: str = "") -> Figure:
    """The current, the membrane and the spikes of one neuron, one above the other.

    The membrane is drawn before it fires, so a step in which it reaches the dashed line is a step with a spike. The
    line is where the lowest level begins; a signed neuron has a second one below 0.

    Args:
        neuron: any neuron; it starts from a fresh state. currents: one current a step, [T]. title: heading.

    Returns:
        The figure, which a notebook shows by itself; ``figure.savefig(path)`` writes it.

    Raises:
        ImportError: matplotlib is missing. ValueError: currents that are not [T], or NaN or inf in them.

    >>> from bitspike.neurons import LIF
    >>> figure = membrane_picture(LIF(), torch.tensor([0.6, 0.7, 1.0]))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['current', 'membrane', 'level']
    """
    if currents.dim() != 1 or not len(currents):
        got, todo = list(currents.shape), "take one neuron of one sample: x[:, 0, 0]"
        raise bad_value("membrane_picture", "currents must be [T], at least one step", got, todo)
    finite("membrane_picture", "currents", currents)
    x = currents.reshape(-1, 1, 1)
    u, k = potentials(neuron, x, scaled=True).flatten(), levels_of(neuron, neuron(x)).flatten()
    steps = list(range(1, len(x) + 1))
    figure = new_figure(6.4, 4.2)
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    top.bar(steps, currents.tolist(), color="tab:gray", width=0.5)
    middle.plot(steps, u.tolist(), marker="o", color="tab:blue")
    first = float(torch.as_tensor(neuron.stairs.first))
    for line in (first, -first) if neuron.format.signed else (first,):
        middle.axhline(line, color="black", linestyle="--", linewidth=0.8)
    bottom.bar(steps, k.tolist(), color="tab:red", width=0.5)
    bottom.yaxis.get_major_locator().set_params(integer=not neuron.format.real)
    for axes, words in ((top, "current"), (middle, "membrane"), (bottom, "level")):
        axes.set_ylabel(words)
        axes.grid(alpha=0.3)
        axes.axhline(0, color="black", linewidth=0.5)
    bottom.set_xlabel("step")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title, parse_math=False)
    return figure


def activity_picture(activity: Mapping[str, Activity], title: str = "") -> Figure:
    """A panel a layer: how often each level other than 0 was sent, in % of all neurons and steps.

    The heading of a panel has the spike rate. Of more than 17 levels neighbours share a bar.

    Args:
        activity: from `bitspike.observe`. title: heading.

    Returns:
        The figure, which a notebook shows by itself; ``figure.savefig(path)`` writes it.

    Raises:
        ImportError: matplotlib is missing. ValueError: no layer that sends levels, or more than 64.
    """
    shown = [layer for layer in activity.values() if layer.histogram]
    if not 0 < len(shown) <= MOST_LAYERS:
        must = f"between 1 and {MOST_LAYERS} layers must have sent levels"
        todo = "observe a network whose spikes are levels, or give some of its layers"
        raise ValueError(message("activity_picture", must, len(shown), todo))
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(2.4 * columns + 0.4, 1.9 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, layer in zip(grid.flat, shown, strict=False):
        shares = {k: 100 * n / layer.sent for k, n in sorted(layer.histogram.items()) if k}
        if len(shares) <= MOST_LEVELS:
            axes.bar(list(shares), list(shares.values()), color="tab:red")
        else:
            axes.hist(list(shares), MOST_LEVELS, weights=list(shares.values()), color="tab:red")
        axes.set_title(f"{layer.name}: {100 * layer.rate:.3g} %", fontsize="small", parse_math=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize="x-small")
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("level", fontsize="small")
    figure.supylabel("% of neurons and steps", fontsize="small")
    figure.suptitle(title, parse_math=False)
    return figure
