"""What MkDocs adds to docs/: API pages from the public names, two pages of the root, notebooks, links of words.

MkDocs imports this file (``hooks`` of mkdocs.yml) and calls the functions ``on_…``.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "bitspike"

# Section of the API → its modules, in the order of the floors, as a reader needs them.
API: dict[str, tuple[str, ...]] = {
    "Overview": ("bitspike", "bitspike.formats", "bitspike.checked", "bitspike.observe"),
    "Spikes and weights": ("bitspike.neurons", "bitspike.quantizers"),
    "Functions": ("bitspike.functional", "bitspike.functional.surrogates", "bitspike.ops"),
    "Networks": (
        *("bitspike.layers", "bitspike.layers.attention", "bitspike.layers.encoders"),
        *("bitspike.models", "bitspike.graph", "bitspike.upgrade"),
    ),
    "Data": ("bitspike.data", "bitspike.data.events", "bitspike.data.events.live", "bitspike.data.sound"),
    "Training": (
        *("bitspike.training", "bitspike.training.losses", "bitspike.training.measures"),
        *("bitspike.allocation", "bitspike.hub", "bitspike.sklearn"),
    ),
    "Fold and count": ("bitspike.fold", "bitspike.cost", "bitspike.ann2snn", "bitspike.stream"),
    "Programs": (
        *("bitspike.lower", "bitspike.runtime", "bitspike.runtime.ops", "bitspike.runtime.engine"),
        *(
            "bitspike.runtime.zoo",
            "bitspike.export",
            "bitspike.export.c",
            "bitspike.export.nir",
            "bitspike.export.onnx",
        ),
        *("bitspike.export.page", "bitspike.export.qonnx", "bitspike.export.wasm"),
    ),
    "Reports and checks": ("bitspike.report", "bitspike.report.spikes", "bitspike.testing", "bitspike.commands"),
}
ROOT_PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
# What `import *` leaves out although it is public: it would hide Python's own name.
BESIDE_ALL = {"bitspike": ("compile",), "bitspike.lower": ("compile",)}


@functools.cache
def source_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def public_names(module: str) -> list[str]:
    """`__all__` of a module, read without importing it; without one, what it defines and does not hide."""
    body = parsed(source_of(module)).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            return sorted({*names, *BESIDE_ALL.get(module, ())}, key=lambda name: (name.isupper(), name.lower()))
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in body if isinstance(node, defined) and not node.name.startswith("_")]


def page_of(module: str) -> str:
    return f"api/{module}.md"


def modules() -> list[str]:
    return [module for group in API.values() for module in group]


@functools.cache
def defined_in(module: str, name: str) -> tuple[str, str]:
    """Where a name is defined: re-exports are followed."""
    path = source_of(module)
    if not path.is_file():
        return module, name
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in parsed(path).body:
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if (alias.asname or alias.name) == name:
                above = package.rsplit(".", node.level - 1)[0] if node.level else ""
                base = ".".join(part for part in (above, node.module) if part)
                inner = f"{base}.{alias.name}"
                if source_of(inner).is_file() and base == "bitspike":
                    return inner, ""
                return defined_in(base, alias.name)
    return module, name


def full_name(module: str, name: str) -> str:
    """The name by which Griffe finds it. Where a file has the name of what it defines, the file hides it."""
    spelled = f"{module}.{name}"
    if name in BESIDE_ALL.get(module, ()):
        return "bitspike.lower.compiling.compile"
    return ".".join(defined_in(module, name)) if source_of(spelled).is_file() else spelled


def homes() -> dict[tuple[str, str], str]:
    """(file, name) → the page that documents it: of those that export it, the one that lies closest."""
    found: dict[tuple[str, str], str] = {}
    for module in sorted(modules(), key=lambda module: (-module.count("."), module == "bitspike")):
        for name in public_names(module):
            where = defined_in(module, name)
            best = found.get(where)
            if best is None or (where[0].startswith(module) and not where[0].startswith(best)):
                found[where] = module
    return found


def api_page(module: str, home: dict[tuple[str, str], str]) -> str:
    """The text of a module's page: what it is for, then every public name. What another page has is a link."""
    said = ast.get_docstring(parsed(source_of(module))) or ""
    parts, links = [], []
    for name in public_names(module):
        where = (
            ("bitspike.lower.compiling", "compile") if name in BESIDE_ALL.get(module, ()) else defined_in(module, name)
        )
        if where[1] == "":  # a module
            links.append(f"| `{name}` | module [{where[0]}]({where[0]}.md) |")
        elif home.get(where, module) != module or (module == "bitspike" and name == "compile"):
            there = home.get(where, "bitspike.lower")
            links.append(f"| `{name}` | [{there}.{name}]({there}.md#{full_name(there, name)}) |")
        else:
            parts.append(f"::: {full_name(module, name)}")
    table = ["| name | described in |\n| --- | --- |\n" + "\n".join(links)] if links else []
    return "\n\n".join([f"# {module}", said, *table, *parts]) + "\n"


def api_index() -> str:
    lines = ["# API", "Every public name, from its docstring. What starts with `_` may change without a notice."]
    for group, names in API.items():
        lines.append(f"## {group}")
        rows = ["| module | holds |", "| --- | --- |"]
        for module in names:
            said = ast.get_docstring(parsed(source_of(module))) or ""
            rows.append(f"| [`{module}`]({module}.md) | {said.splitlines()[0]} |")
        lines.append("\n".join(rows))
    return "\n\n".join(lines) + "\n"


def notebooks() -> list[str]:
    """Notebooks that are there, by number."""
    return sorted(path.name for path in (ROOT / "docs" / "tutorials").glob("*.ipynb"))


def on_config(config: Any) -> Any:
    """Fills the navigation."""
    for entry in config.nav:
        if "Tutorials" in entry:
            entry["Tutorials"][1:1] = [f"tutorials/{name}" for name in notebooks()]
        if "API" in entry:
            entry["API"] = ["api/index.md", *({group: [page_of(m) for m in names]} for group, names in API.items())]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made."""
    from mkdocs.structure.files import File

    home = homes()
    made = {page_of(module): api_page(module, home) for module in modules()} | {"api/index.md": api_index()}
    for page, name in ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        made[page] = re.sub(r"\]\(docs/", "](", text)
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that leave docs/ and words of the glossary."""
    path = page.file.src_uri
    if path.startswith("api/"):
        return markdown
    text = outside(markdown)
    if path == "tutorials/index.md":
        text = without_missing(text)
    return text if path in PLAIN else linked(text, terms(), "../" * path.count("/"))


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Cells that hold a sentence get room, so that a wide table scrolls instead of standing in columns of one word.

    Links of notebooks, which MkDocs does not see, lead to pages.
    """

    def marked(match: re.Match[str]) -> str:
        words = re.sub(r"<[^>]+>", "", match[2])
        return f'<td class="long"{match[1]}>{match[2]}</td>' if len(words) > 40 else match[0]

    if page.file.src_uri.endswith(".ipynb"):
        html = re.sub(r'href="((?:\.\./)?[\w.-]+)\.(?:ipynb|md)([#"])', r'href="\1.html\2', html)
    return re.sub(r"<td((?: style=\"[^\"]*\")?)>(.*?)</td>", marked, html, flags=re.DOTALL)


OUTSIDE = {"../README.md": "index.md", "../CONTRIBUTING.md": "contributing.md", "../CHANGELOG.md": "changelog.md"}
# Pages that explain words themselves, or are lists.
PLAIN = ("glossary.md", "changelog.md", "cli.md", "contributing.md", "log.md")


def outside(markdown: str) -> str:
    """Files of the repository that are no pages are named instead of linked."""

    def told(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        if target in OUTSIDE:
            return f"[{text}]({OUTSIDE[target]})"
        return f"{text} (`{target.removeprefix('../')}`)"

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]+)\)", told, markdown)


def without_missing(markdown: str) -> str:
    """Notebooks that are not written yet are named without a link."""
    there = notebooks()
    return re.sub(r"\[([^\]]+)\]\((\w+\.ipynb)\)", lambda m: m[0] if m[2] in there else m[1], markdown)


def terms() -> dict[str, str]:
    """Spelling → anchor: the headings of the glossary, and what its lines "Also:" name."""
    found = {}
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    for heading, body in re.findall(r"^## ([^\n]+)\n\n(.*?)(?=\n## |\Z)", text, re.DOTALL | re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        also = re.search(r"^Also: (.*)\.$", body, re.MULTILINE)
        for word in [*heading.split(", "), *(also[1].split(", ") if also else ())]:
            found[word] = anchor
    return found


# Too common, or too short, to be linked wherever they stand.
UNLINKED = {"T", "level", "levels", "bits", "program", "programs", "network", "rate", "flip", "role", "policy", "arm"}
# Where a word is no prose: fenced and indented code, tables, headings, markup.
KEPT = re.compile(
    r"^```.*?^```$|^(?:    |\||#|<|!|\$).*?$|`[^`\n]*`|!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>", re.DOTALL | re.MULTILINE
)


def linked(markdown: str, words: dict[str, str], up: str = "") -> str:
    """The first use of each term in prose becomes a link to the glossary, unless a link by hand stands before it."""
    usable = sorted((word for word in words if word not in UNLINKED), key=len, reverse=True)
    pattern = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, usable)) + r")(?![\w-])")
    seen: set[str] = set()

    def link(match: re.Match[str]) -> str:
        anchor = words[match[1]]
        if anchor in seen:
            return match[0]
        seen.add(anchor)
        return f"[{match[1]}]({up}glossary.md#{anchor}){{ .term }}"

    parts, end = [], 0
    for kept in KEPT.finditer(markdown):
        before = pattern.sub(link, markdown[end : kept.start()])
        seen.update(re.findall(r"\]\((?:\.\./)*glossary\.md#([\w-]+)\)", kept[0]))  # by hand, also within tables
        parts += [before, kept[0]]
        end = kept.end()
    return "".join([*parts, pattern.sub(link, markdown[end:])])
