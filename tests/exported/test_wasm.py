"""The target "wasm": integers of the interpreter in Node, whole and streamed; refusals; the same bytes every time."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.export import TARGETS, export
from bitspike.export.wasm import module
from bitspike.export.wasm.module import part
from bitspike.runtime import INPUT, Builder, Input, Program, Value
from exported.modules import (
    interpreted,
    is_mean,
    job,
    needs_compiler,
    needs_node,
    node,
    run_steps,
    said,
    said_of,
    sent_by,
    spikes,
)
from programs.drawn import drawn, input_of
from programs.edges import FAMILIES
from programs.golden import golden, images

SEEDS = 40


def through(value: Value, scale: tuple[int, int] | None = None) -> Program:
    """What comes in goes out."""
    b = Builder(Input(value, scale=scale))
    return b.finish(b.add("reshape", [INPUT], {"shape": [value.size]}))


def counter() -> Program:
    """Two neurons, and a mean over their spikes."""
    b = Builder(Input(Value((2,), -100, 100, 3, 3), repeat=True, scale=(8, 0)))
    constants = {"first": b.constant(np.array([40])), "charge": b.constant(np.array([40]))}
    x = b.add("fire", [INPUT], {"count": [1], "reset": "soft"}, constants, "sent")
    return b.finish(b.add("mean", [x]), ["left", "right"])


def test_a_missing_compiler_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refuses: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with refuses("export to wasm", "clang", "wasm-ld", "install"):
        export(counter(), "wasm", tmp_path / "x.wasm")
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_without_webassembly_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refuses: Any) -> None:
    for name in ("clang", "wasm-ld"):
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\necho 'error: unable to create target' >&2; exit 1\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with refuses("export to wasm", "wasm32", "unable to create target"):
        export(counter(), "wasm", tmp_path / "x.wasm")


def test_its_file_ends_in_wasm(tmp_path: Path, refuses: Any) -> None:
    with refuses("export to wasm", ".wasm", "x.mjs"):
        export(counter(), "wasm", tmp_path / "x.mjs")


def test_what_needs_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refuses: Any) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with refuses("export of net", "1 it cannot", "memory", "of 100"):
        export(counter(), "wasm", tmp_path / "net.wasm")


def test_types_name_what_the_module_exports() -> None:
    exported = set(re.findall(r"\w+", re.search(r"^export \{(.*)\};$", part("module.mjs"), re.MULTILINE)[1]))  # type: ignore[index]
    declared = set(re.findall(r"^export (?:class|function) (\w+)", part("module.d.mts"), re.MULTILINE))
    assert exported == declared


@needs_compiler
def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for place in (tmp_path / "a", tmp_path / "a longer name"):
        made = export(counter(), "wasm", place / "net.wasm")
        assert [file.name for file in made.files] == ["net.wasm", "net.mjs", "net.d.mts"]
        found.append([file.read_bytes() for file in made.files])
    assert found[0] == found[1]
    assert found[0][0][:8] == b"\0asm\1\0\0\0" and str(tmp_path).encode() not in b"".join(found[0])


@needs_node
@pytest.mark.slow
def test_drawn_programs_give_the_integers_of_the_interpreter(tmp_path: Path) -> None:
    """Whole and, for two windows, streamed; clamped numbers and spikes of every layer too."""
    jobs, cases = [], []
    for seed in range(SEEDS):
        program = interpreted(drawn(seed, wide=seed % 10 == 9))
        repeat = program.spec.input.repeat
        x = input_of(program, seed)
        samples = [x[i] if repeat else x[:, i] for i in range(2)]
        live = input_of(program, seed + 1, 1, 2)[:, 0]
        jobs.append(job(program, tmp_path / str(seed), samples, [live]))
        cases.append((seed, program, samples, live))
    assert {program.spec.input.repeat for _, program, _, _ in cases} == {True, False}
    assert {is_mean(program) for _, program, _, _ in cases} == {True, False}
    for (seed, program, samples, live), got in zip(cases, node(jobs, tmp_path), strict=True):
        assert "error" not in got, (seed, got)
        for sample, whole, sent, values in zip(samples, got["whole"], got["sent"], got["values"], strict=True):
            want = program(sample if program.spec.input.repeat else sample[:, None])
            assert whole == said(want, is_mean(program)), seed
            assert values == want.values.reshape(-1).tolist(), seed
            assert sent_by(sent) == spikes(program, sample), seed
        assert got["steps"] == [run_steps(program, live)], seed


@needs_node
@pytest.mark.slow
def test_several_outputs_come_by_name(tmp_path: Path) -> None:
    """Sums of means and rows of steps, whole and streamed."""
    jobs, cases = [], []
    for seed in range(0, SEEDS, 2):
        program = interpreted(drawn(seed, several=True))
        x, live = input_of(program, seed), input_of(program, seed + 1, 1, 2)[:, 0]
        samples = [x[i] if program.spec.input.repeat else x[:, i] for i in range(2)]
        jobs.append(job(program, tmp_path / str(seed), samples, [live]))
        cases.append((seed, program, samples, live))
    assert max(len(program.outputs) for _, program, _, _ in cases) == 5
    for (seed, program, samples, live), got in zip(cases, node(jobs, tmp_path), strict=True):
        assert "error" not in got, (seed, got)
        for sample, whole, values in zip(samples, got["whole"], got["values"], strict=True):
            want = program.run(sample if program.spec.input.repeat else sample[:, None])
            assert list(whole) == list(program.outputs) and whole == said_of(want), seed
            assert values == {name: result.values.reshape(-1).tolist() for name, result in want.items()}, seed
        state, (steps,) = None, got["steps"]
        for one, row in zip(live, steps, strict=True):
            results, state = program.feed(one[None, None], state)
            assert row == said_of(results), seed


def test_types_name_the_outputs() -> None:
    text = module.types_text("net.wasm", drawn(0, several=True))
    names = '"last" | "other.0" | "other.1" | "other.2" | "other.3"'
    assert f"export type Results = Readonly<Record<{names}, Result>>;" in text and "@" not in text
    assert "export type Results = Result;" in (plain := module.types_text("net.wasm", counter())) and "@" not in plain
    assert "readonly outputs" in text and "readonly outputs" not in plain


@needs_node
@pytest.mark.slow
def test_numbers_at_the_ends_of_their_widths(tmp_path: Path) -> None:
    jobs, cases = [], []
    for family, choices in FAMILIES.items():
        for number, choice in enumerate(choices[::11]):
            program, x = list(family(*choice))[-1]
            samples = [x[:, i] for i in range(min(2, x.shape[1]))]
            jobs.append(job(program, tmp_path / f"{family.__name__}{number}", samples))
            cases.append((program, samples))
    for (program, samples), got in zip(cases, node(jobs, tmp_path), strict=True):
        assert "error" not in got, got
        run = interpreted(program)
        assert got["whole"] == [said(run(sample[:, None]), False) for sample in samples], program.report()
    assert any(one["clamped"] for got in node(jobs[:9], tmp_path) for one in got["whole"])


@needs_node
@pytest.mark.slow
def test_a_network_with_real_inputs_gives_the_integers_of_the_interpreter(tmp_path: Path) -> None:
    program, x = interpreted(golden()), images()
    assert program.spec.input.scale is not None or x.dtype.kind in "iu"
    (got,) = node([job(program, tmp_path, x, real=x.dtype.kind == "f")], tmp_path)
    assert got["whole"] == [said(program(sample), is_mean(program)) for sample in x]


@needs_node
@pytest.mark.slow
@pytest.mark.parametrize("scale", [(1, 0), (1, 1), (8, 0), (3, 7), (11863283, 17), (2**24 - 1, 62), (1, 62)])
def test_real_numbers_enter_bit_for_bit(scale: tuple[int, int], tmp_path: Path) -> None:
    """Ties, neighbours of ties, the ends of float32 and of the alphabet; whole runs and steps."""
    program = interpreted(through(Value((64,), -127, 127, 0, 2), scale))
    unit = np.ldexp(1.0, scale[1]) / scale[0]
    random = np.random.default_rng(scale[0])
    ties = np.concatenate([(random.integers(-130, 130, 24) + 0.5) * unit, random.normal(0, 60 * unit, 20)])
    known = [0.0, -0.0, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38, 126.5 * unit, -126.5 * unit, 127.5 * unit]
    x = np.concatenate([ties, known, random.uniform(-1, 1, 11)]).astype(np.float32)
    near = np.nextafter(x, np.where(np.abs(x) > 1, 0, np.inf).astype(np.float32))
    sample = np.stack([x, near])
    (got,) = node([job(program, tmp_path, [sample], [sample], real=True)], tmp_path)
    assert got["whole"] == [said(program(sample[:, None]), False)]
    assert got["steps"] == [run_steps(program, sample)]


@needs_node
@pytest.mark.slow
def test_sums_beyond_doubles_stay_whole(tmp_path: Path) -> None:
    """2^53 + 1 is no double: such numbers come out as BigInt."""
    b = Builder(Input(Value((300,), -(2**31), 2**31 - 1)))
    weight = b.constant(np.stack([np.full(300, 32767), np.full(300, -32768), np.arange(300)]))
    program = interpreted(b.finish(b.add("linear", [INPUT], tensors={"weight": weight})))
    x = np.full((2, 1, 300), 2**31 - 1)
    x[1, 0, 7] = 5
    (got,) = node([job(program, tmp_path, x)], tmp_path)
    want = [program(sample[:, None]).levels for sample in x]
    assert max(abs(int(k)) for levels in want for k in levels.flat) > 2**53
    assert [[int(k) for k in one["levels"]] for one in got["whole"]] == [levels.reshape(-1).tolist() for levels in want]


USED = """
import {{ load, Result }} from {module};
const said = [];
const refused = (call) => {{
  try {{ call(); said.push("accepted"); }} catch (error) {{ said.push(`${{error.name}}: ${{error.message}}`); }}
}};
const net = await load();
{body}
console.log(JSON.stringify(said));
"""


def script(folder: Path, body: str) -> list[Any]:
    """What a script says to `said` that has loaded `counter` as net."""
    export(counter(), "wasm", folder / "net.wasm")
    file = folder / "use.mjs"
    file.write_text(USED.format(module=json.dumps("./net.mjs"), body=body), encoding="utf-8")
    done = subprocess.run(["node", str(file)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


@needs_node
@pytest.mark.slow
def test_bad_input_is_refused_in_words(tmp_path: Path) -> None:
    found = script(
        tmp_path,
        """
refused(() => net.run([1, 2]));
refused(() => net.run(null));
refused(() => net.run(Int8Array.of(1)));
refused(() => net.run(Int8Array.of(1, 101)));
refused(() => net.run(Float32Array.of(1, NaN)));
refused(() => net.run(Float64Array.of(1, 1e300)));
refused(() => net.run(Int8Array.of(1, 2)).top(3));
const live = net.stream();
refused(() => live.step(Int8Array.of(1, 2, 3)));
live.close();
refused(() => live.step(Int8Array.of(1, 2)));
refused(() => net.run(Int8Array.of(-100, 100)));
""",
    )
    words = ["typed array", "typed array", "1 × 2 = 2 numbers", "-100..100", "finite", "finite", "1 to 2", "2 numbers"]
    assert len(found) == len(words) + 2 and found[-1] == "accepted"
    for said_so, word in zip(found, [*words, "closed"], strict=False):
        assert re.fullmatch(r"(Type|Range)?Error: \w+: .+, got .+; .+", said_so) and word in said_so, said_so


@needs_node
@pytest.mark.slow
def test_streams_keep_apart_and_runs_leave_them_alone(tmp_path: Path) -> None:
    """Two streams in turn, runs between, a reset; memory grows meanwhile."""
    found = script(
        tmp_path,
        """
const [a, b] = [net.stream(), net.stream()];
const ints = ({ levels, steps }) => [...Array.from(levels, Number), steps];
for (let i = 0; i < 4; i += 1) {
  said.push(ints(a.step(Int8Array.of(30, 50))));
  net.run(Int8Array.of(-100, -100));
  said.push(ints(b.step(Int8Array.of(10, -10))));
  if (i === 1) for (let k = 0; k < 3000; k += 1) net.stream();
}
a.reset();
said.push(ints(a.step(Int8Array.of(30, 50))));
said.push(ints(b.step(Int8Array.of(10, -10))));
""",
    )
    program = interpreted(counter())
    states: list[Any] = [None, None]
    want = []
    for i in range(10):
        which = i % 2
        state = None if i == 8 else states[which]
        result, states[which] = program.stream(np.array([[[30, 50], [10, -10]][which]])[None], state)
        want.append([*result.levels[0].tolist(), result.steps])
    assert found == want


@needs_node
@pytest.mark.slow
def test_results_and_who_watches(tmp_path: Path) -> None:
    """Ties go to the lower number; whoever watches may run the network, or throw, and nothing is upset."""
    found = script(
        tmp_path,
        """
const result = net.run(Float32Array.of(5, 5.0625));
said.push(result.top(2), [...result.values], result.steps, result.exponent, result instanceof Result);
const live = net.stream();
refused(() => live.step(Int8Array.of(30, 50), () => { throw new Error("mine: it must stop, got this; go on"); }));
let inner = 0;
live.step(Int8Array.of(30, 50), () => { inner += Number(net.run(Int8Array.of(100, 100)).levels[0]); });
said.push(inner, Array.from(live.step(Int8Array.of(0, 0)).levels, Number));
said.push(net.classes, net.layers.map(({ name, shape }) => [name, shape]), net.input.scale, net.output.mean);
""",
    )
    program = interpreted(counter())
    want = program(np.array([5, 5.0625]))
    assert found[0] == [list(pair) for pair in want.top(2)[0]] and found[0][0][0] == "left"
    assert found[1:5] == [want.values[0].tolist(), want.steps, want.exponent, True]
    chunk = np.array([[[30, 50]], [[30, 50]], [[0, 0]]])
    assert found[5].startswith("Error: mine") and found[6] == int(program(np.array([100, 100])).levels[0, 0])
    assert found[7] == program.stream(chunk)[0].levels[0].tolist()
    assert found[8:] == [["left", "right"], [["sent", [2]]], [8, 0], True]


@needs_node
@pytest.mark.slow
def test_where_it_is_loaded_from(tmp_path: Path) -> None:
    """Bytes, a compiled module, a path, an address; a file of another program is refused."""
    export(through(Value((2,), -100, 100, 3, 3)), "wasm", tmp_path / "other #1.wasm")
    found = script(
        tmp_path,
        f"""
import {{ readFileSync }} from "node:fs";
const place = {json.dumps(str(tmp_path / "net.wasm"))};
const bytes = readFileSync(place);
const response = new Response(bytes, {{ headers: {{ "content-type": "application/wasm" }} }});
const whole = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const data = `data:application/wasm;base64,${{bytes.toString("base64")}}`;
const address = new URL("net.wasm", import.meta.url);
for (const source of [bytes, whole, place, address, new WebAssembly.Module(bytes), response, data]) {{
  said.push(Number((await load(source)).run(Int8Array.of(100, 0)).levels[0]));
}}
for (const source of [{json.dumps(str(tmp_path / "other #1.wasm"))}, new Response("", {{ status: 404 }})]) {{
  await load(source).then(() => said.push("accepted"), (error) => said.push(error.message));
}}
const other = await import("./other %231.mjs");
const plain = await other.load();
said.push(Array.from(plain.run(Int8Array.of(1, 2, 3, 4, 5, 6)).levels));
refused(() => plain.run(new Float32Array(6)));
refused(() => plain.run(new Int8Array(6)).top());
""",
    )
    assert found[:7] == [int(interpreted(counter())(np.array([100, 0])).levels[0, 0])] * 7
    assert "got another" in found[7] and "404" in found[8] and found[9] == [1, 2, 3, 4, 5, 6]
    assert "integers -100..100, got reals" in found[10] and "mean read-out" in found[11]


def test_it_is_registered() -> None:
    assert TARGETS["wasm"].reads == TARGETS["page"].reads == "program"
