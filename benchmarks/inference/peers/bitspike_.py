"""The program in the native engine."""

from __future__ import annotations

from importlib.metadata import version

from bitspike.runtime import Program, load

from .base import Array, Order, Ready

VERSIONS = {"bitspike": version("bitspike")}


def ready(order: Order, x: Array) -> Ready:
    """The program with its best instruction set."""
    program = Program(load(order.folder / "program.bitspike").spec, "native", order.threads)
    plan = str(program.engine).splitlines()[0]
    return Ready(lambda images: program(images, batch=order.batch).values, {"engine": plan})
