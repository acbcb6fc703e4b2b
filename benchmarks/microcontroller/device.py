"""Builds what the target "c" writes for a machine in an emulator, and runs samples on it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bitspike.export import export
from bitspike.runtime import Program

HERE = Path(__file__).resolve().parent
STRICT = "-std=c99 -Wall -Wextra -Wpedantic -Wconversion -Werror".split()


@dataclass(frozen=True)
class Machine:
    """A compiler and an emulator.

    Attributes:
        compiler, flags: that build for it. run: command in front of the file. board: without an operating system.
    """

    compiler: str
    flags: tuple[str, ...]
    run: tuple[str, ...]
    board: bool = True

    def missing(self) -> str:
        """Why it cannot be had here; empty where it can."""
        lost = [tool for tool in (self.compiler, *self.run[:1]) if shutil.which(tool) is None]
        return f"not run: there is no {', '.join(lost)} here" if lost else ""


def _board(name: str, cpu: str) -> Machine:
    flags = (f"-mcpu={cpu}", "-mthumb", "-ffunction-sections", "-fdata-sections")
    run = ("qemu-system-arm", "-M", name, "-nographic", "-monitor", "none", "-serial", "none")
    return Machine("arm-none-eabi-gcc", flags, (*run, "-semihosting-config", "enable=on,target=native", "-kernel"))


SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
MACHINES = {
    "gcc": Machine("gcc", (), (), board=False),
    "clang": Machine("clang", (), (), board=False),
    "gcc sanitized": Machine("gcc", SANITIZE, (), board=False),
    "clang sanitized": Machine("clang", SANITIZE, (), board=False),
    "cortex-m3": _board("mps2-an385", "cortex-m3"),
    "cortex-m4": _board("mps2-an386", "cortex-m4"),
    "cortex-m7": _board("mps2-an500", "cortex-m7"),
    "s390x": Machine("s390x-linux-gnu-gcc", (), ("qemu-s390x", "-L", "/usr/s390x-linux-gnu"), board=False),
}


def build(
    program: Program, x: np.ndarray, folder: Path, machine: Machine, options: Sequence[str] = ("-O2",)
) -> dict[str, Any]:
    """Export, write samples beside what the interpreter makes of them, compile; returns sizes of net.o.

    Args:
        x: [B, ...] of a repeated input, else [steps, B, ...]; integers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = export(program, "c", folder / "net.c").facts or {}
    _data(program, x, folder / "data.h")
    flags = [*machine.flags, *STRICT, *options, f"-I{folder}", f"-I{HERE}"]
    _call([machine.compiler, *flags, "-c", str(folder / "net.c"), "-o", str(folder / "net.o")])
    sources = [str(HERE / "main.c"), str(HERE / ("board.c" if machine.board else "host.c"))]
    link = ["-nostartfiles", "-nostdlib", f"-T{HERE / 'board.ld'}", "-Wl,--gc-sections"] if machine.board else []
    libraries = ["-lc", "-lgcc"] if machine.board else []
    _call([machine.compiler, *flags, *link, *sources, str(folder / "net.o"), "-o", str(folder / "net.elf"), *libraries])
    return {**facts, **_sizes(machine, folder / "net.o")}


def run(folder: Path, machine: Machine, count: bool = False, timeout: float = 900) -> dict[str, int]:
    """Run what was built; ``count``: with a clock of instructions, one a nanosecond. Returns the numbers it said."""
    command = list(machine.run)
    if count:
        command[-1:-1] = ["-icount", "shift=0"]
    done = subprocess.run([*command, str(folder / "net.elf")], capture_output=True, text=True, timeout=timeout)
    found = dict(line.split() for line in (done.stdout + done.stderr).splitlines() if len(line.split()) == 2)
    if "wrong" not in found:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")
    return {name: int(number) for name, number in found.items() if number.isdigit()}


def _data(program: Program, x: np.ndarray, path: Path) -> None:
    plain = Program(program.spec, engine="interpreter")
    result = plain(x)
    repeat, final = program.spec.input.repeat, any(made.final for made in program.operations)
    samples = np.asarray(x) if repeat else np.moveaxis(np.asarray(x), 1, 0)
    levels = result.levels if final else np.moveaxis(result.levels, 1, 0)
    numbers = {"SAMPLES": len(samples), "COUNTED": result.steps, "CLAMPED": sum(result.clamped.values())}
    path.write_text(
        "".join(f"#define {name} {number}u\n" for name, number in numbers.items())
        + f"static const net_input inputs[] = {{\n{_numbers(samples)}}};\n"
        f"static const net_output outputs[] = {{\n{_numbers(levels)}}};\n"
    )


def _numbers(array: np.ndarray) -> str:
    flat = array.reshape(-1).tolist()
    rows = (flat[i : i + 64] for i in range(0, len(flat), 64))
    return "".join(",".join(map(_literal, row)) + ",\n" for row in rows)


def _literal(k: int) -> str:
    return str(k) if abs(k) < 2**31 else f"INT64_C({k})" if k >= 0 else f"(-INT64_C({-k - 1}) - 1)"


def _sizes(machine: Machine, path: Path) -> dict[str, int]:
    tool = machine.compiler.replace("gcc", "size") if machine.compiler.endswith("-gcc") else "size"
    text, data, bss = _call([tool, str(path)]).splitlines()[1].split()[:3]
    return {"flash_bytes": int(text) + int(data), "data_bytes": int(data) + int(bss)}


def _call(command: Sequence[str]) -> str:
    done = subprocess.run(list(command), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-3000:]}")
    return done.stdout
