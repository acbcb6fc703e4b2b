"""NIR: read back by us, and in the simulators whose environments are here; spikes of every layer and step."""

from __future__ import annotations

from pathlib import Path

import torch
from cases import Case, Ran
from nir_readers import MAKERS, compare, reads, sent

from bitspike.export import read_nir


def run(case: Case, work: Path, venvs: Path) -> list[Ran]:
    """Ours first."""
    path = case.export("nir", work / "net.nir").files[0]
    back = read_nir(path)
    with torch.no_grad():
        y, wanted = back(case.x), case.folded(case.x)
    own = compare(sent(case.folded.graph, case.x), sent(back.graph, case.x))
    found = [Ran("bitspike", own["spikes"] + y.numel(), own["flips"] + int((y != wanted).sum()), "spikes and outputs")]
    for reader in MAKERS:
        row = reads(reader, venvs, case.name, case.folded, case.x, work, case.T)
        if "flips" in row:
            found.append(Ran(reader, row["spikes"], row["flips"], "spikes"))
        elif "not run" not in row["refused"]:
            reason = row["refused"].partition("it cannot: ")[2] or row["refused"]
            found.append(Ran(reader, 0, 0, refused=reason.removesuffix("; change these.")))
    return found
