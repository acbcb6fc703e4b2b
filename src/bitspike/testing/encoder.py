"""The conformance suite of an encoder: what every encoder promises, whatever it sends."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bitspike.checks import message
from bitspike.layers import Encoder, set_noise
from bitspike.layers.encoders.noise import Noise
from bitspike.testing import expectations as tell
from bitspike.testing.compiled import expect_compiles

_B, _SHAPE = 6, (2, 5, 3)
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class _Trial:
    """An encoder under test; ``fresh``: whether training draws anew."""

    encoder: Encoder
    device: torch.device
    fresh: bool

    @property
    def where(self) -> str:
        return f"check_encoder({type(self.encoder).__name__})"

    def evaluating(self) -> Encoder:
        """A copy in evaluation mode."""
        return copy.deepcopy(self.encoder).eval()

    def training(self, *key: int) -> Encoder:
        """A copy in training mode, with a key for its noise where one is given."""
        own = copy.deepcopy(self.encoder).train()
        set_noise(own, *key)
        return own

    def steady(self) -> tuple[Encoder, Encoder]:
        """Both modes in which equal calls must agree."""
        return self.evaluating(), self.training(3, 1)

    @property
    def first(self) -> int:
        """First axis of a step within a sample [B, ...]."""
        return 2 if self.encoder.sequences else 1

    def samples(self, count: int = _B, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
        """Distinct samples [B, 2, 5, 3] or sequences [B, T, 5, 3] in [0, 1]; 0, 1, ½ and quarters occur."""
        shape = (self.encoder.T, *_SHAPE[1:]) if self.encoder.sequences else _SHAPE
        drawn = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        drawn[:, 0, :, 0] = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=drawn.dtype)
        return drawn.to(self.device, dtype)


def check_encoder(encoder: Encoder, *, device: str = "cpu", compiled: bool = True) -> None:
    """Raise unless an encoder keeps the contract that training, folding, cost and streams rely on.

    Inputs are samples [6, 2, 5, 3] in [0, 1], or sequences [6, T, 5, 3] where it reads those. The encoder is left as
    it is.

    Args:
        encoder: any encoder. device: where to run.
        compiled: also compile (one graph) and export (dynamic batch); about a second. Resets torch's compiler.

    Raises:
        ConformanceError: names the broken promise and the first offending value.

    >>> from bitspike.layers import Poisson
    >>> check_encoder(Poisson(3), compiled=False)
    """
    own = copy.deepcopy(encoder).to(device)
    fresh = any(isinstance(module, Noise) and module.kind == "fresh" for module in own.modules())
    trial = _Trial(own, torch.device(device), fresh)
    for check in CHECKS:
        check(trial)
    if compiled:
        for steady in trial.steady():
            _expect_compiles(trial, steady)


def shapes_are_kept(trial: _Trial) -> None:
    """[B, ...] → [T, B, ...] in dtype and on device of the input, with one axis behind the batch or several."""
    must, T = "the output must be [T, B, ...] with dtype and device of the input", trial.encoder.T
    kinds = [(trial.device, dtype) for dtype in _DTYPES] + [(torch.device("meta"), torch.float32)]
    for device, dtype in kinds:
        for count in (_B, 1, 0):
            for x in (trial.samples(count, dtype), trial.samples(count, dtype).flatten(trial.first)):
                y = trial.evaluating().to(device)(x.to(device))
                like = torch.empty(T, count, *x.shape[trial.first :], dtype=dtype, device=device)
                tell.expect_kind(y, like, trial.where, must, "create tensors like the input; let T be the first axis")


def values_are_on_the_alphabet(trial: _Trial) -> None:
    """Every value is a level of the declared format, and of an encoder without one every step is finite."""
    for steady in trial.steady():
        for dtype in _DTYPES:
            y = steady(trial.samples(dtype=dtype))
            record = trial.encoder.format
            if record is None or record.real:
                tell.expect_all(y.isfinite(), y, trial.where, "every value must be finite", "mend the encoder")
                continue
            level = y.double() * 2.0**record.fraction_bits
            good = (level == level.round()) & (level >= record.low) & (level <= record.high)
            must = f"every value must be on the alphabet {record.label()}"
            tell.expect_all(good, y, trial.where, must, "mend the format or the encoder")


def repeats_are_the_sample(trial: _Trial) -> None:
    """Where ``repeats`` is declared, every step is the sample."""
    x = trial.samples()
    if trial.encoder.repeats:
        for step in trial.training()(x).unbind(0):
            tell.expect_same(step, x, trial.where, "every step must be the sample", "set repeats = False")


def nothing_is_written(trial: _Trial) -> None:
    """Input, attributes, buffers and, but for fresh draws, torch's generator stay; state_dict holds no state."""
    for own in (*trial.steady(), trial.training()):
        x, state = trial.samples(), torch.get_rng_state()
        tell.expect_untouched(lambda own=own, x=x: own(x), own, {"the input": x}, trial.where)  # type: ignore[misc]
        draws = trial.fresh and own.training and all(b.numel() == 0 for b in own.buffers())
        if not draws and not torch.equal(torch.get_rng_state(), state):
            must = "torch's generator must be left alone where the noise is given or fixed"
            tell.fail(trial.where, must, "draws from it", "take seeds from a `Noise`")
        tell.expect_clean_state(own, (), trial.where)


def calls_agree(trial: _Trial) -> None:
    """With a key, in evaluation mode, and always where nothing is fresh: calls, copies and memory orders agree."""
    x = trial.samples()

    def same(found: Tensor, wanted: Tensor, what: str) -> None:
        tell.expect_same(found, wanted, trial.where, f"{what} must give equal bits", "draw through a `Noise`")

    for own in (*trial.steady(), *(() if trial.fresh else (trial.training(),))):
        whole = own(x)
        same(own(x), whole, "two calls")
        same(copy.deepcopy(own)(x), whole, "a deep copy")
        same(pickle.loads(pickle.dumps(own))(x), whole, "a pickled copy")
        same(own(x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)), whole, "another memory order")
    if not trial.fresh:
        same(trial.training(1)(x), trial.evaluating()(x), "training and evaluation, where no noise is fresh,")
    twin = trial.evaluating()
    twin.load_state_dict(trial.encoder.state_dict())
    same(twin(x), trial.evaluating()(x), "a loaded state_dict")


def noise_is_fresh(trial: _Trial) -> None:
    """Where a `Noise` is fresh, training draws anew at every call without a key and for every key."""
    x = trial.samples(64)
    if not trial.fresh:
        return
    free = trial.training()
    rows = {
        "two calls in training": (free(x), free(x)),
        "two keys": (trial.training(0, 1)(x), trial.training(0, 2)(x)),
        "two orders of a key": (trial.training(1, 0)(x), trial.training(0, 1)(x)),
        "training and evaluation": (trial.training(0)(x), trial.evaluating()(x)),
        "two samples": (trial.training(0)(x)[:, 1:], trial.training(0)(x)[:, :-1]),
    }
    for what, (one, other) in rows.items():
        if torch.equal(one, other):
            tell.fail(trial.where, f"{what} must have different noise", "the same spikes", "draw through a `Noise`")


def samples_are_independent(trial: _Trial) -> None:
    """Permuting the batch permutes the output, bit for bit; a sample alone gives what it gives in company."""
    x, todo = trial.samples(), "use nothing but the sample's own values and the noise's seeds"
    order = torch.tensor([4, 2, 0, 3, 5, 1], device=trial.device)
    for own in trial.steady():
        whole = own(x)
        tell.expect_same(own(x[order]), whole[:, order], trial.where, "the order of the batch must not matter", todo)
        for size in (1, 4):
            parts = torch.cat([own(part) for part in x.split(size)], 1)
            tell.expect_same(parts, whole, trial.where, "the size of the batch must not matter", todo)


def bad_input_is_refused(trial: _Trial) -> None:
    """Integers, a missing batch axis, another number of steps; of intensities values outside [0, 1] and NaN."""
    x, own = trial.samples(), trial.evaluating()
    cases: list[tuple[str, Tensor, type[Exception]]] = [
        ("integers", (255 * x).to(torch.uint8), TypeError),
        ("a sample without a batch axis", x[0, 0, 0], ValueError),
    ]
    if trial.encoder.sequences:
        cases.append(("a sequence of more steps", torch.cat([x, x[:, :1]], 1), ValueError))
        if not trial.encoder.ragged and trial.encoder.T > 1:
            cases.append(("a sequence of fewer steps", x[:, 1:], ValueError))
    if trial.encoder.intensities and trial.device.type == "cpu":
        for name, value in (("a negative value", -0.01), ("a value above 1", 1.01), ("NaN", float("nan"))):
            wrong = x.clone()
            wrong[1, 0, 2, 1] = value
            cases.append((name, wrong, ValueError))
    for name, wrong, kind in cases:
        try:
            own(wrong)
        except kind as error:
            if str(error).startswith(f"{type(own).__name__}: ") and ", got " in str(error) and "; " in str(error):
                continue
            got = f"{str(error)[:200]!r}"
            tell.fail(trial.where, f"the message about {name} must be in the house form", got, "call self._check(x)")
        except Exception as error:
            must, todo = f"{name} must raise {kind.__name__}", "call self._check(x) first"
            got = f"{type(error).__name__}: {str(error)[:200]}"
            raise tell.ConformanceError(message(trial.where, must, got, todo)) from error
        tell.fail(trial.where, f"{name} must raise {kind.__name__}", "an output", "call self._check(x) first")


def _expect_compiles(trial: _Trial, own: Encoder) -> None:
    """`expect_compiles` takes the batch as axis 1."""
    x, other = (trial.samples(count).transpose(0, 1) for count in (_B, 3))
    expect_compiles(_BatchSecond(own), x, other, trial.where)


class _BatchSecond(torch.nn.Module):
    """The encoder for samples with the batch as axis 1."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """[C, B, ...] → [T, B, C, ...]."""
        return self.encoder(x.transpose(0, 1))  # type: ignore[no-any-return]


CHECKS: tuple[Callable[[_Trial], None], ...] = (
    shapes_are_kept,
    values_are_on_the_alphabet,
    repeats_are_the_sample,
    nothing_is_written,
    calls_agree,
    noise_is_fresh,
    samples_are_independent,
    bad_input_is_refused,
)
