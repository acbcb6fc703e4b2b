"""Queues on a Ray cluster of two local machines: the results of one process, also where a machine is lost mid-job."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bitspike.cli import main
from bitspike.commands import study_ray
from bitspike.commands.study import run_queue
from bitspike.training.study import read_study

QUEUE = """
name = "tiny"
out = "out"
seeds = [0]
[base]
name = "tiny"
neuron = {name = "lif"}
weight = {name = "float"}
model = {name = "mlp", T = 2, options = {hidden = [16]}}
data = {batch_size = 64}
train = {epochs = EPOCHS, threads = 1}
[[arms]]
name = "float"
[[arms]]
name = "bits"
set = {"weight.name" = "uniform", "weight.bits" = 4}
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two machines of one core beside a head without any."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    found.machines = [found.add_node(num_cpus=1), found.add_node(num_cpus=1)]
    found.wait_for_nodes()
    yield found
    ray.shutdown()
    found.shutdown()


def queue(folder: Path, epochs: int) -> Path:
    path = folder / "queue.toml"
    path.write_text(QUEUE.replace("EPOCHS", str(epochs)))
    return path


def figures(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text())
        result = {k: v for k, v in document["result"].items() if not k.endswith("_s")}
        for record in result["history"]:
            record.pop("time_s")
        found[path.stem] = document["key"], result
    return found


@pytest.mark.slow
def test_a_cluster_gives_what_one_process_gives(tmp_path: Path, cluster: Any) -> None:
    path = queue(tmp_path, 2)
    main(["study", str(path), "--out", str(tmp_path / "alone"), "--quiet"])
    given = ["--ray", cluster.address, "--runs", str(tmp_path / "runs"), "--quiet"]
    main(["study", str(path), "--out", str(tmp_path / "many"), *given])
    assert len(figures(tmp_path / "alone")) == 2
    assert figures(tmp_path / "alone") == figures(tmp_path / "many")
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"float-seed0", "bits-seed0"}
    assert not list((tmp_path / "many").glob(".ray-*")) and not list((tmp_path / "many").glob(".cut/*"))


@pytest.mark.slow
def test_a_machine_that_is_lost_mid_job_changes_nothing(tmp_path: Path, cluster: Any) -> None:
    """Its job goes on from its checkpoint on the other machine."""
    path = queue(tmp_path, 20)
    main(["study", str(path), "--out", str(tmp_path / "alone"), "--quiet"])
    lines: list[str] = []
    cut = tmp_path / "many" / ".cut"

    def lose() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(list(cut.glob("*/*.safetensors"))) < 2:
            time.sleep(0.02)
        lines.append(f"lost with {len(list(cut.glob('*/*.safetensors')))} checkpoints")
        cluster.remove_node(cluster.machines[0], allow_graceful=False)

    thread = Thread(target=lose)
    thread.start()
    study = replace(read_study(str(path)), out=tmp_path / "many")
    outcome = run_queue(study, (0, 1), True, ray=cluster.address)
    thread.join()
    assert lines and int(lines[0].split()[2]) >= 2
    assert len(outcome.written) == 2 and not outcome.interrupted
    assert figures(tmp_path / "alone") == figures(tmp_path / "many")


def test_what_is_done_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = queue(tmp_path, 1)
    main(["study", str(path), "--out", str(tmp_path / "out"), "--quiet"])
    monkeypatch.setattr(study_ray, "_connect", lambda *_: pytest.fail("nothing is left to run"))
    main(["study", str(path), "--out", str(tmp_path / "out"), "--ray", "auto", "--quiet"])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "somewhere", "ray://:7", "host:port"])
def test_no_cluster_at_an_address_is_said(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    path = queue(tmp_path, 1)
    with pytest.raises(SystemExit) as caught:
        main(["study", str(path), "--out", str(tmp_path / "out"), "--ray", address, "--quiet"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "--ray" in said and address in said
