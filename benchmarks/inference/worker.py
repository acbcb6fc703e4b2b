"""One process, one runtime: reads orders, one JSON a line, and answers them.

    python worker.py PEER

"prepare" builds the network, compares its answers on the exported images, and warms up; "run" times calls in a row.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "training"))

import numpy as np  # noqa: E402
from network import samples  # noqa: E402
from workers.clock import others_s  # noqa: E402

WARM_S = 0.5


def module_of(peer: str) -> Any:
    """Of the runtime."""
    return import_module(f"peers.{peer.split('-')[0]}_")


def compared(ready: Any, data: dict[str, Any], batch: int) -> dict[str, Any]:
    """Answers on the exported images beside those of the program and of the folded float network."""
    images = data["images"]
    count = len(images) // batch * batch
    parts = [np.array(ready.call(images[i : i + batch])) for i in range(0, count, batch)]
    logits = np.concatenate(parts)
    if logits.shape != data["logits"][:count].shape or not np.isfinite(logits).all():
        raise ValueError(f"logits must be {list(data['logits'][:count].shape)} and finite, got {list(logits.shape)}")
    found: dict[str, Any] = {
        "images": count,
        "accuracy": float((logits.argmax(1) == data["labels"][:count]).mean()),
    }
    for name, wanted in (("program", data["logits"][:count]), ("folded", data["folded"][:count])):
        found[f"agreement_with_{name}"] = float((logits.argmax(1) == wanted.argmax(1)).mean())
        found[f"median_logit_difference_from_{name}"] = float(np.median(np.abs(logits - wanted)))
    return found


class Worker:
    """Holds one network."""

    def __init__(self, peer: str) -> None:
        self.peer, self.module = peer, module_of(peer)
        self.call: Any = None
        self.x: Any = None

    def hello(self, _: dict[str, Any]) -> dict[str, Any]:
        """Versions."""
        return {"versions": self.module.VERSIONS | {"python": ".".join(map(str, sys.version_info[:3]))}}

    def prepare(self, order: dict[str, Any]) -> dict[str, Any]:
        """Build, compare, warm up."""
        from peers.base import Order

        folder = Path(order["folder"])
        given = Order(folder, Path(order["cache"]), self.peer, order["batch"], order["threads"])
        data = samples(folder)
        self.x = np.ascontiguousarray(data["images"][: order["batch"]])
        begun = time.perf_counter()
        ready = self.module.ready(given, self.x)
        ready.call(self.x)
        first = time.perf_counter() - begun
        parity = compared(ready, data, order["batch"])
        self.call = ready.call
        times: list[float] = []
        until = time.perf_counter() + WARM_S
        while len(times) < 3 or time.perf_counter() < until:
            start = time.perf_counter()
            self.call(self.x)
            times.append(time.perf_counter() - start)
        facts = {**ready.facts, "exact": ready.exact, "ready_in_s": round(first, 2), "compared": parity}
        return {"facts": facts, "estimate_ms": float(np.median(times)) * 1e3}

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """As many calls in a row, after one that does not count."""
        gc.collect()
        self.call(self.x)
        others = others_s()
        start = time.perf_counter()
        for _ in range(order["n"]):
            self.call(self.x)
        wall = time.perf_counter() - start
        return {"ms": wall * 1e3 / order["n"], "wall_s": wall, "others_s": others()}


def main() -> None:
    """Answer until the driver closes the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(worker, order["do"])(order)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
