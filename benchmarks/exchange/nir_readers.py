"""Other simulators read our files of NIR, and we read theirs: spikes compared step by step on real digits.

    python benchmarks/exchange/nir_readers.py --venvs FOLDER [--out results/exchange] [--samples 64]

FOLDER holds the environments of ``setup.sh``. Every network is trained here, folded, written for each reader, and run
there on test images; what each neuron sends at each step is held against the folded network's. Then each maker writes
networks of its own, with inputs and outputs, and `read_nir` runs them. A reader that is not installed says "not run".
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digit_networks import NETWORKS, T, digits, trained

from bitspike.export import export, read_nir
from bitspike.files import write_json_atomic
from bitspike.fold import Folded, fold
from bitspike.graph import Graph, Node
from bitspike.neurons import Neuron

HERE = Path(__file__).resolve().parent
MAKERS = ("snntorch", "norse", "sinabs")
PEERS = {**{maker: (maker,) for maker in MAKERS}, "sinabs, as it reads": ("sinabs", "plain")}


@torch.no_grad()
def sent(graph: Graph, x: torch.Tensor) -> dict[str, np.ndarray]:
    """Spikes of every neuron [T, B, ...], and the output of every step."""
    found: dict[str, np.ndarray] = {}
    last = graph.of_kind("output")[0].inputs[0]
    steps = graph[last].inputs[0] if graph[last].T == 0 else last

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if node.kind == "neuron" or node.name == steps:
            found["output" if node.name == steps else node.name] = value.numpy().copy()
        return value

    graph.run(x, handler=note)
    return found


@torch.no_grad()
def ties(graph: Graph, x: torch.Tensor) -> int:
    """Membranes that lie exactly on their threshold, where > and >= differ."""
    count = 0

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        nonlocal count
        value = call()
        if isinstance(node.module, Neuron):
            v = torch.zeros_like(args[0][0])
            for current, sent in zip(args[0], value, strict=True):
                u = node.module.membrane.charge(v, current)
                count += int((u == node.module.stairs.first).sum())
                v = torch.where(sent != 0, 0.0, u)
        return value

    graph.run(x, handler=note)
    return count


def run(python: Path, script: str, *arguments: str) -> str:
    """What a script printed at last where it failed, else nothing."""
    command = [str(python), str(HERE / script), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, env=environment, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1]


def compare(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Counts of spikes that differ, and the greatest difference of an output."""
    names = [name for name in ours if name != "output"]
    missing = [name for name in names if not any(key.split(".")[-1] == name for key in theirs)]
    if missing:
        return {"refused": f"it has no layer {', '.join(missing)}"}
    flips = spikes = fired = 0
    for name in names:
        key = next(key for key in theirs if key.split(".")[-1] == name)
        other = theirs[key].reshape(ours[name].shape)
        flips += int((other != ours[name]).sum())
        spikes += other.size
        fired += int((ours[name] != 0).sum())
    output = float(np.abs(theirs["output"].reshape(ours["output"].shape) - ours["output"]).max())
    return {"spikes": spikes, "flips": flips, "rate": fired / spikes, "output_difference": output}


def reads(
    peer: str, venvs: Path, name: str, folded: Folded, x: torch.Tensor, work: Path, steps: int = T
) -> dict[str, Any]:
    """One network in one reader."""
    reader, *how = PEERS[peer]
    row: dict[str, Any] = {"reader": peer, "network": name}
    python = venvs / reader / "bin" / "python"
    if not python.exists():
        return row | {"refused": "not run: the reader is not installed"}
    path = work / "net.nir"
    try:
        export(folded, "nir", path, reader=reader)
    except ValueError as error:
        return row | {"refused": str(error)}
    np.save(work / "x.npy", np.repeat(x.numpy()[None], steps, 0))
    failed = run(python, f"peer_{reader}.py", "read", str(path), str(work / "x.npy"), str(work / "out.npz"), *how)
    if failed:
        return row | {"refused": f"the reader raised {failed}"}
    with np.load(work / "out.npz") as theirs:
        return row | compare(sent(folded.graph, x), dict(theirs))


def made(maker: str, venvs: Path, work: Path) -> list[dict[str, Any]]:
    """Networks of a maker, read by us."""
    python = venvs / maker / "bin" / "python"
    folder = work / maker
    folder.mkdir()
    failed = run(python, f"peer_{maker}.py", "make", str(folder)) if python.exists() else "not run: not installed"
    if failed:
        return [{"maker": maker, "network": "", "refused": failed}]
    rows = []
    for path in sorted(folder.glob("*.nir")):
        row: dict[str, Any] = {"maker": maker, "network": path.stem}
        with np.load(path.with_suffix(".npz")) as case, torch.no_grad():
            try:
                y = read_nir(path, maker=maker)(torch.from_numpy(case["x"])).numpy()
            except ValueError as error:
                rows.append(row | {"refused": str(error).replace(str(path), path.name)})
                continue
            differ = int((y != case["output"]).sum())
            rows.append(row | {"spikes": y.size, "flips": differ, "rate": float((case["output"] != 0).mean())})
    return rows


def versions(python: Path) -> dict[str, str]:
    """Releases in an environment."""
    if not python.exists():
        return {}
    done = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    wanted = ("snntorch", "norse", "sinabs", "nir", "nirtorch", "torch")
    return {row["name"]: row["version"] for row in json.loads(done.stdout) if row["name"].lower() in wanted}


def main() -> None:
    """All readers, all makers; one JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--venvs", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/exchange"))
    parser.add_argument("--samples", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)  # what the files of a maker leave open
    _, x, _, labels = digits()
    x, labels = x[: given.samples], labels[: given.samples]
    readers, makers = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in NETWORKS:
            folded = fold(trained(name), x)
            with torch.no_grad():
                accuracy = float((folded(x).argmax(1) == labels).float().mean())
            again = export(folded, "nir", work / "own.nir")
            own = compare(sent(folded.graph, x), sent(read_nir(again.files[0]).graph, x))
            known = {"reader": "bitspike", "network": name}
            readers.append({**known, "accuracy": accuracy, "ties": ties(folded.graph, x), **own})
            print(readers[-1], flush=True)
            for peer in PEERS:
                readers.append(reads(peer, given.venvs, name, folded, x, work))
                print(readers[-1], flush=True)
        for maker in MAKERS:
            makers += made(maker, given.venvs, work)
    for row in makers:
        print(row)
    facts = {peer: versions(given.venvs / peer / "bin" / "python") for peer in MAKERS}
    given.out.mkdir(parents=True, exist_ok=True)
    document = {"samples": len(x), "T": T, "versions": facts, "readers": readers, "makers": makers}
    write_json_atomic(given.out / "nir_readers.json", document)


if __name__ == "__main__":
    main()
