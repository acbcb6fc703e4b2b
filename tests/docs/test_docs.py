"""The pages run: Python blocks are executed, recipes and queues read, tables compared with the code, links followed."""

from __future__ import annotations

import dataclasses
import doctest
import inspect
import json
import re
import sys
import types
from pathlib import Path

import pytest
import torch

from bitspike.cli import COMMANDS, main
from bitspike.data import DATASETS, SequenceSet, load
from bitspike.files import parse_toml, read_json
from bitspike.functional import SURROGATES
from bitspike.layers import ENCODERS
from bitspike.models import MODELS
from bitspike.neurons import NEURONS
from bitspike.quantizers import QUANTIZERS
from bitspike.registry import Registry
from bitspike.schema import to_mapping
from bitspike.training.build import build_model
from bitspike.training.losses import LABEL_LOSSES, LOSSES, REGRESSION_LOSSES
from bitspike.training.measures import MEASURES
from bitspike.training.recipe import Recipe, recipe_from_mapping
from bitspike.training.study import Study, plan, read_study

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
REGISTRIES: tuple[Registry, ...] = (NEURONS, QUANTIZERS, SURROGATES, MODELS, ENCODERS, DATASETS, LOSSES)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SAME_TEXT = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line of the page it starts on, and whether it follows another."""

    language: str
    text: str
    line: int
    follows: bool


def blocks(page: str) -> list[Block]:
    found, end = [], 0
    for match in FENCE.finditer(page):
        follows = bool(found) and not page[end : match.start()].strip()
        found.append(Block(match[1], match[2], page.count("\n", 0, match.start(2)), follows))
        end = match.end()
    return found


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the body of the table that begins with this header line."""
    table = page.split(f"\n{heading}", 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


def own(registry: Registry) -> list[tuple[str, type]]:
    """The library's entries, without what other tests may have registered."""
    return [(name, entry) for name, entry in registry.items() if entry.__module__.startswith("bitspike.")]


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if "```python" in page])
def test_python_blocks_run(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for registry in REGISTRIES:  # what a page registers is gone after it
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    module = types.ModuleType(f"docs_{Path(name).stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # so that its classes can be pickled
    printed, before = "", ""
    with torch.random.fork_rng(devices=[]):
        for block in blocks(PAGES[name]):
            if block.language == "python":
                exec(compile("\n" * block.line + block.text, str(DOCS / name), "exec"), module.__dict__)
                printed = capsys.readouterr().out
            elif block.language == "text" and block.follows and before == "python":  # what else prints has its own test
                assert doctest.OutputChecker().check_output(block.text, printed, SAME_TEXT), f"line {block.line}"
            before = block.language


def test_recipes_and_queues_are_read(tmp_path: Path) -> None:
    texts = [block.text for page in PAGES.values() for block in blocks(page) if block.language == "toml"]
    queues = [text for text in texts if "arms" in parse_toml(text, "docs")]
    recipes = [recipe_from_mapping(parse_toml(text, "docs"), "docs") for text in texts if text not in queues]
    assert recipes and queues
    (tmp_path / "ternary.toml").write_text(texts[0], encoding="utf-8")
    for text in queues:
        (tmp_path / "queue.toml").write_text(text, encoding="utf-8")
        recipes += [job.recipe for job in plan(read_study(tmp_path / "queue.toml"))]
    train = load("digits").train
    timed = {name for name, cls in own(ENCODERS) if cls.sequences}
    for recipe in recipes:
        events = recipe.model.name == "vggsnn"
        given = train if recipe.model.options.get("stem_stride") == 1 else _larger(train)
        build_model(
            recipe,
            _sequences(_larger(train, 12) if events else train, recipe.model.T)
            if recipe.model.encoder in timed
            else given,
        )


def _sequences(data, T):
    """Digits as frames [T, C, H, W]."""
    frames = data.images.unsqueeze(1).expand(-1, T, -1, -1, -1).contiguous()
    return SequenceSet(frames, data.labels, data.classes, "digits/train", data.top)


def _larger(data, border=10):
    """Digits in 28×28, for recipes that keep the default stride, or with another border."""
    return dataclasses.replace(data, images=torch.nn.functional.pad(data.images, [border] * 4))


def test_every_recipe_key_is_documented() -> None:
    recipe = Recipe(name="a", neuron={"name": "lif"}, weight={"name": "float"})  # type: ignore[arg-type]
    wanted: dict[str, object] = {}
    for key, value in to_mapping(recipe).items():
        wanted |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    required = {"name", "neuron.name", "weight.name"}
    tables = rows(PAGES["recipes.md"], "| key | default | meaning |")
    found = {row[0].strip("`"): row[1] for row in tables}
    assert list(found) == list(wanted)
    builders = next(row[2] for row in tables if row[0] == "`model.name`")
    assert re.findall(r'"(\w+)"', builders) == [name for name, _ in own(MODELS)]
    sets = next(row[2] for row in tables if row[0] == "`data.name`")
    assert set(re.findall(r'"(\w+)[":]', sets)) == {name for name, _ in own(DATASETS)}
    losses = next(row[2] for row in tables if row[0] == "`train.loss`")
    assert {name for table in (LOSSES, REGRESSION_LOSSES, LABEL_LOSSES) for name, _ in own(table)} <= set(
        re.findall(r'"(\w+)"', losses)
    )
    metrics = next(row[2] for row in tables if row[0] == "`train.metric`")
    assert set(re.findall(r'"(\w+)"', metrics)) == {name for name, _ in own(MEASURES)}
    encoders = next(row[2] for row in tables if row[0] == "`model.encoder`")
    assert set(re.findall(r'"(\w+)"', encoders)) == {name for name, _ in own(ENCODERS)}
    options = next(row[2] for row in tables if row[0] == "`model.encoder_options`")
    taken = {name for _, entry in own(ENCODERS) for name in inspect.signature(entry).parameters} - {"T"}
    assert set(re.findall(r"`(\w+)`", options)) == taken
    for key, value in wanted.items():
        shown = "required" if key in required else "none" if value is None else f"`{json.dumps(value)}`"
        assert found[key] == shown, key


def test_every_queue_key_is_documented() -> None:
    page = PAGES["recipes.md"].split("## A study queue")[1]
    found = {row[0].strip("`"): row[1] for row in rows(page, "| key | default | meaning |")}
    fields = {f.name: f.default for f in dataclasses.fields(Study) if f.name not in ("source", "base_source")}
    assert set(found) == set(fields)
    for key, default in fields.items():
        assert found[key] == ("required" if default is dataclasses.MISSING else f'`"{default}"`'), key


QUEUE = """
name = "tiny"
out = "out"
seeds = [0]
[base]
name = "tiny"
neuron = {name = "lif"}
weight = {name = "float"}
model = {name = "mlp", T = 1, options = {hidden = [8]}}
data = {batch_size = 512}
train = {epochs = 1, threads = 1}
[[arms]]
name = "a"
"""


def test_every_command_is_documented() -> None:
    table = "".join(row[0] for row in rows(PAGES["recipes.md"], "| command | does | leaves |"))
    assert re.findall(r"bitspike (\w+)", table) == list(COMMANDS)


def test_the_json_of_a_job_is_as_documented(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "queue.toml").write_text(QUEUE, encoding="utf-8")
    threads = torch.get_num_threads()
    try:
        main(["study", str(tmp_path / "queue.toml"), "--quiet", "--json", str(tmp_path / "all.json")])
    finally:
        torch.set_num_threads(threads)
    job = read_json(tmp_path / "out" / "a-seed0.json")
    assert isinstance(job, dict)
    page = PAGES["recipes.md"].split("## The JSON of a job")[1]
    for heading, mapping in (("| key | holds |", job), ("| key of `result` | holds |", job["result"])):
        documented = [name for row in rows(page, heading) for name in re.findall(r"`([^`]+)`", row[0])]
        assert sorted(documented) == sorted(mapping)
    records = {key: rest for key, rest in (row for row in rows(page, "| key of `result` | holds |"))}
    assert re.findall(r"`([^`]+)`", records["`history`"]) == list(job["result"]["history"][0])
    assert re.findall(r"`([^`]+)`", records["`rates`"]) == list(next(iter(job["result"]["rates"].values())))
    summary = read_json(tmp_path / "all.json")
    assert isinstance(summary, dict) and list(summary) == ["study", "arms", "levels"]
    assert list(summary["arms"][0]) == ["arm", "n", "missing", "metrics"]
    assert all(f"`{name}`" in page for name in summary["levels"][0]) and summary["levels"][0]["n"] == 1
    assert list(summary["arms"][0]["metrics"]["adds"]) == ["mean", "std", "n", "without"]

    with pytest.raises(SystemExit) as bad:
        main(["study", "no_such_queue"])
    assert bad.value.code == 2
    known = re.search(r"must be a file or one of (.*), got", capsys.readouterr().err)
    assert known and all(f"`{name}`" in PAGES["recipes.md"] for name in known[1].split(", "))


@pytest.mark.parametrize("page", ["equations.md", "choosing.md"])
def test_every_variant_is_named(page: str) -> None:
    for registry in (NEURONS, QUANTIZERS, SURROGATES, ENCODERS):
        for name, entry in own(registry):
            assert f"| `{name}` | `{entry.__name__}` |" in PAGES[page], f"{page}: add a row for {name}"


def test_formats_are_as_documented() -> None:
    page = PAGES["choosing.md"]
    for registry, heading in ((NEURONS, "| name | class | format |"), (QUANTIZERS, "| name | class | weights |")):
        table = {row[0].strip("`"): row[2:5] for row in rows(page, heading)}
        for name, entry in own(registry):
            record = entry().format
            assert table[name] == [record.label(), str(record.bits), f"{round(record.information_bits, 3):g}"], name


def anchors(page: str) -> set[str]:
    """What a link may name after "#": headings as GitHub spells them."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", list(PAGES))
def test_links_exist(name: str) -> None:
    text = FENCE.sub("", PAGES[name])
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:")):
            file, _, anchor = target.partition("#")
            page = DOCS / (file or name)
            assert page.exists(), target
            assert not anchor or anchor in anchors(page.read_text(encoding="utf-8")), target


def test_the_index_lists_every_page() -> None:
    table = PAGES["index.md"].split("## Every page")[1]
    listed = re.findall(r"^\| \[[^\]]+\]\(([\w.-]+)\) \|", table, re.MULTILINE)
    assert sorted([*listed, "index.md"]) == sorted(PAGES)
