"""Write the blocks between ``<!-- microcontroller: NAME -->`` and ``<!-- end -->`` of docs/deploy.md from the results.

Usage: python benchmarks/microcontroller/tables.py [--check] [--results results/microcontroller] [--page docs/deploy.md]

Names: boards, int8. What has no file is "not run"; a file that was not made of a finished run is refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bitspike.checks import bad_value
from bitspike.files import read_json
from bitspike.report import as_markdown, rewrite_blocks

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "digits_demo/binary": ["digits", "binary, 8-bit weights"],
    "digits_demo/ternary": ["digits", "ternary, 8-bit weights"],
    "digits_demo/multibit": ["digits", "multi-bit (1, 1), 8-bit weights"],
    "digits_budgets/medium": ["digits", "learned bits, medium budget"],
    "digits_demo/reverb": ["digits", "ReverB, 8 bits, ±1 weights"],
    "fashion_mnist_study/multibit": ["Fashion-MNIST", "multi-bit (1, 1), 8-bit weights"],
    "fashion_mnist_study/reverb": ["Fashion-MNIST", "ReverB, 8 bits, ±1 weights"],
}
BOARDS = ("cortex-m3", "cortex-m4")


def boards(folder: Path) -> str:
    """A row a network."""
    head = ["data", "network", "constants", "images", "right %", "wrong integers M3, M4", "flash bytes", "RAM bytes"]
    rows = [[*head, "instructions M3", "M4"]]
    for name, label in NAMES.items():
        path = folder / f"{name.replace('/', '-')}.json"
        if not path.exists():
            rows.append([*label, *["–"] * 7, "not run"])
            continue
        found: Any = read_json(path)
        first, second = (found["boards"][board] for board in BOARDS)
        wrong = ", ".join(str(board["wrong"] + board["wrong_streams"]) for board in (first, second))
        info = found["info"]
        if info.get("epoch", 0) != info.get("of_epochs"):
            got = f"epoch {info.get('epoch', 'unknown')} of {info.get('of_epochs', 'unknown')}"
            raise bad_value(str(path), "it must be of a finished run", got, "delete it and run run.py")
        row = [
            *label,
            f"{found['constants']:,}",
            f"{found['images']:,}",
            f"{found['accuracy']:.1%}"[:-1],
        ]
        row += [wrong, f"{first['flash_bytes']:,}", f"{first['context_bytes']:,}"]
        rows.append([*row, *(f"{board['instructions']:,}" for board in (first, second))])
    return as_markdown(rows)


def int8(folder: Path) -> str:
    """The ordinary network beside it."""
    path = folder / "int8-digits.json"
    if not path.exists():
        return "An int8 network through TensorFlow Lite Micro: not run."
    found: Any = read_json(path)
    return (
        "Beside them, the same layers as an ordinary network (ReLU, one step, 8-bit weights and activations; "
        "`benchmarks/microcontroller/int8.py`):\n"
        f"TensorFlow Lite Micro's interpreter has {found['accuracy']:.1%} of {found['images']} images right, with a "
        f"model of {found['flatbuffer_bytes']:,} bytes\nin flash and an arena of {found['arena_bytes']:,} bytes on a "
        "64-bit machine, where ours keeps\nmembranes of 32 bits. Its own code comes on top. "
        "On a Cortex-M: not run (neither flash nor instructions), no package of PyPI or Debian\n"
        "has it, or CMSIS-NN, compiled for one. "
        "Two steps of spikes do about twice the sums of one of ReLU."
    )


BLOCKS = {"boards": boards, "int8": int8}


def main() -> int:
    """Rewrite the page, or with --check return 1 if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "microcontroller")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "deploy.md")
    given = parser.parse_args()
    stale = rewrite_blocks(given.page, {"microcontroller": lambda name: BLOCKS[name](given.results)}, given.check)
    if stale and given.check:
        print(f"{given.page.name} is out of date; run python benchmarks/microcontroller/tables.py")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
