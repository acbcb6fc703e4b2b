"""The training loop: schedule, weight decay, NaN, determinism, evaluation; nothing reads the test split."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from bitspike import observe
from bitspike.data import ImageSet, Splits
from bitspike.layers import Synapse
from bitspike.training import loop, task
from bitspike.training.build import build_model
from bitspike.training.distributed import World
from bitspike.training.evaluation import evaluate, logits_of
from bitspike.training.loop import epoch_batches, fit, load_weights
from bitspike.training.optim import learning_rate, make_optimiser
from bitspike.training.penalty import WithPenalty
from bitspike.training.recipe import Recipe, TrainConfig, recipe_from_mapping
from networks import rng
from runs import curve


def blobs(count: int, seed: int) -> ImageSet:
    """4×4 images of three classes: bright at the top, in the middle, or at the bottom, with noise."""
    generator = rng(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 60, (count, 1, 4, 4), generator=generator)
    for label in range(3):
        pixels[labels == label, :, label : label + 2] += 150
    return ImageSet(pixels.to(torch.uint8), labels, ("top", "middle", "bottom"), 255, (0.4,), (0.3,), "blobs")


SPLITS = Splits(blobs(96, 0), blobs(30, 1), blobs(30, 2))


def recipe(**tables: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "toy",
        "data": {"batch_size": 16},
        "model": {"name": "mlp", "options": {"hidden": [12, 10]}},
        "neuron": {"name": "multibit", "train_amplitude": "channel", "learn_decay": True},
        "weight": {"name": "sign", "factor": "input"},
        "train": {"epochs": 2, "threads": 1, "lr": 0.05},
    }
    for name, table in tables.items():
        base[name] = {**base[name], **table} if isinstance(table, dict) else table
    return recipe_from_mapping(base)


def test_hole_and_policy_reach_the_batches() -> None:
    chosen = recipe(data={"augment": "shift-flip-cutout", "pad": 1, "hole": 3, "policy": "svhn"})
    batches = epoch_batches(chosen, SPLITS.train, 2, World())
    assert (batches.hole, batches.policy, batches.pad, batches.epoch) == (3, "svhn", 1, 2)
    fit(recipe(data={"augment": "shift-flip-cutout", "pad": 1, "hole": 3}, train={"epochs": 1}), SPLITS)


def test_learning_rate_by_hand() -> None:
    cosine = TrainConfig(epochs=10, lr=0.2)
    assert [learning_rate(cosine, e) for e in (0, 5, 10)] == pytest.approx([0.2, 0.1, 0.0])
    assert learning_rate(cosine, 2.5) == pytest.approx(0.1 * (1 + math.sqrt(0.5)))
    warm = TrainConfig(epochs=10, lr=0.2, warmup_epochs=2.0)
    assert [learning_rate(warm, e) for e in (0.5, 1, 2, 6, 10)] == pytest.approx([0.05, 0.1, 0.2, 0.1, 0.0])
    assert 0 < learning_rate(warm, 0.0) < 1e-3
    constant = TrainConfig(epochs=10, lr=0.2, warmup_epochs=1.0, schedule="constant")
    assert [learning_rate(constant, e) for e in (0.25, 1, 9.9)] == pytest.approx([0.05, 0.2, 0.2])
    whole = TrainConfig(epochs=2, lr=0.2, warmup_epochs=2.0)
    assert [learning_rate(whole, e) for e in (1, 1.9)] == pytest.approx([0.1, 0.19])


@pytest.mark.parametrize("warmup", [1e-6, 1e-3, 0.5, 2.0])
def test_the_rate_never_exceeds_its_peak(warmup: float) -> None:
    config = TrainConfig(epochs=2, lr=0.2, warmup_epochs=warmup)
    assert all(0 < learning_rate(config, i / 100) <= 0.2 for i in range(199))


def test_every_step_runs_at_its_scheduled_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    rates: list[float] = []

    def spy(config: TrainConfig, epoch: float) -> float:
        asked.append(epoch)
        return learning_rate(config, epoch)

    class Spy(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            rates.extend(group["lr"] for group in self.param_groups)
            super().step(closure)

    monkeypatch.setattr(loop, "learning_rate", spy)
    monkeypatch.setattr(loop, "make_optimiser", lambda model, config: Spy(list(model.parameters()), lr=1e9))
    run = fit(recipe(), SPLITS)
    assert asked == pytest.approx([i / 6 for i in range(12)])
    assert rates == pytest.approx([learning_rate(recipe().train, e) for e in asked])
    assert [record["lr"] for record in run.history] == pytest.approx([rates[5], rates[11]])


@pytest.mark.parametrize(("optimiser", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_weight_decay_is_for_synaptic_weights_only(optimiser: str, kind: type[torch.optim.Optimizer]) -> None:
    chosen = recipe(train={"optimiser": optimiser, "weight_decay": 0.3, "momentum": 0.7})
    model = build_model(chosen, SPLITS.train)
    made = make_optimiser(model, chosen.train)
    assert isinstance(made, kind)
    names = {id(p): name for name, p in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert decay.keys() == set(names.values())
    synaptic = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, Synapse)}
    assert synaptic == {"body.1.weight", "body.4.weight", "body.7.weight"}
    assert decay == {name: 0.3 if name in synaptic else 0.0 for name in decay}
    kinds = {name.rpartition(".")[2] for name, value in decay.items() if not value}
    assert kinds == {"weight", "bias", "raw_amplitude", "raw_decay", "raw_factor"}


def test_decay_moves_what_the_loss_does_not() -> None:
    chosen = recipe(train={"weight_decay": 0.5})
    model = build_model(chosen, SPLITS.train)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = make_optimiser(model, chosen.train)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"body.1.weight", "body.4.weight", "body.7.weight"}


def test_training_learns_and_records() -> None:
    shown: list[dict[str, float]] = []
    run = fit(recipe(train={"epochs": 8, "log_every": 2}), SPLITS, shown.append)
    assert not run.model.training and len(run.history) == 8
    assert [record["epoch"] for record in run.history] == list(range(1, 9))
    assert run.history[-1]["loss"] < 0.7 * run.history[0]["loss"]
    assert run.history[-1]["validation_accuracy"] > 0.8
    assert evaluate(run.model, SPLITS.validation) == run.history[-1]["validation_accuracy"]
    assert [f["epoch"] for f in shown[:4]] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert all(f["epochs"] == 8 for f in shown) and len(shown) == 8 * 4


def test_the_best_weights_are_kept() -> None:
    chosen = recipe(train={"epochs": 6})
    run = fit(chosen, SPLITS)
    best = max(run.history, key=lambda record: record["validation_accuracy"])
    model = build_model(chosen, SPLITS.train)
    load_weights(model, run.best)
    assert evaluate(model, SPLITS.validation) == best["validation_accuracy"]


def test_weights_that_do_not_fit_are_refused() -> None:
    run = fit(recipe(train={"epochs": 1}), SPLITS)
    other = build_model(recipe(model={"options": {"hidden": [11, 10]}}), SPLITS.train)
    got = r"body\.1\.weight \[\d+, 16\] for \[11, 16\] and \d+ more"
    with pytest.raises(ValueError, match=rf"^load_weights: the weights must fit the network, got {got}; use [^\n]*$"):
        load_weights(other, run.best)
    with pytest.raises(ValueError, match=r"got no body\.1\.weight; use"):
        load_weights(other, {k: v for k, v in other.state_dict().items() if k != "body.1.weight"})
    with pytest.raises(ValueError, match=r"got a, which it has not; use"):
        load_weights(other, {**other.state_dict(), "a": torch.zeros(1)})


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_seed_decides_everything(optimiser: str) -> None:
    chosen = recipe(train={"optimiser": optimiser, "lr": 0.01}, data={"augment": "shift", "pad": 1})
    torch.manual_seed(1)
    one = fit(chosen, SPLITS)
    torch.manual_seed(2)
    torch.rand(7)
    two = fit(chosen, SPLITS)
    states = one.model.state_dict(), two.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert curve(one) == curve(two)
    other = fit(replace(chosen, seed=1), SPLITS).model.state_dict()
    assert not torch.equal(states[0]["body.1.weight"], other["body.1.weight"])


@pytest.mark.parametrize("regulariser", [{}, {"kind": "bits", "weight": 0.1, "target": 0.2}])
@pytest.mark.parametrize("loss", ["mean", "tet"])
def test_losses_and_readouts(loss: str, regulariser: dict[str, Any]) -> None:
    chosen = recipe(
        model={"readout": "steps"},
        train={"loss": loss, "clip_norm": 1.0, "label_smoothing": 0.1, "epochs": 6},
    )
    chosen = replace(chosen, regulariser=replace(chosen.regulariser, **regulariser))
    run = fit(chosen, SPLITS)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert logits_of(run.model, SPLITS.validation, 7).shape == (30, 3)


def test_the_penalty_acts_in_the_loop() -> None:
    def rate(weight: float) -> float:
        kind = {"kind": "rate", "weight": weight, "target": 0.05}
        base = recipe(train={"epochs": 6})
        run = fit(replace(base, regulariser=replace(base.regulariser, **kind)), SPLITS)
        x = SPLITS.train.normalise(SPLITS.train.images)
        return next(iter(observe(run.model, [x]).values())).rate

    assert 0 < rate(20.0) < 0.8 * rate(0.0)


def test_the_penalty_rises_over_its_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shares of every step: straight from 0, and all of it after so many epochs."""
    shares: list[float] = []
    forward = WithPenalty.forward

    def watched(self: WithPenalty, x: torch.Tensor, *share: torch.Tensor) -> Any:
        shares.append(share[0].item() if share else 1.0)
        return forward(self, x, *share)

    monkeypatch.setattr(WithPenalty, "forward", watched)
    base = recipe(train={"epochs": 3})
    penalty = {"kind": "rate", "weight": 20.0, "target": 0.05, "warmup_epochs": 1.5}
    fit(replace(base, regulariser=replace(base.regulariser, **penalty)), SPLITS)
    steps = len(shares) // 3
    wanted = [min(1.0, (epoch + step / steps) / 1.5) for epoch in range(3) for step in range(steps)]
    assert shares == pytest.approx(wanted) and shares[0] == 0 and shares[-1] == 1


def test_clipping_bounds_the_step() -> None:
    def step(clip: float | None) -> float:
        chosen = recipe(train={"clip_norm": clip, "epochs": 1, "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0})
        only = SPLITS.train.subset(list(range(16)))
        before = build_model(chosen, only).state_dict()
        after = fit(chosen, replace(SPLITS, train=only)).model
        return math.sqrt(sum(float((p - before[name]).detach().square().sum()) for name, p in after.named_parameters()))

    assert step(1e-3) == pytest.approx(1e-3, rel=0.02) and step(None) > 0.01


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_loss_that_is_no_number_stops_the_run(monkeypatch: pytest.MonkeyPatch, log_every: int) -> None:
    calls = []

    def diverges(output: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        calls.append(1)
        return output.sum() * (math.nan if len(calls) == 8 else 0.0)

    monkeypatch.setattr(task, "find_loss", lambda _: diverges)
    step = {1: 2, 4: 4}[log_every]
    with pytest.raises(
        ValueError, match=rf"^train \(epoch 2, step {step}\): loss and weights must be finite, got a loss of nan \("
    ):
        fit(recipe(train={"log_every": log_every}), SPLITS)
    assert len(calls) == 6 + step


def test_a_rate_that_is_far_too_high_is_reported() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        fit(recipe(train={"lr": 1e38, "epochs": 3, "log_every": 1}), SPLITS)


def test_the_test_split_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    honest = ImageSet.normalise

    def spy(self: ImageSet, images: torch.Tensor, *rest: Any) -> torch.Tensor:
        read.add(self.name)
        return honest(self, images, *rest)

    monkeypatch.setattr(ImageSet, "normalise", spy)
    named = {part: replace(getattr(SPLITS, part), name=part) for part in ("train", "validation", "test")}
    fit(recipe(), Splits(**named))
    assert read == {"train", "validation"}


class Constant(nn.Module):
    """Logits that say class 1, whatever the input."""

    def __init__(self, value: float = 1.0, steps: int = 0) -> None:
        super().__init__()
        self.steps, self.value = steps, nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x), 3)
        logits[:, 1] = self.value
        return logits.expand(self.steps, -1, -1) if self.steps else logits


@pytest.mark.parametrize("steps", [0, 4])
@pytest.mark.parametrize("batch_size", [1, 7, 30, 500])
def test_evaluate_is_the_share_correct(batch_size: int, steps: int) -> None:
    model = Constant(steps=steps).train()
    assert evaluate(model, SPLITS.validation, batch_size) == pytest.approx(1 / 3)
    assert not model.training
    only = SPLITS.validation.subset([1, 4, 7, 0])
    assert evaluate(model, only, batch_size) == 0.75


def test_evaluate_refuses_nan() -> None:
    with pytest.raises(ValueError, match=r"^evaluate: .*value.* must be finite"):
        evaluate(Constant(math.nan), SPLITS.validation)

    class Overflows(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 3), math.inf)

    with pytest.raises(ValueError, match=r"^evaluate: the logits must be finite, got 90 NaN or inf"):
        evaluate(Overflows(), SPLITS.validation)
