"""The shape of the repository: import floors, file sizes, re-exporting packages, a light import, clean text."""

from __future__ import annotations

import ast
import builtins
import re
import statistics
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import bitspike

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "bitspike"

FLOORS = (
    ("formats", "checks", "registry", "files", "schema", "native", "process_memory", "progress", "renamed", "sealed"),
    ("functional",),
    ("ops",),
    ("neurons", "quantizers"),
    ("layers",),
    ("models", "graph", "observe", "checked"),
    ("cost", "data", "fold", "upgrade", "stream"),
    ("ann2snn", "allocation"),
    ("training", "lower", "export"),
    ("testing", "report", "hub", "sklearn", "commands", "cli", "__main__"),
)
BESIDE = ("runtime",)  # without torch: imports itself, every floor may import it
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names} | dict.fromkeys(BESIDE, -1)
LEAVES = ("neurons", "quantizers")  # one variant, one file: variants do not import each other
OPTIONAL = (
    "sklearn",
    "matplotlib",
    "rich",
    "tyro",
    "tensorboard",
    "datasets",
    "kornia",
    "triton",
    "onnx",
    "onnxruntime",
    "nir",
    "h5py",
    "lz4",
    "ray",
)
MAX_LINES, MAX_MEDIAN = 500, 150


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, Path]:
    """Module → file of the package: what git tracks, or every file where there is no git."""
    command = ["git", "ls-files", "-z", "--", "*.py"]
    try:
        done = subprocess.run(command, cwd=PACKAGE, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        paths = sorted(PACKAGE.rglob("*.py"))
    else:
        paths = sorted(PACKAGE / name.decode() for name in done.stdout.split(b"\0") if name)
    return {module_name(path): path for path in paths if path.is_file()}


SOURCES = sources()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree: ast.Module, package: str, known: Collection[str]) -> Iterator[tuple[str, str, int]]:
    """(module, name or "", line) for each import from bitspike anywhere in a file whose relative base is ``package``.

    A string that spells a module's full name counts too: that is how ``import_module`` and lazy tables load.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            whole = [f"{base}.{alias.name}" for alias in node.names]
            found = [(w, "") if w in known else (base, w.rpartition(".")[2]) for w in whole]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            found = [(node.value, "")] if node.value in known else []
        else:
            continue
        for module, name in found:
            if module.split(".")[0] == "bitspike":
                yield module, name, node.lineno


def registers(tree: ast.Module) -> bool:
    """Whether a file decorates something with ``<registry>.register(...)``: it holds a variant."""
    decorators = [d for node in ast.walk(tree) for d in getattr(node, "decorator_list", ())]
    calls = [d.func for d in decorators if isinstance(d, ast.Call)]
    return any(isinstance(f, ast.Attribute) and f.attr == "register" for f in calls)


def unit_of(module: str) -> str:
    """bitspike.neurons.lif → neurons; bitspike itself → the empty string."""
    return module.partition(".")[2].partition(".")[0]


def faults(module: str, tree: ast.Module, known: Collection[str], variants: Collection[str] = ()) -> list[str]:
    """Every import of ``module`` that breaks a floor rule, in words."""
    here, is_package = unit_of(module), any(other.startswith(module + ".") for other in known)
    if here not in FLOOR:
        return [f"{module}: on no floor; add it to FLOORS"]
    found = []
    for target, name, line in imports(tree, module if is_package else module.rpartition(".")[0], known):
        there, at = unit_of(target), f"{module}:{line} imports {target}"
        if there == "":
            if FLOOR[here] < len(FLOORS) - 1:
                found.append(f"{at}: below the top floor, import from the defining module")
        elif there not in FLOOR:
            found.append(f"{at}: on no floor; add it to FLOORS")
        elif FLOOR[there] > FLOOR[here]:
            found.append(f"{at}: floor {FLOOR[here]} must not import floor {FLOOR[there]}")
        elif there == here and not is_package and target == f"bitspike.{here}":
            found.append(f"{at}: inside a package, import from the defining file")
        elif there == here and here in LEAVES and {module, target} <= set(variants):
            found.append(f"{at}: a variant must not import another variant")
        last = target.rpartition(".")[2]
        hidden = name.startswith("_") or (there != here and last.startswith("_"))
        if hidden and not (name or last).startswith("__"):
            found.append(f"{at}: {name or last} is private")
    return found


def test_import_floors() -> None:
    trees = {name: parsed(path) for name, path in SOURCES.items()}
    variants = [name for name, tree in trees.items() if registers(tree)]
    checked = [name for name in trees if name != "bitspike"]
    found = [fault for name in checked for fault in faults(name, trees[name], trees, variants)]
    assert not found, "\n".join(found)


KNOWN = [
    "bitspike",
    *(
        f"bitspike.{name}"
        for name in ("formats", "checks", "graph", "models", "cost", "cli", "neurons", "layers", "runtime")
    ),
    *(f"bitspike.neurons.{name}" for name in ("base", "lif", "ternary")),
    *(f"bitspike.models.{name}" for name in ("cnn", "_blocks")),
    *(f"bitspike.runtime.{name}" for name in ("file", "spec")),
]
VARIANTS = ["bitspike.neurons.lif", "bitspike.neurons.ternary"]


@pytest.mark.parametrize(
    ("module", "source", "word"),
    [
        ("bitspike.formats", "import bitspike.neurons.lif", "floor 0"),
        ("bitspike.formats", "def f():\n    from bitspike import cost", "floor 6"),
        ("bitspike.formats", "table = {'lif': 'bitspike.neurons.lif'}", "floor 3"),
        ("bitspike.graph", "from bitspike import fold", "defining module"),
        ("bitspike.graph", "from bitspike.formats import _pack", "private"),
        ("bitspike.graph", "from bitspike.models import _blocks", "private"),
        ("bitspike.neurons.lif", "from .ternary import Ternary", "another variant"),
        ("bitspike.neurons.lif", "from bitspike.neurons import Ternary", "defining file"),
        ("bitspike.neurons.lif", "from ..layers import Quantized", "floor 4"),
        ("bitspike.neurons", "from ..cost import total", "floor 6"),
        ("bitspike.novel", "", "no floor"),
        ("bitspike.cli", "import bitspike.novel", "no floor"),
        ("bitspike.runtime.file", "from bitspike.formats import pack", "floor -1"),
        ("bitspike.runtime.file", "from ..checks import bad_value", "floor -1"),
    ],
)
def test_the_floor_check_finds(module: str, source: str, word: str) -> None:
    found = faults(module, ast.parse(source), KNOWN, VARIANTS)
    assert len(found) == 1 and word in found[0], found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bitspike.cost", "import torch\nfrom bitspike.formats import SpikeFormat, __doc__"),
        ("bitspike.models.cnn", "from bitspike import graph\nfrom . import _blocks\nfrom ..graph import trace"),
        ("bitspike.neurons.lif", "from .base import Neuron\nfrom bitspike.neurons import base"),
        ("bitspike.neurons", "from .lif import LIF\nfrom .ternary import Ternary"),
        ("bitspike.cli", "import bitspike\nfrom bitspike import fold"),
        ("bitspike.formats", "from bitspike.runtime import spec"),
        ("bitspike.runtime.file", "import numpy\nfrom .spec import Spec"),
    ],
)
def test_the_floor_check_allows(module: str, source: str) -> None:
    assert faults(module, ast.parse(source), KNOWN, VARIANTS) == []


def only_reexports(node: ast.stmt) -> bool:
    """Docstring, imports, underscored constants, and the module hooks of a lazy re-export."""
    if isinstance(node, ast.If):  # if TYPE_CHECKING:
        return (
            isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and all(map(only_reexports, node.body))
        )
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return all(isinstance(t, ast.Name) and t.id.startswith("_") for t in targets)
    if isinstance(node, ast.FunctionDef):
        return node.name in ("__getattr__", "__dir__")
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def test_contributing_has_the_floors() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| (.*?) \|", page, re.MULTILINE)
    found = {int(number): tuple(re.findall(r"`(\w+)`", rooms)) for number, rooms in rows}
    assert found == {level: tuple(n for n in names if n != "__main__") for level, names in enumerate(FLOORS)}
    beside = re.search(r"^\| beside \| (.*?) \|", page, re.MULTILINE)
    assert beside and tuple(re.findall(r"`(\w+)`", beside[1])) == BESIDE


def test_contributing_names_what_ci_installs() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    words = re.findall(r'APT="(?:\$APT )?([^"]+)"', ci)
    packages = " ".join(words).split()
    page = re.sub(r"```.*?```", "", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    told = {word for span in re.findall(r"`([^`]+)`", page) for word in span.split()}
    assert len(packages) > 10 and not [name for name in packages if name not in told]


def test_the_runtime_needs_no_torch() -> None:
    """Its imports are relative, Python's own, and numpy: the same files are a package without the rest."""
    allowed, found = {*sys.stdlib_module_names, "numpy"}, []
    for name, path in SOURCES.items():
        if unit_of(name) in BESIDE:
            for node in ast.walk(parsed(path)):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    modules = [node.module or ""]
                found += [f"{name} imports {m}" for m in modules if m.partition(".")[0] not in allowed]
    assert not found


def test_every_room_says_in_one_sentence_what_it_is() -> None:
    for name, path in SOURCES.items():
        if path.name == "__init__.py":
            sentence = (ast.get_docstring(parsed(path)) or "").splitlines()[0]
            assert sentence.endswith(".") and len(sentence.split()) > 5, f"{name}: {sentence!r}"


def test_the_readme_says_where_things_go() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8").split("## Where does it go?")[1].split("\n## ")[0]
    named = set(re.findall(r"`(?:src/bitspike/)?([\w/]+)`", page))
    lost = [name for name in named if not ((PACKAGE / name).is_dir() or (ROOT / name).is_dir())]
    assert not lost
    rooms = {unit_of(name) for name, path in SOURCES.items() if path.name == "__init__.py"} - {"", "testing", "graph"}
    assert rooms <= {name.partition("/")[0] for name in named}, rooms - named


def test_init_files_only_reexport() -> None:
    inits = [path for path in SOURCES.values() if path.name == "__init__.py"]
    found = [
        f"{path.relative_to(ROOT)}:{n.lineno}" for path in inits for n in parsed(path).body if not only_reexports(n)
    ]
    assert inits and not found, found
    bare = {str(path.parent.relative_to(ROOT)) for path in SOURCES.values()}
    bare -= {str(path.parent.relative_to(ROOT)) for path in inits}
    assert not bare, f"folders without __init__.py: {bare}"


def tracked_files(root: Path = ROOT) -> list[Path]:
    """What git tracks. A log, a note or an environment that somebody leaves in a checkout is theirs."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not run: no git checkout")
    paths = [root / name.decode() for name in done.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def test_files_that_git_does_not_track_are_left_alone(tmp_path: Path) -> None:
    for command in (["init", "-q"], ["add", "own.py"]):
        (tmp_path / "own.py").write_text("pass\n", encoding="utf-8")
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "left.log").write_text("/" + "home/me/x\n", encoding="utf-8")
    assert tracked_files(tmp_path) == [tmp_path / "own.py"]


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_file_sizes() -> None:
    code = [path for path in tracked_files() if path.suffix in (".py", ".c", ".cpp", ".h", ".cu")]
    long = {str(path.relative_to(ROOT)): line_count(path) for path in code if line_count(path) > MAX_LINES}
    assert not long, f"over {MAX_LINES} lines: {long}"
    median = statistics.median(line_count(path) for path in SOURCES.values() if path.name != "__init__.py")
    assert median <= MAX_MEDIAN, f"median source file has {median} lines"


def test_import_is_light() -> None:
    """``import bitspike`` loads no optional package and touches no device."""
    code = f"""
import sys, bitspike
print([name for name in {OPTIONAL!r} if name in sys.modules])
torch = sys.modules.get("torch")
print(bool(torch and torch.cuda.is_initialized()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "False"]


# Written in pieces, so that this file passes its own check.
MACHINE_PATH = r"(?<![\w.~)}$*-])/" + r"(?:(?:work|root|opt|mnt|srv|tmp)|(?:home|Users)/\w+)/" + r"|[A-Z]:\\" + "Users"
HOSTS = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "deb." + "debian", "crates" + ".io")
HOSTS += ("download.pytorch" + ".org", "anaconda" + ".org", "proxy.golang" + ".org")
LOCAL = re.compile("|".join([MACHINE_PATH, *map(re.escape, HOSTS)]))


@pytest.mark.parametrize("text", ["/" + "home/me/x", "cd '/" + "tmp/x'", "file:///" + "opt/x", "https://" + HOSTS[0]])
def test_the_text_check_finds(text: str) -> None:
    assert LOCAL.search(text)


@pytest.mark.parametrize(
    "text", ["#!/usr/bin/env bash", "docs/tmp/x", "$VENV/opt/x", "a host/home page", "/proc/cpuinfo"]
)
def test_the_text_check_allows(text: str) -> None:
    assert not LOCAL.search(text)


def test_text_names_no_machine_and_no_registry() -> None:
    found = []
    for path in tracked_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # binary
        found += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if LOCAL.search(line)]
    assert not found, found


def test_star_imports_hide_no_builtin() -> None:
    """``from bitspike import *`` once replaced ``compile``."""
    for path in (path for path in SOURCES.values() if path.name == "__init__.py"):
        assigned = [n for n in parsed(path).body if isinstance(n, ast.Assign)]
        names = [name for n in assigned if ast.unparse(n.targets[0]) == "__all__" for name in ast.literal_eval(n.value)]
        assert not set(names) & set(dir(builtins)), path
    given: dict[str, object] = {}
    exec("from bitspike import *", given)
    assert "compile" not in given and "fold" in given
    assert "compile" in dir(bitspike) and callable(bitspike.compile)
