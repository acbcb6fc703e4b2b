"""The parts of the target: bytes of the module, text of its loader, their types."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.resources import files

from bitspike.export.c.source import Written, written
from bitspike.export.wasm.compiler import compiled
from bitspike.export.wasm.described import described, fingerprint, output_types
from bitspike.runtime import Program

MOST_BYTES = 2**30
"""Constants and memory plan together: WebAssembly's addresses have 32 bits, and streams share them."""
_ONE = """readonly classes: readonly string[];
  readonly output: Output;"""
_NAMED = """readonly outputs: readonly (Output & { readonly name: string; readonly classes: readonly string[] })[];"""
_NETWORK = "/* what the program says of itself */ null"


def too_large(program: Program) -> list[str]:
    """What to say of a program that does not fit into the memory of a module."""
    constants = sum(constant.array.nbytes for constant in program.spec.constants.values())
    need = constants + program.plan.peak_bytes
    if need <= MOST_BYTES:
        return []
    return [f"memory: it needs {need:,} bytes of {MOST_BYTES:,}; make layers smaller"]


def part(name: str) -> str:
    """A file of this folder."""
    return files("bitspike.export.wasm").joinpath(name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Module:
    """What was compiled: the bytes of the module, and the C that it was made of."""

    data: bytes
    written: Written

    @classmethod
    def of(cls, where: str, program: Program) -> Module:
        """Compile a program; where: what asks, for messages."""
        found = written(program, "net")
        sources = {
            "net.h": found.header,
            "net.c": found.source,
            **{name: part(name) for name in ("string.h", "runtime.c")},
        }
        define = [f"FINGERPRINT={fingerprint(program)}u", *(["REAL"] if program.spec.input.scale else [])]
        define += ["NAMED"] if program.spec.outputs else []
        return cls(compiled(where, sources, "runtime.c", define), found)

    def text(self, name: str, file: str, program: Program) -> str:
        """The ES module that loads it; file: where, relative to this module, as part of an address."""
        about = described(name, file, program, self.written)
        return part("module.mjs").replace(_NETWORK, json.dumps(about, indent=2).replace("<", "\\u003c"), 1)


def types_text(file: str, program: Program) -> str:
    """Declarations for TypeScript."""
    arrays = {"int64": "BigInt64Array", "int32": "Int32Array"}
    parts = {"levels": " | ".join(arrays[kind] for kind in output_types(program)), "file": file}
    names = " | ".join(json.dumps(name) for name in program.spec.outputs)
    parts["results"] = f"Readonly<Record<{names}, Result>>" if names else "Result"
    parts["facts"] = _NAMED if names else _ONE
    return re.sub("@([a-z]+)@", lambda found: parts[found[1]], part("module.d.mts"))
