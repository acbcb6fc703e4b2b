"""The conformance suite of a weight quantizer: what every quantizer promises, whatever its alphabet is."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.formats import WeightFormat, pack, unpack
from bitspike.quantizers import Quantizer
from bitspike.testing import expectations as tell
from bitspike.testing.compiled import expect_compiles

_SHAPES = ((7, 5), (4, 3, 3, 3), (1, 13), (2, 1))


def check_quantizer(quantizer: Quantizer, *, skip: Mapping[str, str] | None = None, compiled: bool = True) -> None:
    """Raise unless a quantizer keeps the contract that layers, folding, packing and training rely on.

    Every check runs on copies made with ``replicate`` for weights of several shapes: random, all on a dyadic grid,
    and halfway between levels. A full-precision quantizer must be the identity.

    Args:
        quantizer: a prototype; it is left as it is.
        skip: name of a check (a function in this file) → why it cannot hold for this quantizer.
        compiled: also compile (one graph) and export; about a second. Resets torch's compiler.

    Raises:
        ConformanceError: names the broken promise and the first offending value.
        ValueError: ``skip`` names no check.

    >>> from bitspike.quantizers import Sign
    >>> check_quantizer(Sign("output"), compiled=False)
    """
    checks = REAL_CHECKS if quantizer.format.real else REAL_CHECKS + INTEGER_CHECKS
    unknown = set(skip or {}) - {check.__name__ for check in checks}
    if unknown:
        raise bad_value(
            "check_quantizer", "skip must name checks of this quantizer", sorted(unknown), "correct the names"
        )
    where = f"check_quantizer({type(quantizer).__name__})"
    for shape in _SHAPES:
        for dtype in (torch.float32, torch.float64):
            for kind, w in weights(shape, dtype).items():
                trial = QuantizerTrial(f"{where} on {kind} {list(shape)}", quantizer, *_prepared(quantizer, w, kind))
                for check in checks:
                    if check.__name__ not in (skip or {}):
                        check(trial)
    if compiled:
        w = weights(_SHAPES[0], torch.float32)["random"]
        expect_compiles(quantizer.replicate(w), w, None, where)


@dataclass(frozen=True)
class QuantizerTrial:
    """A replica under test and its weight."""

    where: str
    prototype: Quantizer
    quantizer: Quantizer
    w: Tensor

    def levels(self) -> tuple[Tensor, Tensor]:
        return self.quantizer.to_int(self.w)

    def groups(self) -> list[Tensor]:
        """Flat indices of the weights that share a scale."""
        scale = self.levels()[1]
        label = torch.arange(scale.numel()).reshape(scale.shape).expand(self.w.shape).reshape(-1)
        return [(label == group).nonzero().reshape(-1) for group in range(scale.numel())]


def weights(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    """Random weights whose channels differ in size, and weights on a grid of 1/16 with zeros and repeats."""
    generator = torch.Generator().manual_seed(math.prod(shape))
    random = torch.randn(shape, generator=generator, dtype=torch.float64)
    random *= torch.logspace(0, -2, shape[0], dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 1))
    dyadic = torch.randint(-24, 25, shape, generator=generator).double() / 16
    dyadic.view(-1)[0] = 0.0
    return {"random": random.to(dtype), "dyadic": dyadic.to(dtype), "ties": dyadic.to(dtype)}


def _prepared(quantizer: Quantizer, w: Tensor, kind: str) -> tuple[Quantizer, Tensor]:
    """A replica for w; for "ties" its positive parameters become powers of two and w lies halfway between levels."""
    own = quantizer.replicate(w)
    if kind == "ties" and not own.format.real:
        for parameter in own.parameters():
            if bool((parameter > 0).all()):
                parameter.data = parameter.data.log2().round().exp2()
        scale = own.to_int(w)[1]
        points = _ties(own.format).to(w.dtype)
        w = (points[torch.arange(w.numel()) % len(points)].reshape(w.shape) * scale).clone()
    return own, w


def _ties(record: WeightFormat) -> Tensor:
    """Points beyond both ends of an alphabet, then halfway between neighbouring levels, those nearest to 0 first."""
    grid = torch.tensor(record.grid(), dtype=torch.float64)
    halves = (grid[1:] + grid[:-1]) / 2
    ends = grid[[-1, 0, -1, 0]] + torch.tensor([0.5, -0.5, 1.5, -1.5], dtype=torch.float64)
    return torch.cat([ends, halves[halves.abs().argsort(stable=True)]])


def kind_is_kept(trial: QuantizerTrial) -> None:
    """Shape, dtype and device are kept; every replica owns its parameters."""
    must = "the quantized weight must keep shape, dtype and device"
    tell.expect_kind(trial.quantizer(trial.w), trial.w, trial.where, must, "create tensors like the weight")
    other = trial.prototype.replicate(trial.w)
    held = {p.data_ptr() for p in (*trial.quantizer.parameters(), *trial.prototype.parameters())}
    if held & {p.data_ptr() for p in other.parameters()}:
        tell.fail(trial.where, "every replica must own its parameters", "shared ones", "initialise new parameters")


def nothing_is_written(trial: QuantizerTrial) -> None:
    """Weight, parameters and attributes stay as they were; state_dict holds parameters and declared constants."""
    q, w = trial.quantizer, trial.w

    def run() -> None:
        for weight in (w, w / 2):
            q(weight)
            if not q.format.real:
                q.to_int(weight)

    tell.expect_untouched(run, q, {"the weight": w}, trial.where)
    tell.expect_clean_state(q, q.constants, trial.where)


def calls_agree(trial: QuantizerTrial) -> None:
    """Two calls, copies, pickled copies and a non-contiguous weight give the same bits."""
    q, w, wanted = trial.quantizer, trial.w, trial.quantizer(trial.w).detach()
    turned = w.transpose(0, 1).contiguous().transpose(0, 1)
    calls = {"two calls": q(w), "a deep copy": copy.deepcopy(q)(w), "a non-contiguous weight": q(turned)}
    calls["a pickled copy"] = pickle.loads(pickle.dumps(q))(w)
    for name, found in calls.items():
        tell.expect_same(found.detach(), wanted, trial.where, f"{name} must give equal bits", "keep the call pure")


def gradients_are_finite(trial: QuantizerTrial) -> None:
    """The latent weight and every parameter get a finite gradient."""
    w = trial.w.clone().requires_grad_()
    tell.expect_finite_gradients(
        trial.quantizer(w), {"the weight": w, **dict(trial.quantizer.named_parameters())}, trial.where
    )


def real_weights_pass(trial: QuantizerTrial) -> None:
    """Full precision is the identity."""
    if trial.quantizer.format.real:
        must = "full-precision weights must pass unchanged"
        tell.expect_same(trial.quantizer(trial.w), trial.w, trial.where, must, "return the weight")


def levels_are_on_the_grid(trial: QuantizerTrial) -> None:
    """to_int gives levels of the format's grid, no gradient, at most 2^bits of them."""
    record, (k, scale) = trial.quantizer.format, trial.levels()
    if k.requires_grad or scale.requires_grad:
        tell.fail(trial.where, "to_int must carry no gradient", "one that does", "detach")
    good = torch.isin(k, torch.tensor(record.grid(), dtype=k.dtype, device=k.device))
    tell.expect_all(good, k, trial.where, f"levels must be on the grid of {record.label()}", "clip and round")
    if len(k.unique()) > record.levels or record.levels > 2**record.bits or trial.quantizer.bits != record.bits:
        tell.fail(trial.where, f"{record.bits} bits must hold every level", record.levels, "mend the format")
    tell.expect_all(scale > 0, scale, trial.where, "the scale must be positive", "parameterise it as positive")


def forward_is_scale_times_level(trial: QuantizerTrial) -> None:
    """forward equals k·scale, bit for bit."""
    k, scale = trial.levels()
    must, todo = "forward must equal k·scale of to_int bit for bit", "multiply levels by the scale once"
    tell.expect_same(trial.quantizer(trial.w).detach(), k * scale, trial.where, must, todo)


def idempotent(trial: QuantizerTrial) -> None:
    """Quantizing a quantized weight with the same parameters changes nothing."""
    once = trial.quantizer(trial.w).detach()
    must = "quantizing twice must equal quantizing once"
    tell.expect_same(trial.quantizer(once).detach(), once, trial.where, must, "round to a fixed point")


def monotone(trial: QuantizerTrial) -> None:
    """Among weights that share a scale a greater one never gets a lower level."""
    w, k = trial.w.reshape(-1), trial.levels()[0].reshape(-1)
    for group in trial.groups():
        order = group[w[group].argsort()]
        rising = k[order].diff() >= 0
        must = "levels must not fall where weights rise"
        tell.expect_all(rising, k[order][1:], trial.where, must, "round monotonely")


def odd(trial: QuantizerTrial) -> None:
    """A symmetric alphabet: q(−w) = −q(w), except at w = 0."""
    if trial.quantizer.format.low == -trial.quantizer.format.high:
        k, mirrored = trial.levels()[0], trial.quantizer.to_int(-trial.w)[0]
        good = (k == -mirrored) | (trial.w == 0)
        tell.expect_all(good, trial.w, trial.where, "q(−w) must be −q(w)", "round halves away from zero")


def levels_pack(trial: QuantizerTrial) -> None:
    """pack and unpack give the levels back, in ceil(n·bits / 8) bytes."""
    k = trial.levels()[0].to(torch.int64)
    packed = pack(k, trial.quantizer.format)
    if packed.numel() != -(-k.numel() * trial.quantizer.bits // 8):
        tell.fail(trial.where, f"packing must take {trial.quantizer.bits} bits a weight", packed.numel(), "mend bits")
    back = unpack(packed, trial.quantizer.format, tuple(k.shape))
    tell.expect_same(back, k, trial.where, "unpack(pack(k)) must be k", "mend the format")


def weights_are_telling(trial: QuantizerTrial) -> None:
    """The suite's own duty: a weight of 13 elements or more takes two levels at least."""
    if trial.w.numel() >= 13 and len(trial.levels()[0].unique()) < 2:
        tell.fail(trial.where, "at least two levels must occur", "one", "initialise the scale from the weight")


REAL_CHECKS: tuple[Callable[[QuantizerTrial], None], ...] = (
    kind_is_kept,
    nothing_is_written,
    calls_agree,
    gradients_are_finite,
    real_weights_pass,
)
INTEGER_CHECKS: tuple[Callable[[QuantizerTrial], None], ...] = (
    weights_are_telling,
    levels_are_on_the_grid,
    forward_is_scale_times_level,
    monotone,
    idempotent,
    odd,
    levels_pack,
)
