"""One training step of He's narrow CIFAR ResNet-20, T = 4, batch 32."""

from __future__ import annotations

from typing import Any

from plans.base import Case, Goal, Plan, Row, Settings
from plans.library import M, U, called, loops, ours, spikingjelly, with_heap

NETWORK = {"kind": "network", "T": 4, "batch": 32, "image": 32, "width": 16, "parameters": 269_722}
QUICK = {"kind": "network", "T": 2, "batch": 4, "image": 16, "width": 4}
LAYOUTS = ("channels_last", "nchw")
WORDS = {"channels_last": "channels-last", "nchw": "NCHW"}


def networks(settings: Settings) -> dict[str, Any]:
    """The cases of this group by a short name, some with both layouts as candidates."""
    base = QUICK if settings.quick else NETWORK
    relu = {"neuron": "relu", "kernel": "reference"}
    last = {**base, "layout": "channels_last"}
    found: dict[str, Any] = {}
    for name in ("lif", "ternary", "multibit", "integer"):
        found[name] = ours(name, M, settings.kernel, last)
        found[f"{name} bf16"] = ours(name, M, settings.kernel, {**last, "autocast": True}, "bf16")
    found["lif nchw"] = ours("lif", M, settings.kernel, {**base, "layout": "nchw"}, "NCHW")
    found["lif u"] = ours("lif", U, settings.kernel, last, "undetached, ATan")
    found["ternary u"] = ours("ternary", U, settings.kernel, last, "undetached, ATan")
    found["lean"] = ours("lif", M, settings.kernel, {**last, "memory": "lean"}, "lean")
    for half in (False, True):
        word = " bf16" if half else ""
        found[f"relu{word}"] = (Case("bitspike", f"the network with ReLU{word}", {**last, **relu, "autocast": half}),)

    def either(name: str, detach: bool, surrogate: str, compiled: bool = False, **more: Any) -> tuple[Case, ...]:
        return tuple(
            spikingjelly(name, detach, surrogate, {**base, "layout": way, **more}, compile=compiled) for way in LAYOUTS
        )

    fastest = (*either("lif", True, "atan"), *either("lif", True, "triangle"))
    found["sj"] = called("SpikingJelly LIF, fastest eager", fastest)
    found["sj heap"] = with_heap("SpikingJelly LIF, fastest eager", fastest)
    found["sj u"] = either("lif", False, "atan")
    found["sj compiled"] = either("lif", True, "atan", compiled=True)
    found["sj ternary"] = either("ternary", True, "atan")
    found["sj ternary u"] = either("ternary", False, "atan")
    found["sj integer"] = either("integer", True, "window")
    found["sj bf16"] = either("lif", True, "atan", autocast=True)
    found["sj ternary bf16"] = either("ternary", True, "atan", autocast=True)
    found["snntorch"] = tuple(case for way in LAYOUTS for case in loops({**base, "layout": way})["snntorch"])
    return found


def plan(settings: Settings) -> Plan:
    """Float32, then bfloat16 autocast."""
    c = networks(settings)
    lif = (c["lif"],)
    rows = [
        *(Row("float32", c["lif"], c[peer], "M", Goal(bound)) for peer, bound in (("sj", 1.8), ("snntorch", 1.8))),
        Row("float32", c["lif"], c["sj heap"], "M"),
        Row("float32", c["lif"], c["relu"], "M", Goal(1.08, slower=True)),
        Row("float32", c["lif nchw"], c["sj"], "M"),
        Row("float32", c["lif nchw"], lif, "M", slower=True),
        Row("float32", c["ternary"], lif, "M", Goal(1.06, slower=True)),
        Row("float32", c["ternary"], c["sj ternary"], "M", Goal(2.0)),
        Row("float32", c["multibit"], lif, "M", Goal(1.06, slower=True)),
        Row("float32", c["multibit"], c["sj ternary"], "M", Goal(2.0)),
        Row("float32", c["integer"], lif, "M", slower=True),
        Row("float32", c["integer"], c["sj integer"], "M"),
        Row("float32", c["lif u"], c["sj u"], "U"),
        Row("float32", c["lif u"], lif, "U", slower=True),
        Row("float32", c["ternary u"], c["sj ternary u"], "U"),
        Row("float32", c["lean"], lif, "lean", Goal(1.3, slower=True)),
    ]
    if settings.kernel != "reference":
        plain = ours("lif", M, "reference", {**lif[0].spec})
        rows.append(Row("float32", c["lif"], (plain,), "M"))
    rows += [
        Row("bfloat16 autocast", c["lif bf16"], c["sj bf16"], "M", Goal(1.8)),
        Row("bfloat16 autocast", c["lif bf16"], c["relu bf16"], "M", slower=True),
        Row("bfloat16 autocast", c["ternary bf16"], c["sj ternary bf16"], "M"),
        Row("bfloat16 autocast", c["ternary bf16"], (c["lif bf16"],), "M", slower=True),
        Row("bfloat16 autocast", c["multibit bf16"], (c["lif bf16"],), "M", slower=True),
    ]
    left_out = ("Norse and sinabs: their LIF is slower than snnTorch's alone, and their networks would add nothing",)
    if settings.compiled:
        rows.insert(2, Row("float32", c["lif"], c["sj compiled"], "M", Goal(1.2)))
        heap = with_heap("SpikingJelly LIF, detached, ATan, torch.compile", c["sj compiled"])
        rows.insert(3, Row("float32", c["lif"], heap, "M"))
    else:
        left_out += ("SpikingJelly under torch.compile (--no-compile)",)
    return Plan(rows, left_out, sample_s=1.0, warm_s=1.5)
