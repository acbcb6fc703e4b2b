"""Networks of a study, kept as runs."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from bitspike import compile, fold
from bitspike.cli import main
from bitspike.data import Batches
from bitspike.training.job import measure
from bitspike.training.loop import Run
from bitspike.training.runs import RunFolder, open_run

QUEUE = """
name = "tiny"
out = "out"
seeds = [0]
[base]
name = "tiny"
neuron = {name = "lif"}
weight = {name = "float"}
model = {name = "mlp", T = 1, options = {hidden = [8]}}
data = {batch_size = 512}
train = {epochs = 1, threads = 1}
[[arms]]
name = "float"
[[arms]]
name = "bits"
set = {"weight.name" = "uniform", "weight.bits" = 4}
"""


def test_every_job_leaves_its_network(tmp_path: Path) -> None:
    """The run gives the figures of the job's file, and compiles; without the option there is none."""
    queue = tmp_path / "queue.toml"
    queue.write_text(QUEUE)
    main(["study", str(queue), "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs"), "--quiet"])
    for arm in ("float", "bits"):
        job = json.loads((tmp_path / "out" / f"{arm}-seed0.json").read_text())
        folder = tmp_path / "runs" / f"{arm}-seed0"
        recipe, splits, model = open_run(folder)
        assert recipe.key(job["data_digest"]) == job["key"] == RunFolder(folder).figures()["key"]
        _, figures = measure(recipe, splits, Run(model, job["result"]["history"]))
        for name in ("test_accuracy", "folded_test_accuracy", "adds", "size_bytes", "rates"):
            assert figures[name] == job["result"][name], name
        sample, _ = next(iter(Batches(splits.validation, 64)))
        with torch.no_grad():
            assert compile(fold(model, sample), sample).spec.operations
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["bits-seed0", "float-seed0"]
    main(["study", str(queue), "--out", str(tmp_path / "again"), "--quiet"])
    assert sorted(path.name for path in (tmp_path / "again").iterdir() if path.name[0] != ".") == [
        "bits-seed0.json",
        "float-seed0.json",
    ]
