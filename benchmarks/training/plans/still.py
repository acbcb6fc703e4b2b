"""Training steps on still images: the encoder's repeated image computed once, against T copies of it in memory.

Copies are what every step cost before layers knew a repeated image: the first convolution sees T·B frames.
"""

from __future__ import annotations

from typing import Any

from plans.base import Case, Plan, Row, Settings
from plans.library import M, U, ours
from plans.networks import NETWORK, QUICK, networks

STUDY = {"kind": "network", "network": "study_cnn", "T": 4, "batch": 32, "image": 32, "width": 32}


def plan(settings: Settings) -> Plan:
    """He's ResNet-20, then the study network."""
    he = QUICK if settings.quick else NETWORK
    study = {**STUDY, **QUICK} if settings.quick else STUDY
    rows: list[Row] = []
    for stage, base in (("He's ResNet-20", he), ("study_cnn", study)):
        last = {**base, "layout": "channels_last"}

        def pair(options: dict[str, Any], kind: str, note: str, spec: dict[str, Any], stage: str = stage) -> None:
            once = ours("lif", options, settings.kernel, spec, note)
            every = ours("lif", options, settings.kernel, {**spec, "copies": True}, f"{note}, copies".lstrip(", "))
            rows.append(Row(stage, once, (every,), kind))

        pair(M, "M", "", last)
        pair(U, "U", "undetached, ATan", last)
        pair(M, "lean", "lean", {**last, "memory": "lean"})
        if stage != "study_cnn":
            fastest: tuple[Case, ...] = networks(settings)["sj"]
            rows.append(Row(stage, rows[-3].ours, fastest, "M"))
    return Plan(rows, sample_s=1.0, warm_s=1.5)
