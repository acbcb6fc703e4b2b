"""The recipe: strict reading, value checks, TOML round trip, and the key of a run."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitspike.data.events import EventMoves
from bitspike.data.sound.moves import SoundMoves
from bitspike.files import parse_toml, write_text_atomic
from bitspike.schema import canonical_key, to_mapping, to_toml
from bitspike.training import recipe as r
from bitspike.training.frames_config import FramesConfig
from bitspike.training.sound_config import SoundConfig

TEXT = """
name = "ternary"
seed = 3
[data]
root = "files"
[model]
T = 4
options = {channels = [32, 64]}
[neuron]
name = "ternary"
amplitude = "layer"
decay = 0.5
[weight]
name = "sign"
[train]
lr = 1
"""
BASE = r.recipe_from_mapping(parse_toml(TEXT, "text"))
NAMES = st.text(min_size=1).filter(str.strip)
SHARES = st.floats(0, 1, exclude_max=True)
POSITIVE = st.floats(0, 1e38, exclude_min=True)
OPTIONS = st.dictionaries(st.text().filter(lambda k: k != "name"), st.integers() | st.text() | SHARES, max_size=3)
COMPONENTS = st.builds(r.ComponentConfig, NAMES, OPTIONS)
RECIPES = st.builds(
    r.Recipe,
    name=NAMES,
    seed=st.integers(0, 2**63 - 1),
    data=st.builds(
        r.DataConfig,
        root=st.none() | NAMES,
        validation=SHARES.filter(bool),
        augment=st.sampled_from(["none", "shift"]),
        frames=st.none() | st.builds(FramesConfig, tau_us=st.none() | st.floats(1e-3, 1e9)),
        event_augment=st.none() | st.builds(EventMoves, steps=st.just(("flip", "roll")), mix=SHARES),
    ),
    model=st.builds(r.ModelConfig, T=st.integers(1, 64), norm=st.sampled_from(["joint", "per_step"]), options=OPTIONS),
    neuron=COMPONENTS,
    weight=COMPONENTS,
    policy=st.builds(r.PolicyConfig, first=NAMES),
    train=st.builds(r.TrainConfig, lr=POSITIVE, momentum=SHARES, clip_norm=st.none() | POSITIVE),
    regulariser=st.builds(r.RegulariserConfig, weight=SHARES, per_layer=st.booleans()),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a.toml"
    write_text_atomic(file, TEXT)
    return file


def test_a_text_may_name_a_built_in_recipe(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Any
) -> None:
    """A file of that name comes first, a path names files alone, and a queue is no recipe."""
    monkeypatch.chdir(tmp_path)
    assert r.read_recipe("digits", ["train.lr=0.25"]).train.lr == 0.25
    assert r.read_recipe("a.toml") == BASE
    path.rename(tmp_path / "digits")
    assert r.read_recipe("digits") == BASE
    with pytest.raises(OSError, match="fashion_mnist"):
        r.read_recipe(Path("fashion_mnist"))
    for name, nearest in (("fashion_mnits", "fashion_mnist"), ("digits_demo", "digits")):
        with refuses("recipe", nearest):
            r.read_recipe(name)


def test_reads_a_file_with_overrides(path: Path) -> None:
    assert r.read_recipe(path) == BASE
    assert BASE.neuron == r.ComponentConfig("ternary", {"amplitude": "layer", "decay": 0.5})
    assert BASE.model.options == {"channels": (32, 64)} and BASE.train.lr == 1.0 and BASE.policy.downsample == "same"
    got = r.read_recipe(path, ["train.lr=0.05", "neuron.decay=0.25", "weight={name='uniform', bits=2}"])
    assert got.train.lr == 0.05 and got.neuron.options["decay"] == 0.25
    assert got.weight == r.ComponentConfig("uniform", {"bits": 2})


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["train.epoch=3"], ["a.toml with --set train.epoch=3 [train]: ", "did you mean 'epochs'?"]),
        (["trian.lr=3"], ["got 'trian'", "did you mean 'train'?"]),
        (["model.norm=perstep"], ["[model]: norm must be one of", "did you mean 'per_step'?"]),
        (["train.lr=0"], ["[train]: lr must be positive"]),
        (["train.epochs=0"], ["[train]: epochs must lie in [1, "]),
        (["train.momentum=1"], ["[train]: momentum must lie in [0, 1)"]),
        (["train.warmup_epochs=11"], ["[train]: warmup_epochs must lie in [0, 10]"]),
        (["train.clip_norm=0"], ["[train]: clip_norm must be positive"]),
        (["train.weight_decay=-1"], ["[train]: weight_decay must be >= 0"]),
        (["train.tet_weight=2"], ["[train]: tet_weight must lie in [0, 1]"]),
        (["train.threads=0"], ["[train]: threads must lie"]),
        (["train.compile=true", "train.memory=lean"], ["[train]: memory 'lean' needs compile = false"]),
        (["train.compile=true", "train.forward=int8"], ["[train]: forward 'int8' needs compile = false"]),
        (["train.precision=bf16", "train.forward=int8"], ["[train]: forward 'int8' needs precision = float32"]),
        (["model.T=0"], ["[model]: T must lie in [1, "]),
        (["data.validation=1.0"], ["[data]: validation must lie in (0, 1)"]),
        (["data.batch_size=0"], ["[data]: batch_size must lie"]),
        (["data.pad=-1"], ["[data]: pad must lie"]),
        (["data.hole=0"], ["[data]: hole must lie in [1, "]),
        (["data.policy=cifar"], ["[data]: policy must be one of", "did you mean 'cifar10'?"]),
        (["data.size=0"], ["[data]: size must lie in [1, 16384]"]),
        (["data.channels=2"], ["[data]: channels must be one of 1, 3, got 2"]),
        (["data.test_part=' '"], ["[data]: test_part must be a name"]),
        (["data.root=''"], ["[data]: root must be a name"]),
        (["regulariser.warmup_epochs=-1"], ["[regulariser]: warmup_epochs must be >= 0"]),
        (["regulariser.weight=-1"], ["[regulariser]: weight must be >= 0"]),
        (["weight={bits=1}"], ["[weight]: the key 'name' must be given"]),
        (["policy.first=' '"], ["[policy]: first must be a name"]),
        (["seed=-1"], ["seed must lie in [0, "]),
    ],
)
def test_bad_values_name_file_table_and_key(path: Path, sets: list[str], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        r.read_recipe(path, sets)
    assert "a.toml" in str(error.value) and all(word in str(error.value) for word in words), error.value


def test_wrong_type_names_the_file(path: Path) -> None:
    with pytest.raises(TypeError, match=r"a\.toml with .* \[train\]: lr must be a number, got str 'fast'"):
        r.read_recipe(path, ["train.lr=fast"])


def test_name_is_no_option() -> None:
    with pytest.raises(ValueError, match="'name' is no option"):
        r.ComponentConfig("a", {"name": "b"})


@pytest.mark.parametrize("sets", ["data.size=8.0", "data.channels=true", "data.config=1", "data.hole='8'"])
def test_loader_options_are_typed(path: Path, sets: str) -> None:
    with pytest.raises(TypeError, match=rf"\[data\]: {sets[5:].partition('=')[0]} must be "):
        r.read_recipe(path, [sets])


LATER = (
    *("loss_options", "class_weights", "balance_classes", "precision", "channels_last", "compile", "memory", "forward"),
    *("metric", "mixup", "cutmix", "ema", "stochastic_depth"),
)


def test_keys_that_came_later_are_no_part_of_an_older_key() -> None:
    """A recipe of the first release, hashed as it was then."""
    mapping = to_mapping(BASE)
    first = ("name", "root", "validation", "batch_size", "eval_batch_size", "augment", "pad", "test")
    mapping["data"] = {**{key: mapping["data"][key] for key in first}, "root": None}
    del mapping["model"]["encoder_options"]
    for key in LATER:
        del mapping["train"][key]
    del mapping["layers"], mapping["allocation"], mapping["convert"], mapping["start"]
    del mapping["regulariser"]["side"], mapping["regulariser"]["warmup_epochs"]
    assert canonical_key(mapping, "d") == BASE.key("d")


def test_keys_of_layers_without_time_steps_are_the_older_ones() -> None:
    layer = {"match": "body.*", "neuron": None, "weight": {"name": "sign"}}
    mapping = to_mapping(replace(BASE, layers=(r.LayerConfig(match="body.*", weight=r.ComponentConfig("sign")),)))
    assert mapping["layers"] == [{**layer, "T": None}]
    changed = r.recipe_from_mapping({**mapping, "layers": [{**layer, "T": 3}]})
    plain = r.recipe_from_mapping(mapping)
    assert plain.key("d") != changed.key("d")
    first = ("name", "root", "validation", "batch_size", "eval_batch_size", "augment", "pad", "test")
    mapping["data"] = {**{key: mapping["data"][key] for key in first}, "root": None}
    del mapping["model"]["encoder_options"]
    for key in LATER:
        del mapping["train"][key]
    del mapping["allocation"], mapping["convert"], mapping["start"]
    del mapping["regulariser"]["side"], mapping["regulariser"]["warmup_epochs"]
    assert canonical_key({**mapping, "layers": [layer]}, "d") == plain.key("d")


@given(RECIPES)
def test_toml_round_trip(recipe: r.Recipe) -> None:
    again = r.recipe_from_mapping(parse_toml(to_toml(recipe), "text"))
    assert again == recipe and again.key("d") == recipe.key("d")


def test_components_stay_flat_in_toml() -> None:
    assert '[neuron]\nname = "ternary"\namplitude = "layer"\ndecay = 0.5\n' in to_toml(BASE)


def leaves(obj: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not is_dataclass(obj):
        return [path]
    return [leaf for f in fields(obj) for leaf in leaves(getattr(obj, f.name), (*path, f.name))]


CHANGED = {
    "augment": "shift", "encoder": "poisson", "norm": "per_step", "readout": "steps", "optimiser": "adamw",
    "schedule": "constant", "loss": "tet", "kind": "rate", "clip_norm": 2.0, "root": "elsewhere", "per_layer": True,
    "test": False,
    "loss_options": {"weight": 0.5},
    "precision": "bf16",
    "channels_last": True,
    "compile": True,
    "memory": "lean",
    "forward": "int8",
    "class_weights": (1.0, 2.0),
    "balance_classes": True,
    "size": 32,
    "time": True,
    "top": 255,
    "channels": 1,
    "policy": "svhn",
    **dict.fromkeys(("test_part", "config", "revision", "image", "label"), "x"),
    "layers": (r.LayerConfig(match="body.*", weight=r.ComponentConfig("sign")),),
    "allocation": r.AllocationConfig(refined=True),
    "convert": r.ConvertConfig(images=8),
    "start": r.StartConfig(weights="a.th", sha256="0" * 64),
    "side": "above",
    "metric": "accuracy",
    "ema": 0.9,
    "cache": "elsewhere",
    "frames": FramesConfig(by="count"),
    "validation_by": "class",
    "event_augment": EventMoves(steps=("flip",)),
    "sound": SoundConfig(mels=16),
    "test_speakers": ("theo",),
    "sound_augment": SoundMoves(shift=1),
}  # fmt: skip


@pytest.mark.parametrize("leaf", leaves(BASE), ids=".".join)
def test_every_field_but_where_data_lie_changes_the_key(leaf: tuple[str, ...]) -> None:
    *tables, name = leaf
    base = replace(BASE, train=replace(BASE.train, loss="tet")) if name == "loss_options" else BASE
    inner = getattr(base, tables[0]) if tables else base
    old = getattr(inner, name)
    step = 0.25 if isinstance(old, float) and old < 0.5 else -0.25 if isinstance(old, float) else 1
    new = (
        CHANGED[name]
        if name in CHANGED
        else ({**old, "new": 1} if isinstance(old, dict) else old + "x" if isinstance(old, str) else old + step)
    )
    inner = replace(inner, **{name: new})
    changed = replace(base, **{tables[0]: inner}) if tables else inner
    assert changed != base
    assert (changed.key("digest") == base.key("digest")) == (leaf in {("data", "root"), ("data", "cache")})


def test_the_key_reads_the_data_digest_and_not_the_form() -> None:
    assert BASE.key("digest") != BASE.key("other")
    assert r.recipe_from_mapping(to_mapping(BASE)).key("d") == BASE.key("d")
    assert replace(BASE, train=replace(BASE.train, lr=1)).key("d") == BASE.key("d")  # 1 in a float field is 1.0


class Neuron:
    def __init__(self, decay: float = 0.5, *, amplitude: str = "layer") -> None: ...


def test_check_options() -> None:
    r.check_options("a", Neuron, {"decay": 1, "amplitude": "x"})
    r.check_options("a", lambda **kw: kw, {"any": 1})
    with pytest.raises(ValueError, match=r"a\.toml \[neuron\]: .*got 'amplitde'; did you mean 'amplitude'"):
        r.check_options("a.toml [neuron]", Neuron, {"amplitde": "x"})
    with pytest.raises(ValueError, match="there are no options, got 'b'; remove it"):
        r.check_options("a", lambda: None, {"b": 1})
    with pytest.raises(ValueError, match="got 'self'"):
        r.check_options("a", Neuron, {"self": 1})
