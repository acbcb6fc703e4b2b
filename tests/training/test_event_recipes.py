"""Recordings of events in recipes: frames, augmentation and validation parts by their keys."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import event_sets as sets
from bitspike.cli import main
from bitspike.data import Batches, SequenceSet, gather, load
from bitspike.data.events import EventMoves
from bitspike.files import read_json, write_text_atomic
from bitspike.schema import to_mapping, to_toml, with_values
from bitspike.training import Checkpoints, build_network, fit, load_data, recipe_from_mapping
from bitspike.training.job import digest, run_job
from bitspike.training.losses import mean_loss, tet_loss
from bitspike.training.recipe import Recipe, read_recipe
from bitspike.training.resume import check_changes
from bitspike.training.study import plan, read_study
from bitspike.training.task import Task
from small_recipes import framed


def table(root: Path | None = None, **tables: Any) -> Recipe:
    return framed("events", {"name": "nmnist", "size": 8}, root, tables)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    sets.nmnist(folder)
    return folder


@pytest.mark.parametrize(
    ("frames", "options"),
    [
        ({}, {}),
        ({"by": "count"}, {"by": "count"}),
        ({"form": "surface", "tau_us": 50000}, {"form": "surface", "tau_us": 5e4}),
        ({"form": "voxels", "noise_us": 10**6, "faults": "skip"}, {"form": "voxels", "noise_us": 10**6}),
        ({"step_us": 20_000, "hot_hz": 1e5}, {"step_us": 20_000}),
    ],
)
@pytest.mark.parametrize("T", [3, 7])
def test_frames_are_those_of_the_table(root: Path, T: int, frames: dict[str, Any], options: dict[str, Any]) -> None:
    found = load_data(table(root, data={"frames": frames}, model={"T": T}))
    assert isinstance(found.train, SequenceSet) and found.train.steps == T
    assert found.digest() == load("nmnist", root, 0.2, T=T, size=8, **options).digest()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"name": "digits", "frames": {}}, r"\[data\]: frames must be left out where name is 'digits'"),
        ({"name": "digits", "cache": "x"}, r"\[data\]: cache must be left out where name is 'digits'"),
        ({"name": "digits", "validation_by": "class"}, "validation_by must be left out where name is 'digits'"),
        ({"validation_by": "group"}, "validation_by must be left out where name is 'nmnist'"),
        ({"frames": {"step_us": 5, "by": "count"}}, "step_us must be left out by count"),
        ({"frames": {"tau_us": 5.0}}, "tau_us must be left out where form is 'counts'"),
        ({"frames": {"form": "voxels", "by": "count"}}, "by and step_us must be left out"),
        ({"frames": {"faults": "skip"}, "cache": "x"}, "cache must be left out where faults are skipped"),
        ({"channels": 1}, "channels must be left out where name is 'nmnist'"),
        ({"augment": "shift"}, "have a time axis"),
    ],
)
def test_what_does_nothing_is_refused_by_name(root: Path, data: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_data(table(root, data=data if data.get("name") != "digits" else {"size": None, "root": None, **data}))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"frames": {"step": 5}}, r"\[data.frames\]: .*got 'step'; did you mean 'step_us'"),
        ({"frames": {"T": 5}}, r"\[data.frames\]: .*got 'T'"),
        ({"frames": {"by": "events"}}, r"\[data.frames\]: by must be one of 'time', 'count'"),
        ({"frames": {"hot_hz": 0}}, r"\[data.frames\]: hot_hz must be"),
        ({"frames": {"noise_us": 0}}, r"\[data.frames\]: noise_us must lie"),
        ({"validation_by": "person"}, r"validation_by must be one of 'group', 'class'"),
        ({"event_augment": {}}, r"\[data.event_augment\]: steps or mix must be given"),
        ({"event_augment": {"steps": ["rol"]}}, "a step must be one of"),
        ({"event_augment": {"steps": ["roll", "roll"]}}, "steps must be named once"),
        ({"event_augment": {"steps": ["flip"], "degrees": 3}}, "degrees must be left out where steps do not hold 'rot"),
        ({"event_augment": {"steps": ["flip"], "mix": 1.5}}, "mix must lie"),
        ({"event_augment": {"steps": ["rotate"], "degrees": 181}}, "degrees must lie"),
        ({"event_augment": {"steps": ["rotate"], "degrees": 0}}, "degrees must be >= 1"),
        ({"event_augment": {"steps": ["roll"], "pixels": 0}}, "pixels must be >= 1"),
        ({"event_augment": {"steps": ["shear"], "shear": 0.004}}, "shear must be >= 0.01"),
        ({"event_augment": {"mixed": 1}}, "did you mean 'mix'"),
    ],
)
def test_bad_keys(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        table(data=data)


def test_keys_of_jobs(root: Path) -> None:
    plain = table(root)
    assert table(root, data={"frames": {}}).key("d") == table(root, data={"cache": "here"}).key("d") == plain.key("d")
    others = (
        {"frames": {"by": "count"}},
        {"validation_by": "class"},
        {"event_augment": {"mix": 0.5}},
        {"event_augment": {"steps": ["flip"]}},
    )
    assert len({plain.key("d"), *(table(root, data=data).key("d") for data in others)}) == 5
    check_changes(plain, table(root, data={"cache": "elsewhere"}), 1)
    with pytest.raises(ValueError, match=r"data.frames.* must be"):
        check_changes(plain, table(root, data={"frames": {"by": "count"}}), 1)


def test_frames_come_from_the_cache(root: Path, tmp_path: Path) -> None:
    recipe = table(root, data={"cache": str(tmp_path / "kept")})
    first = load_data(recipe)
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert digest(recipe, load_data(recipe)) == digest(table(root), first)


def test_persons_are_kept_apart_unless_the_recipe_says_otherwise(tmp_path: Path) -> None:
    sets.gesture(tmp_path, (("user01", "user02", "user03"), ("user24",)))
    model = {"options": {"hidden": [4]}}
    whole, mixed = (
        load_data(table(tmp_path, data={"name": "dvs_gesture", "validation": 0.3, "size": 16, **more}, model=model))
        for more in ({}, {"validation_by": "class"})
    )
    assert (len(whole.validation), len(mixed.validation)) == (22, 20)


def test_arms_of_the_queue_are_what_their_names_say_and_differ_in_nothing_else() -> None:
    jobs = plan(read_study("nmnist_study"))
    base = jobs[0].recipe
    for job in jobs:
        recipe, named = job.recipe, re.fullmatch(r"multibit-T(\d+)-b(\d+)", job.arm)
        if named:
            options = recipe.neuron.options
            assert (recipe.model.T, options["m"] + options["n"]) == tuple(map(int, named.groups()))
        else:
            assert recipe.model.T == 5
        own = {"seed": base.seed, "neuron": base.neuron, "weight": base.weight, "allocation": base.allocation}
        assert replace(recipe, model=replace(recipe.model, T=5), **own) == base
    products = Counter(job.recipe.model.T * int(job.arm.split("-b")[1]) for job in jobs if "-b" in job.arm)
    assert products[10] == 9 and products[20] == 6
    assert not any(job.recipe.data.test for job in plan(read_study("nmnist_tuning")))


SMALL = {
    "shd": {"model.options.width": 4, "model.T": 10, "data.batch_size": 25},
    "cifar10_dvs": {"model.options.width": 1, "model.T": 3, "data.size": 16, "data.event_augment.pixels": 2},
    "dvs_gesture": {"model.options.width": 1, "model.T": 3, "data.size": 16, "data.event_augment.pixels": 2},
}


@pytest.mark.parametrize("name", SMALL)
def test_recipes_train_on_files_in_the_published_layout(name: str, tmp_path: Path) -> None:
    """The network of full size is built, too; a small one gets a step from the loop, and its weights move."""
    sets.WRITERS[name](tmp_path)
    whole = read_recipe(name)
    assert whole.data.name == whole.name == name
    shape = (140,) if name == "shd" else (2, 48, 48)
    with torch.device("meta"):
        build_network(whole, shape, 11 if name == "dvs_gesture" else 10, warn=False)
    given = {"data.root": str(tmp_path), "train.epochs": 1, "train.warmup_epochs": 0.0, "train.threads": 1}
    recipe = recipe_from_mapping(with_values(to_mapping(whole), {**given, **SMALL[name]}, "test"))
    splits = load_data(recipe)
    assert splits.train.step_shape == ((140,) if name == "shd" else (2, 16, 16))
    run = fit(recipe, splits)
    before = build_network(recipe, splits.train.step_shape, len(splits.train.classes), warn=False)
    moved = [not torch.equal(a, b) for a, b in zip(before.parameters(), run.model.parameters(), strict=True)]
    assert all(moved) and len(run.history) == 1


def own(**given: Any) -> SequenceSet:
    x = torch.randint(0, 4, (20, 3, 2, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return SequenceSet(
        **{"images": x, "labels": torch.arange(20) % 4, "classes": tuple("abcd"), "name": "own", **given}
    )


ALL = EventMoves(steps=("flip", "roll", "rotate", "shear", "cutout"), mix=0.5, pixels=2, hole=3)


def test_moves_depend_on_seed_epoch_and_recording_alone() -> None:
    moves = replace(ALL, mix=0.0)
    whole = torch.cat([x for x, _ in Batches(own(), 20, seed=1, epoch=2, moves=moves)])
    assert not torch.equal(whole, own().images.float())
    for size in (1, 7):
        parts = list(Batches(own(), size, seed=1, epoch=2, moves=moves))
        assert torch.equal(torch.cat([x for x, _ in parts]), whole)
        assert torch.equal(torch.cat([y for _, y in parts]), own().labels)
    other = torch.cat([x for x, _ in Batches(own(), 20, seed=1, epoch=3, moves=moves)])
    assert not torch.equal(other, whole)


def test_mixed_labels_are_shares_and_ranks_see_what_one_process_sees() -> None:
    batches = list(Batches(own(), 10, True, 4, 1, moves=ALL))
    again = list(Batches(own(), 10, True, 4, 1, moves=ALL))
    for (x, y), (x2, y2) in zip(batches, again, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2) and y.shape == (10, 4)
        torch.testing.assert_close(y.sum(1), torch.ones(10))
    assert any(((y > 0).sum(1) == 2).any() for _, y in batches)
    shares = [list(Batches(own(), 10, True, 4, 1, moves=ALL, rank=rank, world=2)) for rank in (0, 1)]
    for number, (x, y) in enumerate(batches):
        assert torch.equal(torch.cat([shares[rank][number][0] for rank in (0, 1)]), x)
        assert torch.equal(torch.cat([shares[rank][number][1] for rank in (0, 1)]), y)


def test_what_is_not_mixed_keeps_its_label_and_frames() -> None:
    x, y = next(iter(Batches(own(), 20, moves=EventMoves(mix=1e-9))))
    assert (
        torch.equal(x, own().images.float()) and torch.equal(y.argmax(1), own().labels) and bool((y.amax(1) == 1).all())
    )
    _, y = next(iter(Batches(own(), 20, moves=EventMoves(mix=1.0))))
    assert int(((y > 0).sum(1) == 2).sum()) > 5


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5, 3.0])])
@pytest.mark.parametrize("loss", [mean_loss, tet_loss])
def test_the_loss_of_shares_is_the_share_of_the_losses(loss: Any, weights: Any, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 4, generator=generator)
    a, b = torch.tensor([1]), torch.tensor([3])
    given = {"label_smoothing": smoothing, "class_weights": weights}
    found = loss(logits, torch.tensor([[0.0, 0.25, 0.0, 0.75]]), **given)
    torch.testing.assert_close(found, 0.25 * loss(logits, a, **given) + 0.75 * loss(logits, b, **given))
    if loss is mean_loss and weights is None:
        assert found == cross_entropy(logits.mean(0), torch.tensor([[0.0, 0.25, 0.0, 0.75]]), label_smoothing=smoothing)


def test_accuracy_counts_the_greater_share() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert Task().tally(logits, torch.tensor([[0.4, 0.6], [0.6, 0.4]])) == 1


@pytest.mark.parametrize(
    ("given", "moves", "words"),
    [
        ({"images": torch.zeros(20, 3, 8)}, {"steps": ("flip",)}, "samples are no frames"),
        ({}, {"steps": ("cutout",), "hole": 7}, r"hole must lie in \[1, 6\]"),
        ({}, {"steps": ("roll",), "pixels": 6}, r"pixels must lie in \[0, 5\]"),
        ({"images": torch.full((20, 3, 2, 6, 6), -1, dtype=torch.int8)}, {"mix": 0.5}, "unless frames are >= 0"),
        ({"lengths": torch.full((20,), 3)}, {"mix": 0.5}, "unless frames all have as many steps"),
        ({"labels": torch.zeros(20, 4)}, {"mix": 0.5}, "unless frames have classes"),
        ({"classes": ("a", "Left wave", "b", "right wave")}, {"steps": ("flip",)}, "flip samples of classes that"),
    ],
)
def test_sets_that_moves_do_not_fit(given: dict[str, Any], moves: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Batches(own(**given), 4, moves=EventMoves(**moves))


def test_still_images_take_no_moves_and_losses_must_know_shares(root: Path) -> None:
    still = {"name": "digits", "root": None, "size": None, "event_augment": {"steps": ["flip"]}}
    with pytest.raises(ValueError, match=r"\[data\]: event_augment must be left out.*got samples without a time axis"):
        load_data(table(data=still, model={"encoder": "repeat"}))
    with pytest.raises(ValueError, match=r"train\.loss must be 'mean' or 'tet' where data\.event_augment\.mix"):
        table(root, data={"event_augment": {"mix": 0.5}}, train={"loss": "mse"})


def test_only_training_batches_are_moved(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_data(table(root))
    recipe = table(root, data={"event_augment": {"steps": ["roll"], "pixels": 3, "mix": 1.0}})
    splits, moved = load_data(recipe), []
    assert splits.digest() == plain.digest()
    epoch = EventMoves.epoch
    monkeypatch.setattr(
        EventMoves, "epoch", lambda self, data, *key: moved.append((data, key)) or epoch(self, data, *key)
    )
    result = run_job(recipe, splits).result
    assert [key for _, key in moved] == [(0, 0), (0, 1)] and {data.digest() for data, _ in moved} == {
        splits.train.digest()
    }
    assert result["folded_test_accuracy"] == result["test_accuracy"]


def test_gestures_of_a_side_are_not_mirrored(tmp_path: Path) -> None:
    """The mirror image of a wave with the right hand is one with the left hand, which is another class."""
    sets.gesture(tmp_path, (("user01", "user02"), ("user24",)))
    data = {"name": "dvs_gesture", "size": 16, "event_augment": {"steps": ["roll", "flip"]}}
    with pytest.raises(ValueError, match="a mirror exchanges, got 'right hand wave' and 'left hand wave'; take 'flip'"):
        load_data(table(tmp_path, data=data))
    rest = {**data, "event_augment": {"steps": ["roll", "rotate"]}}
    assert load_data(table(tmp_path, data=rest)).train.steps == 3
    EventMoves(steps=("flip",)).check("here", own(classes=("left", "b", "c", "upright")))


@pytest.mark.parametrize(
    "pair",
    [("armLeft", "armRight"), ("left1", "RIGHT1"), ("clockwise", "counter clockwise"), ("turn_ccw", "turnClockwise")],
)
def test_names_of_classes_that_a_mirror_exchanges(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=f"a mirror exchanges, got '{pair[0]}' and '{pair[1]}'"):
        EventMoves(steps=("flip",)).check("here", own(classes=("still", "upright", *pair)))
    EventMoves(steps=("flip",)).check("here", own(classes=("still", "upright", "b", pair[0])))


@pytest.mark.parametrize("loss", ["mean", "tet"])
def test_a_run_that_was_cut_goes_on_with_the_same_weights(loss: str, tmp_path: Path) -> None:
    splits = gather([(own().images, own().labels)], time=True)
    moves = {"steps": ["flip", "roll", "rotate", "shear", "cutout"], "pixels": 2, "hole": 3, "mix": 0.5}
    data = {"name": "digits", "size": None, "time": True, "batch_size": 4, "event_augment": moves}
    readout = {"mean": "mean", "tet": "steps"}[loss]
    recipe = table(data=data, train={"loss": loss, "log_every": 1}, model={"readout": readout})
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
    plain = fit(replace(recipe, data=replace(recipe.data, event_augment=None)), splits)
    differ = [not torch.equal(v, plain.model.state_dict()[k]) for k, v in whole.model.state_dict().items()]
    assert any(differ)


@pytest.mark.data
@pytest.mark.slow
def test_a_run_on_real_recordings_as_a_program(tmp_path: Path) -> None:
    """Trained with moves, folded and lowered to 16 bits: test recordings get the very classes, in the engine too."""
    run, program, recipe = tmp_path / "run", tmp_path / "run.bitspike", tmp_path / "recipe.toml"
    moves = {"steps": ["roll", "cutout"], "pixels": 1, "hole": 2, "mix": 0.25}
    data = {"root": None, "batch_size": 32, "size": 17, "frames": {"by": "count"}, "event_augment": moves}
    train = {"epochs": 4, "optimiser": "adamw", "lr": 0.01}
    write_text_atomic(recipe, to_toml(table(data=data, train=train, model={"options": {"hidden": [64]}})))
    main(["train", str(recipe), "--out", str(run), "--quiet"])
    main(["compile", str(run), "-o", str(program), "--weight-bits", "16", "--input-bits", "16"])
    main(["verify", str(run), str(program), "--drop", "0", "--agreement", "1"])
    found = read_json(run / "verify.json")
    assert found["accuracy"] == found["folded_accuracy"] == read_json(run / "summary.json")["test_accuracy"] > 0.7
