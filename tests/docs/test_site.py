"""The documentation site: navigation, API pages, glossary, the first page's picture. Slow: it builds, asks nobody."""

from __future__ import annotations

import doctest
import functools
import http.server
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = tool("site_hooks")


def test_every_page_is_in_the_navigation_once() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    pages = re.findall(r"([\w./-]+\.md)$", nav, re.MULTILINE)
    assert len(pages) == len(set(pages))
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert set(pages) - set(HOOKS.ROOT_PAGES) == there


def test_every_tutorial_is_listed() -> None:
    page = (DOCS / "tutorials" / "index.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\((\w+\.ipynb)\)", page)
    assert named == sorted(set(named)) and set(HOOKS.notebooks()) <= set(named)
    assert "](no_such.ipynb)" not in HOOKS.without_missing("[a](no_such.ipynb)")


def test_notebooks_need_nothing_from_the_network() -> None:
    """Formulas between dollars and diagrams would be drawn by scripts of another host."""
    for name in HOOKS.notebooks():
        cells = json.loads((DOCS / "tutorials" / name).read_text(encoding="utf-8"))["cells"]
        words = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        assert not [text for text in words if re.search(r"\$[^$\n]+\$|```mermaid|https?://\S+\.(png|svg|jpg)", text)], (
            name
        )


def test_every_public_module_has_a_page() -> None:
    """All packages, and the files on the top of the package that define something public without being a room."""
    inside = {"recipes"}  # data alone
    package = ROOT / "src" / "bitspike"
    rooms = {p.parent for p in package.glob("*/__init__.py") if p.parent.name not in inside | {"_native"}}
    wanted = {f"bitspike.{room.name}" for room in rooms}
    assert wanted <= set(HOOKS.modules()), wanted - set(HOOKS.modules())
    assert len(HOOKS.modules()) == len(set(HOOKS.modules()))


@pytest.mark.parametrize("module", HOOKS.modules())
def test_api_pages_have_every_public_name(module: str) -> None:
    page = HOOKS.api_page(module, HOOKS.homes())
    names = HOOKS.public_names(module)
    loaded: Any = importlib.import_module(module)
    assert names and set(getattr(loaded, "__all__", ())) <= set(names)
    lines = page.splitlines()
    for name in names:
        own = [line for line in lines if line.startswith("::: ") and line.endswith(f".{name}")]
        other = [line for line in lines if line.startswith(f"| `{name}` |")]
        assert len(own) + len(other) == 1, name


def test_what_is_described_elsewhere_is_described_there() -> None:
    home = HOOKS.homes()
    pages = {module: HOOKS.api_page(module, home) for module in HOOKS.modules()}
    for page in pages.values():
        for there, anchor in re.findall(r"\]\(([\w.]+)\.md#([\w.]+)\)", page):
            assert f"::: {anchor}\n" in pages[there], (there, anchor)


def test_the_picture_is_that_of_the_results() -> None:
    command = [sys.executable, str(ROOT / "tools" / "site_picture.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*command[:2], "--chek"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--chek" in done.stderr


def test_the_first_page_says_what_the_picture_shows() -> None:
    picture = tool("site_picture")
    figures = dict(zip((arm for _, arm, *_ in picture.POINTS), picture.figures(), strict=True))
    (small, better), (large, worse) = figures["learned-4-4-2"], figures["binary"]
    assert 12.5 < large / small < 13.5 and better > worse  # "a thirteenth", "at higher accuracy"
    assert abs(figures["ann-4-8-1"][1] - better) < 0.2  # "does as well"


def test_glossary_entries_are_short() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## ([^\n]+)\n\n(.*?)(?=\n## |\Z)", text, re.DOTALL | re.MULTILINE)
    names = [name for name, _ in entries]
    assert names == sorted(names, key=str.lower) and len(names) > 30
    for name, body in entries:
        said = re.sub(r"^Also:.*$", "", body, flags=re.MULTILINE)
        assert 1 <= len(re.findall(r"[.?](?=\s|$)", said)) <= 3, name
    words = [word for name in names for word in name.split(", ")]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("We fold it, then fold again.", "We [fold](glossary.md#fold){ .term } it, then fold again."),
        ("`fold` and [fold](cost.md) and manifold", "`fold` and [fold](cost.md) and manifold"),
        ("# fold\n\n    fold\n\n| fold |", "# fold\n\n    fold\n\n| fold |"),
        ("[Fold](glossary.md#fold) and fold", "[Fold](glossary.md#fold) and fold"),
        ("| a [fold](glossary.md#fold) |\n\nfold", "| a [fold](glossary.md#fold) |\n\nfold"),
        ("```\nfold\n```\nfolded", "```\nfold\n```\n[folded](glossary.md#fold){ .term }"),
    ],
)
def test_the_first_use_of_a_word_is_linked(text: str, found: str) -> None:
    assert HOOKS.linked(text, {"fold": "fold", "folded": "fold"}) == found


def test_links_out_of_the_pages_are_told() -> None:
    assert HOOKS.outside("[rules](../CONTRIBUTING.md)") == "[rules](contributing.md)"
    assert HOOKS.outside("[how](../benchmarks/gpu/README.md)") == "how (`benchmarks/gpu/README.md`)"


def test_docstrings_become_pages() -> None:
    pytest.importorskip("griffe", reason="not run: griffe is not installed (make site installs it)")
    text = tool("site_docstrings")
    found = doctest.testmod(text)
    assert found.attempted and not found.failed
    assert text.fenced("Adds.\n\n>>> 1 + 1\n2") == "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```"
    assert text.fenced(">>> a\n1\n\nArgs:\n    b: c.") == "```pycon\n>>> a\n1\n```\n\n\nArgs:\n    b: c."
    assert text.labelled("Sums.\nSource: ours.") == "Sums.\n\n**Source:** ours."


class _Page(HTMLParser):
    """Ids, and what a page loads or links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.loads, self.links = set[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe", "source") and "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"not run: {name} is not installed (make site installs it)")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_the_site_builds_and_its_links_lead_somewhere(site: Path) -> None:
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 60
    lost = []
    for path, page in pages.items():
        lost += [f"{path.name} loads {load}" for load in page.loads if re.match(r"(https?:)?//", load)]
        for link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            there = (path.parent / target).resolve() if target else path
            if there.is_dir():
                there = there / "index.html"
            fine = there.is_file() and (not anchor or there not in pages or anchor in pages[there].ids)
            lost += [] if fine else [f"{path.relative_to(site)} → {link}"]
    assert not lost, lost[:20]


@pytest.mark.slow
@pytest.mark.parametrize("module", HOOKS.modules())
def test_the_site_has_every_public_name(site: Path, module: str) -> None:
    text = (site / "api" / f"{module}.html").read_text(encoding="utf-8")
    ids = _Page(text).ids
    for name in HOOKS.public_names(module):
        linked = f"<code>{name}</code></td>" in text
        assert linked or any(found.endswith(f".{name}") for found in ids), name
    loaded = importlib.import_module(module)
    said = inspect.getdoc(loaded)
    assert said and "&gt;&gt;&gt;</p>" not in text


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


SHOWN = ("index", "tutorials/index", "choosing", "findings", "results", "cli", "api/bitspike.neurons")


@pytest.mark.slow
def test_pages_fit_a_phone_and_a_desk_and_ask_nobody(address: str, tmp_path: Path) -> None:
    chromium = importlib.util.spec_from_file_location("site_chromium", ROOT / "tests" / "exported" / "chromium.py")
    assert chromium and chromium.loader
    driver = importlib.util.module_from_spec(chromium)
    chromium.loader.exec_module(driver)
    if driver.BROWSER is None:
        pytest.skip("not run: no chromium")
    browser = driver.Browser(tmp_path)
    try:
        for size, dark in (((390, 844), True), ((1280, 900), False)):
            with browser.tab(size, phone=size[0] == 390, dark=dark, still=True) as tab:
                for page in SHOWN:
                    tab.go(f"{address}{page}.html", "document.readyState == 'complete' && document.querySelector('h1')")
                    assert tab.js("document.documentElement.scrollWidth") <= size[0], (page, size)
                    scheme = tab.js("document.body.dataset.mdColorScheme")
                    assert scheme == ("slate" if dark else "default"), (page, scheme)
                    assert not tab.js("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"), page
                tab.go(f"{address}index.html?q=membrane", "document.querySelector('.md-search-result__item')")
                assert not [asked for asked in tab.asked if not asked.startswith((address, "data:", "blob:"))]
                assert not tab.said
    finally:
        browser.close()
