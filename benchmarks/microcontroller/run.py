"""Programs as C on Cortex-M boards in an emulator: exactness, flash, RAM, instructions; one JSON a network.

Usage: BITSPIKE_DATA=DIR python benchmarks/microcontroller/run.py [--only TEXT ...] [--out results/microcontroller]
           [--work runs/programs]

Needs arm-none-eabi-gcc and qemu-system-arm. Networks are those of benchmarks/programs, trained into --work where they
are not there; a run that is not finished, or of another recipe, is refused. What is done is skipped.

Instructions: QEMU with -icount shift=0 lets a nanosecond pass for every instruction, so that SysTick, 25 MHz, ticks
once for 40; a loop of 400,000 instructions checks that. They are counted on the first images, each image alone.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from device import MACHINES, build, run

from bitspike.files import write_json_atomic
from networks import JOBS, Made, made

TIMED = 20
TICK = 40
BOARDS = {"cortex-m3": (), "cortex-m4": ("-DNET_DSP",)}


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="networks whose name holds one of these texts")
    parser.add_argument("--out", type=Path, default=Path("results/microcontroller"))
    parser.add_argument("--work", type=Path, default=Path("runs/programs"))
    given = parser.parse_args()
    for missing in (MACHINES[name].missing() for name in BOARDS):
        if missing:
            raise SystemExit(missing)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in JOBS:
        path = given.out / f"{name.replace('/', '-')}.json"
        if path.exists() or (given.only and not any(text in name for text in given.only)):
            continue
        found = measured(made(name, given.work))
        write_json_atomic(path, {"network": name, **found})
        for board in BOARDS:
            row = found["boards"][board]
            print(
                f"{name} {board}: {row['flash_bytes']:,} bytes of flash, {row['instructions']:,} instructions, "
                f"{row['wrong']} of {found['images']} images wrong",
                flush=True,
            )


def measured(network: Made) -> dict[str, Any]:
    """Everything of one program."""
    program, boards = network.program, {}
    for name, options in BOARDS.items():
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder)
            sizes = build(program, network.images, at, MACHINES[name], ("-O2", *options))
            whole = run(at, MACHINES[name])
            build(program, network.images[:TIMED], at, MACHINES[name], ("-O2", *options, "-DTIMED=1"))
            timed = run(at, MACHINES[name], count=True)
        assert timed["calibration_ticks"] * TICK == 400_000, timed
        assert timed["wrong"] == 0, timed
        boards[name] = {
            "flash_bytes": sizes["flash_bytes"],
            "constant_bytes": sizes["constant_bytes"],
            "context_bytes": whole["context_bytes"],
            "wrong": whole["wrong"],
            "wrong_streams": whole["wrong_streams"],
            "instructions": timed["sum_ticks"] * TICK // timed["samples"],
            "instructions_least": timed["fewest_ticks"] * TICK,
            "instructions_most": timed["most_ticks"] * TICK,
        }
    result = program(network.images)
    right = np.argmax(result.levels[: len(network.labels)], 1) == network.labels
    return {
        "info": network.info,
        "images": len(network.images),
        "accuracy": float(right.mean()),
        "test_images": len(network.labels),
        "constants": sum(c.array.size for c in program.spec.constants.values()),
        "plan_bytes": program.plan.peak_bytes,
        "boards": boards,
        "timed_images": TIMED,
        "compiler": _version("arm-none-eabi-gcc"),
        "emulator": _version("qemu-system-arm"),
    }


def _version(tool: str) -> str:
    return subprocess.run([tool, "--version"], capture_output=True, text=True).stdout.splitlines()[0]


if __name__ == "__main__":
    main()
