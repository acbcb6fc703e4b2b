"""WebAssembly in Node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cases import Case, NotRun, Ran

from exported.modules import LACKING, job, node


def run(case: Case, work: Path, venvs: Path) -> list[Ran]:
    """Whole calls, sample by sample."""
    if LACKING:
        raise NotRun(f"there is no {LACKING}")
    (found,) = node([job(case.program, work, case.inputs())], work)
    rows = [np.array(one["levels"], np.int64) for one in found["whole"]]
    wanted = case.levels if len(case.levels) == len(case.x) else np.moveaxis(case.levels, 1, 0)
    return [Ran("Node", case.levels.size, int((np.stack(rows) != wanted.reshape(len(rows), -1)).sum()))]
