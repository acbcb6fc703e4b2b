"""Pictures of what layers send: the numbers are those of a computation by hand, a run, a program; wrong calls."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitspike import observe
from bitspike.cli import main
from bitspike.data import ArraySet, SequenceSet
from bitspike.layers import Flatten, Frames, Linear, MeanReadout, Poisson, Windows
from bitspike.neurons import LIF, MultiBit, Real, Ternary
from bitspike.report.figure import new_figure
from bitspike.report.spikes import (
    Layer,
    Seen,
    layer_facts,
    picture,
    seen_in_network,
    spike_gif,
    spike_page,
    spike_picture,
)
from bitspike.report.spikes.choice import chosen
from bitspike.report.spikes.colours import MISSING, Scale, palette
from bitspike.report.spikes.film import strips
from bitspike.report.spikes.tiles import laid
from bitspike.runtime import load
from bitspike.training import recipe_from_mapping
from bitspike.training.runs import open_run, train_run
from networks import SPIKING, liven, make_neuron, samples, small_cnn

CLASSES = ("up", "down", "still")


def counts(many: int, seed: int = 0, steps: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.7, (many, steps, 2, 3, 4)).astype(np.uint8)


def drawn(lengths: list[int] | None = None) -> SequenceSet:
    x = torch.from_numpy(counts(4))
    if lengths is not None:
        for row, length in zip(x, lengths, strict=True):
            row[length:] = 0
    given = None if lengths is None else torch.tensor(lengths)
    return SequenceSet(x, torch.arange(4) % 3, CLASSES, "toy", lengths=given)


def by_hand(kind: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Levels [T, neurons] of one layer with decay 0.5 and threshold 1, number by number."""
    sent = np.zeros((len(x), len(bias)))
    for j in range(len(bias)):
        v = 0.0
        for t, frame in enumerate(x.reshape(len(x), -1).astype(np.float64)):
            u = 0.5 * v + float(weight[j] @ frame + bias[j])
            if kind == "multibit":
                k = min(max(int(np.floor(2 * u)), 0), 3)
                sent[t, j], v = k, u - k / 2
            elif kind == "ternary":
                k = int(u >= 1) - int(u <= -1)
                sent[t, j], v = k, 0.0 if k else u
            else:
                sent[t, j] = u if u >= 1 else 0.0
                v = u - sent[t, j]
    return sent


NEURONS = {"multibit": MultiBit(), "ternary": Ternary(1.0, 0.5), "real": Real(1.0, 0.5)}


@pytest.mark.parametrize("kind", list(NEURONS))
@pytest.mark.parametrize("lengths", [None, [5, 2, 1, 4]])
def test_levels_are_those_of_a_computation_by_hand(kind: str, lengths: list[int] | None) -> None:
    torch.manual_seed(0)
    linear, neuron, ragged = Linear(24, 9), NEURONS[kind], lengths is not None
    net = torch.nn.Sequential(Frames(5, ragged), Flatten(), linear, neuron, Linear(9, 3), MeanReadout()).eval()
    data, weight, bias = drawn(lengths), *(p.detach().double().numpy() for p in (linear.weight, linear.bias))
    (layer,), seen = seen_in_network(net, data, [1, 3])
    for index, one in zip((1, 3), seen, strict=True):
        steps = 5 if lengths is None else lengths[index]
        wanted = by_hand(kind, data.images[index, :steps].numpy(), weight, bias)
        np.testing.assert_allclose(one.sent[layer.name], wanted, rtol=1e-5, atol=1e-6)
        assert (wanted != 0).any() and one.sent[layer.name].shape == (steps, 9)
        np.testing.assert_allclose(one.rates(layer.name), (wanted != 0).mean(1))
        assert one.words.startswith(f"test {index}: label {CLASSES[index % 3]}, answer ")
        np.testing.assert_array_equal(one.sample, data.images[index, :steps].numpy())
    (row,) = layer_facts([layer], seen)
    assert row["spikes"] == sum(int((one.sent[layer.name] != 0).sum()) for one in seen)
    if kind == "ternary":
        assert (layer.low, layer.high) == (-1, 1) and row["levels"]["-1"] and row["levels"]["1"]
    assert layer.real == (kind == "real")


@pytest.mark.parametrize("name", SPIKING)
def test_counts_are_those_of_observe(name: str) -> None:
    """Of every neuron, with an amplitude, in a residual network."""
    x = samples(3, dtype=torch.float32)
    net = liven(small_cnn(make_neuron(name, amplitude=0.7)), x)
    layers, seen = seen_in_network(net, ArraySet(x, torch.tensor([0, 1, 2]), (*CLASSES, "a", "b"), "toy"), range(3))
    activity = observe(net, [x])
    assert [layer.name for layer in layers] == list(activity)
    for row, layer, counted in zip(layer_facts(layers, seen), layers, activity.values(), strict=True):
        assert (row["spikes"], row["rate"]) == (counted.fired, pytest.approx(counted.rate))
        assert layer.shape == counted.shape and row["steps"] == [counted.T] * 3
        if not layer.real:
            assert row["levels"] == {str(k): n for k, n in counted.histogram.items() if n}
    assert Scale(layers, seen).codes(layers[0].name, seen[0].sent[layers[0].name]).min() >= 1


def test_an_encoder_that_sends_spikes_is_a_layer() -> None:
    net = torch.nn.Sequential(Poisson(6, seed=3), Linear(4, 3), LIF(), MeanReadout()).eval()
    x = torch.tensor([[0.0, 0.3, 0.8, 1.0]])
    layers, (one,) = seen_in_network(net, ArraySet(x, torch.tensor([0]), CLASSES, "toy"), [0])
    assert [layer.shape for layer in layers] == [(4,), (3,)] and not one.timed
    np.testing.assert_array_equal(one.sent[layers[0].name], net[0](x)[:, 0].numpy())


def toy(levels: dict[str, np.ndarray], sample: np.ndarray | None = None) -> Seen:
    return Seen("test 0", np.zeros((1, 2, 2)) if sample is None else sample, sample is not None, levels, np.zeros(2))


def test_every_level_has_its_own_colour_and_a_place_in_the_legend() -> None:
    layers = [Layer("signed", (5,), -3, 3), Layer("binary", (1,), 0, 1), Layer("real", (2,), 0, 1, True)]
    sent = {"signed": np.array([[-3, -2, -1, 0, 1]]), "binary": np.array([[1]]), "real": np.array([[0.0, 2.5]])}
    scale, colours = Scale(layers, [toy(sent)]), palette()
    codes = scale.codes("signed", np.arange(-3, 4))
    assert len(np.unique(colours[codes], axis=0)) == 7 and codes[3] == 128
    assert colours[128].tolist() == [255, 255, 255] and scale.codes("binary", np.array([1])) == codes[4]
    legend = dict(scale.legend())
    assert list(legend) == ["-3", "-2", "-1", "+1", "+2", "+3", "real 0.625", "real 1.25", "real 2.5"]
    for level, code in zip(range(-3, 4), codes.tolist(), strict=True):
        if level:
            assert legend[f"{level:+d}"] == tuple(colours[code].tolist())
    red, blue = colours[129:].astype(int), colours[1:128].astype(int)  # warm above 0, cold below, in every shade
    assert (red[:, 0] > red[:, 2]).all() and (blue[:, 2] > blue[:, 0]).all()
    assert np.unique(colours, axis=0).shape == (256, 3)


@pytest.mark.parametrize("most", range(1, 32))
def test_up_to_31_levels_have_shades_of_their_own(most: int) -> None:
    layer = Layer("a", (1,), -most, most)
    codes = Scale([layer], [toy({"a": np.array([[0]])})]).codes("a", np.arange(-most, most + 1))
    assert len(np.unique(palette()[codes], axis=0)) == 2 * most + 1


def test_many_levels_keep_their_order() -> None:
    layers = [Layer("a", (4,), -32768, 65535)]
    scale = Scale(layers, [toy({"a": np.array([[0, 65535, -7, 1]])})])
    codes = scale.codes("a", np.arange(-32768, 65536)).astype(int)
    assert (np.diff(codes) >= 0).all() and codes[0] >= 1 and codes[-1] == 255
    assert codes[32767] < 128 == codes[32768] < codes[32769]
    assert [words for words, _ in scale.legend()] == ["-7", "+1", "+65535"]


@pytest.mark.parametrize("shape", [(3, 2, 5), (7,), (1, 1, 1), (2, 3), (64, 8, 8)])
def test_a_film_has_every_neuron_once(shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    codes = (1 + np.arange(2 * size) % 250).astype(np.uint8).reshape(2, *shape)
    film = laid(codes, shape, MISSING)
    for k in range(2):
        assert sorted(film[k][film[k] != MISSING].tolist()) == sorted(codes[k].ravel().tolist())
    if len(shape) == 3:
        rows = [film[0, :2, 6 * c : 6 * c + 5] for c in range(3)] if shape == (3, 2, 5) else []
        for plane, wanted in zip(rows, codes[0], strict=False):
            np.testing.assert_array_equal(plane, wanted)


def test_layers_with_fewer_steps_keep_their_place_in_time() -> None:
    net = torch.nn.Sequential(
        Frames(6), Flatten(), Linear(24, 8), LIF(), Windows(3), Linear(8, 5), MultiBit(), Linear(5, 3), MeanReadout()
    ).eval()
    x = torch.from_numpy(counts(2, steps=6))
    layers, seen = seen_in_network(net, SequenceSet(x, torch.tensor([0, 1]), CLASSES, "toy"), [0, 1])
    assert [one.sent[layer.name].shape for one in seen for layer in layers] == [(6, 8), (3, 5)] * 2
    sample, first, second = strips(layers, seen, Scale(layers, seen))[0]
    assert [sample.frame(k) for k in range(6)] == [first.frame(k) for k in range(6)] == list(range(6))
    assert [second.frame(k) for k in range(6)] == [0, 0, 1, 1, 2, 2]


def recipe(neuron: str, weight: dict[str, Any], data: dict[str, Any], **model: Any) -> Any:
    return recipe_from_mapping(
        {
            "name": "bursts $_$ <b>",
            "data": {"batch_size": 16, "validation": 0.2, **data},
            "model": {"name": "mlp", "options": {"hidden": [150, 6]}, **model},
            "neuron": {"name": neuron},
            "weight": weight,
            "train": {"epochs": 1, "threads": 1},
        }
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its program, and one without spikes."""
    folder = tmp_path_factory.mktemp("view")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.savez("bursts.npz", x=counts(60), y=np.arange(60) % 3)
        np.savez("still.npz", x=counts(60)[:, 0].astype(np.float32), y=np.arange(60) % 3)
        np.save("x.npy", counts(3, 7))
        four, timed = {"name": "uniform", "bits": 4}, {"name": "npz:bursts.npz", "time": True}
        Path("a.csv").touch()
        train_run(recipe("multibit", four, timed, T=5, encoder="frames"), folder / "run", resume=False)
        train_run(recipe("relu", {"name": "float"}, {"name": "npz:still.npz"}, T=1), folder / "ann", resume=False)
        main(["compile", "run", "-o", "run.bitspike"])
    return folder


def hooked(folder: Path, index: int) -> dict[str, np.ndarray]:
    """Module → levels [T, ...] of one test sample, by torch's own hooks."""
    _, splits, model = open_run(folder / "run")
    found: dict[str, np.ndarray] = {}
    for path, module in model.named_modules():
        if isinstance(module, MultiBit):
            module.register_forward_hook(lambda m, _, y, path=path: found.update({path: 2 * y[:, 0].detach().numpy()}))
    with torch.no_grad():
        model(splits.test.images[index : index + 1].float())
    return found


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def test_a_picture_of_a_run_shows_what_its_modules_send(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    figures: list[Any] = []
    monkeypatch.setattr(picture, "new_figure", lambda *size: figures.append(new_figure(*size)) or figures[-1])
    out, told = tmp_path / "a.png", tmp_path / "a.json"
    main(["view", "run", "-o", str(out), "--index", "2", "--samples", "2", "--json", str(told)])
    facts, samples = json.loads(told.read_text()), [hooked(here, 2), hooked(here, 3)]
    assert out.read_bytes().startswith(b"\x89PNG") and facts["bytes"] == out.stat().st_size
    axes, whole = np.array(figures[0].axes).reshape(3, 3), list(zip(*(s.values() for s in samples), strict=True))
    assert "$_$" in figures[0].get_suptitle() and [len(row) for row in whole] == [2, 2]
    colours = palette()
    for row, fact, levels in zip(axes[1:], facts["layers"], whole, strict=True):
        names, times = np.unique(np.stack(levels), return_counts=True)
        assert fact["levels"] == {str(int(k)): int(n) for k, n in zip(names, times, strict=True)}
        assert fact["rate"] == pytest.approx((np.stack(levels) != 0).mean())
        for panel, sent in zip(row[:2], levels, strict=True):
            code = np.where(sent == 0, 128, np.where(sent == 1, 129, np.where(sent == 2, 129 + 79, 255)))
            rows = chosen(sent.shape[1])  # 1 + round(126·log2(2)/log2(3)) = 80 above 128
            np.testing.assert_array_equal(panel.images[0].get_array(), colours[code[:, rows].T])
            box = panel.get_window_extent()  # a pixel a row at least
            assert box.height * 110 / figures[0].dpi >= len(rows)
        for stairs, sent in zip(row[2].patches, levels, strict=True):
            np.testing.assert_allclose(stairs.get_data().values, 100 * (sent != 0).mean(1))
    assert len(chosen(150)) == 128 and "128 of 150" in axes[1, 0].get_title("left")
    assert "2 layers, test 2: label" in capsys.readouterr().out


def test_a_page_and_a_gif_hold_every_neuron_of_every_step(here: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    main(["view", "run", "-o", str(tmp_path / "a.html"), "--index", "1"])
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "://" not in page and "<b>" not in page and "&lt;b&gt;" in page and "+3" in page
    (films,) = re.findall(r"const films = (\[.*\])\.map", page)
    sample, *layers = json.loads(films)
    assert (sample["n"], sample["deep"], sample["steps"]) == (5, 3, 5)
    for film, levels in zip(layers, hooked(here, 1).values(), strict=True):
        codes = np.frombuffer(base64.b64decode(film["data"]), np.uint8).reshape(5, film["h"] * film["w"])
        for step, sent in zip(codes, levels, strict=True):
            assert sorted((step[step != MISSING] - 128).tolist()) == sorted(
                {0: 0, 1: 1, 2: 80, 3: 127}[int(k)] for k in sent
            )
    main(["view", "run", "-o", str(tmp_path / "a.gif"), "--index", "1"])
    with image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 5 and film.info["loop"] == 0


def test_a_program_shows_the_integers_that_it_sends(here: Path, tmp_path: Path) -> None:
    """On its run's test split nearly what the network sends; on a file what its own engine answers with."""
    pytest.importorskip("PIL.Image")
    out, told = tmp_path / "a.gif", tmp_path / "a.json"
    main(["view", "run.bitspike", "--input", "run", "-o", str(out), "--samples", "3", "--json", str(told)])
    for row, name in zip(json.loads(told.read_text())["layers"], hooked(here, 0), strict=True):
        network = np.stack([hooked(here, i)[name] for i in range(3)])
        assert abs(row["rate"] - (network != 0).mean()) < 0.02 and set(row["levels"]) <= {"0", "1", "2", "3"}
    main(["view", "run.bitspike", "--input", "x.npy", "-o", str(out), "--index", "1", "--json", str(told)])
    (one,) = json.loads(told.read_text())["samples"]
    values = load(here / "run.bitspike")(np.load("x.npy")[1:2].transpose(1, 0, 2, 3, 4).astype(np.float32)).values
    np.testing.assert_allclose(one["output"], values[0])
    assert one["sample"] == "x.npy[1]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "-o", "a.png"], "no such file or folder"),
        ([".", "-o", "a.png"], "recipe.toml"),
        (["run", "-o", "a.jpg"], "'.png', '.gif', '.html'"),
        (["run", "-o", "a.png", "--T", "3"], "--T must be left out for a run"),
        (["run", "-o", "a.png", "--faults", "skip"], "--faults must be left out for a run"),
        (["run", "-o", "a.png", "--input", "x.npy"], "--input must be left out for a run"),
        (["run", "-o", "a.png", "--index", "99999"], "must be 0 to"),
        (["run", "-o", "a.png", "--index", "2147483648"], "--index"),
        (["run", "-o", "a.png", "--samples", "9"], "--samples"),
        (["ann", "-o", "a.png"], "a layer of neurons to draw"),
        (["run.bitspike", "-o", "a.png"], "pass --input X.npy"),
        (["run.bitspike", "-o", "a.png", "--input", "ann"], "compiled from, with T 5, got 1"),
        (["run.bitspike", "-o", "a.png", "--input", "none.npy"], "file or a folder"),
        (["run.bitspike", "-o", "a.png", "--input", "x.npy", "--index", "3"], "samples of x.npy must be 0 to 2"),
        (["run.bitspike", "-o", "a.png", "--input", "x.npy", "--weights", "best"], "--weights must be left out"),
        (["a.csv", "-o", "a.png", "--index", "1"], "--index must be left out for a recording"),
        (["x.npy", "-o", "a.png"], "'.bitspike'"),
    ],
)
def test_wrong_calls_are_refused_in_a_line(
    arguments: list[str], words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        main(["view", *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and words in line, line
    assert sorted(here.rglob("*")) == before


def test_what_no_file_should_hold_is_refused() -> None:
    layers = [Layer("a", (10,), 0, 1)]
    long = toy({"a": np.zeros((1001, 10), np.int32)}, np.zeros((1001, 3)))
    with pytest.raises(ValueError, match="at most 1000 steps"):
        spike_picture(layers, [long], "toy")
    large = toy({"a": np.broadcast_to(np.int32(0), (7000, 10_000))}, np.zeros((3, 3)))
    for draw in (lambda: spike_gif(layers, [large]), lambda: spike_page(None, layers, [large], "toy")):
        with pytest.raises(ValueError, match="smaller --samples"):
            draw()
    assert spike_page(None, layers, [long], "toy").count("<canvas") == 2
