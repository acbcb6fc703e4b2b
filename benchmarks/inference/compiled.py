"""Converts, folds, compiles and exports the networks, so that every peer loads the same numbers.

    BITSPIKE_DATA=DIR python benchmarks/inference/compiled.py [--cache DIR] [--only TEXT] [--runs DIR] [--accuracy N]

Trained networks are those that `bitspike study cifar10_engine_study --runs DIR` has left; one without a run is left
out.

Into CACHE/NETWORK go `program.bitspike`, `network.json` with `network.npz` (the layers in plain words; 8-bit weights
are the program's own, with their scales), `images.npz` (the first 256 test images) and `facts.json`. The cache lies
outside the repository, for weights and images are not ours to give away.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import NETWORKS, Network
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1] / "conversion"))
from common import BATCH, SOURCE, calibration, checkpoint, images

import bitspike
from bitspike.ann2snn import Converted
from bitspike.files import read_json, write_json_atomic
from bitspike.graph import Graph
from bitspike.lower.fixed_point import quantized_rows
from bitspike.models import MODELS, load_he_checkpoint
from bitspike.neurons import LIF, MultiBit, Neuron, Signed
from bitspike.runtime import Program, load, save
from bitspike.training import load_data, read_recipe
from bitspike.training.runs import RunFolder, open_run

NEURONS: dict[str, Neuron] = {
    "binary": LIF(1.0, 1.0, reset="soft"),
    "ternary": Signed(1, decay=1.0),
    "multibit22": MultiBit(2, 2, decay=1.0),
    "levels255": MultiBit(8, 0, decay=1.0),
}
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bitspike-inference"
CHECKED = 256
DRAWN = 64  # calibration images of a network that is measured for its speed only
Arrays = dict[str, np.ndarray[Any, Any]]


def convert(network: Network, x: Tensor) -> tuple[nn.Module, Converted]:
    """(ANN, SNN)."""
    torch.manual_seed(0)
    ann = MODELS[network.arch](nn.ReLU(), T=1)
    if network.trained:
        load_he_checkpoint(ann, checkpoint(network.arch))
    return ann, bitspike.ann2snn(ann.eval(), NEURONS[network.neuron], x, network.T, **network.options)


def described(graph: Graph, program: Program) -> tuple[list[dict[str, Any]], Arrays]:
    """Layers in plain words, and their arrays.

    Raises:
        ValueError: a layer that the words do not cover.
    """
    rows: list[dict[str, Any]] = []
    arrays: Arrays = {}
    merged: dict[str, str] = {}  # affine map → the synapse in front, which takes it over
    for node in graph:
        row: dict[str, Any] = {"name": node.name, "inputs": list(node.inputs)}
        module: Any = node.module
        kind = type(module).__name__
        row["inputs"] = [merged.get(name, name) for name in row["inputs"]]
        if kind == "Affine":
            merged[node.name] = row["inputs"][0]
            _affine(row["inputs"][0], module, arrays)
            continue
        if node.kind in ("input", "output", "add"):
            row["kind"] = node.kind
        elif node.kind == "synapse":
            row |= {"kind": "conv" if module.weight.dim() == 4 else "linear"}
            if row["kind"] == "conv":
                row |= {"stride": module.stride, "padding": module.padding}
            arrays |= _synapse(node.name, module, program)
        elif node.kind == "neuron":
            row |= {"kind": "neuron", **_neuron(module)}
        elif kind == "Gain" and module.factor.dim() < 2:
            row |= {"kind": "gain"}
            arrays[f"{node.name}.factor"] = module.factor.reshape(-1).float().numpy()
        elif kind == "PadShortcut":
            row |= {"kind": "pad", "stride": module.stride, "before": module.before, "behind": module.behind}
        elif kind == "AvgPool2d":
            side = module.kernel
            factor = float(module(torch.ones(1, 1, 1, side, side)).flatten()[0])
            row |= {"kind": "pool", "kernel": side, "stride": module.stride, "factor": factor}
        elif kind == "GlobalAvgPool":
            row |= {"kind": "average", "divisor": module.divisor}
        elif kind == "Repeat":
            row |= {"kind": "repeat"}
        elif kind == "MeanReadout":
            keep = [1.0] * module_steps(graph) if module.keep is None else module.keep.tolist()
            row |= {"kind": "readout", "keep": keep}
        else:
            raise ValueError(f"export: every layer must be one that peers know, got {node.name}: {node.kind} {kind}")
        rows.append(row)
    return rows, arrays


def module_steps(graph: Graph) -> int:
    """T."""
    return next(int(n.module.T) for n in graph if type(n.module).__name__ == "Repeat")


def _synapse(name: str, module: Any, program: Program) -> Arrays:
    """Weights of the program, of at most 8 bits, the scale of every output and the bias."""
    op = next(op for op in program.spec.operations if op.name == name)
    held = program.spec.constants[op.tensors["weight"]].array
    weight = module.weight.detach()
    if type(module.quantizer).__name__ == "Float":
        levels, scale, _ = quantized_rows(weight.double().numpy(), 8)
        same = np.array_equal(levels, held)
    else:
        with torch.no_grad():
            real = module.quantizer(weight).double().numpy()
        levels, rows = np.asarray(held, np.int64), np.asarray(held, np.float64).reshape(len(held), -1)
        scale = (rows * real.reshape(rows.shape)).sum(1) / np.maximum((rows**2).sum(1), 1)
        same = np.allclose(rows * scale[:, None], real.reshape(rows.shape), rtol=1e-5, atol=1e-7)
    if not same or abs(levels).max() > 127:
        raise ValueError(f"export: the program must hold the rounded weights of {name}, got others")
    bias = np.zeros(len(levels)) if module.bias is None else module.bias.detach().double().numpy()
    parts = {"levels": levels.astype(np.int8), "scale": scale.astype(np.float32), "bias": bias.astype(np.float32)}
    return {f"{name}.{part}": array for part, array in parts.items()}


@torch.no_grad()
def _affine(synapse: str, module: Any, arrays: Arrays) -> None:
    """Put an affine map into scales and bias of the synapse in front of it."""
    if f"{synapse}.scale" not in arrays:
        raise ValueError(f"export: an affine map must stand behind a synapse, got it behind {synapse}")
    count = len(arrays[f"{synapse}.scale"])
    shift = module(torch.zeros(1, 1, count, 1, 1)).double().reshape(-1).numpy()
    factor = module(torch.ones(1, 1, count, 1, 1)).double().reshape(-1).numpy() - shift
    arrays[f"{synapse}.scale"] = (arrays[f"{synapse}.scale"] * factor).astype(np.float32)
    arrays[f"{synapse}.bias"] = (arrays[f"{synapse}.bias"] * factor + shift).astype(np.float32)


@torch.no_grad()
def _neuron(module: Any) -> dict[str, Any]:
    """Stairs, start, and what a level takes from the membrane; as a step of the neuron shows them."""
    stairs, start = module.stairs, module.membrane.initial
    unit = float(module.threshold_scale(torch.ones(1, 1, 1)))  # a learned step
    x = torch.full((1, 1), stairs.first * unit - start)
    spike, state = module.step(x, module.initial_state(x))
    if spike.item() != 1 or module.membrane.decay() != 1:
        raise ValueError(f"export: folded neurons must send integers and not leak, got {module}")
    return {
        "first": stairs.first * unit,
        "spacing": stairs.spacing * unit,
        "count": stairs.count,
        "signed": stairs.signed,
        "cancels": bool(getattr(module, "cancels_only", False)),
        "initial": start,
        "charge": stairs.first * unit - float(state.v),
    }


def trained(network: Network, runs: Path) -> tuple[nn.Module, Tensor, Any, dict[str, Any]]:
    """(network, calibration images, test images, facts) of a finished job and of the arm that it is held to."""
    _, splits, model = open_run(runs / f"{network.arm}-seed0")
    own, other = (RunFolder(runs / f"{arm}-seed0").figures() for arm in (network.arm, network.reference))
    facts = {
        "rates": {path: figures["rate"] for path, figures in own["rates"].items()},
        "spike_rate": own["spike_rate"],
        "float_accuracy": own["test_accuracy"],
        "reference_accuracy": other["test_accuracy"],
    }
    return model, calibration(splits.train), splits.test, facts


def is_ready(network: Network, runs: Path | None) -> bool:
    """Whether a network can be had: the jobs that train it and its reference are finished."""
    if not network.arm:
        return True
    return runs is not None and all(
        RunFolder(runs / f"{arm}-seed0").summary.exists() for arm in (network.arm, network.reference)
    )


def export(name: str, folder: Path, x: Tensor, test: Any, runs: Path | None = None) -> None:
    """One network; its facts come last and say that it is whole."""
    network, begun = NETWORKS[name], time.perf_counter()
    more: dict[str, Any] = {}
    if network.arm and runs is not None:
        snn, x, test, more = trained(network, runs)
    else:
        _, snn = convert(network, x)
    folded = bitspike.fold(snn, x[:64])
    program = bitspike.compile(folded, x[:128])
    rows, arrays = ([], {}) if network.neuron == "real" else described(folded.graph, program)
    folder.mkdir(parents=True, exist_ok=True)
    save(program, folder / "program.bitspike")
    inputs = test.normalise(test.images[:CHECKED])
    result = program(inputs.numpy())
    with torch.no_grad():
        logits = torch.cat([folded(part) for part in inputs.split(32)]).numpy()
    m, s = program.spec.input.scale or (1, 0)
    given = {"step": 2.0**s / m, "low": program.spec.input.value.low, "high": program.spec.input.value.high}
    (folder / "network.json").write_text(json.dumps({"T": network.T, "input": given, "layers": rows}))
    np.savez(folder / "network.npz", **arrays)
    np.savez(
        folder / "images.npz",
        images=inputs.numpy(),
        labels=test.labels[:CHECKED].numpy(),
        logits=result.values.astype(np.float32),
        folded=logits.astype(np.float32),
    )
    facts = {
        "network": name,
        "setting": asdict(network),
        "classes": logits.shape[1],
        "checked_images": CHECKED,
        "agreement_with_folded": float((result.values.argmax(1) == logits.argmax(1)).mean()),
        "clamped": dict(result.clamped),
        "exported_in_s": round(time.perf_counter() - begun, 1),
        "source": SOURCE if network.trained else "weights drawn, not trained",
        **more,
    }
    write_json_atomic(folder / "facts.json", facts)
    print(f"{name}: agreement {facts['agreement_with_folded']:.1%}, {facts['exported_in_s']} s", flush=True)


def export_ann(folder: Path, x: Tensor) -> None:
    """The published ReLU network as TorchScript, and training images by which a peer may quantize it."""
    ann = MODELS["he_resnet20"](nn.ReLU(), T=1)
    load_he_checkpoint(ann, checkpoint("he_resnet20")).eval()
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "calibration.npz", images=x.numpy())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript says that it will go; the file needs no bitspike
        torch.jit.save(torch.jit.trace(ann, x[:1]), folder / "ann.pt")


def measure_accuracy(folder: Path, test: Any, count: int) -> None:
    """Share of test images that the program classifies rightly, into its facts."""
    facts: Any = read_json(folder / "facts.json")
    if facts.get("accuracy_images") == count or not facts["setting"]["trained"]:
        return
    program, right = load(folder / "program.bitspike"), 0
    for start in range(0, count, BATCH):
        part = slice(start, min(start + BATCH, count))
        found = program(test.normalise(test.images[part]).numpy()).levels.argmax(1)
        right += int((found == test.labels[part].numpy()).sum())
    write_json_atomic(folder / "facts.json", facts | {"accuracy": right / count, "accuracy_images": count})
    print(f"{facts['network']}: {right / count:.2%} of {count} test images", flush=True)


def main() -> None:
    """Export what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--only", nargs="+", default=[], help="networks whose name holds one of these texts")
    parser.add_argument("--accuracy", type=int, default=10_000, help="test images that the programs classify")
    parser.add_argument("--runs", type=Path, help="what the study has kept; else trained ones are left out")
    given = parser.parse_args()
    wanted = [name for name in NETWORKS if not given.only or any(text in name for text in given.only)]
    splits = images()
    x = calibration(splits.train)
    if not (given.cache / "ann" / "ann.pt").exists():
        export_ann(given.cache / "ann", x)
    for name in wanted:
        if (given.cache / name / "facts.json").exists():
            continue
        if not is_ready(NETWORKS[name], given.runs):
            print(f"{name}: no finished runs of {NETWORKS[name].arm} and {NETWORKS[name].reference}", flush=True)
            continue
        export(name, given.cache / name, x if NETWORKS[name].trained else x[:DRAWN], splits.test, given.runs)
    count = min(given.accuracy, len(splits.test))
    for name in wanted:
        if (given.cache / name / "facts.json").exists():
            own = load_data(read_recipe("cifar10_engine")).test if NETWORKS[name].arm else splits.test
            measure_accuracy(given.cache / name, own, count)


if __name__ == "__main__":
    main()
