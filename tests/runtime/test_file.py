"""Files: sizes, versions, the golden one, hostile ones, and whatever mutation makes of a legal one."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from bitspike.runtime import Grid, Program, ProgramError, load, save
from bitspike.runtime.document import VERSION
from bitspike.runtime.file import from_bytes, to_bytes
from bitspike.runtime.ops import OPERATIONS
from bitspike.runtime.packing import unpack
from programs import hostile
from programs.golden import GOLDEN as GOLDENS
from programs.golden import golden, told
from programs.hostile import assembled, taken_apart
from programs.residual import wide

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "v1_0.bitspike"
HOSTILE = sorted((HERE / "hostile").glob("*.bitspike"))
PACKAGE = Path(sys.modules["bitspike.runtime"].__file__ or "").parent


@pytest.mark.parametrize("name", GOLDENS)
def test_a_golden_file_gives_its_integers(name: str) -> None:
    file = HERE / "golden" / f"{name}.bitspike"
    program, expected = load(file), json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    found = program.run(np.array(expected.pop("input")))
    assert {name: told(ran) for name, ran in found.items()} == expected.get("outputs", {"": expected})
    assert all(len(np.unique(ran.levels)) > 5 for ran in found.values())


def test_golden_files_hold_every_operation() -> None:
    kinds = {made.op.kind for name in GOLDENS for made in load(HERE / "golden" / f"{name}.bitspike").operations}
    assert kinds == set(OPERATIONS) and load(GOLDEN).spec.classes == ("cat", "dog", "naïve 鳥")


@pytest.mark.parametrize("name", GOLDENS)
def test_this_release_writes_the_golden_files(name: str) -> None:
    """Byte for byte, of older versions too: a file says the least version that it needs."""
    assert VERSION == (1, 2)
    file, (make, given) = HERE / "golden" / f"{name}.bitspike", GOLDENS[name]
    assert to_bytes(make().spec) == file.read_bytes()
    assert given().tolist() == json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["input"]
    assert f'"version":[1,{name[-1]}]' in file.read_bytes().decode("latin-1").replace(" ", "").replace("\\", "")


def test_safetensors_reads_what_we_write() -> None:
    tensors, spec = load_file(GOLDEN), load(GOLDEN).spec
    assert set(tensors) == set(spec.constants)
    plain = [name for name, constant in spec.constants.items() if constant.grid is None]
    assert plain and all(np.array_equal(tensors[name], spec.constants[name].array) for name in plain)


def test_a_wide_network_takes_the_bits_that_are_counted(tmp_path: Path) -> None:
    """Ternary weights at 2 bits, the first, down-sampling and last ones at 8: 11 million weights, within 5 %."""
    program = wide(steps=2)
    weights = [
        c
        for op in program.spec.operations
        for role, name in op.tensors.items()
        if role == "weight"
        for c in [program.spec.constants[name]]
    ]
    counted = sum(c.array.size * c.bits for c in weights) / 8
    size = save(program, tmp_path / "wide.bitspike")
    assert sum(c.array.size for c in weights) > 11e6 and counted <= size <= 1.05 * counted
    again = load(tmp_path / "wide.bitspike")
    assert all(np.array_equal(again.spec.constants[k].array, c.array) for k, c in program.spec.constants.items())


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(OSError):
        save(golden(), target)
    assert list(tmp_path.iterdir()) == [target]


def test_the_hostile_files_are_those_of_their_script() -> None:
    assert {path.stem: path.read_bytes() for path in HOSTILE} == hostile.files()
    assert Program(from_bytes(hostile.smallest()))(np.array([1, 1, 1])).levels.tolist() == [[[300]]]


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.stem)
def test_hostile_files_are_refused_soon_and_with_little_memory(path: Path) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(ProgramError, match=r"^[^:]+: .+, got .*; .+[.?]$"):
            load(path)
        assert time.perf_counter() - began < 2 and tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 2**20, '{"a":"' + '\\"' * 2**20 + "[" * 99, "[" * 2**20, '{"' + "a" * 2**20]
)
def test_long_texts_take_linear_time(text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(ProgramError):
        from_bytes(hostile.framed(text.encode()))
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("grid", [Grid(-1, 1), Grid(-4, 4, 1, "power"), Grid(-2, 2)])
def test_codes_beyond_an_alphabet_are_refused(grid: Grid) -> None:
    code = np.array([len(grid.levels)], np.uint8)
    with pytest.raises(ProgramError, match=f"codes must lie below {len(grid.levels)}"):
        unpack(code, grid, (1,))


def test_a_missing_file_is_no_program_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.bitspike")


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a JSON tree."""
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(found for key, part in below for found in leaves(part, (*path, key)))]


NASTY = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    2**31 - 1,
    -(2**31),
    2**31,
    2**63,
    2**64,
    1.5,
    "",
    "input",
    "logits",
]
NASTY += ["\ud800", "a" * 300, [], [0], [1, 1], [-1], [2**40], [1] * 20, {}, {"low": 0}, [[]], "hard", "power"]


def survives(data: bytes) -> None:
    """A file is refused with the one exception, or it is a legal program, which runs."""
    try:
        program = Program(from_bytes(data))
    except ProgramError:
        return
    given = program.spec.input
    if program.plan.peak_bytes > 2**22 or given.value.steps > 20:
        return
    x = np.full(((1,) if given.repeat else (given.value.steps, 1)) + given.value.shape, given.value.high)
    values, parts = program.run(x), program.stream(x[None] if given.repeat else x[:1])
    assert next(iter(values.values())).levels.size and parts[1].batch == 1


@settings(max_examples=150)
@given(st.data())
def test_mutated_programs_are_refused_or_run(data: st.DataObject) -> None:
    file = data.draw(st.sampled_from([GOLDEN, GOLDEN.with_name("v1_2.bitspike")]))
    header, program, body = taken_apart(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        places = leaves(program)
        path = places[data.draw(st.integers(1, len(places) - 1))]
        tree = program
        for key in path[:-1]:
            tree = tree[key]
        kind = data.draw(st.integers(0, 3))
        if kind == 0:
            drawn = data.draw(st.sampled_from(NASTY) | st.integers(-300, 300))
            tree[path[-1]] = copy.deepcopy(drawn)  # a later change must not reach into the list
        elif kind == 1:
            other = program
            for key in data.draw(st.sampled_from(places)):
                other = other[key]
            tree[path[-1]] = json.loads(json.dumps(other))
        elif kind == 2 and type(tree[path[-1]]) is int:
            tree[path[-1]] += data.draw(st.integers(-2, 2))
        elif len(places) > 2:
            del tree[path[-1]]
    survives(assembled(header, program, body))


@settings(max_examples=100)
@given(st.data())
def test_mutated_bytes_are_refused_or_run(data: st.DataObject) -> None:
    raw = bytearray(hostile.smallest() if data.draw(st.booleans()) else GOLDEN.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        kind = data.draw(st.integers(0, 3))
        if kind == 0 and raw:
            raw[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == 1:
            del raw[place:]
        elif kind == 2:
            raw[place:place] = data.draw(st.binary(max_size=8))
        else:
            raw[place : place + 8] = raw[: data.draw(st.integers(0, 16))]
    survives(bytes(raw))


ALONE = """
import importlib.util, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "bitspike", "scipy", "safetensors", "matplotlib"):
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Block())
spec = importlib.util.spec_from_file_location("bitspike_runtime", sys.argv[1] + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules["bitspike_runtime"] = module
spec.loader.exec_module(module)
import numpy
program = module.load(sys.argv[2])
import copy
import json
expected = json.load(open(sys.argv[2].replace(".bitspike", ".json"), encoding="utf-8"))
assert program(numpy.array(expected["input"])).levels.tolist() == expected["levels"]
known = set(sys.stdlib_module_names) | {"numpy", "bitspike_runtime"}
print(sorted({name.partition(".")[0] for name in sys.modules} - known - {"__main__", "sitecustomize", "usercustomize"}))
"""


def test_it_runs_where_only_numpy_is() -> None:
    """The folder alone, under the name of the wheel, without torch, without the rest, without safetensors."""
    command = [sys.executable, "-c", ALONE, str(PACKAGE), str(GOLDEN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = [name for name in json.loads(done.stdout.replace("'", '"')) if not name.startswith(("_", "cython"))]
    assert loaded == []
