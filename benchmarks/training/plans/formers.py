"""One training step of Spikformer-4-384 for CIFAR, T = 4, batch 4."""

from __future__ import annotations

from plans.base import Case, Goal, Plan, Row, Settings
from plans.library import M, called, ours, spikingjelly, with_heap

NETWORK = {
    **{"kind": "network", "network": "spikformer", "T": 4, "batch": 4, "image": 32, "width": 384},
    **{"options_of_network": {"depth": 4, "heads": 12}, "parameters": 9_310_906},
}
QUICK = {
    **{"kind": "network", "network": "spikformer", "T": 2, "batch": 2, "image": 16, "width": 48},
    **{"options_of_network": {"depth": 1, "heads": 3}},
}
LAYOUTS = ("channels_last", "nchw")


def cases(settings: Settings) -> dict[str, tuple[Case, ...]]:
    """The cases of this group by a short name."""
    base = QUICK if settings.quick else NETWORK
    found = {}
    for name in ("lif", "ternary", "multibit"):
        found[name] = (ours(name, M, settings.kernel, {**base, "layout": "nchw"}),)
    found["lif last"] = (ours("lif", M, settings.kernel, {**base, "layout": "channels_last"}, "channels-last"),)
    for name, surrogates in (("lif", ("atan", "triangle")), ("ternary", ("atan",))):
        found[f"sj {name}"] = tuple(
            spikingjelly(name, True, surrogate, {**base, "layout": way}) for way in LAYOUTS for surrogate in surrogates
        )
    return found


def plan(settings: Settings) -> Plan:
    """Float32 and eager."""
    c = cases(settings)
    name = "SpikingJelly LIF, fastest eager"
    stage = "Spikformer-4-384, T = 4, batch 4"
    rows = [
        Row(stage, c["lif"][0], called(name, c["sj lif"]), "M", Goal(1.5)),
        Row(stage, c["lif"][0], with_heap(name, c["sj lif"]), "M"),
        Row(stage, c["lif"][0], c["lif last"], "M"),
        Row(stage, c["ternary"][0], c["sj ternary"], "M"),
        Row(stage, c["ternary"][0], c["lif"], "M", slower=True),
        Row(stage, c["multibit"][0], c["lif"], "M", slower=True),
    ]
    return Plan(rows, ("SpikingJelly under torch.compile, and other libraries, which have no Spikformer",), 1.0, 1.5)
