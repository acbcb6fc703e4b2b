"""The native library: found, checked, switched off, capped, and run on torch's own OpenMP runtime."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bitspike import native

ROOT = Path(__file__).resolve().parents[1]
SCAN = ROOT / "csrc" / "scan"
built = pytest.mark.skipif(native.library() is None, reason=f"not built: {native.why_missing()}")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="not run: reads /proc/self/maps")

MAPPED = """
def mapped(*names):
    with open("/proc/self/maps") as maps:
        files = {line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}
    return sorted(f for f in files if f.rpartition("/")[2].startswith(names))
"""


def python(code: str, **environment: str) -> str:
    """What a fresh process prints; no variable that these tests are about is inherited."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BITSPIKE_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", MAPPED + code], capture_output=True, text=True, check=False, env={**kept, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., native.Native]]:
    """Load again as if for the first time, with these environment variables and these library folders."""

    def load(folder: Path | None = None, **environment: str) -> native.Native:
        for name in ("BITSPIKE_NATIVE", "BITSPIKE_ISA"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        if folder is not None:
            monkeypatch.setattr(sys.modules["bitspike"], "__path__", [str(folder)])
        native._load.cache_clear()
        return native.loaded()

    yield load
    monkeypatch.undo()
    native._load.cache_clear()
    native.loaded()


@built
def test_it_loads_once_with_the_right_abi() -> None:
    library = native.library()
    assert library is not None and library is native.library()
    assert library.bitspike_abi() == native.ABI
    assert native.why_missing() is None
    assert native.available_isas()[0] == "scalar"


@linux
@built
def test_importing_bitspike_loads_no_library() -> None:
    assert python("import bitspike; print(mapped('libbitspike'))") == "[]"
    used = python("import bitspike.native as n; n.library(); print(len(mapped('libbitspike')))")
    assert used == "1"


def test_off_leaves_it_out_without_a_warning() -> None:
    code = """
import warnings
warnings.simplefilter("error")
from bitspike import native
native.warn_if_missing()
print(native.library(), native.available_isas(), native.isa_in_use(), native.why_missing(), sep="|")
"""
    library, isas, isa, reason = python(code, BITSPIKE_NATIVE="off").split("|")
    assert (library, isas, isa) == ("None", "()", "None")
    assert "BITSPIKE_NATIVE=off" in reason


@pytest.mark.parametrize(("name", "value"), [("BITSPIKE_NATIVE", "no"), ("BITSPIKE_ISA", "sse")])
def test_an_unknown_value_of_a_variable_is_refused(afresh, refuses, name: str, value: str) -> None:
    with refuses("native", name, value):
        afresh(**{name: value})


def test_a_missing_library_is_said_once(afresh, tmp_path: Path) -> None:
    found = afresh(tmp_path)
    assert found.library is None and str(tmp_path) in str(found.missing)
    assert native.threads_note().startswith("no native library")
    native._warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        native.warn_if_missing()
        native.warn_if_missing()
    assert [w.category for w in seen] == [UserWarning]
    assert str(seen[0].message).startswith("native: ")


def test_a_capped_missing_library_has_no_isa(afresh, refuses, tmp_path: Path) -> None:
    afresh(tmp_path)
    with refuses("native.isa", "must be loaded"), native.isa("scalar"):
        pass


def test_a_broken_file_is_refused(afresh, tmp_path: Path) -> None:
    put(tmp_path).write_bytes(b"not a library")
    found = afresh(tmp_path)
    assert found.library is None and "must load" in str(found.missing)


@built
def test_all_folders_of_the_package_are_searched(afresh, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = sys.modules["bitspike"]
    monkeypatch.setattr(package, "__path__", [str(tmp_path), *package.__path__])
    assert afresh().library is not None


def put(folder: Path) -> Path:
    """Where the library of a package in this folder lies."""
    suffix = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
    (folder / "_native").mkdir()
    return folder / "_native" / f"libbitspike{suffix}"


def compiled(out: Path, *sources: Path | str) -> None:
    """Build a shared library with the system's compiler, or skip."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("not run: no C++ compiler")
    files = []
    for source in sources:
        if isinstance(source, str):
            (out.parent / "extra.cpp").write_text(source, encoding="utf-8")
            source = out.parent / "extra.cpp"
        files.append(str(source))
    include = f"-I{SCAN}"
    subprocess.run([compiler, "-std=c++17", "-O1", "-fPIC", "-shared", include, *files, "-o", str(out)], check=True)


@pytest.mark.parametrize(
    ("source", "got"),
    [(f'extern "C" int bitspike_abi() {{ return {native.ABI + 1}; }}', str(native.ABI + 1)), ("int other;", "None")],
)
def test_another_abi_is_refused(afresh, tmp_path: Path, source: str, got: str) -> None:
    compiled(put(tmp_path), source)
    found = afresh(tmp_path)
    assert found.library is None
    assert f"must be {native.ABI}, got {got};" in str(found.missing)


@built
@pytest.mark.parametrize("cap", native.ISAS)
def test_a_cap_is_kept(afresh, refuses, cap: str) -> None:
    everything = afresh().isas
    allowed = afresh(BITSPIKE_ISA=cap).isas
    assert allowed == everything[: native.ISAS.index(cap) + 1]
    assert native.isa_in_use() == allowed[-1]
    for above in set(native.ISAS) - set(allowed):
        with refuses("native.isa", above), native.isa(above):
            pass


@built
def test_names_of_the_engine_cap_it_too(afresh) -> None:
    everything = afresh().isas
    assert afresh(BITSPIKE_ISA="avx512vnni").isas == everything
    assert afresh(BITSPIKE_ISA="neondot").isas == ("scalar",)


@built
def test_an_instruction_set_holds_within_its_block() -> None:
    before = native.isa_in_use()
    for name in native.available_isas():
        with pytest.raises(KeyError), native.isa(name):
            assert native.isa_in_use() == name
            raise KeyError
        assert native.isa_in_use() == before


@linux
@built
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="not run: not x86-64")
def test_the_best_instruction_set_is_that_of_the_cpu(afresh) -> None:
    flags = set(re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    best = "avx2" if flags >= {"avx2", "f16c"} else "scalar"
    if best == "avx2" and flags >= {"avx512f", "avx512bw", "avx512dq", "avx512vl"}:
        best = "avx512"
    found = afresh()
    assert found.isas == native.ISAS[: native.ISAS.index(best) + 1]
    assert found.library.bitspike_set_isa(99) == native.ISAS.index(best)
    assert found.library.bitspike_set_isa(-1) == 0


@pytest.mark.parametrize("there", [pytest.param(True, marks=built), False])
def test_it_does_not_break_a_compiled_graph(afresh, tmp_path: Path, there: bool) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        native.warn_if_missing()
        return x + 1 if native.why_missing() is None else x + 2

    assert (afresh(None if there else tmp_path).library is not None) == there
    native._warn_once.cache_clear()
    torch.compiler.reset()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        compiled_f = torch.compile(f, backend="eager", fullgraph=True)
        assert compiled_f(torch.zeros(1)).item() == (1 if there else 2)
    assert len([w for w in seen if "native: " in str(w.message)]) == (not there)


def test_loading_it_does_not_import_the_compiler() -> None:
    assert python("import sys, bitspike.native; print('torch._dynamo' in sys.modules)") == "False"


# Every block waits until `wanted` blocks run at once: it ends early only if that many threads really work.
RENDEZVOUS = """
#include <atomic>
#include <chrono>
#include <thread>
#include "parallel.h"
struct Meeting { std::atomic<int> inside{0}, most{0}; std::atomic<long> sum{0}; int wanted; };
static void body(void* ctx, long block, long next) {
    if (next != -1 && next <= block) return;
    Meeting& m = *static_cast<Meeting*>(ctx);
    int now = ++m.inside, most = m.most.load();
    while (now > most && !m.most.compare_exchange_weak(most, now)) {}
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (m.most.load() < m.wanted && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    m.sum += block + 1;
    --m.inside;
}
extern "C" int meet(long blocks, int threads, int wanted, long* sum) {
    Meeting m;
    m.wanted = wanted;
    parallel_blocks(blocks, threads, body, &m);
    *sum = m.sum;
    return m.most;
}
"""
MEET = """
import ctypes, os
from bitspike import native
parallel_blocks = ctypes.CDLL({path!r})
if {openmp}:
    runtime = ctypes.CDLL(native.loaded().openmp, mode=os.RTLD_NOLOAD)
    parallel_blocks.bitspike_set_parallel(ctypes.cast(runtime.GOMP_parallel, ctypes.c_void_p))
for blocks, threads, wanted in {cases}:
    total = ctypes.c_long()
    most = parallel_blocks.meet(ctypes.c_long(blocks), threads, wanted, ctypes.byref(total))
    assert total.value == blocks * (blocks + 1) // 2, (blocks, threads, total.value)
    print(most, end=" ")
"""


@linux
@built
def test_blocks_run_once_each_on_exactly_the_threads_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "meet.so"
    compiled(path, SCAN / "dispatch.cpp", RENDEZVOUS)
    cases = [(1, 4, 1), (7, 1, 1), (2, 4, 2), (5, 2, 2), (64, 3, 3), (0, 3, 0), (3, 4, 3), (101, 2, 2)]
    code = MEET.format(path=str(path), openmp=True, cases=cases)
    for environment in ({}, {"OMP_NUM_THREADS": "1"}):  # the argument decides, not the variable
        assert python(code, **environment) == "1 1 2 2 3 0 3 2"


@linux
def test_blocks_run_one_after_the_other_without_a_runtime(tmp_path: Path) -> None:
    path = tmp_path / "meet.so"
    compiled(path, SCAN / "dispatch.cpp", RENDEZVOUS)
    assert python(MEET.format(path=str(path), openmp=False, cases=[(9, 4, 1), (1, 2, 1)])) == "1 1"


@linux
@built
def test_the_runtime_is_the_one_that_torch_uses_and_no_other_is_loaded() -> None:
    code = """
import ctypes, os, torch
names = ("libgomp", "libomp", "libiomp")
before = mapped(*names)
from bitspike import native
native.library()
torch.ones(1 << 20).add_(1)
found = native.loaded().openmp
runtime = ctypes.CDLL(found, mode=os.RTLD_NOLOAD)
threads = []
for n in (2, 1, 3):
    torch.set_num_threads(n)
    threads.append(runtime.omp_get_max_threads())
print(mapped(*names) == before, len(before), [os.path.realpath(f) for f in before] == [found], threads)
print(native.threads_note().endswith(found))
"""
    assert python(code).splitlines() == ["True 1 True [2, 1, 3]", "True"]


def test_without_a_compiler_the_build_still_succeeds(tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("not run: no cmake")
    command = ["cmake", "-S", str(ROOT), "-B", str(tmp_path)]
    missing = {**os.environ, "CXX": str(tmp_path / "none")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=missing)
    assert done.returncode == 0, done.stderr
    assert "no native library is built" in " ".join(done.stderr.split())
