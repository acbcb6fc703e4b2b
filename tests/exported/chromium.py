"""A headless Chromium, driven through its own protocol over two pipes: nothing to install beside the browser."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--no-sandbox", "--no-first-run", "--disable-gpu"),
    *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)
_LIMIT_S = 60.0


class Tab:
    """One page.

    Attributes:
        said: what it wrote to the console, errors of scripts, and what a policy has stopped.
        asked: every address that it has asked for.
    """

    def __init__(self, browser: Browser, size: tuple[int, int], phone: bool, dark: bool, still: bool) -> None:
        self.browser, self.said, self.asked = browser, list[str](), list[str]()
        target = browser.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attach = {"targetId": target, "flatten": True}
        self.session = browser.call("Target.attachToTarget", attach)["sessionId"]
        browser.tabs[self.session] = self
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        width, height = size
        shape = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", shape)
        if phone:
            self.call("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
        features = {"prefers-color-scheme": "dark" if dark else "light"}
        features["prefers-reduced-motion"] = "reduce" if still else "no-preference"
        given = [{"name": name, "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", {"features": given})

    def call(self, method: str, values: Any = None) -> Any:
        return self.browser.call(method, values or {}, self.session)

    def open(self, path: Path, ready: str) -> None:
        self.go(path.as_uri(), ready)

    def go(self, address: str, ready: str) -> None:
        self.call("Page.navigate", {"url": address})
        self.wait(ready)

    def js(self, text: str) -> Any:
        """The value of an expression, promises awaited."""
        given = {"expression": text, "awaitPromise": True, "returnByValue": True}
        found = self.call("Runtime.evaluate", given)
        assert "exceptionDetails" not in found, (text, found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, text: str) -> None:
        """Until an expression is true."""
        end = time.monotonic() + _LIMIT_S
        while not self.js(f"!!({text})"):
            assert time.monotonic() < end, f"never true: {text}; {self.said}"
            time.sleep(0.02)

    def mouse(self, kind: str, x: float, y: float) -> None:
        down = {"button": "left", "buttons": 0 if kind == "mouseReleased" else 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **down})

    def drag(self, places: list[tuple[float, float]]) -> None:
        self.mouse("mousePressed", *places[0])
        for place in places[1:]:
            self.mouse("mouseMoved", *place)
        self.mouse("mouseReleased", *places[-1])

    def touch(self, places: list[tuple[float, float]]) -> None:
        """One finger along these places."""
        for number, (x, y) in enumerate(places):
            kind = "touchMove" if number else "touchStart"
            self.call("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        self.call("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def key(self, name: str, shift: bool = False, ctrl: bool = False) -> None:
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9, "Enter": 13, "Delete": 46}
        given: dict[str, Any] = {"key": name, "modifiers": 8 * shift + 2 * ctrl}
        given["windowsVirtualKeyCode"] = codes.get(name) or ord(name.upper())
        given["code"] = name if name in codes else "Space" if name == " " else f"Key{name.upper()}"
        text = {"Enter": "\r"}.get(name, "" if name in codes or ctrl else name)
        self.call("Input.dispatchKeyEvent", {"type": "keyDown" if text else "rawKeyDown", "text": text, **given})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **given})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def heard(self, event: Any) -> None:
        method, given = event["method"], event["params"]
        if method == "Runtime.consoleAPICalled":
            self.said.append(f"{given['type']}: {[part.get('value') for part in given['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(given["exceptionDetails"].get("exception", given["exceptionDetails"])))
        elif method == "Log.entryAdded":
            self.said.append(given["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.asked.append(given["request"]["url"])


class Browser:
    """The process, its two pipes, its tabs."""

    def __init__(self, folder: Path) -> None:
        assert BROWSER is not None
        out, commands = os.pipe()
        answers, back = os.pipe()
        arguments = [BROWSER, *_FLAGS, f"--user-data-dir={folder}"]
        shell = ["bash", "-c", f'exec "$@" 3<&{out} 4>&{back} {out}<&- {back}>&-', "bash", *arguments]
        self._log = open(folder / "log", "wb")  # noqa: SIM115
        self.process = subprocess.Popen(shell, pass_fds=(out, back), stdout=self._log, stderr=self._log)
        for end in (out, back):
            os.close(end)
        self._commands, self._answers = commands, answers
        self._left, self._number = b"", 0
        self.tabs: dict[str, Tab] = {}

    def call(self, method: str, values: Any, session: str = "") -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        os.write(self._commands, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            found = self._read()
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                return found["result"]
            if found.get("sessionId") in self.tabs:
                self.tabs[found["sessionId"]].heard(found)

    def _read(self) -> Any:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._answers], [], [], _LIMIT_S)
            part = os.read(self._answers, 2**20) if ready else b""
            assert part, f"the browser is silent; its log: {Path(self._log.name).read_text(errors='replace')[-2000:]}"
            self._left += part
        text, _, self._left = self._left.partition(b"\0")
        return json.loads(text)

    @contextmanager
    def tab(self, size: tuple[int, int], phone: bool = False, dark: bool = False, still: bool = False) -> Iterator[Tab]:
        """A page of that size, which is closed in the end."""
        made = Tab(self, size, phone, dark, still)
        try:
            yield made
        finally:
            made.call("Page.close")
            del self.tabs[made.session]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        for end in (self._commands, self._answers):
            os.close(end)
        self._log.close()
