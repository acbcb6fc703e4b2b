"""`upgrade` for networks of bitspike's own layers, such as builders make with `nn.ReLU()`: only activations change."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value
from bitspike.layers import BatchNorm, ClipFloor, Detach, Encoder, TimeLayer
from bitspike.neurons import Neuron
from bitspike.upgrade.check import different_steps, guess_sample, record
from bitspike.upgrade.inside import look_at_modules, look_inside
from bitspike.upgrade.mapping import Choices
from bitspike.upgrade.report import UpgradeReport
from bitspike.upgrade.sites import Names, Site, called, find_sites, put
from bitspike.upgrade.trace import path_of

Found = tuple[fx.GraphModule, list[tuple[Site, Tensor]], UpgradeReport]


def over_time(model: nn.Module) -> bool:
    """Whether a model is made of layers over time (activations and detaches work on any axes and do not tell)."""
    told = (module for module in model.modules() if not isinstance(module, (ClipFloor, Detach)))
    return any(isinstance(module, (TimeLayer, Neuron)) for module in told)


def body_over_time(root: nn.Module, graph: fx.Graph, choices: Choices, sample: Tensor | None) -> Found:
    """The same network with a place of its own for every activation.

    Args:
        root, graph: of `trace_user`, the model over [T, B, ...] without encoder and read-out.
        sample: one time step [B, ...], or None.

    Returns:
        (body, sites to be replaced with one step [B, ...] of their input, report).
    """
    for name, module in root.named_modules():
        if isinstance(module, Encoder):
            must = "a network over time must be given without its encoder, or as bitspike.models.Network"
            raise bad_value("upgrade", must, f"{path_of(name)!r}", "pass Network(encoder, body, readout)")
    names = Names(called(graph))
    sites = find_sites(root, graph, choices, names)
    held = look_at_modules(root, graph, choices).activations
    choices.check_used([f"{site.name} ({site.kind.__name__})" for site in sites], list(held))
    x = guess_sample(root, graph, set(), over_time=True) if sample is None else sample
    sequence = torch.stack(different_steps(x))
    values = record(root, graph, [sequence], set())
    report = UpgradeReport(sample=tuple(sequence.shape[1:]), guessed=sample is None)
    report.left_alone = {site.name: site.kind.__name__ for site in sites if not site.replaced}
    home = root.get_submodule("model")
    modes = sorted({layer.mode for layer in home.modules() if isinstance(layer, BatchNorm)})
    report.norm = f"as the model's layers say: {', '.join(modes) or 'none'}"
    for site in sites:
        if site.module is not None or site.replaced:
            put(home, site.name, site.module or nn.ReLU())
            site.node.op, site.node.target, site.node.kwargs = "call_module", f"model.{site.name}", {}
            site.node.args = site.node.args[:1]
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = path_of(str(node.target))
    graph.lint()
    found = [(site, values[site.node.args[0]][0][0]) for site in sites if site.replaced]  # type: ignore[index]
    body = fx.GraphModule(home, graph, "Body")
    look_inside(body, sequence, choices).tell(report, choices)
    return body, found, report
