"""WebAssembly: the C of a program, compiled for browsers and Node, with the module that loads it."""

from bitspike.export.wasm.target import Wasm

__all__ = ["Wasm"]
