"""What is drawn in training: new in every epoch, the same for any batch, and the same after a cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import cost, fold, observe
from bitspike.data import Batches, Splits
from bitspike.layers import ENCODERS, Encoder, Noise, Poisson, set_noise
from bitspike.models import MODELS, mlp
from bitspike.models.network import Network
from bitspike.neurons import LIF
from bitspike.training.build import build_model
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.evaluation import evaluate
from bitspike.training.job import load_data
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe, recipe_from_mapping
from runs import CutError, curve, cut_after, equal

JITTER = {"encoder": "latency", "encoder_options": {"jitter": 1.5}}
NOISY = {"poisson": {"encoder": "poisson"}, "latency": JITTER}


def recipe(model: dict[str, Any], train: dict[str, Any] | None = None, **data: Any) -> Recipe:
    return recipe_from_mapping(
        {
            "name": "noise",
            "seed": 3,
            "data": {"name": "digits", "batch_size": 128, **data},
            "model": {"name": "mlp", "T": 3, "options": {"hidden": [16]}, **model},
            "neuron": {"name": "lif"},
            "weight": {"name": "float"},
            "train": {"epochs": 3, "threads": 1, "log_every": 1, **(train or {})},
        }
    )


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_data(recipe(NOISY["poisson"]))


Seen = list[tuple[bool, Tensor, Tensor]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """(training, samples, spikes) of every call of an encoder."""
    found: Seen = []
    for kind in (entry for _, entry in ENCODERS.items() if entry.intensities):
        plain = kind.forward

        def forward(self: Encoder, x: Tensor, seeds: Tensor | None = None, plain: Any = plain) -> Tensor:
            y = plain(self, x, seeds)
            found.append((self.training, x.clone(), y.clone()))
            return y

        monkeypatch.setattr(kind, "forward", forward)
    return found


def by_sample(calls: Seen, training: bool) -> list[dict[bytes, bytes]]:
    """Of every pass over the data: sample → its spikes. A pass ends where a sample comes again."""
    passes: list[dict[bytes, bytes]] = []
    for mode, x, y in calls:
        if mode is not training:
            continue
        rows = [(one.numpy().tobytes(), two.numpy().tobytes()) for one, two in zip(x, y.unbind(1), strict=True)]
        if not passes or any(key in passes[-1] for key, _ in rows):
            passes.append({})
        passes[-1].update(rows)
    return passes


@pytest.mark.parametrize("model", NOISY.values(), ids=NOISY)
def test_epochs_differ_and_evaluation_repeats(model: dict[str, Any], splits: Splits, seen: Seen) -> None:
    fit(recipe(model), splits)
    first, second, third = by_sample(seen, training=True)
    for one, other in ((first, second), (second, third), (first, third)):
        common = one.keys() & other.keys()
        assert len(common) > 1000 and sum(one[key] == other[key] for key in common) < 10
    validations = by_sample(seen, training=False)
    assert len(validations) == 3 and validations[0] == validations[1] == validations[2]


@pytest.mark.parametrize("model", NOISY.values(), ids=NOISY)
def test_noise_does_not_depend_on_the_batch(model: dict[str, Any], splits: Splits, seen: Seen) -> None:
    found = []
    for size in (128, 37):
        seen.clear()
        fit(recipe(model, batch_size=size), splits)
        found.append(by_sample(seen, training=True))
    for one, other in zip(*found, strict=True):
        common = one.keys() & other.keys()  # each leaves out a last batch of its own
        assert len(common) > 1000 and all(one[key] == other[key] for key in common)


@pytest.mark.parametrize("model", NOISY.values(), ids=NOISY)
def test_a_cut_run_goes_on_exactly(tmp_path: Path, splits: Splits, model: dict[str, Any]) -> None:
    config = recipe(model)
    torch.manual_seed(1)
    whole = fit(config, splits)
    for reports in (3, 9, 4):
        torch.manual_seed(reports)  # what torch's generator holds must not matter
        with pytest.raises(CutError):
            fit(config, splits, cut_after(reports), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert equal(whole, fit(config, splits, None, Checkpoints(tmp_path, "k"), checkpoint_steps=2))
    other = fit(replace(config, seed=4), splits)
    assert curve(other) != curve(whole)


def test_fixed_noise_is_frozen(splits: Splits, seen: Seen) -> None:
    fit(recipe({"encoder": "poisson", "encoder_options": {"noise": "fixed"}}), splits)
    first, second, third = by_sample(seen, training=True)
    assert all(first[key] == second[key] for key in first.keys() & second.keys())
    assert all(first[key] == third[key] for key in first.keys() & third.keys())


def test_the_network_is_free_again_and_torchs_generator_untouched(tmp_path: Path, splits: Splits) -> None:
    state = torch.get_rng_state()
    run = fit(recipe(NOISY["poisson"]), splits)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.word is None for module in run.model.modules() if isinstance(module, Noise))


@pytest.mark.slow
def test_compiled_training_sees_the_same_spikes(splits: Splits) -> None:
    """One key an epoch reaches the compiled graph; the losses agree up to rounding."""
    plain, compiled = (fit(recipe(NOISY["poisson"], {"compile": flag}), splits) for flag in (False, True))
    for one, other in zip(plain.history, compiled.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)


def dropping(neuron: nn.Module, T: int = 2, classes: int = 10, **_: Any) -> Network:
    """`mlp` with dropout in front of the classifier."""
    net = mlp(neuron, T=T, shape=(1, 8, 8), classes=classes, hidden=(16,))
    net.body = nn.Sequential(*net.body[:-1], nn.Dropout(0.4), net.body[-1])
    return net


def test_dropout_follows_the_recipe_and_survives_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its masks are torch's; they follow from the recipe's seed, not from what the process did before."""
    monkeypatch.setitem(MODELS._entries, "dropping", dropping)
    config = recipe({"name": "dropping", "options": {}})
    splits = load_data(config)
    torch.manual_seed(1)
    whole = fit(config, splits)
    torch.manual_seed(2)
    assert equal(whole, fit(config, splits))
    for reports in (3, 9):
        torch.manual_seed(reports)
        with pytest.raises(CutError):
            fit(config, splits, cut_after(reports), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert equal(whole, fit(config, splits, None, Checkpoints(tmp_path, "k"), checkpoint_steps=2))


def test_shares_of_processes_have_the_noise_of_the_whole_batch(splits: Splits) -> None:
    config = recipe(NOISY["poisson"])
    encoder = build_model(config, splits.train).encoder.train()
    set_noise(encoder, 3, 5)
    options: dict[str, Any] = {"shuffle": True, "seed": 3, "epoch": 5, "augment": "shift", "drop_last": True}
    whole = [encoder(x) for x, _ in Batches(splits.train, 64, **options)]
    shares = [[encoder(x) for x, _ in Batches(splits.train, 64, **options, rank=r, world=2)] for r in (0, 1)]
    assert all(torch.equal(y, torch.cat(pair, 1)) for y, *pair in zip(whole, *shares, strict=True))


@pytest.mark.parametrize("model", [{"encoder": "poisson"}, {"encoder": "latency"}], ids=["poisson", "latency"])
def test_normalised_images_are_refused_at_the_borders(model: dict[str, Any], splits: Splits, refuses: Any) -> None:
    config = recipe(model)
    normalised = load_data(recipe({"encoder": "repeat"}))
    words = "must be intensities in [0, 1]"
    with refuses("fit", words):
        fit(config, normalised)
    net = build_model(config, splits.train).eval()
    x, _ = next(iter(Batches(normalised.validation, 8)))
    with refuses("evaluate", words):
        evaluate(net, normalised.validation)
    for name, check in (("fold", fold), ("cost", cost)):
        with refuses(name, words):
            check(net, x)
    with refuses("observe", words):
        observe(net, [x])
    good, _ = next(iter(Batches(splits.validation, 8)))
    folded = fold(net, good)
    with refuses("evaluate", words):
        evaluate(folded, normalised.validation)
    assert evaluate(folded, splits.validation) == evaluate(net, splits.validation)


def test_options_reach_the_encoder(splits: Splits, refuses: Any) -> None:
    options = {"jitter": 0.5, "threshold": 0.25, "seed": 4}
    encoder = build_model(recipe({"encoder": "latency", "encoder_options": options}), splits.train).encoder
    assert (encoder.T, encoder.jitter, encoder.threshold, encoder.noise.seed) == (3, 0.5, 0.25, 4)
    for given, words in (
        ({"jiter": 1.0}, "did you mean 'jitter'"),
        ({"T": 4}, "set model.T"),
        ({"jitter": "much"}, "jitter must be a number"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            build_model(recipe({"encoder": "latency", "encoder_options": given}), splits.train)
    with pytest.raises(ValueError, match=r"encoder must be one of .*did you mean 'poisson'"):
        recipe({"encoder": "poison"})


def test_builders_take_a_name_or_an_object(refuses: Any) -> None:
    mine = Poisson(2, seed=9)
    net = mlp(LIF(), T=2, hidden=(8,), encoder=mine)
    assert net.encoder is not mine and net.encoder.noise.seed == 9
    with refuses("models", "the encoder must have T = 3", "got 2"):
        mlp(LIF(), T=3, hidden=(8,), encoder=mine)
    with refuses("models", "encoder must be a name or an Encoder", kind=TypeError):
        mlp(LIF(), T=3, hidden=(8,), encoder=Poisson)  # type: ignore[arg-type]
