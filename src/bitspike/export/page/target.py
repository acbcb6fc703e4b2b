"""The target "page": a network, what draws for it and what shows its spikes, in one HTML file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from bitspike.checks import bad_value
from bitspike.export.page.figures import figures, layers
from bitspike.export.page.icons import PATHS, icon
from bitspike.export.page.pictures import examples, levels, unfit
from bitspike.export.target import TARGETS, Exported, Reads, Source, Target
from bitspike.export.wasm.module import Module, too_large
from bitspike.files import write_text_atomic
from bitspike.lower.targets import targets_of
from bitspike.runtime import Program

_SCRIPTS = ("picture.js", "pad.js", "answer.js", "raster.js", "page.js")
_EXPORTS = "\nexport {"
_POLICY = "default-src 'none'; img-src data:; style-src {}; script-src 'wasm-unsafe-eval' {}"


@TARGETS.register("page")
class Page(Target):
    """Draw a digit or a garment, see the prediction and the spikes of every layer."""

    reads: ClassVar[Reads] = "program"
    about = "one HTML file to draw in, which shows prediction, spikes and sizes"
    suffix = ".html"
    options: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "examples": ("auto", "pictures to choose: auto, none or an .npy file"),
        "title": ("", "heading; left out: the name of the network"),
    }

    def losses(self, source: Source, options: Mapping[str, Any]) -> list[str]:
        """Inputs that nobody can draw, and outputs that are no classes."""
        assert source.program is not None
        program = source.program
        found = [*unfit(program), *too_large(program)]
        if program.spec.outputs:
            names = ", ".join(program.spec.outputs)
            return [*found, f"outputs {names}: the page shows one class; compile graph.only(name), or take --to wasm"]
        if targets_of(program) != "classes":
            found.append(f"output: it is {targets_of(program)}, the page shows a class; train on classes")
        if not any(made.final for made in program.operations):
            found.append("output: it must be a mean over the steps, one number a class; use a mean read-out")
        elif len(program.operations[-1].written[0].shape) != 1:
            found.append("output: it must be one number a class; flatten before the read-out")
        return found

    def write(self, source: Source, path: Path, options: Mapping[str, Any]) -> Exported:
        """The file."""
        assert source.program is not None
        if path.suffix not in (".html", ".htm"):
            raise bad_value("export to page", "its file must end in .html", path.name, "rename it")
        program = source.program
        made = Module.of("export to page", program)
        pictures = examples(program, options["examples"])
        title = options["title"] or source.name
        text = page_text(title, source.name, program, made, pictures)
        write_text_atomic(path, text)
        facts = {"wasm_bytes": len(made.data), "examples": len(pictures)}
        return Exported((path,), ("open it in a browser; it needs no server and no network",), facts)


def page_text(title: str, name: str, program: Program, made: Module, pictures: list[tuple[str, Any]]) -> str:
    """The whole page."""
    side, top = program.spec.input.value.shape[-1], program.spec.info["top"]
    shown = [{"name": known, "pixels": _base64(image.tobytes())} for known, image in pictures]
    document = {
        "side": side,
        "top": top,
        "levels": levels(program),
        "figures": figures(program, len(made.data)),
        "layers": layers(program),
        "examples": shown,
        "first": min(3, len(shown) - 1),
        "wasm": _base64(made.data),
    }
    module = made.text(name, "", program)
    module = module[: module.rindex(_EXPORTS)]
    data = json.dumps(document).replace("<", "\\u003c")
    script = "\n".join([module, f"const PAGE = {data};", *map(_part, _SCRIPTS)]).replace("</", "<\\/")
    style = _part("page.css")
    parts = {
        "title": html.escape(title),
        "pad": f"Drawing pad, {side} by {side} pixels",
        "top": str(top),
        "policy": _POLICY.format(_digest(style), _digest(script)),
        "style": style,
        **{f"icon-{name}": icon(name) for name in PATHS},
        "script": script,
    }
    return re.sub("@([a-z-]+)@", lambda found: parts[found[1]], _part("page.html"))


def _digest(text: str) -> str:
    """As a policy names what it allows."""
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _part(name: str) -> str:
    return files("bitspike.export.page").joinpath(name).read_text(encoding="utf-8")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
