"""The one exception of this package, in the house form ``Where: what must hold, got what; what to do.``"""

from __future__ import annotations

_SHOWN = 200


class ProgramError(ValueError):
    """A program, a file or an input that is not legal."""


def fault(where: str, must: str, got: object, todo: str) -> ProgramError:
    """A `ProgramError` in the house form, for ``raise fault(...)``; what was got is cut to 200 characters.

    >>> str(fault("conv1", "the stride must be >= 1", 0, "write 1"))
    'conv1: the stride must be >= 1, got 0; write 1.'
    """
    shown = str(got)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    end = "" if todo.endswith("?") else "."
    text = f"{where.replace(':', '_')[:_SHOWN] or '?'}: {must}, got {shown}; {todo}{end}"
    return ProgramError(text.encode("utf-8", "backslashreplace").decode())
