"""Compare bitspike's neuron dynamics with snnTorch's and SpikingJelly's: spikes, membranes and gradients, T = 1 .. 16.

    .venv-peers/bin/python benchmarks/peers/dynamics.py

Every library runs in a process of its own, beside bitspike from ../../src. Writes results/dynamics.json and prints a
table. Exit 1 if a comparison that must agree does not, or a difference is not the one stated; 2 if a peer did not run.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "src"
PEERS = ("snntorch", "spikingjelly")
COMPARED = ("neurons", "functional", "ops")


def one_peer(peer: str, out: Path) -> None:
    """In the child process: run all cases of one library."""
    import numpy
    import torch

    torch.set_num_threads(1)
    import harness

    import bitspike

    module = importlib.import_module(f"peer_{peer}")
    result = {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "bitspike": bitspike.__version__,
            peer: module.VERSION,
        },
        "rules": {
            "seed": harness.SEED,
            "steps": harness.STEPS,
            "neurons": harness.COLUMNS,
            "membrane_ulps": harness.MEMBRANE_ULPS,
            "gradient_ulps": harness.GRADIENT_ULPS,
            "parameter_ulps": harness.PARAMETER_ULPS,
            "text": " ".join((harness.__doc__ or "").split()),
        },
        "cases": harness.report(module.cases()),
        "not_compared": module.NOT_COMPARED,
    }
    out.write_text(json.dumps(result), encoding="utf-8")


def run_peer(peer: str, folder: Path) -> dict[str, Any]:
    """Start the child process of one library and read what it found."""
    out = folder / f"{peer}.json"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(SOURCE), str(HERE)]))
    environment.setdefault("OMP_NUM_THREADS", "1")
    command = [sys.executable, str(Path(__file__).resolve()), "--peer", peer, "--out", str(out)]
    if subprocess.run(command, env=environment, check=False).returncode:
        print(f"{peer}: did not run (see above; is the environment of setup.sh in use?)", file=sys.stderr)
        raise SystemExit(2)
    return json.loads(out.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def digest() -> str:
    """SHA-256 over the source that was compared, to see whether results are older than it."""
    total = hashlib.sha256()
    for folder in COMPARED:
        for path in sorted((SOURCE / "bitspike" / folder).rglob("*.py")):
            total.update(path.relative_to(SOURCE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def lines(value: Any, indent: str = "") -> str:
    """JSON with every innermost object on a line of its own."""
    inner = indent + " "
    if isinstance(value, dict) and any(isinstance(v, (dict, list)) and v for v in value.values()):
        parts = [f"{inner}{json.dumps(k)}: {lines(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + lines(v, inner) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def write(path: Path, value: dict[str, Any]) -> None:
    """Write the whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(lines(value) + "\n")
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def total(case: dict[str, Any], key: str) -> int:
    """Sum of a count over the rows of a case."""
    return sum(row[key] for row in case["rows"])


def worst(case: dict[str, Any], key: str, dtype: str) -> str:
    """Greatest difference of a case in one dtype."""
    values = [row[key] for row in case["rows"] if row["dtype"] == dtype]
    return "-" if not values else "0" if max(values) == 0 else f"{max(values):.1e}"


def table(peer: str, found: dict[str, Any]) -> None:
    """One line a case, then mappings and reasons."""
    print(f"\n{peer} {found['versions'][peer]} (torch {found['versions']['torch']})")
    width = max(len(case["name"]) for case in found["cases"])
    print(f"{'case':{width}}  {'ties':>6} {'spikes':>13} {'v f64':>8} {'v f32':>8} {'grad f64':>8} {'grad f32':>8}")
    for case in found["cases"]:
        cells = [
            worst(case, f"{k}_max_difference", d) for k in ("membrane", "gradient") for d in ("float64", "float32")
        ]
        spikes = f"{total(case, 'spikes_differ')}/{total(case, 'spikes_compared')}"
        excused = total(case, "spikes_differ_excused_as_rounding")
        state = "as stated" if case["ok"] and "differs" in case else "ok" if case["ok"] else "FAILED"
        state += f", {excused} float32 rounding" if excused else ""
        numbers = " ".join(f"{cell:>8}" for cell in cells)
        print(f"{case['name']:{width}}  {total(case, 'ties'):>6} {spikes:>13} {numbers}  {state}")
        for row in case["rows"]:
            for problem in row["unmet"]:
                print(f"    {row['inputs']}, {row['dtype']}: {problem}")
    print("mappings:")
    for text in dict.fromkeys(text for case in found["cases"] for text in case["mapping"]):
        print(f"  - {text}")
    print("differs:")
    for case in found["cases"]:
        if "differs" in case:
            print(
                f"  - {case['name'].removeprefix('differs: ')}: {case['differs']}; mapped case: {case['resolved_by']}"
            )
    print("not compared:")
    for text in found["not_compared"]:
        print(f"  - {text}")


def main() -> int:
    """Run all peers, write the file, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, help="internal: run one library in this process")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "dynamics.json", help="file to write")
    options = parser.parse_args()
    if options.peer:
        one_peer(options.peer, options.out)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        peers = {peer: run_peer(peer, Path(folder)) for peer in PEERS}
    cases = [case for found in peers.values() for case in found["cases"]]
    agree = [case for case in cases if "differs" not in case]
    failed = [case["name"] for case in cases if not case["ok"]]
    summary = {
        "ok": not failed,
        "agreed_cases": sum(case["ok"] for case in agree),
        "of": len(agree),
        "bitwise_rows": sum(
            row["expected"] == "exact" and row["as_expected"] for case in agree for row in case["rows"]
        ),
        "rows": sum(len(case["rows"]) for case in agree),
        "spikes_compared": sum(total(case, "spikes_compared") for case in agree),
        "spikes_differ": sum(total(case, "spikes_differ") for case in agree),
        "first_differences_excused_as_float32_rounding": sum(
            total(case, "spikes_differ_excused_as_rounding") for case in agree
        ),
        "ties_compared": sum(total(case, "ties") for case in agree),
        "stated_differences": len(cases) - len(agree),
        "failed": failed,
    }
    versions = {name: text for found in peers.values() for name, text in found["versions"].items()}
    rules = peers[PEERS[0]]["rules"]
    found = {peer: {"cases": part["cases"], "not_compared": part["not_compared"]} for peer, part in peers.items()}
    write(
        options.out,
        {"summary": summary, "versions": versions, "source_sha256": digest(), "rules": rules, "peers": found},
    )
    for peer, part in peers.items():
        table(peer, part)
    print(f"\n{json.dumps(summary, ensure_ascii=False)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
