"""Peak memory of the training step of `plans.formers`, every case in a fresh process."""

from __future__ import annotations

from plans.base import Goal, Plan, Row, Settings
from plans.formers import cases


def plan(settings: Settings) -> Plan:
    """Ratios are ours/other in memory, against the candidate that needs least."""
    c = cases(settings)
    stage = "Spikformer-4-384, T = 4, batch 4"
    rows = [
        Row(stage, c["lif"][0], c["sj lif"], "M", Goal(0.60, slower=True)),
        Row(stage, c["ternary"][0], c["sj ternary"], "M", Goal(0.60, slower=True)),
        Row(stage, c["multibit"][0], c["sj ternary"], "M", slower=True),
    ]
    return Plan(rows)
