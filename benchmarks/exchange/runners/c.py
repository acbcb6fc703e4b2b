"""C99 as a library of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cases import Case, NotRun, Ran

from export_c import Compiled, missing


def run(case: Case, work: Path, venvs: Path) -> list[Ran]:
    """Whole calls, sample by sample."""
    if missing("gcc"):
        raise NotRun(missing("gcc"))
    made = Compiled(case.program, work)
    steps = case.program.sequence(case.x.numpy())
    fed = [steps[:1, k] if case.program.spec.input.repeat else steps[:, k] for k in range(len(case.x))]
    rows = [made.run(x)[0][0][0] for x in fed]
    found = np.concatenate(rows) if made.final[0] else np.stack(rows, 1)
    return [Ran("gcc", found.size, int((found != case.levels).sum()))]
