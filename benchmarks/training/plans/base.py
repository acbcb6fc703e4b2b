"""Records of a comparison: a case is what one worker times; a row sets one case against another."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """What one worker is asked to prepare.

    Args:
        worker: name of its module. label: short name for tables. spec: the order, JSON values only.
    """

    worker: str
    label: str
    spec: dict[str, Any] = field(hash=False)

    @property
    def key(self) -> str:
        """Equal keys are the same case."""
        return f"{self.worker} {json.dumps(self.spec, sort_keys=True)}"


@dataclass(frozen=True)
class Goal:
    """A bound on a ratio.

    Args:
        bound: the number.
        slower: False: other/ours must be at least the bound ("times its speed"); True: ours/other must be at most the
            bound ("times its time").
    """

    bound: float
    slower: bool = False

    @property
    def text(self) -> str:
        """As tables print it."""
        return f"{'≤' if self.slower else '≥'} {self.bound:g}"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        stage: heading of its table; cases of one stage are alive together, then dropped.
        ours: bitspike. others: candidates; the fastest in a short round is compared.
        kind: "M", "U" or another word, see the README. goal: None if there is none.
        slower: whether the ratio is ours/other; with a goal, the goal says.
    """

    stage: str
    ours: Case
    others: tuple[Case, ...]
    kind: str
    goal: Goal | None = None
    slower: bool = False

    @property
    def ratio_is_slower(self) -> bool:
        """True: ours/other. False: other/ours."""
        return self.goal.slower if self.goal else self.slower


@dataclass(frozen=True)
class Settings:
    """What the command line decides.

    Args:
        kernel: bitspike's kernel. quick: tiny shapes. compiled: with torch.compile cases.
    """

    kernel: str = "native"
    quick: bool = False
    compiled: bool = True


@dataclass(frozen=True)
class Plan:
    """The rows of a group, and what was left out of it with the reason."""

    rows: list[Row]
    left_out: tuple[str, ...] = ()
    sample_s: float = 0.3
    warm_s: float = 0.5
