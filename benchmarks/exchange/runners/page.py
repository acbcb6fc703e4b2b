"""The page in a headless Chromium: strokes are drawn, and its integers compared on the input that it says it has."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from cases import Case, NotRun, Ran

from bitspike.runtime import Program
from exported.chromium import BROWSER, Browser
from exported.modules import LACKING

STROKES = 8
READY = "document.documentElement?.dataset.ready === 'yes'"
WAIT = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
SHOWN = """(() => { const list = document.getElementById("classes"); return JSON.stringify({
  input: list.dataset.input, levels: [...list.children].map((row) => row.dataset.level) }); })()"""


def run(case: Case, work: Path, venvs: Path) -> list[Ran]:
    """After every stroke of a pen the numbers of all classes."""
    path = case.export("page", work / "net.html").files[0]
    if BROWSER is None or LACKING:
        raise NotRun(f"there is no {LACKING or 'chromium'}")
    plain = Program(case.program.spec, engine="interpreter")
    random, compared, differ = np.random.default_rng(0), 0, 0
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]  # the browser's pipes become 3 and 4, so none is yet
    browser = Browser(work)
    try:
        with browser.tab((1200, 800)) as tab:
            tab.open(path, READY)
            for _ in range(STROKES):
                x, y, width, height = tab.js(
                    "(({ x, y, width, height }) => [x, y, width, height])"
                    "(document.querySelector('#pad').getBoundingClientRect())"
                )
                places = random.uniform(0.05, 0.95, (5, 2))
                tab.drag([(x + a * width, y + b * height) for a, b in places.tolist()])
                tab.js(WAIT)
                shown = json.loads(tab.js(SHOWN))
                sample = np.array([int(k) for k in shown["input"].split()]).reshape(plain.spec.input.value.shape)
                wanted = plain(sample).levels[0]
                found = np.array([int(k) for k in shown["levels"]])
                compared, differ = compared + wanted.size, differ + int((found != wanted).sum())
    finally:
        browser.close()
        for file in held:
            os.close(file)
    return [Ran("Chromium", compared, differ)]
