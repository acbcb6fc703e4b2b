"""The target "c": the same integers as the interpreter, run here, on boards and on big-endian in emulators."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.export import export
from bitspike.runtime import INPUT, Builder, Grid, Input, Program, Value
from export_c import STRICT, Compiled, compare, missing
from programs.drawn import drawn, input_of
from programs.edges import FAMILIES
from programs.golden import golden, images
from programs.kernels import kernel

HERE = Path(__file__).resolve().parents[2] / "benchmarks" / "microcontroller"
NO_GCC = missing("gcc")
needs_gcc = pytest.mark.skipif(bool(NO_GCC), reason=NO_GCC)
CROSS = ("gcc sanitized", "clang sanitized", "s390x", "cortex-m3", "cortex-m4", "cortex-m7")


def device() -> Any:
    spec = importlib.util.spec_from_file_location("microcontroller_device", HERE / "device.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


def small(scale: tuple[int, int] | None = None, name: str = "spikes") -> Program:
    b = Builder(Input(Value((4,), -100, 100, 0, 3), scale=scale))
    first = b.constant(np.array([40]))
    spacing = b.constant(np.array([40]))
    x = b.add(
        "fire", [INPUT], {"count": [2], "signed": True, "reset": "hard"}, {"first": first, "spacing": spacing}, name
    )
    weight = b.constant(np.array([[1, -1, 1, 1]]), Grid(-1, 1, stride=2))
    return b.finish(b.add("linear", [x], tensors={"weight": weight}))


@needs_gcc
def test_every_operation_and_a_stream(tmp_path: Path) -> None:
    compare(golden(), images(), tmp_path)


@needs_gcc
@pytest.mark.parametrize("seed", [9, 10, 15, 26])  # 10: two windows of one clock; 15: three samples in one stream
def test_drawn(seed: int, tmp_path: Path) -> None:
    program = drawn(seed, wide=seed % 3 == 0)
    compare(program, input_of(program, seed, 2, 3 if seed % 2 else 1), tmp_path)


@needs_gcc
@pytest.mark.parametrize("seed", [0, 3, 6, 8])
def test_drawn_with_several_outputs(seed: int, tmp_path: Path) -> None:
    """Means and rows of steps side by side, each into an array of its own."""
    program = drawn(seed, wide=seed % 3 == 0, several=True)
    compare(program, input_of(program, seed, 2, 3 if seed % 2 else 1), tmp_path)


@needs_gcc
def test_a_stream_of_several_outputs_ends_before_its_counters_do(tmp_path: Path) -> None:
    b = Builder(Input(Value((2,), -1, 1)))
    program = b.finish({"all": b.add("mean", [INPUT]), "odd": b.add("mean", [INPUT], {"keep": [1, 0]})})
    made = Compiled(program, tmp_path)
    ((rows, steps), (odd, few)), _ = made.stream(np.array([[1, -1], [1, -1]]))[1]
    assert rows.tolist() == [[2, -2]] and odd.tolist() == [[1, -1]] and (steps, few) == (2, 1)
    text = (tmp_path / "net.c").read_text()
    assert text.count("return -1;") == 1, "both read the steps of one clock"
    assert "typedef struct net_outputs" in (tmp_path / "net.h").read_text()


@needs_gcc
@pytest.mark.parametrize("seed", [10, 20, 31, 42, 61, 102])
def test_kernels(seed: int, tmp_path: Path) -> None:
    compare(*kernel(seed), tmp_path)


@pytest.mark.slow
@needs_gcc
@pytest.mark.parametrize("start", range(0, 150, 50))
def test_many_drawn(start: int, tmp_path: Path) -> None:
    for seed in range(start, start + 50):
        program = drawn(seed, wide=seed % 3 == 0, several=seed % 2 == 1)
        compare(program, input_of(program, seed, 2, 3 if seed % 2 else 1), tmp_path / str(seed))


@pytest.mark.slow
@needs_gcc
def test_many_kernels(tmp_path: Path) -> None:
    used = set()
    for seed in range(200):
        compare(*kernel(seed), tmp_path / str(seed))
        text = (tmp_path / str(seed) / "net.c").read_text()
        used |= {name for name in ("_events_", "_dense(", "_signs_", "_ternary_") if f" net{name}" in text}
    assert len(used) == 4


@pytest.mark.slow
@needs_gcc
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_edges(family: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number, case in enumerate(FAMILIES[family]):
        pairs = list(family(*case))
        program, x = pairs[random.integers(len(pairs))]
        compare(program, np.asarray(x), tmp_path / str(number))


@pytest.mark.slow
def test_clang(tmp_path: Path) -> None:
    if missing("clang"):
        pytest.skip(missing("clang"))
    for seed in range(20):
        program = drawn(seed, wide=seed % 3 == 0)
        compare(program, input_of(program, seed, 2), tmp_path / str(seed), compiler="clang", flags=("-O2",))
        compare(*kernel(seed), tmp_path / f"kernel{seed}", compiler="clang", flags=("-O2",))


@pytest.mark.slow
@pytest.mark.parametrize("name", CROSS)
def test_other_machines(name: str, tmp_path: Path) -> None:
    tools = device()
    machine = tools.MACHINES[name]
    if machine.missing():
        pytest.skip(machine.missing())
    dsp = ("-DNET_DSP",) if name in ("cortex-m4", "cortex-m7") else ()
    pairs = [(golden(), images())]
    for seed in range(5):
        program = drawn(seed, wide=seed % 3 == 0)
        pairs += [(program, input_of(program, seed, 2)), kernel(seed * 10 + 2), kernel(seed * 10 + seed % 2)]
    for number, (program, x) in enumerate(pairs):
        folder = tmp_path / str(number)
        tools.build(program, _window(program, x), folder, machine, ("-O2", *dsp))
        found = tools.run(folder, machine)
        assert found["wrong"] == found["wrong_streams"] == 0 and found["samples"] > 1, number


def _window(program: Program, x: np.ndarray) -> np.ndarray:
    return x if program.spec.input.repeat else x[: program.spec.input.value.steps]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cortex-m3", "s390x"])
def test_a_thousand_images(name: str, tmp_path: Path) -> None:
    tools = device()
    machine = tools.MACHINES[name]
    if machine.missing():
        pytest.skip(machine.missing())
    x = np.random.default_rng(5).integers(0, 256, (1000, 2, 6, 6))
    tools.build(golden(), x, tmp_path, machine)
    found = tools.run(tmp_path, machine)
    assert (found["samples"], found["wrong"], found["wrong_streams"]) == (1000, 0, 0)


@needs_gcc
def test_real_numbers_are_quantized_as_the_format_says(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 40000, dtype=np.uint32).view(np.float32)
    near = (random.integers(-500, 500, 40000) / 4).astype(np.float32)
    odd = np.array([0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997], np.float32)
    for number, scale in enumerate([(1, 0), (2**24, 24), (2**24 - 1, 22), (3, 1), (2**24, 0), (1, 62)]):
        program = small(scale)
        made = Compiled(program, tmp_path / str(number))
        x = np.concatenate([bits[np.isfinite(bits)], near, odd])
        x = x[: len(x) // 4 * 4].reshape(-1, 4)
        got = np.zeros_like(x, program.spec.input.value.dtype)
        quantize = made.library.net_quantize
        for row, levels in zip(x, got, strict=True):
            assert quantize(row.ctypes.data_as(ctypes.c_void_p), levels.ctypes.data_as(ctypes.c_void_p)) == 0
        assert np.array_equal(got, program.quantize(x))
        for bad in (np.nan, np.inf, -np.inf):
            row = np.array([0, 0, bad, 0], np.float32)
            assert quantize(row.ctypes.data_as(ctypes.c_void_p), got.ctypes.data_as(ctypes.c_void_p)) == -1


@needs_gcc
def test_without_floating_point(tmp_path: Path) -> None:
    export(small((3, 1)), "c", tmp_path / "net.c")
    command = ["gcc", *STRICT, "-DNET_NO_FLOAT", "-c", "net.c", "-o", "net.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    names = subprocess.run(["nm", "net.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    defined = {line.split()[-1] for line in names.splitlines() if " T " in line}
    assert defined == {"net_reset", "net_step", "net_run", "net_steps", "net_clamped"}
    wanted = {line.split()[-1] for line in names.splitlines() if " U " in line}
    assert wanted <= {"memcpy", "memset", "memmove"}


@needs_gcc
def test_spikes_are_observed(tmp_path: Path) -> None:
    (tmp_path / "observe.h").write_text(
        "void seen(int index, const void *levels, int count, int bytes, int is_signed);\n#define NET_OBSERVE seen\n"
    )
    (tmp_path / "seen.c").write_text(
        '#include "observe.h"\nextern signed char kept[64]; extern int held;\nsigned char kept[64]; int held = 0;\n'
        "void seen(int index, const void *levels, int count, int bytes, int is_signed) {\n"
        "  if (index || bytes != 1 || !is_signed) return;\n"
        "  for (int i = 0; i < count; i++) kept[held++] = ((const signed char *)levels)[i];\n}\n"
    )
    program = small()
    made = Compiled(program, tmp_path, flags=("-include", "observe.h", "seen.c"))
    x = np.array([[50, -90, 0, 39], [-50, 80, 12, 41], [1, 1, 40, -40]])
    made.run(x)
    inner = Program(replace(program.spec, output="spikes", operations=program.spec.operations), engine="interpreter")
    kept = (ctypes.c_byte * 64).in_dll(made.library, "kept")
    assert list(kept)[:12] == inner(x[:, None]).levels.reshape(-1).tolist()


@needs_gcc
def test_any_name(tmp_path: Path) -> None:
    for number, name in enumerate(['*/ "', "??/", "é\\", "%d\\n"]):
        program = small(name=name)
        assert Compiled(program, tmp_path / str(number)).names == [name]
    found = export(program, "c", tmp_path / "9 lives.c")
    assert [path.name for path in found.files] == ["9 lives.c", "n9_lives.h"]


@needs_gcc
def test_sizes_are_told(tmp_path: Path) -> None:
    for seed in (3, 4, 12, 22):
        made = Compiled(drawn(seed), tmp_path / str(seed))
        assert made.exported.facts is not None
        assert made.exported.facts["context_bytes"] == made.library.probe_context()


def test_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = (export(golden(), "c", tmp_path / name / "net.c").files for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@needs_gcc
def test_a_stream_ends_before_its_counters_do(tmp_path: Path) -> None:
    b = Builder(Input(Value((2,), -1, 1)))
    program = b.finish(b.add("mean", [INPUT]))
    made = Compiled(program, tmp_path)
    made.stream(np.array([[1, -1]]))
    words = made.context.view(np.uint32)
    assert words[4] == words[5] == 1  # time, counted, behind the two sums
    words[4] = 2**31 - 2
    y = np.zeros(2, made.wide[0])
    x = np.array([1, -1], np.int8)
    assert made.call("step", x, y) == 1 and y.tolist() == [2, -2]
    assert made.call("step", x, y) == -1 and y.tolist() == [2, -2]


def test_weights_take_their_bits(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    for grid, size in (
        (Grid(-1, 1, stride=2), 8192),
        (Grid(-1, 1), 16384),
        (Grid(-7, 7), 32769),
        (Grid(-127, 127), 65536),
    ):
        b = Builder(Input(Value((256,), 0, 1), repeat=True))
        weight = b.constant(r.choice(np.array(grid.levels), (256, 256)), grid)
        found = export(b.finish(b.add("linear", [INPUT], tensors={"weight": weight})), "c", tmp_path / "net.c")
        assert found.facts is not None and found.facts["constant_bytes"] == size


@needs_gcc
def test_the_walk_through_of_the_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (HERE.parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = page.split("\n## C99\n")[1].split("\n## ")[0]
    block = {name: re.search(rf"^```{name}\n(.*?)^```$", section, re.S | re.M) for name in ("python", "c", "sh")}
    texts = {name: found[1] for name, found in block.items() if found is not None}
    folder = "folder = Path(tempfile.mkdtemp())"
    assert folder in texts["python"]
    exec(texts["python"].replace(folder, f"folder = Path({str(tmp_path)!r})"), {})
    (tmp_path / "main.c").write_text(texts["c"], encoding="utf-8")
    done = subprocess.run(texts["sh"], shell=True, cwd=tmp_path, capture_output=True, text=True)
    expected = section.split("```sh\n")[1].split("```text\n")[1].split("```")[0]
    assert (done.stdout, done.stderr) == (expected, "")
    strict = subprocess.run(["gcc", *STRICT, "-c", "main.c"], cwd=tmp_path, capture_output=True, text=True)
    assert not strict.returncode, strict.stderr


@needs_gcc
@pytest.mark.parametrize(("inputs", "top", "weights"), [(65540, 1, 1), (3, 2**30, 2**15 - 1), (70000, 2**20, 100)])
def test_long_and_wide_sums(inputs: int, top: int, weights: int, tmp_path: Path) -> None:
    """More places than 16 bits number, and sums of 64 bits."""
    r = np.random.default_rng(inputs)
    b = Builder(Input(Value((inputs,), -top, top)))
    weight = b.constant(r.integers(-weights, weights + 1, (3, inputs)), Grid(-1, 1) if weights == 1 else None)
    x = r.integers(-top, top + 1, (1, 2, inputs))
    x[r.random(x.shape) < 0.9] = 0
    x[0, 1, -3:] = -top
    program = b.finish(b.add("linear", [INPUT], tensors={"weight": weight}))
    compare(program, x, tmp_path)
    text = (tmp_path / "net.c").read_text()
    assert ("uint32_t far[" in (tmp_path / "net.h").read_text()) == (inputs > 65536)
    assert ("int64_t *sums" in text) == (weights > 1)


@needs_gcc
def test_dsp_in_another_order_of_bytes_is_refused(tmp_path: Path) -> None:
    program = next(p for seed in range(60) if "_dense(" in text_of(p := kernel(seed)[0], tmp_path))
    export(program, "c", tmp_path / "net.c")
    command = ["gcc", "-E", "-DNET_DSP", "-D__ARM_BIG_ENDIAN", "net.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and "NET_DSP reads four weights at once" in done.stderr


def text_of(program: Program, folder: Path) -> str:
    return export(program, "c", folder / "net.c").files[0].read_text()


@pytest.mark.parametrize("name", ["string", "Math"])
def test_its_header_is_none_of_the_library(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"the name {name}: {name}\.h is a header of C; choose another"):
        export(small(), "c", tmp_path / f"{name}.c")
    assert not list(tmp_path.iterdir())
