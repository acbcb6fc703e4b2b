"""What is measured of a program: classes on the test set, flips, invariance, size, time."""

from __future__ import annotations

import copy
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from jobs import Job
from numpy.typing import NDArray
from safetensors.torch import save as save_tensors

import bitspike
from bitspike.cost import cost
from bitspike.data import Batches, ImageSet, SequenceSet
from bitspike.fold import Folded
from bitspike.lower import CompileReport, compare
from bitspike.runtime import Program, load, save
from networks import Network

Array = NDArray[Any]
Data = ImageSet | SequenceSet
FLIP_SAMPLES, FLIP_BATCH = 512, 64
SAME_SAMPLES = 64
INTERPRETER_SAMPLES = 512
DOUBLE_SAMPLES = 2000
CHUNKS = (1, 3)
EVALUATION_BATCH = 200


@contextmanager
def clock(into: dict[str, float], name: str) -> Iterator[None]:
    """Wall seconds and CPU seconds of this process, by name."""
    wall, own = time.perf_counter(), time.process_time()
    yield
    into[f"{name}_wall_s"] = round(time.perf_counter() - wall, 3)
    into[f"{name}_cpu_s"] = round(time.process_time() - own, 3)


def batches(data: Data, size: int, most: int | None = None) -> Iterator[torch.Tensor]:
    """Inputs of the network for all samples, or the first ones."""
    part = data if most is None else data.subset(torch.arange(min(most, len(data))))
    for x, _ in Batches(part, size):
        yield x


def first(data: Data, count: int) -> torch.Tensor:
    """Inputs of the network for the first samples, at once."""
    return next(batches(data, count))


def fed(program: Program, x: torch.Tensor) -> Array:
    """What a program takes for inputs of its network: of sequences [B, T, ...] the steps first."""
    given: Array = x.numpy() if program.spec.input.repeat else x.transpose(0, 1).numpy()
    return given


def measure(job: Job, made: Network) -> dict[str, Any]:
    """Everything of one job.

    Each side classifies the whole test set once: the program on the engine that "auto" takes, which must equal the
    interpreter, the definition, on the first samples. Flips are those of the interpreter.
    """
    times: dict[str, float] = {}
    with clock(times, "compile"):
        program = bitspike.compile(
            made.folded,
            made.calibration,
            weight_bits=job.weight_bits,
            spike_bits=job.spike_bits,
            input_bits=job.input_bits,
        )
    report = CompileReport.of(program)
    sizes, program = written(program, made.folded, made.calibration[0], job.weight_bits)
    found = {
        "size": sizes,
        "compile": {
            "clamped": sum(report.clamped.values()),
            "input_error": report.input_error,
            "weight_error": max(layer.weight_error for layer in report.layers),
            "rounding": max(layer.rounding for layer in report.layers),
            "accumulator_bits": [layer.accumulator_bits for layer in report.layers if layer.kind == "synapse"],
            "notes": report.notes,
        },
    }
    if made.test is not None:
        if made.classes is None:
            made.classes = classify(made.folded, made.test)
        threads = torch.get_num_threads()
        fast = Program(program.spec, threads=threads)
        program = Program(program.spec, engine="interpreter")
        found["accuracy"] = accuracy(fast, made.test, made.classes, times)
        found["engine"] = {
            "ran": str(fast.engine).splitlines()[0],
            "interpreter": interpreted(program, fast, made.test, times),
        }
        found["flips"] = flips(program, made.folded, made.test)
        found["same"] = {"interpreter": same(program, made.test), "engine": same(fast, made.test)}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    versions["safetensors"] = safetensors.__version__
    where = {**versions, "threads": torch.get_num_threads(), "shared_machine": True}
    return {**found, "times": times, "environment": where}


def written(program: Program, folded: Folded, x: torch.Tensor, weight_bits: int) -> tuple[dict[str, Any], Program]:
    """Bytes of the file beside the float32 safetensors of the folded network, and the program read back from it.

    Counted are the weights as packed (real ones at ``weight_bits``), scales, biases and affine maps as 32-bit numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bitspike"
        size = save(program, path)
        program = load(path)
    tensors = {name: value.detach().float().contiguous() for name, value in folded.state_dict().items()}
    full = len(save_tensors(tensors))
    rows = cost(folded.graph, x[:4]).layers
    real = {node.name for node in folded.graph.of_kind("synapse") if node.module.quantizer.format.real}
    spared = sum(row.weights * (32 - weight_bits) for row in rows if row.name in real)
    bits = sum(row.size_bits for row in rows) - spared
    weights = [op.tensors["weight"] for op in program.spec.operations if "weight" in op.tensors]
    stored = {name: program.spec.constants[name] for name in weights}
    packed = sum(-(-constant.array.size * (constant.bits or 8) // 8) for constant in stored.values())
    sizes = {
        "file_bytes": size,
        "float32_bytes": full,
        "counted_bytes": bits / 8,
        "weight_bytes": packed,
        "weights": sum(row.weights for row in rows),
        "peak_bytes": program.plan.peak_bytes,
    }
    return sizes, program


@torch.no_grad()
def classify(folded: Folded, data: Data) -> tuple[Array, Array]:
    """Classes of a folded network over the whole test set, and in float64 over its first part."""
    double = copy.deepcopy(folded).double()
    whole = [folded(x).argmax(1).numpy() for x in batches(data, EVALUATION_BATCH)]
    exact = [double(x.double()).argmax(1).numpy() for x in batches(data, EVALUATION_BATCH, DOUBLE_SAMPLES)]
    return np.concatenate(whole), np.concatenate(exact)


def accuracy(program: Program, data: Data, classes: tuple[Array, Array], times: dict[str, float]) -> dict[str, Any]:
    """Classes of both over the whole test set, and on its first part what the rounding of float32 alone changes."""
    wanted, in_double = classes
    ours, clamped = [], 0
    with clock(times, "engine"):
        for x in batches(data, EVALUATION_BATCH):
            result = program(fed(program, x))
            ours.append(result.levels.argmax(1))
            clamped += sum(result.clamped.values())
    got, truth = np.concatenate(ours), data.labels.numpy()
    return {
        "samples": len(truth),
        "folded": float((wanted == truth).mean()),
        "program": float((got == truth).mean()),
        "drop_points": 100 * float((wanted == truth).mean() - (got == truth).mean()),
        "agreement": float((got == wanted).mean()),
        "only_folded_right": int(((wanted == truth) & (got != truth)).sum()),
        "only_program_right": int(((wanted != truth) & (got == truth)).sum()),
        "clamped": clamped,
        "float64_samples": len(in_double),
        "float64_agreement": float((in_double == wanted[: len(in_double)]).mean()),
    }


def interpreted(program: Program, fast: Program, data: Data, times: dict[str, float]) -> dict[str, Any]:
    """The interpreter on the first samples; raises where the engine gives other integers."""
    x = fed(program, first(data, INTERPRETER_SAMPLES))
    with clock(times, "interpreter"):
        levels = program(x).levels
    if not np.array_equal(levels, fast(x).levels):
        raise AssertionError(f"{fast.engine}: other integers than the interpreter's")
    return {"samples": len(levels), "equal": True}


def flips(program: Program, folded: Folded, data: Data) -> dict[str, Any]:
    """Spikes that differ on the first test samples; of real spikes, whether there is one."""
    found = compare(program, folded, batches(data, FLIP_BATCH, FLIP_SAMPLES))
    spikes = sum(layer.spikes for layer in found.layers.values())
    return {
        "samples": found.samples,
        "spikes": spikes,
        "fired": sum(layer.fired for layer in found.layers.values()),
        "forced": found.forced_flips,
        "end_to_end": found.end_to_end_flips,
        "max_logit_difference": found.max_logit_difference,
        "max_logit_difference_forced": found.max_logit_difference_forced,
        "largest_logit": found.largest_logit,
        "layers": {name: [layer.spikes, layer.forced, layer.end_to_end] for name, layer in found.layers.items()},
    }


def same(program: Program, data: Data) -> dict[str, Any]:
    """Whether batches of one and chunks give the very integers of the whole; raises where they do not."""
    x = fed(program, first(data, SAME_SAMPLES))
    whole = program(x, batch=SAME_SAMPLES)
    steps, frames = program.spec.input.value.steps, program.sequence(x)
    outcomes = {"batch 1": program(x, batch=1).levels}
    for length in CHUNKS:
        state = None
        for start in range(0, steps, length):
            part, state = program.stream(frames[start : start + length], state)
        outcomes[f"chunks of {length}"] = part.levels
    for name, got in outcomes.items():
        if not np.array_equal(got, whole.levels):
            raise AssertionError(f"{name}: other integers than the whole run's")
    return {"samples": frames.shape[1], "steps": steps, "equal": list(outcomes)}
