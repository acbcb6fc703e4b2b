"""The target "c": one source file and one header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bitspike.checks import bad_value
from bitspike.export.target import TARGETS, Exported, Reads, Source, Target
from bitspike.files import write_text_atomic

from .names import prefix
from .source import written

_HEADERS = frozenset(
    "arm_acle assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg stdbool "
    "stddef stdint stdio stdlib string tgmath time wchar wctype".split()
)


@TARGETS.register("c")
class C(Target):
    """C99 for microcontrollers and everything else: no allocation, integers only."""

    reads: ClassVar[Reads] = "program"
    about = "C99, one source file and one header, for microcontrollers: no allocation, packed weights"
    suffix = ".c"

    def losses(self, source: Source, options: Mapping[str, Any]) -> list[str]:
        """Nothing of the program; but its header must not stand in for one of the library."""
        name = prefix(source.name)
        return [f"the name {name}: {name}.h is a header of C; choose another"] if name.lower() in _HEADERS else []

    def write(self, source: Source, path: Path, options: Mapping[str, Any]) -> Exported:
        """Write NAME.c and NAME.h."""
        assert source.program is not None  # what `reads` promises
        name = prefix(source.name)
        if path == path.with_name(f"{name}.h"):
            raise bad_value("export to c", "its file must not be its header", path.name, f"write {name}.c")
        found = written(source.program, name)
        header = path.with_name(f"{name}.h")
        write_text_atomic(path, found.source)
        write_text_atomic(header, found.header)
        facts = {"prefix": name, "constant_bytes": found.constant_bytes, "context_bytes": found.context_bytes}
        return Exported((path, header), (f"functions and macros begin with {name}_ and {name.upper()}_",), facts)
