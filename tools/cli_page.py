"""Write docs/cli.md from the commands' signatures and docstrings; --check compares instead.

Usage: python tools/cli_page.py [--check]
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bitspike.cli import COMMANDS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"

HEAD = """# Command line

Written by `python tools/cli_page.py`; do not edit. Every command exits with 0 on success, 2 on bad input (a usage
error, a number out of range, too little memory) with one line on the error stream and nothing left behind that blocks
the corrected command, 130 on Ctrl-C (the same command then goes on where it was, `train` with `--resume`), 141
without a word where the reader of its output has left (`| head`): files are written before anything is printed.
`verify` exits with 1 beyond a bound or where engine and interpreter differ, `train` if a budget is not kept or the run
has gone bad (findings, below), `study` and `demo` if a job has diverged. Results go to the output, progress to the
error stream: a live line on a terminal, elsewhere a line a job and an epoch, and every 30 s within an epoch.
`--json FILE` writes a command's result as JSON with stable keys.
`bitspike --version` names versions and the kernels in use; `python -m bitspike` is the same as `bitspike`.
"""

KEYS = """## Files and keys

A run folder: `recipe.toml` (resolved recipe), `metrics.jsonl` (a JSON record an epoch: epoch, loss, train_accuracy,
validation_accuracy (of a regression train_error, validation_error), lr, time_s, health), `best.safetensors` and
`final.safetensors` (weights, with a hash and the recipe, which readers check), `last/` (two checkpoints that take
turns; all that exact resume needs), `summary.json`. `bitspike convert` leaves `recipe.toml` with a table [convert],
both weights files (equal), `convert.json` (the calibration: options, per layer error, rate, saturation, highest
level, slope, correction, multiplies, weights) and `summary.json`.

| key of `summary.json` and of a job's `result` | meaning |
| --- | --- |
| test_accuracy, folded_test_accuracy | share correct on the test split; absent with data.test = false |
| validation_accuracy | after the last epoch |
| test_error and so on | of a regression, in place of every accuracy: root of the mean squared error |
| spike_rate, set_bits | share of non-zero spikes; mean set bits per neuron and step (32 per fired real spike) |
| spike_bits, weight_bits | widest spike; weights of the hidden layers |
| adds, shift_adds, multiplications | per sample, folded |
| size_bytes, parameters | weights as packed with scales and biases; trained numbers |
| hidden_only | operations without first, last and down-sampling layers |
| fold | the report: samples, max_logit_difference, flips per layer, gains, affines, absorbed |
| rates | per neuron layer: rate, set_bits, saturation |
| health | of every epoch, too: kind → layer → [number, of how many], where any; kinds below |
| findings | a sentence each: accuracy of guessing, a dead layer, step sizes out of range, NaN; then exit code 1 |
| stopped | epoch and step, in --json alone, of a run whose loss or weights became NaN or inf: it has not finished |
| history, train_time_s | records of metrics.jsonl; seconds of training |
| budget | with budgets only: budgets (limit, value, used), tightest, used, full, tried, met, says, repairs, latency |
| ann_validation_accuracy, ann_test_accuracy | of the ANN that was converted; of a conversion only |
| key, best_epoch, best_validation_accuracy | of a run only |

Kinds of `health`, on the validation split: silent (channels that always send 0), saturated (always one other value),
zero (filters whose levels are all 0), steps (step sizes more than twofold from the ones in use). An accuracy is one of
guessing within 2.33 standard deviations of one class of K, or of the most frequent class.

| key of `cost.json` | meaning |
| --- | --- |
| samples | samples the rates were measured on |
| adds, shift_adds, multiplications, macs, parameters, size_bytes | totals of layers |
| hidden_only | the same without first, last and down-sampling layers |
| totals | every quantity, for all, without_first, hidden_only |
| layers, elements | a row per synapse, affine map, gain, norm, amplitude; per neuron, sum, pool, rectifier, read-out |
| bit_budget | mean bits and steps, their product, S-ACE per multiply-accumulate, for the three scopes |
| memory, uncounted | the hierarchy; layers that no rule covers |
| ann | the same of the quantized ANN |
| energy | per set of constants: snn, ann, network, operations (break-even density), layers |
| constants | the sets, with value, unit, node, source, confirmed |

`bitspike run`, `inspect`, `verify` and `bench` say which engine runs ([engine.md](engine.md)). `bitspike-runtime run`,
`inspect` and `bench`, of the wheel without torch, take the same options and write the same keys, except that `run` has
`predictions` of another shape and `inspect` no operations, size_bytes and info.

| key of `engine`, in the JSON of all | meaning |
| --- | --- |
| name, isa, threads | "native" or "interpreter"; instruction set, null of the interpreter; threads at most |
| why | why the interpreter runs; null of the native engine |
| plan | of `--autotune`, where one lies beside the file: file, and why it is ignored or null; else null |
| memory | of `inspect`: arena_bytes and state_bytes of a sample, workspace_bytes of a call for one |
| groups | of `inspect`: as below, without time_ms and shares |

| key of `bench --json` | meaning |
| --- | --- |
| input | file, or "random" |
| engine, memory | as above |
| latency | for every size of a batch: batch, calls, warmup_calls; ms of a call; samples_per_s at the median |
| min_ms, p50_ms, p90_ms, p99_ms, mean_ms | of the calls in latency |
| groups | what runs together, in order; none of the interpreter |
| layer, operations, tiles | of a group: its name; name and kind of all; pieces that threads share |
| form, why, weight_bytes | what its kernel multiplies, "" where nothing, and the reason; packed weights |
| macs | products of weights, for one sample; at the top level of all groups |
| time_ms, time_share | median for one sample; as a share of inside_ms |
| peak_share | macs in that time, as a share of the peak; null without macs; at the top level of all groups |
| input_ms, output_ms, inside_ms | taking a sample in, writing the result, and both with all groups |
| peak_macs_per_s | the widest dot product of bytes, on numbers in registers and all threads: measured, best of five |

| key of `verify.json` | meaning |
| --- | --- |
| samples, agreement, accuracy, folded_accuracy | outputs of the engine beside the network's |
| max_logit_difference, largest_logit, clamped | of the same |
| layer_samples, layers, forced_flips, end_to_end_flips | spikes by layer, on the first samples |
| max_logit_difference_forced, clamped_forced | on them, where every layer gets the network's spikes |
| interpreted, different, first_different | samples the interpreter ran, too; those that differ; the first one |
| engine | as above |
| drop, least_agreement, kept | the bounds, and whether they hold |
"""


def options(function: Callable[..., None]) -> Iterator[tuple[str, str, str]]:
    """(how it is written, default, what it does) of every option."""
    text = inspect.getdoc(function) or ""
    described = dict(re.findall(r"^\s+(\w+): (.*(?:\n {8,}.*)*)", text.partition("Args:")[2], re.MULTILINE))
    for name, parameter in inspect.signature(function).parameters.items():
        positional = "Positional" in str(parameter.annotation) or name in (
            "run",
            "runs",
            "queue",
            "recipe",
            "checkpoint",
            "model",
        )
        flag = name.upper() if positional else "--" + name.replace("_", "-")
        default = "required" if parameter.default is inspect.Parameter.empty else str(parameter.default)
        default = "" if parameter.default in (None, ()) else default
        if name not in described:
            raise SystemExit(f"{function.__name__}: {name} has no line under Args:")
        yield flag, default, " ".join(described[name].split())


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for command, function in COMMANDS.items():
        first = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        rows = [f"| `{flag}` | {default} | {meaning} |" for flag, default, meaning in options(function)]
        head = ["| option | default | meaning |", "| --- | --- | --- |"]
        parts.append("\n".join([f"## bitspike {command}", "", first, "", *head, *rows, ""]))
    return "\n".join([*parts, KEYS])


def main(arguments: list[str]) -> int:
    """Write the page, or with --check return 1 if it is out of date."""
    text = page()
    if "--check" in arguments:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/cli.md is out of date; run python tools/cli_page.py")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
