"""Learned bits and time steps in training: renewal at flips, resume across them, freezing, rates, averages."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bitspike.allocation.averages import Averages
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.widths import Allocation
from bitspike.data import Batches, Splits
from bitspike.files import parse_toml
from bitspike.functional.renewal import columns, error
from bitspike.layers import BatchNorm, Linear, Refined
from bitspike.models import mlp, study_cnn
from bitspike.neurons import Adaptive
from bitspike.observe import potentials
from bitspike.quantizers import LearnedBits
from bitspike.schema import to_mapping, to_toml
from bitspike.training.build import build_model
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.evaluation import evaluate
from bitspike.training.job import load_data, run_job
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe, recipe_from_mapping
from bitspike.training.runs import open_run, train_run
from runs import CutError, cut_after, equal
from training.test_distributed import torchrun


def network(seed: int = 0, **neuron: Any) -> nn.Module:
    torch.manual_seed(seed)
    return mlp(Adaptive(**{"bits": 3, **neuron}), LearnedBits(3, bound=8), T=2, shape=(6,), hidden=(10, 8)).train()


def ask(part: Any, bits: float) -> None:
    with torch.no_grad():
        part.raw_bits.fill_(bits)


FLIPS = [(a, b) for a in (2, 3, 4, 8) for b in (2, 3, 4, 8) if a != b]


@pytest.mark.parametrize("sharing", ["layer", "channel"])
@pytest.mark.parametrize(("before", "after"), FLIPS)
def test_renewal_of_a_network_lowers_every_error(before: int, after: int, sharing: str) -> None:
    """Spikes on the membranes of the batch, weights on the latent weights; by layer and by channel."""
    net = network(bits=before, bound=8, sharing=sharing)
    scale = "output" if sharing == "channel" else "layer"
    for module in net.modules():
        if isinstance(module, Linear) and module.role != "first":
            module.quantize_with(LearnedBits(before, bound=8, scale=scale))
    allocation = Allocation(net, AllocationConfig())
    x = torch.randn(64, 6)
    allocation.start(x)
    currents: dict[str, Tensor] = {}
    allocation._look(x, set(allocation.spikes), lambda name, part, current: currents.update({name: current}))
    parts = {**{n: q for n, (_, q) in allocation.weights.items()}, **allocation.spikes}
    first = next(iter(allocation.spikes))  # the layers behind it see other spikes afterwards
    values = {n: m.weight.detach() for n, (m, _) in allocation.weights.items()}
    values[first] = potentials(parts[first], currents[first])
    old = {name: parts[name].step_parameter().detach().clone() for name in values}
    statistics = {name: value.clone() for name, value in net.named_buffers() if "running" in name}
    for part in parts.values():
        ask(part, after)
    generator = torch.get_rng_state()
    assert allocation.settle(x) == sorted(parts)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(dict(net.named_buffers())[name], value) for name, value in statistics.items())
    for name, value in values.items():
        part = parts[name]
        assert part.format.bits == after and part.width.item() == after
        v, levels = columns(value.detach(), part.channel_axis), part.levels(after)
        new = part.step_parameter().detach().reshape(-1)
        kept = error(v, old[name].reshape(-1), *levels)
        assert (error(v, new, *levels) <= kept).all()
        assert error(v, new, *levels).sum() < kept.sum()
    assert allocation.settle(x) == []


@pytest.mark.parametrize(("before", "after"), FLIPS)
def test_renewal_on_trained_tensors(splits: Splits, before: int, after: int) -> None:
    """Weights of every layer and membranes of the first neuron of a network that was trained at the width before."""
    net = trained(splits, before)
    allocation = Allocation(net, AllocationConfig())
    x, _ = next(iter(Batches(splits.train, 64)))
    first = next(iter(allocation.spikes))
    currents: dict[str, Tensor] = {}
    allocation._look(x, {first}, lambda name, part, current: currents.update({name: current}))
    parts: dict[str, Any] = {**{n: q for n, (_, q) in allocation.weights.items()}, first: allocation.spikes[first]}
    values = {n: columns(m.weight.detach(), None) for n, (m, _) in allocation.weights.items()}
    values[first] = columns(potentials(parts[first], currents[first]).detach(), None)
    old = {name: part.step_parameter().detach().clone().reshape(-1) for name, part in parts.items()}
    for part in parts.values():
        ask(part, after)
    allocation.settle(x)
    for name, part in parts.items():
        levels, new = part.levels(after), part.step_parameter().detach().reshape(-1)
        assert error(values[name], new, *levels) < error(values[name], old[name], *levels), name


@functools.cache
def _trained(bits: int) -> dict[str, Tensor]:
    return {
        name: value.clone() for name, value in fit(fixed_bits(bits), load_data(recipe())).model.state_dict().items()
    }


def fixed_bits(bits: int) -> Recipe:
    document = {**to_mapping(recipe({"epochs": 1})), "allocation": {"bits_lr": 1e-9}}
    for table in ("neuron", "weight"):
        document[table] = {**document[table], "bits": bits, "bound": 8}
    return recipe_from_mapping(document)


def trained(splits: Splits, bits: int) -> nn.Module:
    """A network after an epoch at this width; trained once for each."""
    model = build_model(fixed_bits(bits), splits.train)
    model.load_state_dict(_trained(bits))
    return model.train()


def test_nothing_flips_nothing_changes() -> None:
    net = network()
    allocation = Allocation(net, AllocationConfig())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ask(next(iter(allocation.spikes.values())), 3.49)
    assert allocation.settle(torch.randn(8, 6)) == []
    changed = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["body.3.raw_bits"]


def one_weight(config: AllocationConfig) -> tuple[Allocation, LearnedBits, torch.optim.Optimizer]:
    net = network()
    allocation = Allocation(net, config)
    part = allocation.weights["body.4"][1]
    assert isinstance(part, LearnedBits)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        optimiser.state[parameter]["momentum_buffer"] = torch.ones_like(parameter)
    return allocation, part, optimiser


def test_the_closed_form_keeps_the_range() -> None:
    allocation, part, optimiser = one_weight(AllocationConfig(renewal="range"))
    step = part.step_parameter().item()
    ask(part, 5)
    allocation.settle(torch.randn(8, 6), optimiser)
    assert part.step_parameter().item() == pytest.approx(step * 3 / 15)


def test_a_step_below_the_least_is_renewed_from_what_is_in_use() -> None:
    for renewal in ("range", "search"):
        allocation, part, _ = one_weight(AllocationConfig(renewal=renewal))  # type: ignore[arg-type]
        part.step_parameter().data.fill_(-3.0)
        used = part.step_size(allocation.weights["body.4"][0].weight).item()
        ask(part, 2)
        allocation.settle(torch.randn(8, 6))
        found = part.step_parameter().item()
        assert used > 0 and (found == pytest.approx(3 * used) if renewal == "range" else found > 0.1)


def test_no_renewal_keeps_the_step_and_its_momentum() -> None:
    allocation, part, optimiser = one_weight(AllocationConfig(renewal="none"))
    step = part.step_parameter().item()
    ask(part, 5)
    allocation.settle(torch.randn(8, 6), optimiser)
    assert part.step_parameter().item() == step and part.bits == 5
    assert optimiser.state[part.step_parameter()]["momentum_buffer"].item() == 1


@pytest.mark.parametrize(("momentum", "left"), [("reset", 0.0), ("keep", 1.0)])
def test_momentum_of_a_renewed_step(momentum: Any, left: float) -> None:
    allocation, part, optimiser = one_weight(AllocationConfig(momentum=momentum))
    ask(part, 5)
    allocation.settle(torch.randn(8, 6), optimiser)
    buffers = {id(p): state["momentum_buffer"] for p, state in optimiser.state.items()}
    assert buffers[id(part.step_parameter())].item() == left
    others = [p for p in allocation.model.parameters() if p is not part.step_parameter()]
    assert all((buffers[id(p)] == 1).all() for p in others)


def test_the_largest_range_is_kept_on_demand_only() -> None:
    """The weights shrink between two flips back and forth: "growing" keeps the wide range, "fresh" does not."""
    found = {}
    for extreme in ("fresh", "growing"):
        allocation, part, _ = one_weight(AllocationConfig(extreme=extreme))  # type: ignore[arg-type]
        synapse = allocation.weights["body.4"][0]
        for bits, size in ((4, 1.0), (3, 0.1), (4, 1.0)):
            ask(part, bits)
            synapse.weight.data *= size
            allocation.settle(torch.randn(8, 6))
        found[extreme] = part.step_parameter().item()
        assert bool(allocation.extremes) == (extreme == "growing")
    assert found["growing"] > 5 * found["fresh"]


def test_steps_of_their_own_are_renewed_where_the_width_changes() -> None:
    net = network(steps=2)
    allocation = Allocation(net, AllocationConfig())
    x = torch.randn(32, 6)
    allocation.start(x)
    part = allocation.spikes["body.3"]
    before = part.step_parameter().detach().clone()
    assert before.shape == (2, 1) and before[0] == before[1] != 1
    with torch.no_grad():
        part.raw_bits[1] = 2.0  # type: ignore[index]
    allocation.settle(x)
    after = part.step_parameter().detach()
    assert after[0] == before[0] and after[1] > before[1]
    assert part.width.tolist() == [3, 2]


def test_start_takes_the_first_batch_layer_by_layer() -> None:
    """γ = 2·mean|x|/√Q of the current of every layer, given the layers before have theirs."""
    net, x = network(), torch.randn(16, 6)
    allocation = Allocation(net, AllocationConfig())
    allocation.start(x)
    current = net.body[:3](net.encoder(x))
    assert net.body[3].step_size().item() == pytest.approx(2 * current.abs().mean().item() / 7**0.5, rel=1e-5)
    current = net.body[:6](net.encoder(x))
    assert net.body[6].step_size().item() == pytest.approx(2 * current.abs().mean().item() / 7**0.5, rel=1e-5)
    given = network()
    Allocation(given, AllocationConfig(start="given")).start(x)
    assert given.body[3].step_size().item() == 1


def refined(learn_T: bool = True) -> tuple[nn.Module, Allocation]:
    net = study_cnn(Refined(Adaptive(3), T=2, learn_T=learn_T), LearnedBits(4), T=1, shape=(1, 8, 8), width=4)
    return net, Allocation(net, AllocationConfig(weight_target=3.0, spike_target=2.0, steps_target=1.0))


def test_averages_and_their_pull_by_hand() -> None:
    """Weighted by weights and by neurons; first and last layer have no learned bits; the gradient is a sign · share."""
    _, allocation = refined()
    averages = Averages(allocation, torch.zeros(1, 1, 8, 8))
    assert averages.values() == {"weights": 4, "spikes": 3, "steps": 2}
    weights = [m.weight.numel() for m, _ in allocation.weights.values()]
    assert len(weights) == 5
    spikes = [4 * 16, 4 * 16, 4 * 16, 8 * 4, 8 * 4]  # 4×4 after the stem, 2×2 after the second block
    parts = list(allocation.spikes.values())
    ask(parts[1], 2.0)
    ask(allocation.weights["body.3.conv1"][1], 2.0)
    list(allocation.refined.values())[4].raw_steps.data.fill_(1.0)  # type: ignore[union-attr]
    allocation.settle(torch.randn(4, 1, 8, 8))
    found = averages.values()
    assert found["spikes"] == pytest.approx(3 - spikes[1] / sum(spikes))
    assert found["weights"] == pytest.approx(4 - 2 * weights[0] / sum(weights))
    assert found["steps"] == pytest.approx(2 - spikes[4] / sum(spikes))
    penalty = averages()
    wanted = 0.01 * (found["weights"] - 3) + 0.02 * (found["spikes"] - 2) + 0.01 * (found["steps"] - 1)
    assert penalty.item() == pytest.approx(wanted, rel=1e-5)
    penalty.backward()
    for part, count in zip(parts, spikes, strict=True):
        assert part.raw_bits.grad.item() == pytest.approx(0.02 * count / sum(spikes))  # type: ignore[union-attr]
    for module, count in zip(allocation.refined.values(), spikes, strict=True):
        assert module.raw_steps.grad.item() == pytest.approx(0.01 * count / sum(spikes))  # type: ignore[union-attr]


def test_bits_by_time_step_are_averaged_over_the_steps_that_run() -> None:
    net = network(steps=3)
    allocation = Allocation(net, AllocationConfig(spike_target=1.0))
    for part in allocation.spikes.values():
        part.raw_bits.data.copy_(torch.tensor([4.0, 2.0, 1.0]))  # type: ignore[union-attr]
        part.refresh()
    averages = Averages(allocation, torch.zeros(1, 6))
    assert averages.values()["spikes"] == 3  # T = 2: the third step does not run


def test_a_target_needs_something_to_learn(refuses: Any) -> None:
    net = mlp(Adaptive(3, learn_bits=False), LearnedBits(3), T=2, shape=(6,), hidden=(10,))
    allocation = Allocation(net, AllocationConfig(spike_target=2.0))
    with refuses("[allocation]", "spikes"):
        Averages(allocation, torch.zeros(1, 6))


def test_renewal_ends_near_the_target() -> None:
    """On until (B̄ − target) < 0.24·(initial − target) and 14 epochs are over; spikes that start there: at once."""
    config = AllocationConfig(weight_target=3.0, spike_target=4.0)
    allocation = Allocation(network(), config)
    initial = {"weights": 4.0, "spikes": 4.0}
    allocation.close_epoch(1, {"weights": 3.2, "spikes": 4.0}, initial)
    assert allocation.renews == {"weights": True, "spikes": False}
    allocation.close_epoch(14, {"weights": 3.25, "spikes": 4.0}, initial)
    assert allocation.renews["weights"]
    allocation.close_epoch(15, {"weights": 3.23, "spikes": 4.0}, initial)
    assert not allocation.renews["weights"]
    growing = Allocation(network(), AllocationConfig(weight_target=5.0))
    growing.close_epoch(20, {"weights": 3.5}, {"weights": 3.0})
    assert growing.renews["weights"]
    growing.close_epoch(20, {"weights": 4.6}, {"weights": 3.0})
    assert not growing.renews["weights"]
    for never in (0.0, None):
        chosen = recipe({}, spike_target=4.0, renewal_ratio=never)
        assert recipe_from_mapping(parse_toml(to_toml(chosen), "here")) == chosen and chosen.allocation is not None
        kept = Allocation(network(), chosen.allocation)
        kept.close_epoch(99, {"spikes": 4.0}, {"spikes": 4.0})
        assert all(kept.renews.values())
    timed = Allocation(network(), AllocationConfig(renewal_epochs=2))
    timed.close_epoch(1, {}, {})
    assert all(timed.renews.values())
    timed.close_epoch(2, {}, {})
    assert not any(timed.renews.values())


def recipe(train: dict[str, Any] | None = None, **allocation: Any) -> Recipe:
    table = {"weight_target": 2.0, "spike_target": 2.0, "bits_lr": 2.0, "steps_lr": 0.2, **allocation}
    if table.get("refined"):
        table = {"learn_steps": True, "steps_target": 1.0, **table}
    return recipe_from_mapping(
        {
            "name": "bits",
            "data": {"name": "digits", "batch_size": 128},
            "model": {"options": {"width": 4, "stem_stride": 1}},
            "neuron": {"name": "adaptive", "bits": 4},
            "weight": {"name": "learned_bits", "bits": 4},
            "train": {"epochs": 2, "threads": 1, "log_every": 1, "lr": 0.05, **(train or {})},
            "allocation": {"weight_pull": 1.0, "spike_pull": 1.0, "steps_pull": 1.0, **table},
        }
    )


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_data(recipe())


@pytest.mark.parametrize(
    ("train", "allocation"),
    [
        ({}, {"refined": True}),
        ({"optimiser": "adamw", "lr": 0.002}, {"extreme": "growing", "bits_lr": 0.1}),
        ({}, {"renewal_epochs": 1}),
    ],
)
def test_a_run_resumes_bit_for_bit_across_flips(
    tmp_path: Path, splits: Splits, train: dict[str, Any], allocation: dict[str, Any]
) -> None:
    chosen = recipe(train, **allocation)
    whole = fit(chosen, splits)
    last = whole.history[-1]
    assert last["weight_bits"] < 4 and last["spike_bits"] < 4, "nothing flipped"
    assert set(last["allocation"]) == {"weights", "spikes", "steps"} and min(last["allocation"]["weights"].values()) < 4
    if allocation.get("refined"):
        assert last["T"] < 2

    for reports in (3, 7, 8):
        with pytest.raises(CutError):
            fit(chosen, splits, cut_after(reports), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    again = fit(chosen, splits, None, Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert equal(whole, again)


def test_frozen_bits_stay_and_the_rest_trains(splits: Splits) -> None:
    chosen = recipe({"epochs": 2}, refined=True, freeze_epoch=1.0)
    run = fit(chosen, splits)
    first, second = run.history
    for key in ("weight_bits", "spike_bits", "T"):
        assert first[key] == second[key]
    assert first["loss"] != second["loss"] and first["weight_bits"] < 4
    free = fit(recipe({"epochs": 2}, refined=True), splits)
    assert free.history[1]["weight_bits"] < free.history[0]["weight_bits"]


def test_bits_and_steps_wait_until_they_are_learned(splits: Splits, tmp_path: Path) -> None:
    chosen = recipe({"epochs": 2}, refined=True, learn_epoch=1.0)
    run = fit(chosen, splits)
    first, second = run.history
    assert first["weight_bits"] == first["spike_bits"] == 4 > second["weight_bits"]
    assert fit(recipe({"epochs": 1}, refined=True), splits).history[0]["weight_bits"] < 4
    with pytest.raises(ValueError, match=r"learn_epoch < 1, got 1; lower learn_epoch or raise freeze_epoch"):
        recipe({"epochs": 2}, refined=True, learn_epoch=1.0, freeze_epoch=1.0)
    with pytest.raises(ValueError, match=r"learn_epoch < 2, got 2"):
        recipe({"epochs": 2}, refined=True, learn_epoch=2.0)


def test_a_run_folder_brings_widths_and_steps(tmp_path: Path) -> None:
    train_run(recipe({"epochs": 2}, refined=True), tmp_path / "run", resume=False)
    _, splits, model = open_run(tmp_path / "run", "final")
    left = load_file(tmp_path / "run" / "final.safetensors")
    widths = {name: value for name, value in model.state_dict().items() if name.endswith(("width", "steps"))}
    assert widths and all(torch.equal(value, left[name]) for name, value in widths.items())
    for module in model.modules():
        if isinstance(module, Adaptive):
            assert module.format.bits == module.width.item()
        if isinstance(module, Refined):
            assert module.time_steps == module.steps.item()
    assert any(m.format.bits < 4 for m in model.modules() if isinstance(m, Adaptive))
    assert evaluate(model, splits.validation) > 0.1


@pytest.mark.parametrize("switch", [{"precision": "bf16"}, {"channels_last": True}])
def test_switches(splits: Splits, switch: dict[str, Any]) -> None:
    run = fit(recipe({"epochs": 2, **switch}, refined=True), splits)
    assert run.history[-1]["weight_bits"] < 4 and run.history[-1]["loss"] < 2.4


def test_rates_and_decay_of_the_groups() -> None:
    from bitspike.training.loop import _own_groups
    from bitspike.training.optim import make_optimiser

    net, allocation = refined()
    config = recipe().train
    optimiser = make_optimiser(net, config, *_own_groups(allocation, config))
    groups = {group.get("name"): group for group in optimiser.param_groups}
    assert {name: group.get("share") for name, group in groups.items() if name} == {
        "bits": pytest.approx(1.0),
        "step": pytest.approx(1.0),
        "steps": pytest.approx(0.1),
    }
    assert all(group["weight_decay"] == 0 for name, group in groups.items() if name)
    counted = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(counted) == sorted(id(p) for p in net.parameters())
    assert len(groups["bits"]["params"]) == 10 and len(groups["step"]["params"]) == 10
    assert len(groups["steps"]["params"]) == 5


def test_a_job_with_learned_bits_folds_and_counts(splits: Splits) -> None:
    softly = {"weight_pull": 0.1, "spike_pull": 0.1, "steps_pull": 0.1, "bits_lr": 1.0}
    done = run_job(recipe({"epochs": 5}, refined=True, **softly), splits)
    assert done.result["fold"]["agreement"] > 0.99
    formats = {m.format.bits for m in done.model.modules() if isinstance(m, Adaptive)}
    assert done.result["spike_bits"] == max(formats) and min(formats) < 4
    assert done.result["test_accuracy"] > 0.5


def test_a_training_step_compiles_in_one_graph() -> None:
    net, allocation = refined()
    averages = Averages(allocation, torch.zeros(1, 1, 8, 8))
    x = torch.randn(4, 1, 8, 8)

    def loss(x: Tensor) -> Tensor:
        return net(x).square().sum() + averages()

    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for bits, steps in ((3, 2), (2, 3), (1, 1)):
        for part in allocation.spikes.values():
            ask(part, bits)
        for module in allocation.refined.values():
            module.raw_steps.data.fill_(steps)  # type: ignore[union-attr]
        allocation.settle(x)
        statistics = [m for m in net.modules() if isinstance(m, BatchNorm)]
        assert all(m.format.bits == bits for m in allocation.spikes.values()) and statistics  # type: ignore[attr-defined]
        assert compiled(x).item() == pytest.approx(loss(x).item(), rel=1e-5)
    torch.compiler.reset()


def test_two_processes_renew_alike(tmp_path: Path) -> None:
    for processes in (1, 2):
        torchrun(processes, str(Path(__file__).with_name("two_processes_bits.py")), str(tmp_path))
    one, two = load_file(tmp_path / "1.safetensors"), load_file(tmp_path / "2.safetensors")
    assert one.keys() == two.keys() and len(one) > 40
    widths = [value for name, value in one.items() if name.endswith("width")]
    assert any((value != 4).any() for value in widths), "nothing flipped"
    for name, value in one.items():
        assert torch.allclose(value.double(), two[name].double(), rtol=1e-9, atol=1e-10), name
