"""Warm starts: what a file brings, what it leaves, and what then starts afresh."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocation.test_widths import recipe
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.widths import Allocation
from bitspike.data import Splits
from bitspike.models import study_cnn
from bitspike.neurons import MultiBit
from bitspike.training.build import build_model
from bitspike.training.job import load_data
from bitspike.training.loop import fit, warm_start


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_data(recipe())


def test_a_warm_start_brings_weights_widths_and_steps(splits: Splits, tmp_path: Path) -> None:
    run = fit(recipe({"epochs": 1}), splits)
    path = tmp_path / "start.safetensors"
    save_file({name: value.contiguous() for name, value in run.model.state_dict().items()}, path)
    fixed = recipe({"epochs": 1, "lr": 1e-9}, warm_start=str(path), bits_lr=1e-12, weight_pull=0.0, spike_pull=0.0)
    again = fit(fixed, splits)
    assert again.history[-1]["weight_bits"] == run.history[-1]["weight_bits"] < 4
    close = load_file(path)
    for name, value in again.model.state_dict().items():
        if "running" not in name:
            assert torch.allclose(value, close[name], atol=1e-4), name
    save_file({"body.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="must fit the network"):
        warm_start(run.model, str(path))
    save_file({"body.0.weight": run.model.state_dict()["body.0.weight"]}, path)
    with pytest.warns(UserWarning, match=r"left as built: .*body\.1\.bias"):
        left = warm_start(run.model, str(path))
    assert "body.0.weight" not in left and "body.1.weight" in left


def test_a_warm_start_from_a_network_without_step_sizes(splits: Splits, tmp_path: Path) -> None:
    """They start from the weights of the file and from the first batch, not from weights drawn and a threshold of 1."""
    net = build_model(recipe({}), splits.train)
    file = {name: 3 * value.clone() for name, value in net.state_dict().items() if name.endswith(("weight", "var"))}
    path = tmp_path / "float.safetensors"
    save_file(file, path)
    with pytest.warns(UserWarning, match=r"left as built: .*quantizer\.step"):
        run = fit(recipe({"epochs": 1, "lr": 1e-12}, warm_start=str(path), bits_lr=1e-12), splits)
    parts = Allocation(run.model, AllocationConfig())
    for name, (synapse, part) in parts.weights.items():
        wanted = 2 * synapse.weight.abs().mean() / 7**0.5
        assert torch.allclose(part.step_parameter(), wanted, rtol=1e-4), name  # type: ignore[arg-type]
    assert all((part.step_parameter() != 1).all() for part in parts.spikes.values())  # type: ignore[union-attr]


def test_a_warm_start_names_what_has_no_place(tmp_path: Path) -> None:
    """Learned bits of a graded neuron whose bits are fixed now are lost, and that is said; raw numbers are no loss."""
    learned, fixed = (study_cnn(MultiBit(1, 1, learn_bits=kind), T=1, shape=(1, 8, 8)) for kind in ("integer", "none"))
    path = tmp_path / "start.safetensors"
    save_file({name: value.contiguous() for name, value in learned.state_dict().items()}, path)
    with pytest.warns(UserWarning, match="without a place here: .*neuron1.width") as caught:
        assert not warm_start(fixed, str(path))
    assert len(caught) == 1 and "raw_bits" not in str(caught[0].message)


def test_a_file_with_nan_is_refused(splits: Splits, tmp_path: Path) -> None:
    net = build_model(recipe({}), splits.train)
    file = {name: value.clone().contiguous() for name, value in net.state_dict().items()}
    file["body.0.weight"].reshape(-1)[0] = float("nan")
    save_file(file, tmp_path / "start.safetensors")
    with pytest.raises(ValueError, match=r"^warm_start .*: 'body\.0\.weight' must be finite, got 1 NaN or inf"):
        warm_start(net, str(tmp_path / "start.safetensors"))
