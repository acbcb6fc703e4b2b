"""JSON from strangers: no duplicate keys, no NaN, no deep nesting, no giant numbers."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from .errors import fault
from .limits import MAX_DEPTH

_MARK = re.compile(rb'"|\\.|[\[{\]}]', re.DOTALL)


def parse(text: bytes, what: str) -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
        ProgramError: it is no JSON object, or one with duplicate keys, NaN or infinity, numbers of more than 20 digits,
            or brackets nested deeper than 16.
    """
    where = f"{what} JSON"
    if _depth(text) > MAX_DEPTH:
        raise fault(where, f"brackets must be nested at most {MAX_DEPTH} deep", "more", "check what it is")

    def refuse(must: str, got: object) -> NoReturn:
        raise fault(where, must, got, "write the file again")

    def number(digits: str) -> int:
        return int(digits) if len(digits) <= 20 else refuse("numbers must have at most 20 digits", len(digits))

    def real(digits: str) -> float:
        value = float(digits) if len(digits) <= 40 else math.inf
        return value if math.isfinite(value) else refuse("numbers must be finite", digits[:40])

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            name, count = Counter(name for name, _ in pairs).most_common(1)[0]
            refuse("keys must be there once", f"{name} {count} times")
        return found

    def constant(name: str) -> NoReturn:
        refuse("numbers must be finite", name)

    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=once, parse_int=number, parse_float=real, parse_constant=constant
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise fault(where, "it must be JSON in UTF-8", error, "fetch the file again") from None
    if not isinstance(value, dict):
        refuse("it must be an object", type(value).__name__)
    return value


def _depth(text: bytes) -> int:
    """The deepest nesting of brackets outside strings, up to one too deep; one pass, whatever the text.

    >>> _depth(b'[{"[[[": "]\\\\"["}]'), _depth(b'"' + b"[" * 99)
    (2, 0)
    """
    depth = deepest = 0
    quoted = False
    for match in _MARK.finditer(text):
        mark = match[0]
        if mark == b'"':
            quoted = not quoted
        elif not quoted and len(mark) == 1:
            depth += 1 if mark in b"[{" else -1
            deepest = max(deepest, depth)
            if depth > MAX_DEPTH:
                break
    return deepest
