"""Sequences of different lengths: in a padded batch each gives what it gives alone: outputs, gradients, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitspike.cli import main
from bitspike.data import Batches, SequenceSet, gather, load, pad, source
from bitspike.data.python_source import read_source
from bitspike.files import read_json
from bitspike.layers import (
    BatchNorm,
    Flatten,
    Frames,
    Join,
    Linear,
    MeanReadout,
    Padded,
    Squeeze,
    StepReadout,
    Windows,
    lengths_of,
    mean_over_steps,
    padded,
    valid_lengths,
)
from bitspike.models import Network
from bitspike.neurons import LIF, MultiBit
from bitspike.observe import observe
from bitspike.ops import lean
from bitspike.quantizers import Uniform
from bitspike.runtime import load as load_program
from bitspike.training import fit, recipe_from_mapping
from bitspike.training.build import build_model
from bitspike.training.evaluation import evaluate, logits_of
from bitspike.training.health import Watch
from bitspike.training.losses import LOSSES, REGRESSION_LOSSES, find_loss, takes_lengths
from bitspike.training.penalty import SpikePenalty, WithPenalty
from bitspike.training.runs import evaluate_run, open_run
from bitspike.training.unequal import at_length, check_unequal, run_batch

LENGTHS = (3, 7, 1, 5, 7, 2)
T, F, K = 7, 5, 3


def rows(count: int = len(LENGTHS)) -> list[Tensor]:
    """Sequences [T_i, F] on a dyadic grid, so that sums are exact."""
    drawn = torch.Generator().manual_seed(0)
    return [torch.randint(0, 5, (LENGTHS[k % len(LENGTHS)], F), generator=drawn).double() / 4 for k in range(count)]


def batch() -> Padded:
    return Padded(*pad(rows()))


def network(readout: nn.Module, norm: bool = False, hidden: int = 8) -> Network:
    """linear – (BN –) N – linear – N – linear, in float64 with statistics that are no identity."""
    torch.manual_seed(1)
    layers: list[nn.Module] = [
        Linear(F, hidden, weight=Uniform(4)),
        *([BatchNorm(hidden)] if norm else []),
        MultiBit(1, 1),
    ]
    layers += [Linear(hidden, hidden), LIF(decay=0.5, threshold=0.25), Linear(hidden, K)]
    net = Network(Frames(T, ragged=True), nn.Sequential(*layers), readout).double()
    for module in net.modules():
        if isinstance(module, BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight, 1.0, 0.5)
    return net


def gradients(net: nn.Module, loss: Tensor) -> list[Tensor]:
    net.zero_grad()
    loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]


def alone(x: Padded) -> list[Tensor]:
    """Each sequence as a batch of its own, [1, T_i, F]."""
    return [x.values[k : k + 1, : int(n)] for k, n in enumerate(x.lengths)]


@pytest.mark.parametrize("junk", [0.0, 1e6])
def test_a_padded_sequence_gives_what_it_gives_alone(junk: float) -> None:
    net, x = network(MeanReadout(), norm=True).eval(), batch()
    for k, n in enumerate(x.lengths):
        x.values[k, int(n) :] = junk
    whole = run_batch(net, x)
    apart = [net(one) for one in alone(x)]
    torch.testing.assert_close(whole, torch.cat(apart), rtol=0, atol=1e-12)
    assert not torch.allclose(net(x.values), whole)  # without lengths it would be another one
    assert valid_lengths() is None
    weights = torch.randn(len(LENGTHS), K, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    own = gradients(net, (whole * weights).sum())
    theirs = gradients(net, (torch.cat(apart) * weights).sum())
    assert any(bool(g.any()) for g in own)
    for one, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [*LOSSES, *REGRESSION_LOSSES])
@pytest.mark.parametrize("readout", ["steps", "mean"])
def test_losses_are_the_mean_of_those_alone(name: str, readout: str) -> None:
    if name == "tet" and readout == "mean":
        pytest.skip("TET reads steps")
    net, x = network(StepReadout() if readout == "steps" else MeanReadout()).eval(), batch()
    classes = name in LOSSES
    targets = torch.arange(len(LENGTHS)) % K if classes else torch.randn(len(LENGTHS), K, dtype=torch.float64)
    options: dict[str, Any] = {"label_smoothing": 0.1} if classes else {}
    if classes:
        options["class_weights"] = torch.tensor([0.5, 1.0, 2.0])
    loss = find_loss(name)
    assert takes_lengths(name)
    padded_loss = loss(run_batch(net, x), targets, lengths=x.lengths, **options)
    apart = [loss(net(one), targets[k : k + 1], **options) for k, one in enumerate(alone(x))]
    torch.testing.assert_close(padded_loss, torch.stack(apart).mean(), rtol=1e-12, atol=1e-12)
    pair = (
        gradients(net, padded_loss),
        gradients(
            net, torch.stack([loss(net(one), targets[k : k + 1], **options) for k, one in enumerate(alone(x))]).mean()
        ),
    )
    for one, other in zip(*pair, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    equal = torch.full((2,), 4)
    y = torch.randn(4, 2, K, dtype=torch.float64)
    torch.testing.assert_close(loss(y, targets[:2], lengths=equal, **options), loss(y, targets[:2], **options))


@pytest.mark.parametrize("mode", ["joint", "threshold"])
def test_training_statistics_are_those_of_the_steps_that_are(mode: str) -> None:
    x = batch()
    steps = x.values.transpose(0, 1)
    valid = torch.cat([one[0] for one in alone(x)])
    norms = [BatchNorm(F, mode, threshold=0.5).double() for _ in range(2)]
    for norm in norms:
        nn.init.normal_(norm.weight, 1.0, 0.5, generator=torch.Generator().manual_seed(3))
    steps.requires_grad_()
    with padded(x.lengths):
        y = norms[0](steps)
    wanted = norms[1](valid[None])
    own = torch.cat([y[: int(n), k] for k, n in enumerate(x.lengths)])
    torch.testing.assert_close(own, wanted[0], rtol=1e-12, atol=1e-12)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(norms[0], name), getattr(norms[1], name), rtol=1e-12, atol=1e-12)
    y.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(norms[0].weight.grad, norms[1].weight.grad, rtol=1e-10, atol=1e-10)
    gone = torch.cat([steps.grad[int(n) :, k] for k, n in enumerate(x.lengths)])  # type: ignore[index]
    assert not bool(gone.any())
    with pytest.raises(ValueError, match="joint statistics"), padded(x.lengths):
        BatchNorm(F, "per_step").double()(steps)


@pytest.mark.parametrize("memory", ["plain", "lean"])
def test_what_fills_a_batch_up_changes_nothing_in_training(memory: str) -> None:
    """In training, with batch statistics: other junk and more padding give the same loss, gradients and statistics."""
    x = batch()
    longer = Padded(torch.cat([x.values, torch.zeros(len(LENGTHS), 4, F, dtype=torch.float64)], 1), x.lengths)
    junk = Padded(x.values.clone(), x.lengths)
    for k, n in enumerate(x.lengths):
        junk.values[k, int(n) :] = 7.0
    found = []
    for given in (x, junk, longer):
        net = at_length(network(MeanReadout(), norm=True).train(), given.values.shape[1])
        both = WithPenalty(net, SpikePenalty("bits", 0.5, 0.1, True))
        if memory == "lean":
            with lean():
                y, penalty = run(both, given)
        else:
            y, penalty = run(both, given)
        found.append([y.detach(), penalty.detach(), *gradients(net, y.square().sum() + penalty), *net.buffers()])
    assert bool(found[0][1] > 0)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def run(both: nn.Module, x: Padded) -> tuple[Tensor, Tensor]:
    with padded(x.lengths):
        return both(x.values)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["rate", "bits"])
@pytest.mark.parametrize("per_layer", [False, True])
def test_the_penalty_counts_the_steps_that_are(kind: str, per_layer: bool) -> None:
    net, x = network(MeanReadout()).eval(), batch()
    penalty = SpikePenalty(kind, 1.0, 0.0, per_layer)
    _, found = run(WithPenalty(net, penalty), x)
    activity = observe(net, alone(x))
    share = {a.path: ((a.fired if kind == "rate" else a.set_bits), a.sent) for a in activity.values()}
    if per_layer:
        wanted = float(np.mean([(n / of) ** 2 for n, of in share.values()]))
    else:
        wanted = (sum(n for n, _ in share.values()) / sum(of for _, of in share.values())) ** 2
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-5) and wanted > 0


def test_health_does_not_look_at_what_fills_a_batch_up() -> None:
    neuron = LIF(threshold=1.0, decay=0.0)
    x = torch.zeros(4, 2, 2)
    x[:2, 0, 0] = 2.0
    x[2:, :, 1] = 2.0  # behind the ends
    found = []
    for lengths in (torch.tensor([2, 1]), None):
        watch = Watch(neuron)
        with watch.watching(), padded(lengths):
            neuron(x)
        found.append(watch.report().get("silent", {}))
    assert found == [{"": [1, 2]}, {}]


def test_lengths_that_cannot_be_are_refused() -> None:
    x = torch.zeros(3, 4, 2)
    for lengths, message in (
        (torch.tensor([1, 2]), r"lengths must be \[3\]"),
        (torch.tensor([0, 2, 4]), r"lie in \[1, 4\]"),
        (torch.tensor([1, 2, 5]), r"lie in \[1, 4\]"),
        (torch.tensor([1.0, 2.0, 3.0]), "int64"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            Padded(x, lengths)
        with pytest.raises((TypeError, ValueError), match=message):
            SequenceSet(x, torch.zeros(3, dtype=torch.int64), ("a",), "toy", lengths=lengths)
    with pytest.raises(ValueError, match="must be 0"):
        SequenceSet(x + 1, torch.zeros(3, dtype=torch.int64), ("a",), "toy", lengths=torch.tensor([4, 4, 3]))
    for readout in (MeanReadout(), lambda y: mean_over_steps(y, torch.tensor([1, 2]))):
        with pytest.raises(ValueError, match="as many steps and samples"), padded(torch.tensor([1, 2])):
            readout(torch.zeros(4, 3, 2))
    with pytest.raises(ValueError, match="T = 7 steps or fewer"):
        Frames(7, ragged=True)(torch.zeros(1, 8, 2))


def table(**tables: Any) -> Any:
    base: dict[str, Any] = {
        "name": "unequal",
        "data": {"time": True, "batch_size": 32},
        "model": {
            "name": "mlp",
            "T": 12,
            "encoder": "frames",
            "encoder_options": {"ragged": True},
            "options": {"hidden": [16]},
        },
        "neuron": {"name": "multibit"},
        "weight": {"name": "uniform", "bits": 4},
        "train": {"epochs": 8, "lr": 0.01, "optimiser": "adamw", "threads": 1},
    }
    return recipe_from_mapping({**base, **{key: {**base.get(key, {}), **value} for key, value in tables.items()}})


def recordings(count: int = 360) -> list[tuple[np.ndarray, int]]:
    """Sequences of 4 to 12 steps; the class is which half of the features spikes more."""
    rng, made = np.random.default_rng(0), []
    for _ in range(count):
        y = int(rng.integers(0, 2))
        x = rng.poisson(0.5, (int(rng.integers(4, 13)), 8)).astype(np.uint8)
        x[:, 4 * y : 4 * y + 4] += rng.poisson(0.5, (len(x), 4)).astype(np.uint8)
        made.append((x, y))
    return made


def test_lists_are_padded_and_keep_their_order() -> None:
    made = recordings(40)
    splits = gather(made[:20], made[20:30], made[30:], time=True)
    assert splits.test.images.dtype == torch.uint8 and splits.test.steps == splits.train.steps
    for k, (x, y) in enumerate(made[30:]):
        assert int(splits.test.lengths[k]) == len(x) and int(splits.test.labels[k]) == y
        assert np.array_equal(splits.test.images[k, : len(x)].numpy(), x) and not splits.test.images[k, len(x) :].any()
    assert "of 4 to 12 steps" in repr(splits.train)
    x, _ = next(iter(Batches(splits.test, 4)))
    assert torch.equal(lengths_of(x), splits.test.lengths[:4])  # type: ignore[arg-type]
    chosen = splits.test.subset([3, 0])
    assert torch.equal(chosen.lengths, splits.test.lengths[[3, 0]]) and chosen.digest() != splits.test.digest()
    cut = SequenceSet(**{**vars(splits.test), "lengths": splits.test.lengths.clone().fill_(12)})
    assert cut.digest() != splits.test.digest()
    parts = splits.test.by_length()
    assert sum(map(len, parts)) == 10 and all(part.lengths is None for part in parts)
    equal = splits.test.equal()
    assert equal.lengths is None and equal.steps == sorted(splits.test.lengths.tolist())[4]


def test_files_and_sources_may_say_lengths(tmp_path: Path) -> None:
    x, ends = pad([torch.from_numpy(x) for x, _ in recordings(30)])
    y = np.array([y for _, y in recordings(30)])
    junk = x.clone()
    for k, n in enumerate(ends):
        junk[k, int(n) :] = 9
    np.savez(tmp_path / "a.npz", x=junk.numpy(), y=y, lengths=ends.numpy().astype(np.int16))
    read = load("npz:a.npz", tmp_path, time=True)
    listed = source(lambda root=None: {"x_train": [x for x, _ in recordings(30)], "y_train": y, "time": True})
    given = source(lambda root=None: {"x_train": junk, "y_train": y, "time": True, "lengths_train": ends})
    same = gather(recordings(30), time=True)
    for splits in (read, read_source("a", listed, None), read_source("b", given, None)):
        assert splits.digest() == same.digest()
    floats = junk.float()
    floats[torch.arange(x.shape[1]) >= ends[:, None]] = torch.nan  # behind the ends, where nobody looks
    nan = source(lambda root=None: {"x_train": floats, "y_train": y, "time": True, "lengths_train": ends})
    assert bool(read_source("c", nan, None).train.images.isfinite().all())
    np.savez(tmp_path / "b.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:], lengths_train=ends[:20])
    with pytest.raises(ValueError, match="every part must have them, got none of test"):
        load("npz:b.npz", tmp_path, time=True)
    both = source(lambda root=None: {"x_train": [x[0]], "y_train": y[:1], "time": True, "lengths_train": ends[:1]})
    still = source(lambda root=None: {"x_train": floats.nan_to_num(), "y_train": y, "lengths_train": ends})
    for wrong, message in ((both, "left out where 'x_train' is a list"), (still, "no time axis")):
        with pytest.raises(ValueError, match=message):
            read_source("d", wrong, None)


@pytest.mark.parametrize("kind", ["mean", "steps"])
def test_a_run_learns_and_its_figures_are_those_of_sequences_alone(kind: str) -> None:
    splits = gather(recordings(), time=True)
    train = {"loss": "tet"} if kind == "steps" else {}
    out = fit(table(model={"readout": kind}, train=train), splits)
    logits = logits_of(out.model, splits.test, 50)
    own = [
        mean_over_steps(out.model(x[None, : int(n)].float()), None)
        for x, n in zip(splits.test.images, splits.test.lengths, strict=True)
    ]
    torch.testing.assert_close(logits, torch.cat(own), rtol=1e-5, atol=1e-5)
    right = float((torch.cat(own).argmax(1) == splits.test.labels).double().mean())
    assert evaluate(out.model, splits.test) == right > 0.8


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"model": {"encoder_options": {}}}, "ragged must be true"),
        ({"model": {"norm": "per_step"}}, "norm = 'per_step' must be left out"),
        ({"train": {"compile": True}}, r"train\.compile must be left out"),
        ({"neuron": {"name": "adaptive"}}, "learned bits or time steps must be left out"),
    ],
)
def test_what_reads_whole_batches_is_refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(table(**tables), gather(recordings(60), time=True))


@pytest.mark.parametrize("layer", [Windows(2, frames=T), Squeeze(2), Squeeze(1)])
def test_layers_that_change_the_steps_are_refused(layer: nn.Module) -> None:
    net = Network(
        Frames(T, ragged=True), nn.Sequential(Flatten(), Linear(F, 4), LIF(), layer, Linear(4, K)), MeanReadout()
    )
    data = SequenceSet(*pad([row.float() for row in rows()])[:1], torch.zeros(6, dtype=torch.int64), ("a",), "toy")
    check_unequal(table(), net, data, 1)  # all of one length
    unequal = SequenceSet(data.images, data.labels, ("a",), "toy", lengths=torch.tensor(LENGTHS))
    with pytest.raises(ValueError, match="no layer may change the number of steps"):
        check_unequal(table(), net, unequal, 1)
    with pytest.raises(ValueError, match="several processes must be left out"):
        check_unequal(table(), net, unequal, 2)
    with pytest.raises(ValueError, match="change the number of steps"), padded(unequal.lengths):
        net(unequal.images)  # in a loop of one's own, too


def test_a_join_of_other_steps_is_refused_and_one_of_the_same_is_not() -> None:
    x = torch.ones(4, 2, 3)
    with padded(torch.tensor([4, 2])):
        assert torch.equal(Join()(x, x), 2 * x)
        with pytest.raises(ValueError, match="change the number of steps"):
            Join()(x, x[:2])


RECIPE = """
name = "unequal"
[data]
name = "npz:a.npz"
time = true
batch_size = 32
[model]
name = "mlp"
T = 12
encoder = "frames"
encoder_options = {ragged = true}
options = {hidden = [16]}
[neuron]
name = "multibit"
[weight]
name = "uniform"
bits = 4
[train]
epochs = 8
lr = 0.01
optimiser = "adamw"
threads = 1
[regulariser]
kind = "rate"
weight = 0.01
target = 0.2
"""


def test_every_command_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = recordings()
    x, ends = pad([torch.from_numpy(x) for x, _ in made])
    np.savez(tmp_path / "a.npz", x=x.numpy(), y=np.array([y for _, y in made]), lengths=ends.numpy())
    (tmp_path / "r.toml").write_text(RECIPE)
    run, program = str(tmp_path / "run"), str(tmp_path / "m.bitspike")
    main(["train", str(tmp_path / "r.toml"), "--out", run, "--quiet", "--set", f"data.root={tmp_path}"])
    summary = read_json(tmp_path / "run" / "summary.json")
    recipe, splits, model = open_run(tmp_path / "run")
    assert isinstance(splits.validation, SequenceSet) and splits.validation.lengths is not None
    assert summary["steps"] == splits.validation.equal().steps < recipe.model.T
    assert summary["folded_test_accuracy"] == pytest.approx(summary["test_accuracy"], abs=0.03)
    rate = observe(model, [next(iter(Batches(splits.validation.equal(), 256)))[0]])["body_3"]
    assert summary["rates"]["body.3"]["rate"] == rate.rate and summary["steps"] == rate.T
    found = evaluate_run(tmp_path / "run")
    assert found["test_accuracy"] == summary["test_accuracy"] > 0.8
    assert found["batch_invariance"]["1"]["classes_that_differ"] == 0
    for command in (["fold", run], ["cost", run], ["compile", run, "-o", program], ["verify", run, program]):
        main(command)
    cost = read_json(tmp_path / "run" / "cost.json")
    assert {row["T"] for row in cost["layers"] if row["kind"] == "synapse"} == {summary["steps"]}
    verified = read_json(tmp_path / "run" / "verify.json")
    assert verified["samples"] == len(splits.test) and verified["different"] == 0
    logits = logits_of(model, splits.test, 64)
    loaded = load_program(program)
    for k in range(10):
        own = splits.test.images[k, : int(splits.test.lengths[k])]
        values = loaded(own[:, None].float().numpy()).values
        assert np.abs(values - logits[k].numpy()).max() < 0.2 * float(logits.abs().max())
        np.save(tmp_path / "x.npy", own.numpy())
        main(["run", program, "--input", str(tmp_path / "x.npy"), "--json", str(tmp_path / "run.json")])
        shown = read_json(tmp_path / "run.json")["predictions"][0]["classes"][0]
        assert shown["value"] == values.max()
    with pytest.raises(SystemExit):
        np.save(tmp_path / "x.npy", np.zeros((1, 13, 8), np.uint8))
        main(["run", program, "--input", str(tmp_path / "x.npy")])
    assert "12 steps or fewer" in capsys.readouterr().err


def test_a_model_is_built_for_the_longest(tmp_path: Path) -> None:
    data = gather(recordings(60), time=True).train
    assert data.steps == build_model(table(), data).encoder.T
    with pytest.raises(ValueError, match="T must be 12"):
        build_model(table(model={"T": 11}), data)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_batch_may_be_a_list_of_arrays(kind: Callable[[np.ndarray], Any]) -> None:
    """As one sequence after the other; of equal ones it is the array."""
    made = recordings(30)
    batches = [([kind(x) for x, _ in made[k : k + 6]], [y for _, y in made[k : k + 6]]) for k in range(0, 30, 6)]
    found, wanted = gather(batches, time=True).train, gather(made, time=True).train
    assert torch.equal(found.images, wanted.images) and torch.equal(found.labels, wanted.labels)
    assert found.lengths is not None and torch.equal(found.lengths, wanted.lengths)
    alike = [x[:1] for x, _ in made]
    labels = [y for _, y in made]
    assert (
        gather([(alike, labels)], time=True).train.digest()
        == gather([(np.stack(alike), labels)], time=True).train.digest()
    )
    with pytest.raises(ValueError, match="a list of sequences must have as many targets, got 30 and 29"):
        gather([(alike, labels[1:])], time=True)
