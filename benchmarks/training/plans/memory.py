"""Peak memory of the training step of `plans.networks`, every case in a fresh process."""

from __future__ import annotations

from plans.base import Goal, Plan, Row, Settings
from plans.networks import networks


def plan(settings: Settings) -> Plan:
    """Ratios are ours/other in memory, against the candidate that needs least; goals are shares of SpikingJelly's."""
    c = networks(settings)
    sj, ternary = c["sj"], c["sj ternary"]
    rows = [
        Row("float32", c["lif"], sj, "M", Goal(0.60, slower=True)),
        Row("float32", c["lif"], c["snntorch"], "M", slower=True),
        Row("float32", c["lif"], c["relu"], "M", slower=True),
        Row("float32", c["ternary"], ternary, "M", Goal(0.60, slower=True)),
        Row("float32", c["multibit"], ternary, "M", Goal(0.60, slower=True)),
        Row("float32", c["integer"], c["sj integer"], "M", Goal(0.60, slower=True)),
        Row("float32", c["lif u"], c["sj u"], "U", Goal(0.60, slower=True)),
        Row("float32", c["lean"], sj, "lean", Goal(0.45, slower=True)),
        Row("float32", c["lean"], (c["lif"],), "lean", slower=True),
        Row("bfloat16 autocast", c["lif bf16"], c["sj bf16"], "M", slower=True),
    ]
    left_out = ("torch.compile: the two-image step that loads the code would compile another graph",)
    return Plan(rows, left_out)
