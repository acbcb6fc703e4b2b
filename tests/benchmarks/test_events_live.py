"""The example of a live source: a recording, or a socket, through a program in a file."""

from __future__ import annotations

import importlib.util
import re
import threading
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import bitspike
from bitspike.data.events import recording, replay, send_events
from bitspike.layers import Flatten, Linear, MeanReadout
from bitspike.neurons import LIF
from bitspike.runtime import save

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "events" / "live.py"


@pytest.fixture
def live() -> ModuleType:
    spec = importlib.util.spec_from_file_location("live_example", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    net = torch.nn.Sequential(Flatten(), Linear(24, 8), LIF(), Linear(8, 3), MeanReadout()).eval()
    x = torch.randint(0, 3, (10, 2, 2, 3, 4)).float()
    save(bitspike.compile(bitspike.fold(net, x), [x]), tmp_path / "live.bitspike")
    return tmp_path / "live.bitspike"


def test_the_example_runs_on_a_file_and_on_a_socket(
    live: ModuleType, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    t, x, y, p = (rng.integers(0, most, 200) for most in (20_000, 4, 3, 2))
    t = np.sort(t) + 10**12
    np.savez(tmp_path / "events.npz", t=t, x=x, y=y, p=p)
    common = ["--model", str(model), "--size", "3", "4", "--restart", "7"]
    live.main([str(tmp_path / "events.npz"), *common, "--speed", "100"])
    told = capsys.readouterr().out
    lines = [line for line in told.splitlines() if " s  " in line]
    assert len(lines) == (t[-1] - t[0]) // 1000 + 1 and "99 of 100" in told

    senders = []

    class Listener(live.EventListener):  # type: ignore[name-defined,misc]
        def __init__(self, port: int) -> None:
            super().__init__(port)
            events = recording("toy", t, x, y, p, (3, 4))
            senders.append(threading.Thread(target=send_events, args=(self.port, replay(events, None))))
            senders[0].start()

    monkeypatch.setattr(live, "EventListener", Listener)
    live.main(["--port", "0", *common])
    senders[0].join(5.0)
    again = [line for line in capsys.readouterr().out.splitlines() if " s  " in line]
    cut = re.compile(r" +[\d.]+ ms$")
    assert [cut.sub("", line) for line in again] == [cut.sub("", line) for line in lines]
    for wrong in (common, ["--port", "0"]):
        with pytest.raises(SystemExit):
            live.main(wrong)


@pytest.mark.slow
def test_the_example_without_files_sees_which_way_bars_move(
    live: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    begin = time.process_time()
    live.main(["--speed", "20"])
    assert time.process_time() - begin < 10
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if " s  " in line]
    assert len(lines) == 200 and all(float(line[3]) >= 0 for line in lines)
    truth = ("left", "right", "right", "left", "right")
    seen = [line[2] == truth[k // 40] for k, line in enumerate(lines) if k % 20 >= 9]  # 0.1 s after a new begin
    assert sum(seen) > 0.9 * len(seen)
