"""The typed recipe of one training run: everything that decides its result, read strictly from TOML."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bitspike.allocation.config import AllocationConfig
from bitspike.checks import at_least, bad_value, integer, one_of, single, suggestion
from bitspike.data.events.moves import EventMoves
from bitspike.data.sound.moves import SoundMoves
from bitspike.files import read_toml
from bitspike.layers import ENCODERS
from bitspike.schema import canonical_key, conform, from_mapping, override, to_mapping
from bitspike.training.builtin import builtin
from bitspike.training.frames_config import FramesConfig
from bitspike.training.losses import MIXED
from bitspike.training.sound_config import SoundConfig
from bitspike.training.train_config import TrainConfig

_LARGE = 2**31 - 1
LONGEST = 10_000
"""Greatest number of time steps."""
LOADER_OPTIONS = {
    "size": "size",
    "channels": "channels",
    "test_part": "test",
    "config": "config",
    "revision": "revision",
    "image": "image",
    "label": "label",
    "time": "time",
    "top": "top",
    "cache": "cache",
    "validation_by": "validation_by",
    "test_speakers": "test_speakers",
}
"""Keys of [data] that go to the set's own loader where they are given, and what they are called there."""

# Keys that came later, and the value that results from before then had: it is left out of a run's identity.
_LATER: dict[str, object] = {
    "layers": None,
    "allocation": None,
    "convert": None,
    "start": None,
    "regulariser.side": "both",
    "regulariser.warmup_epochs": 0.0,
    "model.encoder_options": {},
    "convert.readout": "mean",
    "convert.activation": None,
    "allocation.learn_epoch": 0.0,
    "allocation.windows": None,
    "allocation.budget": None,
    "allocation.budget_pull": 1.0,
    "allocation.budget_rate": 0.1,
    "allocation.budget_scope": "all",
    "allocation.budget_input_bits": 32,
    "allocation.budget_margin": 0.03,
    "allocation.allocator": "gradient",
    "allocation.sensitivity": "error",
    "allocation.sensitivity_samples": 1024,
    "allocation.times": None,
    "allocation.latency_threads": 1,
    "train.loss_options": {},
    "train.metric": None,
    "train.class_weights": None,
    "train.balance_classes": False,
    "train.mixup": 0.0,
    "train.cutmix": 0.0,
    "train.ema": None,
    "train.stochastic_depth": 0.0,
    "train.precision": "float32",
    "train.channels_last": False,
    "train.compile": False,
    "train.memory": "normal",
    "train.forward": "float",
    "data.hole": 16,
    "data.policy": "cifar10",
    **dict.fromkeys(f"data.{name}" for name in LOADER_OPTIONS),
    "data.time": False,
    "data.frames": None,
    "data.event_augment": None,
    "data.sound": None,
    "data.sound_augment": None,
}


def _named(where: str, **names: str) -> None:
    for key, name in names.items():
        if not name.strip():
            raise bad_value(where, f"{key} must be a name", repr(name), f"write {key} = ...")


def _share(where: str, name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise bad_value(where, f"{name} must lie in [0, 1)", value, "pass a value inside")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples, and how they reach the model.

    Args:
        name: a set of `bitspike.data.load`: "digits", "cifar10", ..., "folder:PATH", "hub:NAME", "npz:FILE" or
            "python:MODULE:FUNCTION".
        root: folder that holds its files; None: the loader's own place. Not part of a run's key, the data digest is.
        size: side in pixels that images are scaled to, 1 to 2^14; None: as they are.
        channels: 1 (grey) or 3; None: the loader's default, 3.
        test_part: name of the part to test on; None: "test", else the validation part.
        config, revision: of a set on the hub. image, label: its columns; None: the only ones of their types.
        time: whether the second axis of own arrays is time. top: of such sequences, the value that maps to 1.0.
        cache: folder in which frames of recordings are kept; no part of a run's key, as root.
        frames: table [data.frames], of recordings; None: its defaults.
        sound: table [data.sound], of sound; None: its defaults.
        test_speakers: of speech, names of those that are tested on and nowhere else heard; None: the set's own split.
        validation_by: of recordings, "group" (a person or speaker stands on one side only) or "class" (samples at
            random); None: by group where the set knows groups.
        validation: share of the training split held out for choosing, (0, 1); the test split never chooses.
        batch_size: samples a training step, >= 1.
        eval_batch_size: samples an evaluation step, >= 1.
        augment: "none", "shift" (random crop after padding), "shift-flip" (and a mirror image half the time),
            "shift-flip-cutout" (and a hole) or "autoaugment" (a searched policy before the hole, with kornia).
        event_augment: table [data.event_augment], of frames of events in training batches; None: none.
        sound_augment: table [data.sound_augment], of spectra of sound; None: none.
        pad: largest shift in pixels, below the side of an image; >= 1 unless augment is "none".
        hole: side of the hole in pixels, 1 to the side of an image.
        policy: of "autoaugment": "cifar10", "imagenet" or "svhn".
        test: whether the test split is read, once, at the end; false while choosing hyper-parameters.
    """

    name: str = "digits"
    root: str | None = None
    size: int | None = None
    channels: int | None = None
    test_part: str | None = None
    config: str | None = None
    revision: str | None = None
    image: str | None = None
    label: str | None = None
    time: bool = False
    top: int | None = None
    cache: str | None = None
    frames: FramesConfig | None = None
    sound: SoundConfig | None = None
    test_speakers: tuple[str, ...] | None = None
    validation_by: Literal["group", "class"] | None = None
    validation: float = 0.1
    batch_size: int = 64
    eval_batch_size: int = 500
    augment: Literal["none", "shift", "shift-flip", "shift-flip-cutout", "autoaugment"] = "none"
    event_augment: EventMoves | None = None
    sound_augment: SoundMoves | None = None
    pad: int = 2
    hole: int = 16
    policy: Literal["cifar10", "imagenet", "svhn"] = "cifar10"
    test: bool = True

    def __post_init__(self) -> None:
        conform(self)
        texts = {key: getattr(self, key) for key in ("name", "root", *LOADER_OPTIONS)}
        _named("DataConfig", **{key: text for key, text in texts.items() if isinstance(text, str)})
        if self.size is not None:
            integer("DataConfig", "size", self.size, 1, 2**14)
        if self.channels is not None:
            one_of("DataConfig", "channels", self.channels, (1, 3))
        if self.top is not None:
            integer("DataConfig", "top", self.top, 1, 2**24)
        if self.event_augment is not None and self.sound_augment is not None:
            must = "event_augment and sound_augment must not be given together"
            raise bad_value("DataConfig", must, "both", "drop one")
        if not 0 < self.validation < 1:
            raise bad_value("DataConfig", "validation must lie in (0, 1)", self.validation, "e.g. 0.1")
        for key, low in (("batch_size", 1), ("eval_batch_size", 1), ("pad", 0), ("hole", 1)):
            integer("DataConfig", key, getattr(self, key), low, _LARGE)

    def loader_options(self) -> dict[str, object]:
        """The keys of `LOADER_OPTIONS` that are given, as name → value."""
        given = {key: getattr(self, key) for key in LOADER_OPTIONS}
        return {key: value for key, value in given.items() if value is not None and value is not False}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network, for how many time steps.

    Args:
        name: registered model builder.
        T: time steps, 1 to 10,000.
        encoder: how an image becomes T inputs: a name of `bitspike.layers.ENCODERS`.
        encoder_options: further arguments of the encoder, the table [model.encoder_options].
        norm: batch norm over time and batch together ("joint"), per step, or threshold-dependent ("threshold").
        readout: "mean" over time, or all "steps".
        options: further arguments of the builder, the table [model.options].
    """

    name: str = "study_cnn"
    T: int = 2
    encoder: str = "repeat"
    encoder_options: dict[str, object] = field(default_factory=dict)
    norm: Literal["joint", "per_step", "threshold"] = "joint"
    readout: Literal["mean", "steps"] = "mean"
    options: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        conform(self)
        _named("ModelConfig", name=self.name)
        one_of("ModelConfig", "encoder", self.encoder, tuple(ENCODERS))
        integer("ModelConfig", "T", self.T, 1, LONGEST)


@dataclass(frozen=True)
class ComponentConfig:
    """A registered neuron or weight quantizer: one flat table, every key but ``name`` is an option.

    Args:
        name: registered class.
        options: arguments of its constructor; checked against the class by the builder, with `check_options`.
    """

    name: str
    options: dict[str, object] = field(default_factory=dict, metadata={"flat": True})

    def __post_init__(self) -> None:
        conform(self)
        _named("ComponentConfig", name=self.name)
        if "name" in self.options:
            raise bad_value("ComponentConfig", "'name' is no option", self.options["name"], "pass it as name")


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """Another neuron or quantizer for some layers: one [[layers]] table.

    Args:
        match: shell pattern on the module's name in the network, such as "body.3.*"; must match something.
        neuron: for the matched neurons; None leaves them.
        weight: for the matched synapses; None leaves them.
        T: time steps of the matched refined neurons, >= 1; a learned T starts from it; None leaves them.
    """

    match: str
    neuron: ComponentConfig | None = None
    weight: ComponentConfig | None = None
    T: int | None = None

    def __post_init__(self) -> None:
        conform(self)
        _named("LayerConfig", match=self.match)
        if self.T is not None:
            integer("LayerConfig", "T", self.T, 1, LONGEST)
        if self.neuron is None and self.weight is None and self.T is None:
            raise bad_value("LayerConfig", "neuron, weight or T must be given", "none", "add one of them")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Weight quantizers of the layers that usually differ: each a registered name, "float", or "same" as the others.

    Args:
        first: the first layer.
        last: the classifier.
        downsample: the projections of down-sampling shortcuts.
    """

    first: str = "float"
    last: str = "float"
    downsample: str = "same"

    def __post_init__(self) -> None:
        conform(self)
        _named("PolicyConfig", first=self.first, last=self.last, downsample=self.downsample)


@dataclass(frozen=True, kw_only=True)
class RegulariserConfig:
    """A term added to the loss.

    Args:
        kind: "none", "rate" (spike rate) or "bits" (mean set bits); deviations from the target are squared.
        weight: factor of the term, >= 0.
        target: spikes a neuron and step, or bits; >= 0.
        per_layer: hold every layer to the target, not only the mean over layers.
        side: "both", or "above": activity below the target costs nothing.
        warmup_epochs: the weight rises from 0 in a straight line over so many epochs, >= 0.
    """

    kind: Literal["none", "rate", "bits"] = "none"
    weight: float = 0.0
    target: float = 0.1
    per_layer: bool = False
    side: Literal["both", "above"] = "both"
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        conform(self)
        single("RegulariserConfig", self)
        at_least("RegulariserConfig", "warmup_epochs", self.warmup_epochs, 0)
        at_least("RegulariserConfig", "weight", self.weight, 0)
        at_least("RegulariserConfig", "target", self.target, 0)


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Published weights of an ANN to start from; see `bitspike.training.start.start_from_ann`.

    Args:
        weights: a file for `load_he_checkpoint`, below ``data.root`` (or BITSPIKE_DATA) unless the path is absolute.
        sha256: of the file, 64 hex digits: a run belongs to the contents, wherever they lie.
        images: training images on which the scales of the neurons are chosen, >= 1.
    """

    weights: str
    sha256: str
    images: int = 32

    def __post_init__(self) -> None:
        conform(self)
        _named("StartConfig", weights=self.weights)
        integer("StartConfig", "images", self.images, 1, 2**20)
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            must, todo = "sha256 must be 64 hex digits", "write what `sha256sum FILE` prints"
            raise bad_value("StartConfig", must, repr(self.sha256), todo)


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """A network that was converted from a trained ANN, not trained; see `bitspike.ann2snn`.

    Args:
        weights: SHA-256 of the file of the ANN's weights, "" if unknown.
        images: calibration images, drawn from the training split with the recipe's seed, >= 1.
        threshold, percentile, sharing, initial, correction, readout: as in `ann2snn`.
        mean, std: what the ANN's inputs are normalised by, one number a channel; None: the constants of the data.
        activation: of the ANN: table with a name and options as [neuron] of its recipe had them; None: "relu".
    """

    weights: str = ""
    images: int = 512
    threshold: Literal["mse", "percentile", "max"] = "mse"
    percentile: float = 99.9
    sharing: Literal["channel", "layer"] = "channel"
    initial: float = 0.5
    correction: Literal["weights", "line", "mean", "none"] = "line"
    readout: Literal["mean", "settled"] = "mean"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    activation: ComponentConfig | None = None

    def __post_init__(self) -> None:
        conform(self)
        integer("ConvertConfig", "images", self.images, 1, _LARGE)
        if not 0 < self.percentile <= 100:
            raise bad_value("ConvertConfig", "percentile must lie in (0, 100]", self.percentile, "e.g. 99.9")
        _share("ConvertConfig", "initial", self.initial)
        if (self.mean is None) != (self.std is None):
            raise bad_value("ConvertConfig", "mean and std must be given together", "one of them", "give both or none")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run.

    Args:
        name: a label for people.
        seed: of all randomness, 0 .. 2^63 - 1.
        data: table [data].
        model: table [model].
        neuron: table [neuron], its ``name`` required; "relu" or "clip_floor" makes an ANN, with T = 1.
        weight: table [weight], its ``name`` required.
        policy: table [policy].
        train: table [train].
        regulariser: table [regulariser].
        layers: tables [[layers]], applied in order after the policy; None: every layer as above.
        allocation: table [allocation], of learned bits and time steps; None: its defaults, where bits are learned.
        convert: table [convert] of a network converted from an ANN; None: it is trained.
        start: table [start] of published weights to start from; None: weights are drawn.

    >>> recipe_from_mapping({"name": "a", "neuron": {"name": "lif"}, "weight": {"name": "sign"}}).train.lr
    0.1
    """

    name: str
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    neuron: ComponentConfig
    weight: ComponentConfig
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    regulariser: RegulariserConfig = field(default_factory=RegulariserConfig)
    layers: tuple[LayerConfig, ...] | None = None
    allocation: AllocationConfig | None = None
    convert: ConvertConfig | None = None
    start: StartConfig | None = None

    def __post_init__(self) -> None:
        conform(self)
        _named("Recipe", name=self.name)
        integer("Recipe", "seed", self.seed, 0, 2**63 - 1)
        moves = self.data.event_augment
        if moves is not None and moves.mix and self.train.loss not in MIXED:
            must = f"train.loss must be {' or '.join(map(repr, MIXED))} where data.event_augment.mix is not 0"
            raise bad_value("Recipe", must, repr(self.train.loss), "change one of them")
        if moves is not None and moves.mix and self.train.mixing is not None:
            must = "train.mixup and train.cutmix must be 0 where data.event_augment.mix is not"
            raise bad_value("Recipe", must, self.train.mixup or self.train.cutmix, "choose one of them")
        if self.allocation is not None:
            self.allocation.check(self.train.epochs)
        if self.start is not None and self.allocation is not None and self.allocation.warm_start is not None:
            raise bad_value(
                "Recipe", "[start] and allocation.warm_start must not be given together", "both", "drop one"
            )

    def anywhere(self) -> Recipe:
        """The same run without places of its files, which say something about a machine, not about the run."""
        allocation = None if self.allocation is None else replace(self.allocation, times=None)
        return replace(self, data=replace(self.data, root=None, cache=None), allocation=allocation)

    def key(self, data_digest: str) -> str:
        """The run's identity: sha256 over the resolved recipe and the data's digest, wherever the data lies."""
        resolved = to_mapping(self.anywhere())
        if self.data.frames == FramesConfig():
            resolved["data"]["frames"] = None
        if self.allocation is not None and self.allocation.budget is None:
            for name in [name for name in resolved["allocation"] if name.startswith("budget")]:
                del resolved["allocation"][name]  # they do nothing
        for dotted, before in _LATER.items():
            *tables, name = dotted.split(".")
            table = resolved.get(tables[0]) if tables else resolved
            if table is not None and name in table and table[name] == before:
                del table[name]
        for layer in resolved.get("layers", ()):
            if layer["T"] is None:  # came later
                del layer["T"]
        return canonical_key(resolved, data_digest)


def recipe_from_mapping(mapping: Mapping[str, object], where: str = "recipe") -> Recipe:
    """Build a `Recipe` from nested dicts; ``where`` opens error messages, which are those of `from_mapping`."""
    return from_mapping(Recipe, mapping, where)


def read_recipe(path: str | Path, sets: Iterable[str] = ()) -> Recipe:
    """Read a recipe from a TOML file.

    Args:
        path: the file; as text also the name of a built-in recipe, such as "digits".
        sets: ``key=value`` texts applied over it, such as ``train.lr=0.05``.

    Raises:
        ValueError: no TOML, or an unknown, missing or out-of-range key; no file and no built-in recipe of that name.
        TypeError: a value of the wrong type.
        OSError: the file cannot be read.
    """
    path = builtin("recipe", path, queues=False) if isinstance(path, str) else path
    sets = tuple(sets)
    where = f"{path} with --set {' '.join(sets)}" if sets else str(path)
    return recipe_from_mapping(override(read_toml(path), sets, where), where)


def check_options(where: str, cls: Callable[..., object], options: Mapping[str, object]) -> None:
    """Raise `ValueError`, with the nearest name, if an option is no keyword argument of ``cls``.

    >>> def ternary(amplitude="layer"): ...
    >>> check_options("a.toml [neuron]", ternary, {"amplitud": "layer"})
    Traceback (most recent call last):
        ...
    ValueError: a.toml [neuron]: the options must be among 'amplitude', got 'amplitud'; did you mean 'amplitude'?
    """
    parameters = inspect.signature(cls).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in options:
        if name not in known:
            must = f"the options must be among {', '.join(map(repr, known))}" if known else "there are no options"
            raise bad_value(where, must, repr(name), suggestion(name, known))
