"""The target "wasm": NAME.wasm, NAME.mjs that loads it, NAME.d.mts with its types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from bitspike.checks import bad_value
from bitspike.export.target import TARGETS, Exported, Reads, Source, Target
from bitspike.export.wasm.module import Module, too_large, types_text
from bitspike.files import write_bytes_atomic, write_text_atomic


@TARGETS.register("wasm")
class Wasm(Target):
    """The C of a program for WebAssembly: the integers of the interpreter in browsers and in Node."""

    reads: ClassVar[Reads] = "program"
    about = "a WebAssembly module, an ES module that loads it, its types"
    suffix = ".wasm"

    def losses(self, source: Source, options: Mapping[str, Any]) -> list[str]:
        """Nothing but what does not fit into its memory."""
        assert source.program is not None
        return too_large(source.program)

    def write(self, source: Source, path: Path, options: Mapping[str, Any]) -> Exported:
        """The three files, side by side."""
        assert source.program is not None
        if path.suffix != self.suffix:
            raise bad_value("export to wasm", "its file must end in .wasm", path.name, "rename it")
        program, module, types = source.program, path.with_suffix(".mjs"), path.with_suffix(".d.mts")
        made = Module.of("export to wasm", program)
        write_bytes_atomic(path, made.data)
        write_text_atomic(module, made.text(source.name, quote(path.name), program))
        write_text_atomic(types, types_text(path.name, program))
        sizes = {file.suffix: file.stat().st_size for file in (path, module)}
        note = f"import {{ load }} from './{module.name}'; it runs in browsers and in Node 18 or later"
        facts = {
            "context_bytes": made.written.context_bytes,
            "wasm_bytes": sizes[".wasm"],
            "module_bytes": sizes[".mjs"],
        }
        return Exported((path, module, types), (note,), facts)
