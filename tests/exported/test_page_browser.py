"""Pages in a headless Chromium: by mouse, touch and keys, the integers of the interpreter."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from bitspike.cli import main
from bitspike.commands.program import lowered_run
from bitspike.export import export
from bitspike.export.page.pictures import examples, levels
from bitspike.runtime import Program, save
from bitspike.training.recipe import read_recipe
from bitspike.training.runs import train_run
from exported.chromium import BROWSER, Browser, Tab
from exported.modules import interpreted, needs_compiler, needs_node, spikes
from exported.pages import plain, small

needs_browser = pytest.mark.skipif(BROWSER is None, reason="not run: there is no chromium")
DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
READY = "document.documentElement?.dataset.ready === 'yes'"
NAMED = "dataset.tool || id || ariaLabel || tagName"
SMALL = """[...document.querySelectorAll('button, input, summary')]
  .map((one) => [one.title || one.id || one.ariaLabel, one.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 40 || height < 28).map(([name]) => name)"""
DESKTOP, PHONE = (1440, 900), (390, 844)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A network for digits, trained a few seconds: a page that takes pixels, one that takes normalised numbers."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("digits")
    recipe = read_recipe("digits", ("model.options.width=8", "train.epochs=6", "data.batch_size=64"))
    recipe = replace(recipe, neuron={"name": "multibit", "m": 1, "n": 1})
    train_run(recipe, folder / "run", True)
    found: dict[str, Any] = {}
    for name, pixels in (("pixels", True), ("numbers", False)):
        program = interpreted(lowered_run(folder / "run", "final", pixels=pixels))
        found[name] = program, export(program, "page", folder / f"{name}.html", title="Digits").files[0]
    for name, program in (("signed", interpreted(small())), ("plain", interpreted(plain()))):
        found[name] = program, export(program, "page", folder / f"{name}.html").files[0]
    yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


def settled(tab: Tab) -> dict[str, Any]:
    """Everything that the page shows, once it has shown what was drawn last."""
    tab.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))")
    text = """(() => {
      const list = document.getElementById("classes");
      const rows = [...list.children];
      return JSON.stringify({
        ...list.dataset, winner: document.getElementById("winner").textContent,
        levels: rows.map((row) => row.dataset.level), names: rows.map((row) => row.querySelector(".name").textContent),
        bold: rows.findIndex((row) => row.classList.contains("best")),
        spikes: [...document.querySelectorAll(".layer")].map((row) => row.dataset.spikes),
      });
    })()"""
    found: dict[str, Any] = json.loads(tab.js(text))
    found["input"] = np.array([int(k) for k in found["input"].split()])
    return found


def holds(program: Program, shown: dict[str, Any]) -> str:
    """Check what a page shows against the interpreter on the very input it says it used; returns the class."""
    shape = program.spec.input.value.shape
    sample = shown["input"].reshape(shape)
    want = program(sample)
    assert [int(k) for k in shown["levels"]] == want.levels[0].tolist()
    assert int(shown["steps"]) == want.steps
    assert json.loads(shown["clamped"]) == {name: count for name, count in want.clamped.items() if count}
    ((name, _),) = want.top()[0]
    names = list(program.spec.classes) or [str(k) for k in range(want.levels.shape[1])]
    assert shown["names"] == names and int(shown["best"]) == names.index(name)
    fired = [" ".join(str(np.count_nonzero(row)) for row in rows) for rows in spikes(program, sample).values()]
    assert shown["spikes"] == fired
    return name


def box(tab: Tab, selector: str) -> tuple[float, float, float, float]:
    place = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
    return tuple(tab.js(f"(({{ x, y, width, height }}) => [x, y, width, height])({place})"))


def on_pad(tab: Tab, places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Places in shares of the pad → in the window."""
    x, y, width, height = box(tab, "#pad")
    return [(x + a * width, y + b * height) for a, b in places]


ONE = [(0.42, 0.2), (0.55, 0.08), (0.55, 0.92)]
ZERO = [(0.5, 0.08), (0.27, 0.3), (0.27, 0.7), (0.5, 0.92), (0.73, 0.7), (0.73, 0.3), (0.5, 0.08)]


@needs_browser
@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pixels", "numbers", "signed", "plain"])
def test_what_is_drawn_gets_the_integers_of_the_interpreter(
    kind: str, digits: dict[str, Any], browser: Browser
) -> None:
    """Examples and strokes by mouse, with every tool; nothing on the console, nothing asked for."""
    program, page = digits[kind]
    random = np.random.default_rng(1)
    with browser.tab(DESKTOP) as tab:
        tab.open(page, READY)
        holds(program, settled(tab))
        shown = tab.js("document.querySelectorAll('#examples button').length")
        assert shown == (10 if kind in ("pixels", "numbers") else 0)
        right = 0
        for k in range(shown):
            tab.js(f"document.querySelectorAll('#examples button')[{k}].click()")
            found = settled(tab)
            image = examples(program, "auto")[k][1].reshape(-1)
            assert found["input"].tolist() == np.array(levels(program))[image].tolist()
            right += holds(program, found) == found["winner"] == str(k)
        assert right >= 0.8 * shown
        top = levels(program)[-1]
        for tool, width in [("pen", 1), ("pen", 2), ("eraser", 0), ("fill", 0), ("pen", 0)]:
            tab.js(f"document.querySelector('[data-tool={tool}]').click()")
            tab.js(f"document.querySelector('[data-width=\"{width}\"]').click()")
            tab.drag(on_pad(tab, [(float(a), float(b)) for a, b in random.uniform(0.02, 0.98, (6, 2))]))
            found = settled(tab)
            assert holds(program, found) == found["winner"] and found["bold"] == int(found["best"])
            assert tool != "pen" or top in found["input"]
        tab.js("document.getElementById('clear').click()")
        tab.js(
            "document.querySelector('[data-tool=pen]').click(), document.querySelector('[data-width=\"1\"]').click()"
        )
        blank = settled(tab)
        holds(program, blank)
        assert set(blank["input"].tolist()) == {levels(program)[0]} and blank["winner"] == "–"
        if shown:
            for name, places in (("1", ONE), ("0", ZERO)):
                tab.drag(on_pad(tab, places))
                found = settled(tab)
                assert holds(program, found) == found["winner"] == name
                tab.js("document.getElementById('clear').click()")
        tab.js("document.getElementById('undo').click()")
        assert settled(tab)["input"].max() > blank["input"].max()
        tab.wait("document.getElementById('latency').textContent.includes('s')")
        assert re.fullmatch(
            r"[\d.]+ (µs|ms)( \(mean of \d+\))?\.", tab.js("document.getElementById('latency').textContent")
        )
        assert tab.said == []
        assert {re.split("[:?]", address)[0] for address in tab.asked} <= {"file", "data"}
        assert [address for address in tab.asked if address.startswith("file")] == [page.as_uri()]


@needs_browser
@needs_compiler
@pytest.mark.slow
def test_keys_alone_do_everything(digits: dict[str, Any], browser: Browser) -> None:
    program, page = digits["pixels"]
    with browser.tab(DESKTOP) as tab:
        tab.open(page, READY)
        tab.key("Tab")
        assert tab.js("document.activeElement.id") == "pad"
        tab.key("c")
        assert settled(tab)["input"].sum() == 0 and tab.js("document.getElementById('said').textContent") == "Cleared."
        want = np.zeros((8, 8), int)
        tab.key(" ")
        want[4, 4] = 16
        for name in ("ArrowUp", "ArrowUp", "ArrowLeft"):
            tab.key(name, shift=True)
        want[2:5, 4] = want[2, 3] = 16
        tab.key("ArrowDown")
        tab.key("Enter")
        want[3, 3] = 16
        for _ in range(9):
            tab.key("ArrowRight")
        tab.key(" ")
        want[3, 7] = 16
        assert (settled(tab)["input"].reshape(8, 8) == want).all()
        assert tab.js("document.getElementById('said').textContent").startswith("Row 4, column 8, ink 16 of 16.")
        tab.key("Delete")
        want[3, 7] = 0
        found = settled(tab)
        assert (found["input"].reshape(8, 8) == want).all()
        assert holds(program, found) == found["winner"]
        tab.key("z", ctrl=True)
        want[3, 7] = 16
        assert (settled(tab)["input"].reshape(8, 8) == want).all()
        tab.wait(f"document.getElementById('said').textContent.endsWith('Prediction: {found['winner']}.')")
        seen = []
        for _ in range(40):
            tab.key("Tab")
            seen.append(tab.js(f"(({{ dataset, id, ariaLabel, tagName }}) => {NAMED})(document.activeElement)"))
            outline = tab.js("getComputedStyle(document.activeElement).outlineStyle")
            if seen[-1] in ("BODY", "pad"):
                break
            assert outline == "solid", seen[-1]
            if seen[-1] == "Example: 3":
                tab.key("Enter")
                assert settled(tab)["winner"] == "3"
            if seen[-1] == "eraser":
                tab.key(" ")
                assert tab.js("document.activeElement.getAttribute('aria-pressed')") == "true"
            if seen[-1] == "SUMMARY":
                tab.key("Enter")
                assert tab.js("document.querySelector('details').open")
        assert [
            name for name in seen if name in ("pen", "eraser", "fill", "undo", "clear", "ink", "raster", "SUMMARY")
        ] == [*("pen", "eraser", "fill", "undo", "clear", "ink", "raster", "SUMMARY")]
        tree = tab.call("Accessibility.getFullAXTree")["nodes"]
        focusable = [
            n for n in tree if any(p["name"] == "focusable" and p["value"]["value"] for p in n.get("properties", ()))
        ]
        unnamed = [n for n in focusable if not n["name"]["value"]]
        assert len(focusable) > 15 and not unnamed, unnamed
        assert tab.said == []


@needs_browser
@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_a_finger_draws_on_a_phone(dark: bool, digits: dict[str, Any], browser: Browser) -> None:
    """Nothing scrolls or sticks out, prediction in sight, targets as large as a finger; dark as asked."""
    program, page = digits["pixels"]
    with browser.tab(PHONE, phone=True, dark=dark, still=True) as tab:
        tab.open(page, READY)
        tab.touch(on_pad(tab, ZERO))  # the first stroke replaces the example that the page opens with
        found = settled(tab)
        assert holds(program, found) == found["winner"] == "0"
        tab.js("document.getElementById('clear').click()")
        tab.touch(on_pad(tab, ONE))
        found = settled(tab)
        assert holds(program, found) == found["winner"] == "1"
        assert tab.js("scrollY") == 0 and tab.js("document.documentElement.scrollWidth") <= PHONE[0]
        _, y, _, height = box(tab, "#classes")
        assert y + height <= PHONE[1]
        assert tab.js(SMALL) == []
        color = tab.js("getComputedStyle(document.documentElement).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", color))) < 3 * 128) is dark
        assert tab.js("getComputedStyle(document.querySelector('.bar')).transitionDuration") in ("0s", "none")
        assert tab.said == []


@needs_browser
@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("size", [(320, 568), (844, 390), (768, 1024), (1024, 768), DESKTOP, (2560, 1440)])
def test_it_fits(size: tuple[int, int], digits: dict[str, Any], browser: Browser) -> None:
    """No window makes it stick out; a policy stops whatever would leave it."""
    for _, page in digits.values():
        with browser.tab(size) as tab:
            tab.open(page, READY)
            assert tab.js("document.documentElement.scrollWidth") <= size[0]
            x, y, width, height = box(tab, "#pad")
            assert width == pytest.approx(height) and x >= 0 and x + width <= size[0] and y + height <= size[1]
            assert tab.said == []
            tab.js("fetch('https://example.org/').catch(() => 0)")
            assert any("Content Security Policy" in text for text in tab.said)
            assert not any("example.org" in address for address in tab.asked)


@needs_browser
@needs_compiler
@pytest.mark.slow
def test_the_module_loads_in_a_browser(tmp_path: Path, browser: Browser) -> None:
    """From a server, by its default address; the integers of the interpreter, whole and streamed."""
    program = interpreted(small())
    export(program, "wasm", tmp_path / "net.wasm")
    script = """import { load } from "./net.mjs";
      const [net, x] = [await load(), Uint8Array.from({ length: 784 }, (_, i) => (i * 37) % 256)];
      const live = net.stream();
      const text = ({ levels, steps }) => [...Array.from(levels, String), steps];
      document.title = JSON.stringify([text(net.run(x)), text(live.step(x))]);"""
    (tmp_path / "index.html").write_text(f'<link rel="icon" href="data:,"><script type="module">{script}</script>')
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, browser.tab(DESKTOP) as tab:
        Thread(target=server.serve_forever, daemon=True).start()
        tab.go(f"http://127.0.0.1:{server.server_port}/index.html", "document.title.startsWith('[')")
        server.shutdown()
        assert tab.said == []
        found = json.loads(tab.js("document.title"))
    x = (np.arange(784) * 37 % 256).reshape(1, 28, 28)
    whole, first = program(x), program.stream(x[None, None])[0]
    assert found == [[*map(str, want.levels[0].tolist()), want.steps] for want in (whole, first)]


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@needs_node
@pytest.mark.slow
def test_the_walk_through_of_the_docs(
    digits: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = DEPLOY.read_text(encoding="utf-8").split("## WebAssembly and a page\n")[1].split("\n## ")[0]
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE))
    monkeypatch.chdir(tmp_path)
    Path("demo-out").mkdir()
    save(digits["pixels"][0], "demo-out/multibit.bitspike")
    for command in blocks["sh"].splitlines():
        main(shlex.split(command.removeprefix("bitspike ")))
    said = capsys.readouterr().out
    for name in ("digits.wasm", "digits.mjs", "digits.d.mts", "digits.html"):
        assert f"{name}: {Path(name).stat().st_size:,} bytes" in said
    Path("predict.mjs").write_text(blocks["js"], encoding="utf-8")
    done = subprocess.run(["node", "predict.mjs"], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == blocks["text"], done.stderr
