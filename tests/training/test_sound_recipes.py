"""Sound in recipes: spectra, splits by speaker and augmentation by their keys."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import bitspike
import sound_files as files
from bitspike.data import Batches, SequenceSet, gather, load
from bitspike.data.sound import SoundMoves
from bitspike.layers.padding import values_of
from bitspike.schema import to_mapping, with_values
from bitspike.training import Checkpoints, fit, load_data, recipe_from_mapping
from bitspike.training.build import build_model
from bitspike.training.builtin import builtin
from bitspike.training.recipe import Recipe, read_recipe
from bitspike.training.resume import check_changes
from bitspike.training.study import plan, read_study
from small_recipes import framed


def table(root: Path | None = None, **tables: Any) -> Recipe:
    return framed("sound", {"name": "fsdd", "sound": {"mels": 6}}, root, tables)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    files.fsdd(folder)
    return folder


@pytest.mark.parametrize(
    ("data", "T", "options"),
    [
        ({"sound": {}}, 3, {}),
        ({}, 5, {"mels": 6}),
        ({"sound": {"mels": 6, "stack": 2, "fit": "crop", "loudness": "kept"}}, 3, {"fit": "crop", "loudness": "kept"}),
        ({"sound": {"mels": 6, "fmin": 200, "fmax": 3000.0}}, 3, {"fmin": 200, "fmax": 3000}),
        ({"sound": {"mels": 6, "window_ms": 20, "hop_ms": 16.0}}, 3, {"window_ms": 20, "hop_ms": 16}),
        ({"test_speakers": ["bob"], "validation": 0.5}, 3, {"test_speakers": ["bob"]}),
        ({"test_speakers": ["bob"], "validation_by": "class"}, 3, {"test_speakers": ["bob"], "validation_by": "class"}),
    ],
)
def test_spectra_are_those_of_the_table(root: Path, data: dict[str, Any], T: int, options: dict[str, Any]) -> None:
    found = load_data(table(root, data=data, model={"T": T}))
    more = {name: data.get("sound", {}).get(name, default) for name, default in (("mels", 32), ("stack", 1))}
    more |= {"mels": 6} if "sound" not in data else {}
    wanted = load("fsdd", root, data.get("validation", 0.2), T=T, **{**more, **options})
    assert found.digest() == wanted.digest() and found.train.steps == T


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"name": "digits", "root": None}, r"\[data\]: sound must be left out where name is 'digits': it is of sound"),
        ({"frames": {"by": "count"}}, r"\[data\]: frames must be left out where name is 'fsdd'"),
        (
            {"name": "digits", "sound": None, "test_speakers": ["bob"]},
            "test_speakers must be left out where name is 'dig",
        ),
        ({"event_augment": {"steps": ["flip"]}}, "event_augment must be left out where name is 'fsdd'"),
        ({"sound_augment": {"bands": 6}}, "bands must be at most 5 of 6"),
        ({"sound_augment": {"shift": 3}}, "shift must be at most 2 of 3"),
        ({"sound_augment": {"moments": 3}}, "moments must be at most 2 of 3"),
        ({"name": "digits", "root": None, "sound": None, "sound_augment": {"bands": 1}}, "samples without a time axis"),
        ({"size": 5}, "size must be left out where name is 'fsdd'"),
        ({"augment": "shift"}, "have a time axis"),
        ({"test_speakers": ["tom"]}, "a test speaker must be one of"),
    ],
)
def test_what_does_nothing_is_refused_by_name(root: Path, data: dict[str, Any], words: str) -> None:
    encoder = "repeat" if data.get("name") == "digits" else "frames"
    given = {key: value for key, value in {"sound": {"mels": 6}, **data}.items() if value is not None}
    recipe = table(None, data={**given}, model={"encoder": encoder})
    if data.get("sound", "") is None:
        recipe = replace(recipe, data=replace(recipe.data, sound=None))
    if encoder == "frames":
        recipe = replace(recipe, data=replace(recipe.data, root=str(root)))
    with pytest.raises(ValueError, match=words):
        load_data(recipe)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sound": {"mel": 5}}, r"\[data.sound\]: .*got 'mel'; did you mean 'mels'"),
        ({"sound": {"fit": "pad"}}, r"\[data.sound\]: fit must be one of 'stretch', 'crop', 'ragged'"),
        ({"sound": {"hop_ms": 0}}, r"\[data.sound\]: hop_ms must be"),
        ({"sound": {"fmin": -1}}, "fmin must be"),
        ({"test_speakers": "bob"}, "test_speakers must be"),
        ({"sound_augment": {}}, r"\[data.sound_augment\]: shift, moments or bands must be above 0"),
        ({"sound_augment": {"shift": -1}}, "shift must lie"),
        ({"sound_augment": {"band": 1}}, "did you mean 'bands'"),
        ({"sound_augment": {"shift": 1}, "event_augment": {"mix": 0.5}}, "must not be given together"),
    ],
)
def test_bad_keys(data: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        table(data=data)


def test_keys_of_jobs(root: Path) -> None:
    plain = table(root, data={"sound": {}})
    assert table(root, data={"sound": {"mels": 32, "fit": "stretch"}, "cache": "here"}).key("d") == plain.key("d")
    others = ({"sound": {"mels": 6}}, {"test_speakers": ["bob"]}, {"sound_augment": {"shift": 1}})
    assert len({plain.key("d"), *(table(root, data={"sound": {}, **data}).key("d") for data in others)}) == 4
    with pytest.raises(ValueError, match=r"data\.sound.* must be"):
        check_changes(plain, table(root), 1)


def own(**given: Any) -> SequenceSet:
    x = torch.randn(20, 4, 1, 3, 6, generator=torch.Generator().manual_seed(0))
    return SequenceSet(
        **{"images": x, "labels": torch.arange(20) % 4, "classes": tuple("abcd"), "name": "own", **given}
    )


ALL = SoundMoves(shift=3, moments=4, bands=2)


def test_moves_depend_on_seed_epoch_and_recording_alone() -> None:
    whole = torch.cat([x for x, _ in Batches(own(), 20, seed=1, epoch=2, moves=ALL)])
    assert not torch.equal(whole, own().images)
    for size in (1, 7):
        parts = list(Batches(own(), size, seed=1, epoch=2, moves=ALL))
        assert torch.equal(torch.cat([x for x, _ in parts]), whole)
        assert torch.equal(torch.cat([y for _, y in parts]), own().labels)
    shares = [list(Batches(own(), 10, True, 1, 2, moves=ALL, rank=rank, world=2)) for rank in (0, 1)]
    for number, (x, y) in enumerate(Batches(own(), 10, True, 1, 2, moves=ALL)):
        assert torch.equal(torch.cat([shares[rank][number][0] for rank in (0, 1)]), x)
        assert torch.equal(torch.cat([shares[rank][number][1] for rank in (0, 1)]), y)
    for seed, epoch in ((1, 3), (2, 2)):
        other = torch.cat([x for x, _ in Batches(own(), 20, seed=seed, epoch=epoch, moves=ALL)])
        assert not torch.equal(other, whole)


def moved(data: SequenceSet, moves: SoundMoves, epochs: int = 60) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(spectra before, spectra after) ``[T·stack, mels]`` of all recordings in many epochs."""
    found = []
    for epoch in range(epochs):
        x, _ = next(iter(Batches(data, len(data), epoch=epoch, moves=moves)))
        found += list(zip(data.images.flatten(1, 3), values_of(x).flatten(1, 3), strict=True))
    return found


def test_shifts_repeat_the_border() -> None:
    seen = set()
    for before, after in moved(own(), SoundMoves(shift=3)):
        by = [k for k in range(-3, 4) if torch.equal(after, before[(torch.arange(12) - k).clamp(0, 11)])]
        assert len(by) == 1
        seen |= set(by)
    assert seen == set(range(-3, 4))


@pytest.mark.parametrize(("moves", "axis"), [(SoundMoves(moments=4), 0), (SoundMoves(bands=4), 1)])
def test_masks_are_of_all_widths_and_places(moves: SoundMoves, axis: int) -> None:
    widths, places = set(), set()
    for before, after in moved(own(), moves):
        hidden = (after == 0).all(1 - axis)
        at = hidden.nonzero().flatten().tolist()
        assert at == list(range(at[0], at[0] + len(at))) if at else True
        kept = ~hidden
        assert torch.equal(after.movedim(axis, 0)[kept], before.movedim(axis, 0)[kept])
        widths.add(len(at))
        places |= set(at)
    assert widths == set(range(5)) and places == set(range((12, 6)[axis]))


def test_ragged_recordings_are_masked_and_not_moved() -> None:
    lengths = torch.arange(20) % 4 + 1
    there = (torch.arange(4) < lengths[:, None])[:, :, None, None, None]
    data = own(images=own().images * there, lengths=lengths)
    for before, after in moved(data, SoundMoves(moments=2, bands=2), 5):
        assert bool((after[before == 0] == 0).all())
    with pytest.raises(ValueError, match="shift must be 0 where recordings end at different steps"):
        Batches(data, 4, moves=ALL)


@pytest.mark.parametrize(
    "given",
    [{"images": torch.zeros(20, 3, 8)}, {"images": torch.zeros(20, 3, 2, 8, 8)}, {"images": own().images.int()}],
)
def test_sets_that_moves_do_not_fit(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="samples are no spectra"):
        Batches(own(**given), 4, moves=ALL)


def test_validation_and_test_batches_are_left_alone(root: Path) -> None:
    moves = {"shift": 2, "bands": 3}
    assert load_data(table(root, data={"sound_augment": moves})).digest() == load_data(table(root)).digest()


def test_a_run_that_was_cut_goes_on_with_the_same_weights(tmp_path: Path) -> None:
    splits = gather([(own().images, own().labels)], time=True)
    data = {"batch_size": 4, "sound_augment": {"shift": 3, "moments": 4, "bands": 2}}
    recipe = table(data=data, train={"log_every": 1}, model={"T": 4})
    whole = fit(recipe, splits)
    checkpoints, seen = Checkpoints(tmp_path, "key"), []

    def stop(figures: dict[str, Any]) -> None:
        seen.append(figures)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(recipe, splits, stop, checkpoints, 1)
    again = fit(recipe, splits, None, checkpoints, 1)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    plain = fit(replace(recipe, data=replace(recipe.data, sound_augment=None)), splits)
    assert any(not torch.equal(v, plain.model.state_dict()[k]) for k, v in whole.model.state_dict().items())


def test_the_recipe_and_its_queue_fit_the_set(root: Path) -> None:
    jobs = plan(read_study(builtin("study", "fsdd_study", queues=True)))
    assert len(jobs) == 21
    speakers = {"data.test_speakers": ["bob"]}
    for job in jobs[:7]:
        data = {"data.root": str(root), **(speakers if job.recipe.data.test_speakers else {})}
        recipe = recipe_from_mapping(with_values(to_mapping(job.recipe), data, "test"))
        splits = load_data(recipe)
        assert len(splits.test) == 60 and splits.train.step_shape == (1, 4, recipe.data.sound.mels)  # type: ignore[union-attr]
        build_model(recipe, splits.train, warn=False)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "conv1d", "options": {"width": 4, "depth": 2, "kernel": 3}},
        {"name": "mlp", "options": {"hidden": [8], "recurrent": True}},
    ],
)
def test_convolutions_and_recurrent_layers_train_and_compile(root: Path, model: dict[str, Any]) -> None:
    data = {"sound": {"mels": 6, "stack": 2}}
    recipe = table(root, data=data, model=model, train={"epochs": 1, "optimiser": "adamw", "lr": 0.01})
    splits = load_data(recipe)
    run = fit(recipe, splits)
    start = build_model(recipe, splits.train, warn=False)
    assert all(not torch.equal(a, b) for a, b in zip(start.parameters(), run.model.parameters(), strict=True))
    x, _ = next(iter(Batches(splits.test, 60)))
    network = bitspike.fold(run.model, x)
    program = bitspike.compile(network, x, weight_bits=16, input_bits=16)
    said = program(x.transpose(0, 1).contiguous().numpy()).levels.argmax(1)
    assert (said == network(x).argmax(1).numpy()).mean() >= 0.95


@pytest.mark.data
@pytest.mark.slow
def test_real_digits_are_learnt_and_compiled() -> None:
    """Four epochs are enough for 95 % of the recordings held out; the program says the same of all but a few."""
    changed = {"data.root": os.environ["BITSPIKE_DATA"], "train.epochs": 4, "data.test": False}
    recipe = recipe_from_mapping(
        with_values(to_mapping(read_recipe(builtin("train", "fsdd", queues=False))), changed, "test")
    )
    splits = load_data(recipe)
    run = fit(recipe, splits)
    assert run.history[-1]["validation_accuracy"] >= 0.95
    x, labels = next(iter(Batches(splits.validation, 270)))
    folded = bitspike.fold(run.model, x)
    program = bitspike.compile(folded, x)
    said = program(x.transpose(0, 1).contiguous().numpy()).levels.argmax(1)
    wanted = folded(x).argmax(1).numpy()
    assert (said == wanted).mean() >= 0.98 and abs(
        (said == labels.numpy()).mean() - (wanted == labels.numpy()).mean()
    ) < 0.01
