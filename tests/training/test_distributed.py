"""Two gloo processes equal one process on the joint batch; files are written once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bitspike.data import Batches
from bitspike.training.distributed import World
from bitspike.training.job import load_data
from bitspike.training.recipe import recipe_from_mapping
from bitspike.training.runs import open_run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def torchrun(processes: int, *command: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    line = [*launcher, f"--nproc_per_node={processes}", *command]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_processes_give_the_gradients_of_one(tmp_path: Path) -> None:
    for processes in (1, 2):
        torchrun(processes, str(HERE / "two_processes.py"), str(tmp_path))
    one, two = load_file(tmp_path / "1.safetensors"), load_file(tmp_path / "2.safetensors")
    assert one.keys() == two.keys() and len(one) > 60
    moved = max(float(value.abs().max()) for name, value in one.items() if name.endswith(".grad"))
    assert moved > 1e-3
    worst = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert worst <= 1e-10, worst


def test_a_share_of_a_batch_must_be_whole() -> None:
    with pytest.raises(ValueError, match="multiple of the 3 processes"):
        World(0, 3).share(64)


def test_shares_make_up_the_batch_of_one_process() -> None:
    data = load_data(recipe_from_mapping({"name": "a", "neuron": {"name": "lif"}, "weight": {"name": "float"}})).train
    whole = list(Batches(data, 64, shuffle=True, seed=3, augment="shift", pad=1, drop_last=True))
    shares = [
        list(Batches(data, 64, shuffle=True, seed=3, augment="shift", pad=1, drop_last=True, rank=rank, world=2))
        for rank in (0, 1)
    ]
    for (x, labels), (a, la), (b, lb) in zip(whole, *shares, strict=True):
        assert torch.equal(x, torch.cat([a, b])) and torch.equal(labels, torch.cat([la, lb]))


@pytest.mark.slow
def test_a_run_of_two_processes_writes_once_and_resumes(tmp_path: Path) -> None:
    sets = ["model.options.width=4", "data.batch_size=64", "train.threads=1"]
    command = ["-m", "bitspike", "train", "digits", "--quiet"]
    out = torchrun(2, *command, "--out", str(tmp_path / "a"), "--set", *sets, "train.epochs=2")
    assert out.count("validation accuracy") == 1
    _, _, model = open_run(tmp_path / "a")
    assert len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) == 2
    torchrun(2, *command, "--out", str(tmp_path / "a"), "--set", *sets, "train.epochs=2", "--resume")
    _, _, again = open_run(tmp_path / "a")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
