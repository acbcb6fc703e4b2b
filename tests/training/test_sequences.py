"""Samples with a time axis through training and every command: the steps stay in their order, nothing is repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bitspike
from bitspike.cli import main
from bitspike.cost import cost as count
from bitspike.data import Batches, SequenceSet, gather
from bitspike.files import read_json
from bitspike.graph import trace
from bitspike.ops import lean
from bitspike.runtime import load as load_program
from bitspike.training import fit, load_data, read_recipe, recipe_from_mapping
from bitspike.training.build import build_model
from bitspike.training.job import digest
from bitspike.training.loop import channels_last
from bitspike.training.runs import open_run

T = 4
RECIPE = """
name = "order"
[data]
name = "npz:bursts.npz"
time = true
batch_size = 32
[model]
name = "study_cnn"
T = 4
encoder = "frames"
[model.options]
width = 8
stem_stride = 1
[neuron]
name = "multibit"
[weight]
name = "uniform"
bits = 4
[train]
epochs = 4
threads = 1
"""


def bursts(count: int = 320) -> tuple[np.ndarray, np.ndarray]:
    """Counts [N, T, 2, 8, 8] that are many at the first step (class 0) or at the last (class 1)."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, count)
    x = rng.poisson(0.4, (count, T, 2, 8, 8)).astype(np.uint8)
    x[np.arange(count), (T - 1) * y] += rng.poisson(1.5, (count, 2, 8, 8)).astype(np.uint8)
    return x, y


def table(**tables: Any) -> Any:
    base: dict[str, Any] = {
        "name": "order",
        "data": {"time": True, "batch_size": 32},
        "model": {"name": "mlp", "T": T, "encoder": "frames", "options": {"hidden": [8]}},
        "neuron": {"name": "multibit"},
        "weight": {"name": "float"},
        "train": {"epochs": 1, "threads": 1},
    }
    return recipe_from_mapping({**base, **{key: {**base.get(key, {}), **value} for key, value in tables.items()}})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a recipe and its run."""
    folder = tmp_path_factory.mktemp("sequences")
    x, y = bursts()
    np.savez(folder / "bursts.npz", x=x, y=y)
    (folder / "recipe.toml").write_text(RECIPE)
    main([*train(folder, folder / "run"), "--quiet"])
    return folder


def train(folder: Path, out: Path, *sets: str) -> list[str]:
    return ["train", str(folder / "recipe.toml"), "--out", str(out), "--set", f"data.root={folder}", *sets]


def test_a_run_learns_what_only_the_order_of_steps_tells(place: Path) -> None:
    summary = read_json(place / "run" / "summary.json")
    assert summary["test_accuracy"] > 0.9 and summary["fold"]["agreement"] == 1.0
    main(["eval", str(place / "run")])
    found = read_json(place / "run" / "eval.json")
    assert found["test_accuracy"] == summary["test_accuracy"]
    assert found["batch_invariance"]["1"]["classes_that_differ"] == 0
    _, splits, model = open_run(place / "run")
    turned = torch.cat([model(x.flip(1)) for x, _ in Batches(splits.test, 64)]).argmax(1)
    assert float((turned == splits.test.labels).double().mean()) < 0.5


def test_integers_stay_what_they_are_until_the_batch(place: Path) -> None:
    _, splits, model = open_run(place / "run")
    assert isinstance(splits.train, SequenceSet) and splits.train.images.dtype == torch.uint8
    x, labels = next(iter(Batches(splits.test, 8)))
    assert x.shape == (8, T, 2, 8, 8) and torch.equal(x, splits.test.images[:8].float())
    assert torch.equal(labels, splits.test.labels[:8])
    assert torch.equal(model.encoder(x), x.transpose(0, 1))


def test_cost_counts_the_steps_that_came(place: Path) -> None:
    _, splits, model = open_run(place / "run")
    x, _ = next(iter(Batches(splits.validation, 16)))
    folded = bitspike.fold(model, x)
    counted = count(folded.graph, x)
    first = next(row for row in counted.layers if row.role == "first")
    assert first.T == T and first.rate == pytest.approx(float((x != 0).double().mean()))
    main(["cost", str(place / "run")])
    main(["fold", str(place / "run")])


def test_a_program_and_a_stream_take_the_steps(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "m.bitspike"
    main(["compile", str(place / "run"), "-o", str(out)])
    main(["verify", str(place / "run"), str(out)])
    _, splits, model = open_run(place / "run")
    x, labels = next(iter(Batches(splits.test, 48)))
    steps = x.transpose(0, 1).contiguous()
    program = load_program(out)
    whole = program(steps.numpy())
    assert float((whole.levels.argmax(1) == labels.numpy()).mean()) > 0.9
    state, part = None, None
    for step in steps:
        part, state = program.stream(step[None].numpy(), state)
    assert part is not None and (part.levels == whole.levels).all()
    graph, states = trace(model), None
    for step in steps:
        logits, states = bitspike.stream(graph, step[None], states)
    torch.testing.assert_close(logits, model(x))
    np.save(place / "x.npy", splits.test.images[:5].numpy())
    capsys.readouterr()
    main(["run", str(out), "--input", str(place / "x.npy"), "--json", str(place / "run.json")])
    shown = [row["classes"][0]["class"] for row in read_json(place / "run.json")["predictions"]]
    assert shown == [str(k) for k in whole.levels.argmax(1)[:5]]
    np.save(place / "one.npy", splits.test.images[0].numpy())
    main(["run", str(out), "--input", str(place / "one.npy"), "--json", str(place / "run.json")])
    assert [row["classes"][0]["class"] for row in read_json(place / "run.json")["predictions"]] == shown[:1]
    for wrong in (splits.test.images[:4, :3], splits.test.images[:6].transpose(0, 1).contiguous()):
        np.save(place / "x.npy", wrong.numpy())
        with pytest.raises(SystemExit):
            main(["run", str(out), "--input", str(place / "x.npy")])
        assert "samples of 4 steps" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["interpreter", "auto"])
def test_run_shows_the_mean_over_the_steps_of_the_outputs(engine: str, place: Path, tmp_path: Path) -> None:
    sets = ("model.readout=steps", "train.loss=tet")
    main([*train(place, tmp_path / "run", *sets), "--quiet"])
    out = tmp_path / "steps.bitspike"
    main(["compile", str(tmp_path / "run"), "-o", str(out)])
    _, splits, _ = open_run(tmp_path / "run")
    x, _ = next(iter(Batches(splits.test, 16)))
    np.save(tmp_path / "x.npy", x.to(torch.uint8).numpy())
    given = ["--input", str(tmp_path / "x.npy"), "--engine", engine, "--json", str(tmp_path / "run.json")]
    main(["run", str(out), *given])
    mean = load_program(out)(x.transpose(0, 1).contiguous().numpy()).values.mean(0)
    for row, values in zip(read_json(tmp_path / "run.json")["predictions"], mean, strict=True):
        best = row["classes"][0]
        assert best["class"] == str(values.argmax()) and best["value"] == pytest.approx(values.max(), abs=1e-12)


def test_top_holds_for_programs_too(place: Path) -> None:
    main([*train(place, place / "top", "data.top=10"), "--quiet"])
    main(["compile", str(place / "top"), "-o", str(place / "top.bitspike")])
    _, splits, _ = open_run(place / "top")
    np.save(place / "x.npy", splits.test.images[:5].numpy())
    main(["run", str(place / "top.bitspike"), "--input", str(place / "x.npy"), "--json", str(place / "top.json")])
    x = splits.test.normalise(splits.test.images[:5])
    assert float(x.max()) < 2
    values = load_program(place / "top.bitspike")(x.transpose(0, 1).contiguous().numpy()).values
    shown = [{c["class"]: c["value"] for c in row["classes"]} for row in read_json(place / "top.json")["predictions"]]
    assert shown == [{str(k): value for k, value in enumerate(row)} for row in values.tolist()]


def test_a_run_that_was_cut_goes_on_with_the_same_weights(tmp_path: Path) -> None:
    from bitspike.training import Checkpoints

    splits = gather([bursts(96)], time=True)
    recipe = table(train={"epochs": 2})
    whole = fit(recipe, splits)
    checkpoints = Checkpoints(tmp_path, "key")

    def stop(figures: dict[str, Any]) -> None:
        if figures.get("validation_accuracy") is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(recipe, splits, stop, checkpoints)
    again = fit(recipe, splits, None, checkpoints)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"model": {"T": 2}},
            r"T must be 4, .*model\.T=4, or slice .*x\[:, :2\] or x\.reshape\(N, 2, 2, \.\.\.\)\.sum\(2\)",
        ),
        ({"model": {"T": 5}}, r"T must be 4"),
        ({"model": {"encoder": "repeat"}}, "encoder must be 'delta' or 'frames'.* holds sequences"),
        ({"model": {"encoder": "poisson"}}, "encoder must be 'delta' or 'frames'.* holds sequences"),
        ({"allocation": {"refined": True}, "neuron": {"name": "adaptive"}}, "refined must be false"),
        ({"data": {"augment": "shift"}}, "have a time axis"),
        ({"train": {"channels_last": True}, "model": {"name": "mlp"}}, None),
    ],
)
def test_what_does_not_fit_sequences_is_refused(tables: dict[str, Any], message: str | None) -> None:
    splits = gather([bursts(96)], time=True)
    if message is None:
        fit(table(**tables), splits)
        return
    with pytest.raises(ValueError, match=message):
        fit(table(**tables), splits)


def test_frames_of_still_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder must be .*'repeat'.*without a time axis.*data\.time=true"):
        fit(table(data={"time": False}), gather([(torch.randn(64, T, 3), torch.arange(64) % 2)]))
    with pytest.raises(ValueError, match="channels_last must be false where samples are no images"):
        fit(table(train={"channels_last": True}), gather([(torch.randn(64, T, 3), torch.arange(64) % 2)], time=True))


def test_commands_refuse_before_anything_is_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sets, message in (
        (["model.T=3"], "T must be 4"),
        (["data.time=false"], "data.time = true"),
        (["model.encoder=repeat"], "encoder must be 'delta' or 'frames'"),
        (["data.augment=shift"], "have a time axis"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(train(place, place / "none", *sets))
        assert caught.value.code == 2 and message in capsys.readouterr().err
    assert not (place / "none").exists()


def test_a_converted_network_takes_no_sequences(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--arch", "mlp", "--data", "npz:bursts.npz", "--set", "data.time=true", f"data.root={place}"]
    with pytest.raises(SystemExit):
        main(["convert", "none.pth", "--out", str(place / "ann"), *given])
    assert "encoder must be 'delta' or 'frames'" in capsys.readouterr().err


def test_time_is_a_part_of_the_key_and_keys_from_before_stay(place: Path) -> None:
    recipe = read_recipe(place / "recipe.toml", [f"data.root={place}"])
    content = digest(recipe, load_data(recipe))
    still = read_recipe(place / "recipe.toml", [f"data.root={place}", "data.time=false"])
    top = read_recipe(place / "recipe.toml", [f"data.root={place}", "data.top=2"])
    assert len({each.key(content) for each in (recipe, still, top)}) == 3
    plain = recipe_from_mapping({"name": "a", "neuron": {"name": "lif"}, "weight": {"name": "sign"}})
    assert plain.key("0") == "3c64b6d4ee620c458387c3dc97947f9df14c9f25b99f9188f4accd3bfd15750c"


@pytest.mark.parametrize("memory", ["plain", "lean"])
def test_frames_in_channels_last_order_give_the_same(memory: str) -> None:
    data = gather([bursts(64)], time=True).train
    recipe = table(model={"name": "study_cnn", "options": {"width": 4, "stem_stride": 1}})
    model = build_model(recipe, data).double()
    x = data.normalise(data.images[:8]).double()
    assert torch.equal(channels_last(x), x) and channels_last(x)[0, 0].stride()[0] == 1
    found = []
    for given in (x, channels_last(x)):
        model.zero_grad()
        if memory == "lean":
            with lean():
                y = model(given)
        else:
            y = model(given)
        y.square().sum().backward()
        found.append([y.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
